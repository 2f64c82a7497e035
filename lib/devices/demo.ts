/**
 * The demo device: a small PCI device that shows one of each thing. With it, every command of `vfu`
 * can be tried with no other software. `vfu serve demo` serves it.
 *
 * - BAR0, 4 KiB: registers by message only, {@linkcode DemoRegister}. They drive a copy engine. The
 *   engine copies within the client's memory by DMA and raises an MSI-X vector at the end. A client
 *   may have its doorbell as an ioeventfd.
 * - BAR2, 64 KiB of memory, 64 bits wide, prefetchable. A client can map two areas of it; the rest
 *   goes by message.
 * - BAR4, 4 KiB: MSI-X table at 0, pending bits at 0x800; 4 vectors.
 * - Configuration space of 4 KiB with PM, MSI-X, PCI Express and a vendor-specific capability, and
 *   extended ones: a serial number and AER.
 *
 * The device raises an MSI-X vector whenever the client has set up an eventfd for it. A client can
 * write and read back MSI-X Enable, Function Mask and the mask bits of the table. It has to honour
 * them itself, as with VFIO, and COMMAND's interrupt disable, too. COMMAND's bus master enable
 * decides over DMA.
 *
 * It migrates: registers, memory, MSI-X table, configuration space, and a copy that is under way.
 * The memory is saved while the device runs, if that is wanted (PRE_COPY).
 *
 * @module
 */

import { EPERM } from "../../ffi/errno.ts";
import { cap } from "../define/capabilities.ts";
import type { DeviceDefinition } from "../define/definition.ts";
import { defineDevice } from "../define/device.ts";
import type { DeviceContext, DeviceParts } from "../define/spec.ts";
import { registers } from "../define/registers.ts";
import { CopyEngine, DmaStatus } from "./demo_dma.ts";
import { BUSY_READS, checkState, DEMO_VECTORS, version1 } from "./demo_state.ts";

/** The demo device's PCI vendor id: that of emulated devices without a vendor. */
export const DEMO_VENDOR_ID = 0x1234;
/** Its PCI device id. */
export const DEMO_DEVICE_ID = 0x0de5;
export { DEMO_VECTORS };

/** Registers in BAR0, 32 bits each; the device refuses other accesses with EINVAL. */
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
  /** Read-only: the complement of the last OPERAND. */
  RESULT: 0x18,
  /** Write-only: raises the MSI-X vector of that number. */
  TRIGGER: 0x20,
  /** The level of the INTx pin, 0 or 1. */
  INTX_LEVEL: 0x24,
  /** The IOVA from which the copy engine reads, low half. */
  DMA_SRC_LO: 0x40,
  /** Its high half. */
  DMA_SRC_HI: 0x44,
  /** The IOVA to which the copy engine writes, low half. */
  DMA_DST_LO: 0x48,
  /** Its high half. */
  DMA_DST_HI: 0x4c,
  /** Bytes of a copy. */
  DMA_LENGTH: 0x50,
  /**
   * Bit 0 START: copies, unless a copy is under way; reads as 0. Bits 8-9: the MSI-X vector that
   * the engine raises at the end, good or bad.
   */
  DMA_CONTROL: 0x54,
  /** Read-only: bit 0 DONE, bit 1 ERROR, bit 31 BUSY; at most one of them. */
  DMA_STATUS: 0x58,
  /**
   * Read-only: with ERROR the reason, as Linux's error number. EPERM: COMMAND's bus master enable
   * is off; EFAULT: memory is not mapped.
   */
  DMA_ERRNO: 0x5c,
  /** Write-only: any value starts a copy, with the vector that DMA_CONTROL holds. */
  DMA_DOORBELL: 0x60,
} as const;

/** The registers as `defineDevice` takes them. `--map demo` has them with all their fields. */
const MAP = {
  name: "demo",
  registers: [
    { name: "ID", offset: DemoRegister.ID, width: 4, access: "ro", reset: 0x64756676 },
    { name: "VERSION", offset: DemoRegister.VERSION, width: 4, access: "ro", reset: 0x1_0000 },
    { name: "SCRATCH", offset: DemoRegister.SCRATCH, width: 4 },
    { name: "COUNTER", offset: DemoRegister.COUNTER, width: 4, read_changes: true },
    { name: "OPERAND", offset: DemoRegister.OPERAND, width: 4, access: "wo" },
    {
      name: "STATUS",
      offset: DemoRegister.STATUS,
      width: 4,
      access: "ro",
      read_changes: true,
      reset: 1,
    },
    { name: "RESULT", offset: DemoRegister.RESULT, width: 4, access: "ro" },
    { name: "TRIGGER", offset: DemoRegister.TRIGGER, width: 4, access: "wo" },
    {
      name: "INTX_LEVEL",
      offset: DemoRegister.INTX_LEVEL,
      width: 4,
      fields: [{ name: "LEVEL", bits: 0 }],
    },
    { name: "DMA_SRC_LO", offset: DemoRegister.DMA_SRC_LO, width: 4 },
    { name: "DMA_SRC_HI", offset: DemoRegister.DMA_SRC_HI, width: 4 },
    { name: "DMA_DST_LO", offset: DemoRegister.DMA_DST_LO, width: 4 },
    { name: "DMA_DST_HI", offset: DemoRegister.DMA_DST_HI, width: 4 },
    { name: "DMA_LENGTH", offset: DemoRegister.DMA_LENGTH, width: 4 },
    {
      name: "DMA_CONTROL",
      offset: DemoRegister.DMA_CONTROL,
      width: 4,
      fields: [{ name: "START", bits: 0, access: "wo" }, { name: "VECTOR", bits: "9:8" }],
    },
    { name: "DMA_STATUS", offset: DemoRegister.DMA_STATUS, width: 4, access: "ro" },
    { name: "DMA_ERRNO", offset: DemoRegister.DMA_ERRNO, width: 4, access: "ro" },
    { name: "DMA_DOORBELL", offset: DemoRegister.DMA_DOORBELL, width: 4, access: "wo" },
  ],
} as const;

