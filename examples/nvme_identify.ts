/**
 * Brings an NVMe controller up, reads its identity through DMA, writes a block and reads it back,
 * and takes its MSI-X interrupts. That is all that a driver does, without a VM.
 *
 * ```sh
 * deno run --allow-ffi examples/nvme_identify.ts /tmp/nvme.sock
 * ```
 *
 * @module
 */

// deno-lint-ignore-file no-console -- an example talks to a person
import { connect, type Device, type IrqIndex, type Region, RemoteError } from "../mod.ts";

/** The layout of the device's address space: one map of 2 MiB. */
const MEMORY = { iova: 0x100000n, size: 2 << 20 };
const ADMIN_SQ = 0x100000n;
const ADMIN_CQ = 0x101000n;
const IDENTIFY = 0x102000n;
const IO_SQ = 0x103000n;
const IO_CQ = 0x104000n;
const BLOCK = 0x110000n;
const BLOCK_BACK = 0x111000n;

/** Registers of an NVMe controller in BAR0. */
const CAP = 0x00;
const VS = 0x08;
const CC = 0x14;
const CSTS = 0x1c;
const AQA = 0x24;
const ASQ = 0x28;
const ACQ = 0x30;
const DOORBELLS = 0x1000;

const ENTRIES = 32;
/** Enabled, with 64-byte submissions and 16-byte completions. */
const CC_ENABLE = 0x0046_0001;
const CC_SHUTDOWN = 0x0046_4001;

/** The identity that the controller reports. */
export interface NvmeIdentity {
  vendorId: number;
  serial: string;
  model: string;
  firmware: string;
  /** The CAP register. */
  capabilities: bigint;
  /** The VS register. */
  version: number;
  /** Interrupts that came for each vector. */
  interrupts: bigint[];
  /** True if the block that was written came back. */
  blockIsBack: boolean;
}

/** A command: the words of a submission queue entry that are not 0. */
interface Command {
  opcode: number;
  namespace?: number;
  prp1?: bigint;
  cdw10?: number;
  cdw11?: number;
  cdw12?: number;
}

/** A submission queue and its completion queue. */
class QueuePair {
  #tail = 0;
  #head = 0;
  #phase = 1;
  #nextId = 1;

  constructor(
    readonly device: Device,
    readonly bar0: Region,
    readonly msix: IrqIndex,
    readonly options: { id: number; sq: bigint; cq: bigint; vector: number },
  ) {}

