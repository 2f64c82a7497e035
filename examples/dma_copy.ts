/**
 * The demo device's copy engine: it copies within our memory, by itself, and says with an interrupt
 * that it is done. Once over memory that is shared with it, once over memory that it reaches by
 * message only.
 *
 * ```sh
 * vfu serve demo --socket-path=/tmp/demo.sock &
 * deno run --allow-ffi examples/dma_copy.ts /tmp/demo.sock
 * ```
 *
 * @module
 */

// deno-lint-ignore-file no-console -- an example talks to a person
import { connect, DemoRegister, type Device, type IrqIndex } from "../mod.ts";

const START = 1;
const VECTOR = 2;
const DONE = 1;

/** Has the device copy `length` bytes, and waits for its interrupt. */
async function copy(
  device: Device,
  msix: IrqIndex,
  source: bigint,
  destination: bigint,
  length: number,
): Promise<void> {
  const bar0 = device.region("bar0");
  await bar0.write32Async(DemoRegister.DMA_SRC_LO, Number(source & 0xffff_ffffn));
  await bar0.write32Async(DemoRegister.DMA_SRC_HI, Number(source >> 32n));
  await bar0.write32Async(DemoRegister.DMA_DST_LO, Number(destination & 0xffff_ffffn));
  await bar0.write32Async(DemoRegister.DMA_DST_HI, Number(destination >> 32n));
  await bar0.write32Async(DemoRegister.DMA_LENGTH, length);
  await bar0.write32Async(DemoRegister.DMA_CONTROL, START | VECTOR << 8);
  await msix.waitAsync(VECTOR);
  const status = await bar0.read32Async(DemoRegister.DMA_STATUS);
  if ((status & DONE) === 0) {
    const errno = await bar0.read32Async(DemoRegister.DMA_ERRNO);
    throw new Error(`The copy failed: errno ${errno}`);
  }
}

/** Copies `length` bytes twice; tells whether they arrived. */
export async function copyBoth(
  socket: string,
  length = 1_000_000,
): Promise<{ shared: boolean; message: boolean }> {
  using device = await connect(socket);
  await device.pci.enable();
  await device.regionInfo(0);
  const msix = await device.irqs("msix");
  await msix.enable();
  const size = Math.ceil(length / 4096) * 4096;
  const bytes = Uint8Array.from({ length }, (_, i) => (i * 31 + (i >> 10)) & 0xff);
  const arrived = { shared: false, message: false };
  for (const share of ["memfd", "message"] as const) {
    const from = await device.dma.mapAsync({ iova: 0x1000_0000n, size, share, access: "ro" });
    const to = await device.dma.mapAsync({ iova: 0x2_0000_0000n, size, share, access: "wo" });
    from.bytes.set(bytes);
    await copy(device, msix, from.iova, to.iova, length);
    arrived[share === "memfd" ? "shared" : "message"] = bytes.every((byte, i) =>
      to.bytes[i] === byte
    );
    await to.unmapAsync();
    await from.unmapAsync();
  }
  return arrived;
}

if (import.meta.main) {
  const [socket] = Deno.args;
  if (socket === undefined) {
    console.error("Usage: dma_copy.ts SOCKET");
    Deno.exit(2);
  }
  const { shared, message } = await copyBoth(socket);
  console.log(`Shared memory:     ${shared ? "copied" : "differs"}`);
  console.log(`Memory by message: ${message ? "copied" : "differs"}`);
  if (!shared || !message) Deno.exit(1);
}
