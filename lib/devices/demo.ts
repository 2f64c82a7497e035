/**
 * The demo device: a small PCI device that shows one of each thing, so that every command of `vfu` can be tried with no other
 * software. `vfu serve demo` serves it.
 *
 * - BAR0, 4 KiB, registers by message only: {@linkcode DemoRegister}. Among them a copy engine, which copies within the client's
 *   memory by DMA and raises an MSI-X vector at the end, and its doorbell, which a client may have as an ioeventfd.
 * - BAR2, 64 KiB of memory, 64 bits wide, prefetchable; two areas of it can be mapped, the rest goes by message.
 * - BAR4, 4 KiB: MSI-X table at 0, pending bits at 0x800; 4 vectors.
 * - Configuration space of 4 KiB with PM, MSI-X, PCI Express, a vendor-specific capability, and extended ones: a serial
 *   number and AER.
 *
 * An MSI-X vector is raised whenever the client has set up an eventfd for it. MSI-X Enable, Function Mask and the mask bits of the
 * table can be written and read back, but decide nothing: it is the client's business to honour them, as with VFIO. Nor does
 * COMMAND's interrupt disable hold back INTx. COMMAND's bus master enable does decide over DMA.
 *
 * It migrates: registers, memory, MSI-X table and configuration space, and a copy that is under way. The memory is saved while the device
 * runs, if that is wanted (PRE_COPY).
 *
 * @module
 */

import { EINVAL, EPERM } from "../../ffi/errno.ts";
import { ConfigRegion } from "../server/config.ts";
import {
  type DeviceBus,
  DeviceError,
  type ServedDevice,
  type ServedIoFd,
  type ServedIrq,
  type ServedMigration,
  type ServedRegion,
} from "../server/served_device.ts";
import { MemoryRegion } from "../server/memory_region.ts";
import { DeviceFlags } from "../wire/device.ts";
import { IoFdType } from "../wire/io_fds.ts";
import { IrqFlags, PciIrq } from "../wire/irq.ts";
import { PciRegion, RegionFlags } from "../wire/region.ts";
import { CopyEngine } from "./demo_dma.ts";
import { DemoMigration, type RegistersState } from "./demo_migration.ts";

/** The demo device's PCI vendor id: the one that emulated devices without a vendor use. */
export const DEMO_VENDOR_ID = 0x1234;
/** Its PCI device id. */
export const DEMO_DEVICE_ID = 0x0de5;
/** MSI-X vectors that it has. */
export const DEMO_VECTORS = 4;

/** Registers in BAR0, 32 bits each; narrower and wider accesses are refused with EINVAL. */
export const DemoRegister = {
  /** Read-only: "vfud" in ASCII, 0x64756676. */
  ID: 0x00,
  /** Read-only: version 1.0. */
  VERSION: 0x04,
  /** Keeps what is written. */
  SCRATCH: 0x08,
  /** Counts the reads of it; writing sets it. */
  COUNTER: 0x0c,
  /** Write-only: the value's complement appears in RESULT, 10 reads of STATUS later. */
  OPERAND: 0x10,
  /** Read-only: bit 0 READY, bit 1 BUSY. */
  STATUS: 0x14,
  /** Read-only: what came of the last OPERAND. */
  RESULT: 0x18,
  /** Write-only: raises the MSI-X vector of that number. */
  TRIGGER: 0x20,
  /** The level of the INTx pin, 0 or 1. */
  INTX_LEVEL: 0x24,
  /** Where the copy engine reads: an IOVA, its low half. */
  DMA_SRC_LO: 0x40,
  /** Its high half. */
  DMA_SRC_HI: 0x44,
  /** Where the copy engine writes: an IOVA, its low half. */
  DMA_DST_LO: 0x48,
  /** Its high half. */
  DMA_DST_HI: 0x4c,
  /** How many bytes it copies. */
  DMA_LENGTH: 0x50,
  /** Bit 0 START: copies, unless it is busy; reads as 0. Bits 8-9: the MSI-X vector that is raised at the end, good or bad. */
  DMA_CONTROL: 0x54,
  /** Read-only: bit 0 DONE, bit 1 ERROR, bit 31 BUSY; one at a time, and none before the first copy. */
  DMA_STATUS: 0x58,
  /** Read-only: with ERROR why, as Linux's error number: EPERM if COMMAND's bus master enable is off, EFAULT if memory is not mapped. */
  DMA_ERRNO: 0x5c,
  /** Write-only: any value starts a copy, with the vector that DMA_CONTROL holds. */
  DMA_DOORBELL: 0x60,
} as const;