  /** Submits a command and waits for its interrupt and completion. */
  async run(command: Command): Promise<void> {
    const { device, bar0, options } = this;
    const id = this.#nextId++;
    const bytes = device.dma.view(options.sq + BigInt(this.#tail * 64), 64).fill(0);
    const entry = new DataView(bytes.buffer, bytes.byteOffset, bytes.length);
    entry.setUint32(0, command.opcode | id << 16, true);
    entry.setUint32(4, command.namespace ?? 0, true);
    entry.setBigUint64(24, command.prp1 ?? 0n, true);
    entry.setUint32(40, command.cdw10 ?? 0, true);
    entry.setUint32(44, command.cdw11 ?? 0, true);
    entry.setUint32(48, command.cdw12 ?? 0, true);
    this.#tail = (this.#tail + 1) % ENTRIES;
    await bar0.write32Async(DOORBELLS + options.id * 8, this.#tail);

    await this.msix.waitAsync(options.vector);
    const at = options.cq + BigInt(this.#head * 16);
    const completion = new DataView(device.dma.read(at, 16).buffer);
    const status = completion.getUint16(14, true);
    if ((status & 1) !== this.#phase) throw new Error("An interrupt came without a completion");
    if (status >> 1 !== 0) {
      throw new Error(
        `Command 0x${command.opcode.toString(16)} failed: status 0x${(status >> 1).toString(16)}`,
      );
    }
    this.#head = (this.#head + 1) % ENTRIES;
    if (this.#head === 0) this.#phase ^= 1;
    await bar0.write32Async(DOORBELLS + options.id * 8 + 4, this.#head);
  }
}

/** The whole bring-up. */
export async function identify(socket: string): Promise<NvmeIdentity> {
  using device = await connect(socket);
  await device.dma.mapAsync(MEMORY);
  await device.pci.enable();
  const msix = await device.irqs("msix");
  await msix.enable({ count: 2 });
  await enableMsix(device, 2);

  await device.regionInfo(0);
  const bar0 = device.region("bar0");
  const capabilities = await bar0.read64Async(CAP);
  const version = await bar0.read32Async(VS);
  await bar0.write32Async(CC, 0);
  await bar0.pollAsync(CSTS, 4, (status) => (Number(status) & 1) === 0);
  await bar0.write32Async(AQA, (ENTRIES - 1) << 16 | (ENTRIES - 1));
  await bar0.write64Async(ASQ, ADMIN_SQ);
  await bar0.write64Async(ACQ, ADMIN_CQ);
  await bar0.write32Async(CC, CC_ENABLE);
  // CSTS.RDY is set, and CSTS.CFS is not: a controller may say both.
  await bar0.pollAsync(CSTS, 4, (status) => (Number(status) & 3) === 1);

  const admin = new QueuePair(device, bar0, msix, { id: 0, sq: ADMIN_SQ, cq: ADMIN_CQ, vector: 0 });
  await admin.run({ opcode: 0x06, prp1: IDENTIFY, cdw10: 1 });
  const page = device.dma.read(IDENTIFY, 4096);
  const text = (from: number, to: number) =>
    new TextDecoder().decode(page.subarray(from, to)).trim();

  const size = (ENTRIES - 1) << 16 | 1; // entries less one, queue id 1
  await admin.run({ opcode: 0x09, cdw10: 7, cdw11: 0 }); // Set Features: one queue pair
  // Vector 1, contiguous
  await admin.run({ opcode: 0x05, prp1: IO_CQ, cdw10: size, cdw11: 1 << 16 | 3 });
  // Completions to queue 1
  await admin.run({ opcode: 0x01, prp1: IO_SQ, cdw10: size, cdw11: 1 << 16 | 1 });
  const io = new QueuePair(device, bar0, msix, { id: 1, sq: IO_SQ, cq: IO_CQ, vector: 1 });
  const block = Uint8Array.from({ length: 512 }, (_, i) => (i * 7) & 0xff);
  device.dma.write(BLOCK, block);
  await io.run({ opcode: 0x01, namespace: 1, prp1: BLOCK, cdw10: 5 }); // write block 5
  await io.run({ opcode: 0x00, namespace: 1 }); // flush
  await io.run({ opcode: 0x02, namespace: 1, prp1: BLOCK_BACK, cdw10: 5 }); // read it
  const back = device.dma.read(BLOCK_BACK, 512);

  await bar0.write32Async(CC, CC_SHUTDOWN);
  await bar0.pollAsync(CSTS, 4, (status) => (Number(status) & 0xc) === 0x8);
  await bar0.write32Async(CC, 0);
  return {
    vendorId: page[0]! | page[1]! << 8,
    serial: text(4, 24),
    model: text(24, 64),
    firmware: text(64, 72),
    capabilities,
    version,
    interrupts: [msix.total(0), msix.total(1)],
    blockIsBack: back.every((byte, i) => byte === block[i]),
  };
}

/**
 * Fills the MSI-X table, as an operating system does, and switches MSI-X on. A device that refuses
 * the table leaves masking to its client: VMMs never write it.
 */
async function enableMsix(device: Device, count: number): Promise<void> {
  const config = device.region("config");
  const at = await device.pci.capability("CAP_MSIX");
  if (at === undefined) throw new Error("The device has no MSI-X capability");
  const table = await config.read32Async(at + 4);
  const offset = table & ~7;
  await device.regionInfo(table & 7);
  const bar = device.region(table & 7);
  try {
    for (let vector = 0; vector < count; vector++) {
      for (const [i, word] of [0xfee0_0000, 0, vector, 0].entries()) {
        await bar.write32Async(offset + vector * 16 + i * 4, word);
      }
    }
  } catch (error) {
    if (!(error instanceof RemoteError)) throw error;
  }
  await config.modifyAsync(at + 2, 2, 0x8000, 0x8000);
}

if (import.meta.main) {
  const [socket] = Deno.args;
  if (socket === undefined) {
    console.error("Usage: nvme_identify.ts SOCKET");
    Deno.exit(2);
  }
  const identity = await identify(socket);
  console.log(`Vendor    ${identity.vendorId.toString(16)}`);
  console.log(`Model     ${identity.model}`);
  console.log(`Serial    ${identity.serial}`);
  console.log(`Firmware  ${identity.firmware}`);
  console.log(`CAP       0x${identity.capabilities.toString(16)}`);
  console.log(`VS        0x${identity.version.toString(16)}`);
  console.log(
    `Block     ${identity.blockIsBack ? "written and read back" : "came back different"}`,
  );
  console.log(`MSI-X     ${identity.interrupts.join(", ")} interrupts of vectors 0 and 1`);
  if (!identity.blockIsBack) Deno.exit(1);
}
