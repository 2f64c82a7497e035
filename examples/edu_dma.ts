/**
 * QEMU's teaching device: memory is moved into its buffer and back by DMA, and each transfer ends
 * with an interrupt.
 *
 * ```sh
 * deno run --allow-ffi examples/edu_dma.ts /tmp/edu.sock
 * ```
 *
 * @module
 */

// deno-lint-ignore-file no-console -- an example talks to a person
import { connect } from "../mod.ts";

/** Registers of edu in BAR0. */
const IDENTIFICATION = 0x00;
const INTERRUPT_STATUS = 0x24;
const INTERRUPT_ACK = 0x64;
const DMA_SOURCE = 0x80;
const DMA_DESTINATION = 0x88;
const DMA_COUNT = 0x90;
const DMA_COMMAND = 0x98;

/** The device's own buffer, in its address space. */
const BUFFER = 0x40000n;
const START = 1;
const FROM_DEVICE = 2;
const RAISE_INTERRUPT = 4;

const MEMORY = 0x100000n;
const BACK = 0x101000n;

/** The result of the transfer. */
export interface EduResult {
  identification: number;
  /** Interrupts, one a transfer. */
  interrupts: bigint;
  /** True if the bytes came back as they were. */
  isSame: boolean;
}

/** Moves 4000 bytes to the device and back. */
export async function moveBytes(socket: string): Promise<EduResult> {
  using device = await connect(socket);
  await device.pci.enable();
  await device.regionInfo(0);
  const bar0 = device.region("bar0");
  await device.dma.mapAsync({ iova: MEMORY, size: 0x10000 });
  const intx = await device.irqs("intx");
  await intx.enable();

  const transfer = async (source: bigint, destination: bigint, count: number, command: number) => {
    await bar0.write64Async(DMA_SOURCE, source);
    await bar0.write64Async(DMA_DESTINATION, destination);
    await bar0.write64Async(DMA_COUNT, BigInt(count));
    await bar0.write64Async(DMA_COMMAND, BigInt(command));
    await intx.waitAsync(0);
    await bar0.write32Async(INTERRUPT_ACK, await bar0.read32Async(INTERRUPT_STATUS));
  };

  const bytes = Uint8Array.from({ length: 4000 }, (_, i) => (i * 13 + (i >> 8)) & 0xff);
  device.dma.write(MEMORY, bytes);
  await transfer(MEMORY, BUFFER, bytes.length, START | RAISE_INTERRUPT);
  await transfer(BUFFER, BACK, bytes.length, START | FROM_DEVICE | RAISE_INTERRUPT);
  const back = device.dma.read(BACK, bytes.length);
  return {
    identification: await bar0.read32Async(IDENTIFICATION),
    interrupts: intx.total(0),
    isSame: back.every((byte, i) => byte === bytes[i]),
  };
}

if (import.meta.main) {
  const [socket] = Deno.args;
  if (socket === undefined) {
    console.error("Usage: edu_dma.ts SOCKET");
    Deno.exit(2);
  }
  const { identification, interrupts, isSame } = await moveBytes(socket);
  console.log(
    `edu 0x${identification.toString(16)}: ${interrupts} interrupts, 4000 bytes ${
      isSame ? "there and back" : "came back different"
    }`,
  );
  if (!isSame) Deno.exit(1);
}