const STATUS_READY = 1;
const STATUS_BUSY = 2;

/** The definition of the demo device. */
export const demoDevice: DeviceDefinition<Record<never, never>> = defineDevice({
  name: "demo",
  title: "a device that shows one of each thing",
  pci: {
    vendor: DEMO_VENDOR_ID,
    device: DEMO_DEVICE_ID,
    class: 0x088000, // system peripheral, other
    revision: 1,
    subsystem: { vendor: DEMO_VENDOR_ID, device: 1 },
    interruptPin: "A",
    capabilities: [
      cap.pm({ at: 0x40 }),
      cap.msix({ at: 0x50, vectors: DEMO_VECTORS, bar: 4, pba: 0x800 }),
      cap.express({ at: 0x60, flr: true }),
      cap.vendor([0, ...new TextEncoder().encode("vfu demo")], { at: 0xa0 }),
      cap.serialNumber(0x7666_7500_0000_0001n),
      cap.aer({ at: 0x110 }),
    ],
  },
  create: createDemo,
});

function createDemo({ memory, irq, dma, isBusMaster }: DeviceContext): DeviceParts {
  const bar0 = registers(MAP, { size: 0x1000, accessWidth: 4, ioeventfds: ["DMA_DOORBELL"] });
  const bar2 = memory({
    size: 0x10000,
    mappable: [{ offset: 0x1000, size: 0x3000 }, { offset: 0x8000, size: 0x8000 }],
    is64Bit: true,
    prefetchable: true,
  });
  const { regs } = bar0;
  let busyReads = 0;

  const engine = new CopyEngine(dma, copyEnded);
  function copyEnded(errno: number, vector: number): void {
    regs.DMA_STATUS.value = errno === 0 ? DmaStatus.DONE : DmaStatus.ERROR;
    regs.DMA_ERRNO.value = errno;
    irq.msix(vector).raise();
  }
  function startCopy(): void {
    if (engine.copy !== undefined) return;
    const vector = regs.DMA_CONTROL.VECTOR;
    if (!isBusMaster()) return copyEnded(EPERM, vector);
    regs.DMA_STATUS.value = DmaStatus.BUSY;
    regs.DMA_ERRNO.value = 0;
    engine.copy = {
      source: join(regs.DMA_SRC_LO.value, regs.DMA_SRC_HI.value),
      destination: join(regs.DMA_DST_LO.value, regs.DMA_DST_HI.value),
      length: regs.DMA_LENGTH.value,
      vector,
      done: 0,
    };
  }

  bar0.on({
    COUNTER: { read: () => regs.COUNTER.value = (regs.COUNTER.value + 1) >>> 0 },
    OPERAND: {
      write(value) {
        regs.RESULT.value = ~value >>> 0;
        busyReads = BUSY_READS;
      },
    },
    STATUS: { read: () => busyReads > 0 && busyReads-- > 0 ? STATUS_BUSY : STATUS_READY },
    RESULT: { read: () => busyReads > 0 ? 0 : undefined },
    TRIGGER: {
      write(vector) {
        if (vector < DEMO_VECTORS) irq.msix(vector).raise();
      },
    },
    INTX_LEVEL: { write: (level) => irq.intx.set(level === 1) },
    DMA_CONTROL: {
      write() {
        if (regs.DMA_CONTROL.START === 0) return;
        regs.DMA_CONTROL.START = 0;
        startCopy();
      },
    },
    DMA_DOORBELL: { write: startCopy },
  });

  /** Takes a state. Registers hold theirs. A client has sent both: they may be anything. */
  function restore(state: unknown): void {
    const { busyReads: reads, copy } = checkState(state);
    busyReads = reads;
    for (const each of [regs.ID, regs.VERSION, regs.STATUS]) each.reset();
    regs.INTX_LEVEL.value = regs.INTX_LEVEL.LEVEL;
    regs.DMA_CONTROL.value = regs.DMA_CONTROL.VECTOR << 8;
    regs.DMA_STATUS.value = copy ? DmaStatus.BUSY : regs.DMA_STATUS.value & 3;
    irq.intx.set(regs.INTX_LEVEL.LEVEL === 1);
    engine.copy = copy;
  }

  return {
    regions: { bar0, bar2 },
    reset() {
      busyReads = 0;
      engine.copy = undefined;
    },
    disconnected: () => engine.disconnected(),
    stop: () => engine.pause(),
    start: () => engine.unpause(),
    state: {
      version: 2,
      save: () => ({ busyReads, copy: engine.copy && { ...engine.copy } }),
      restore,
      earlier: [version1(regs, restore)],
    },
  };
}

/** Joins the two halves of an address. */
function join(low: number, high: number): bigint {
  return BigInt(high) << 32n | BigInt(low);
}