const ID_VALUE = 0x64756676;
const VERSION_VALUE = 0x0001_0000;
const STATUS_READY = 1;
const STATUS_BUSY = 2;
/** Reads of STATUS that show BUSY after an OPERAND: something to poll for. */
const BUSY_READS = 10;

const DMA_START = 1;
const DMA_VECTOR_SHIFT = 8;
const DMA_VECTOR_MASK = 3;
const DMA_DONE = 1;
const DMA_ERROR = 2;
const DMA_BUSY = 0x8000_0000;

/** Registers that keep what is written, in the order in which they are saved. */
const KEPT = [
  DemoRegister.SCRATCH,
  DemoRegister.INTX_LEVEL,
  DemoRegister.DMA_SRC_LO,
  DemoRegister.DMA_SRC_HI,
  DemoRegister.DMA_DST_LO,
  DemoRegister.DMA_DST_HI,
  DemoRegister.DMA_LENGTH,
  DemoRegister.DMA_CONTROL,
] as const;

const COMMAND_AT = 0x04;
const COMMAND_MASTER = 4;
const STATUS_AT = 0x06;
const STATUS_INTERRUPT = 8;
/**
 * Device Control of PCI Express: its place in the capability, and Initiate Function Level Reset.
 */
const DEVCTL = 8;
const DEVCTL_FLR = 0x8000;

const REGISTERS_SIZE = 0x1000;
const MEMORY_SIZE = 0x10000;
const MSIX_SIZE = 0x1000;
const MSIX_PBA = 0x800;

/** Where the capabilities are. */
const CAP = { PM: 0x40, MSIX: 0x50, EXP: 0x60, VNDR: 0xa0, DSN: 0x100, AER: 0x110 } as const;

/** The demo device. */
export class DemoDevice implements ServedDevice {
  /** RESET and PCI. */
  readonly flags = DeviceFlags.RESET | DeviceFlags.PCI;
  /** By region index. */
  readonly regions: readonly (ServedRegion | undefined)[];
  /** INTx 1, MSI-X 4, ERR 1, REQ 1. */
  readonly irqs: readonly ServedIrq[];
  /** How its state is saved and restored. */
  readonly migration: ServedMigration;
  readonly #config = makeConfig();
  readonly #registers = new DemoRegisters(this.#config);
  readonly #memory = new MemoryRegion("vfu-demo-bar2", MEMORY_SIZE, [
    { offset: 0x1000n, size: 0x3000n },
    { offset: 0x8000n, size: 0x8000n },
  ]);
  readonly #msix = new MsixRegion();

  constructor() {
    const regions: (ServedRegion | undefined)[] = new Array(PciRegion.VGA + 1).fill(undefined);
    regions[PciRegion.BAR0] = this.#registers;
    regions[PciRegion.BAR2] = this.#memory;
    regions[PciRegion.BAR4] = this.#msix;
    regions[PciRegion.CONFIG] = this.#config;
    this.regions = regions;
    this.irqs = [
      { flags: IrqFlags.EVENTFD | IrqFlags.MASKABLE, count: 1 },
      { flags: IrqFlags.EVENTFD, count: 0 },
      { flags: IrqFlags.EVENTFD | IrqFlags.MASKABLE, count: DEMO_VECTORS },
      { flags: IrqFlags.EVENTFD, count: 1 },
      { flags: IrqFlags.EVENTFD, count: 1 },
    ];
    this.#config.onWrite(CAP.EXP + DEVCTL, 2, () => {
      if ((this.#config.get16(CAP.EXP + DEVCTL) & DEVCTL_FLR) !== 0) this.reset();
    });
    this.migration = new DemoMigration({
      identity: { vendor: DEMO_VENDOR_ID, device: DEMO_DEVICE_ID },
      config: this.#config,
      registers: this.#registers,
      memory: this.#memory,
      msix: this.#msix,
    });
  }

  /** Its interrupts and its DMA go to this client now. */
  connected(bus: DeviceBus): void {
    this.#registers.connect(bus);
  }

  /** A copy that is under way fails. */
  disconnected(): void {
    this.#registers.disconnect();
  }

  /** Puts registers and configuration space back; memory keeps what it holds. */
  reset(): void {
    this.#config.reset();
    this.#registers.reset();
    this.#msix.reset();
  }

  /** Frees the memory. */
  close(): void {
    this.#memory.close();
  }
}

/** BAR0. */
class DemoRegisters implements ServedRegion {
  readonly flags = RegionFlags.READ | RegionFlags.WRITE;
  readonly size = REGISTERS_SIZE;
  readonly ioFds: readonly ServedIoFd[] = [
    { type: IoFdType.IOEVENTFD, offset: DemoRegister.DMA_DOORBELL, size: 4 },
  ];
  readonly #config: ConfigRegion;
  readonly #kept = new Map<number, number>(); // registers that keep what is written
  readonly #engine = new CopyEngine();
  #bus: DeviceBus | undefined;
  #counter = 0;
  #result = 0;
  #busyReads = 0;

  constructor(config: ConfigRegion) {
    this.#config = config;
  }

  connect(bus: DeviceBus): void {
    this.#bus = bus;
    bus.irqs.setLevel(this.#get(DemoRegister.INTX_LEVEL) === 1);
  }

  disconnect(): void {
    this.#bus = undefined;
  }

  read(offset: number, into: Uint8Array): void {
    viewOf(into, offset).setUint32(0, this.#readRegister(offset), true);
  }

  write(offset: number, data: Uint8Array): void {
    const value = viewOf(data, offset).getUint32(0, true);
    switch (offset) {
      case DemoRegister.SCRATCH:
      case DemoRegister.DMA_SRC_LO:
      case DemoRegister.DMA_SRC_HI:
      case DemoRegister.DMA_DST_LO:
      case DemoRegister.DMA_DST_HI:
      case DemoRegister.DMA_LENGTH:
        this.#kept.set(offset, value);
        break;
      case DemoRegister.COUNTER:
        this.#counter = value;
        break;
      case DemoRegister.OPERAND:
        this.#result = ~value >>> 0;
        this.#busyReads = BUSY_READS;
        break;
      case DemoRegister.TRIGGER:
        if (value < DEMO_VECTORS) this.#bus?.irqs.raise(PciIrq.MSIX, value);
        break;
      case DemoRegister.INTX_LEVEL:
        this.#setIntxLevel(value & 1);
        break;
      case DemoRegister.DMA_CONTROL:
        this.#keepVector(value);
        if ((value & DMA_START) !== 0) this.#startCopy();
        break;
      case DemoRegister.DMA_DOORBELL:
        this.#startCopy();
        break;
        // Read-only and reserved registers ignore writes, as hardware does.
    }
  }

  reset(): void {
    this.#setIntxLevel(0);
    this.#kept.clear();
    this.#engine.reset();
    this.#counter = this.#result = this.#busyReads = 0;
  }

  #get(register: number): number {
    return this.#kept.get(register) ?? 0;
  }

  #get64(low: number, high: number): bigint {
    return BigInt(this.#get(high)) << 32n | BigInt(this.#get(low));
  }

  #setIntxLevel(level: number): void {
    this.#kept.set(DemoRegister.INTX_LEVEL, level);
    // Where a pin is shared, drivers ask STATUS whether the interrupt is their device's.
    if (level === 1) this.#config.bytes[STATUS_AT]! |= STATUS_INTERRUPT;
    else this.#config.bytes[STATUS_AT]! &= ~STATUS_INTERRUPT;
    this.#bus?.irqs.setLevel(level === 1);
  }

  #keepVector(control: number): void {
    this.#kept.set(DemoRegister.DMA_CONTROL, control & (DMA_VECTOR_MASK << DMA_VECTOR_SHIFT));
  }

  /** What these hold, for a migration. */
  get state(): RegistersState {
    return {
      kept: KEPT.map((register) => this.#get(register)),
      counter: this.#counter,
      result: this.#result,
      busyReads: this.#busyReads,
      engine: this.#engine.state,
    };
  }
  set state({ kept, counter, result, busyReads, engine }: RegistersState) {
    for (const [i, register] of KEPT.entries()) this.#kept.set(register, kept[i]!);
    this.#keepVector(this.#get(DemoRegister.DMA_CONTROL));
    this.#setIntxLevel(this.#get(DemoRegister.INTX_LEVEL) & 1);
    this.#counter = counter;
    this.#result = result;
    this.#busyReads = Math.min(busyReads, BUSY_READS);
    this.#engine.state = engine;
  }

  /** The copy engine is to stand still. */
  stop(): Promise<void> {
    return this.#engine.pause();
  }

  /** It works again. */
  start(): void {
    this.#engine.unpause(this.#bus?.dma, this.#onCopied());
  }

  /** What happens at the end of a copy that starts now. */
  #onCopied(): () => void {
    const vector = this.#get(DemoRegister.DMA_CONTROL) >>> DMA_VECTOR_SHIFT;
    return () => this.#bus?.irqs.raise(PciIrq.MSIX, vector);
  }

  #startCopy(): void {
    if (this.#engine.isBusy) return;
    const onEnd = this.#onCopied();
    const isMaster = (this.#config.get16(COMMAND_AT) & COMMAND_MASTER) !== 0;
    if (!isMaster) return this.#engine.refuse(EPERM, onEnd);
    const copy = {
      source: this.#get64(DemoRegister.DMA_SRC_LO, DemoRegister.DMA_SRC_HI),
      destination: this.#get64(DemoRegister.DMA_DST_LO, DemoRegister.DMA_DST_HI),
      length: this.#get(DemoRegister.DMA_LENGTH),
    };
    this.#engine.start(this.#bus?.dma, copy, onEnd);
  }

  #copyStatus(): number {
    if (this.#engine.isBusy) return DMA_BUSY;
    if (this.#engine.errno !== 0) return DMA_ERROR;
    return this.#engine.isDone ? DMA_DONE : 0;
  }

  #readRegister(offset: number): number {
    switch (offset) {
      case DemoRegister.ID:
        return ID_VALUE;
      case DemoRegister.VERSION:
        return VERSION_VALUE;
      case DemoRegister.COUNTER:
        return this.#counter = (this.#counter + 1) >>> 0;
      case DemoRegister.STATUS:
        return this.#busyReads > 0 && this.#busyReads-- > 0 ? STATUS_BUSY : STATUS_READY;
      case DemoRegister.RESULT:
        return this.#busyReads > 0 ? 0 : this.#result;
      case DemoRegister.DMA_STATUS:
        return this.#copyStatus();
      case DemoRegister.DMA_ERRNO:
        return this.#engine.errno;
      default:
        return this.#get(offset);
    }
  }
}

/** BAR4: the MSI-X table, whose vectors start out masked, and the pending bits, which are read-only. */
class MsixRegion implements ServedRegion {
  readonly flags = RegionFlags.READ | RegionFlags.WRITE;
  readonly size = MSIX_SIZE;
  readonly #bytes = new Uint8Array(MSIX_SIZE);

  constructor() {
    this.reset();
  }

  read(offset: number, into: Uint8Array): void {
    into.set(this.#bytes.subarray(offset, offset + into.length));
  }

  write(offset: number, data: Uint8Array): void {
    const tableEnd = DEMO_VECTORS * 16;
    if (offset < tableEnd) this.#bytes.set(data.subarray(0, tableEnd - offset), offset);
  }

  reset(): void {
    this.#bytes.fill(0);
    for (let vector = 0; vector < DEMO_VECTORS; vector++) this.#bytes[vector * 16 + 12] = 1; // vector control: masked
  }
}

function viewOf(data: Uint8Array, offset: number): DataView {
  if (data.length !== 4 || offset % 4 !== 0) {
    throw new DeviceError(EINVAL, "registers are 4 bytes wide");
  }
  return new DataView(data.buffer, data.byteOffset, 4);
}

function makeConfig(): ConfigRegion {
  const config = new ConfigRegion(4096);
  config.set16(0x00, DEMO_VENDOR_ID);
  config.set16(0x02, DEMO_DEVICE_ID);
  config.set16(0x04, 0, 0x0507); // COMMAND: IO, MEM, MASTER, SERR, INTx disable
  config.change(STATUS_AT, STATUS_INTERRUPT);
  config.set32(0x08, 0x0880_0001); // class 08 80 (system peripheral, other), revision 1
  config.set8(0x0c, 0, 0xff); // cache line size
  config.setBar(0, { size: REGISTERS_SIZE });
  config.setBar(2, { size: MEMORY_SIZE, is64Bit: true, prefetchable: true });
  config.setBar(4, { size: MSIX_SIZE });
  config.set16(0x2c, DEMO_VENDOR_ID);
  config.set16(0x2e, 0x0001);
  config.set8(0x3c, 0, 0xff); // interrupt line
  config.set8(0x3d, 1); // INTA

  config.addCapability(CAP.PM, 0x01);
  config.set16(CAP.PM + 2, 0x0003); // version 3
  config.set16(CAP.PM + 4, 0x0008, 0x0003); // no soft reset; power state

  config.addCapability(CAP.MSIX, 0x11);
  config.set16(CAP.MSIX + 2, DEMO_VECTORS - 1, 0xc000); // table size; enable and function mask
  config.set32(CAP.MSIX + 4, PciRegion.BAR4);
  config.set32(CAP.MSIX + 8, MSIX_PBA | PciRegion.BAR4);

  config.addCapability(CAP.EXP, 0x10);
  config.set16(CAP.EXP + 2, 0x0002); // version 2, endpoint
  config.set32(CAP.EXP + 4, 0x1000_8001); // DevCap: FLR, role-based errors, payload 256
  config.set16(CAP.EXP + DEVCTL, 0x2000, 0xf0ff); // DevCtl: read request 512
  config.set32(CAP.EXP + 12, 0x0000_0013); // LnkCap: 8 GT/s, x1
  config.set16(CAP.EXP + 18, 0x0013); // LnkSta: 8 GT/s, x1
  config.set32(CAP.EXP + 44, 0x0000_000e); // LnkCap2: 2.5, 5 and 8 GT/s
  config.set16(CAP.EXP + 48, 0x0003, 0x000f); // LnkCtl2: target 8 GT/s

  config.addCapability(CAP.VNDR, 0x09);
  config.set8(CAP.VNDR + 2, 12); // length
  for (const [i, byte] of new TextEncoder().encode("vfu demo").entries()) {
    config.set8(CAP.VNDR + 4 + i, byte);
  }

  config.addExtendedCapability(CAP.DSN, 0x03, 1, CAP.AER);
  config.set32(CAP.DSN + 4, 0x0000_0001);
  config.set32(CAP.DSN + 8, 0x7666_7500);
  config.addExtendedCapability(CAP.AER, 0x01, 2, 0);
  config.set32(CAP.AER + 8, 0, 0x07ff_f030); // uncorrectable mask
  config.set32(CAP.AER + 12, 0x0046_2030, 0x07ff_f030); // uncorrectable severity
  config.set32(CAP.AER + 20, 0x0000_2000, 0x0000_f1c1); // correctable mask
  return config;
}
