/**
 * A DMA engine: it copies within the client's memory, also where that is not contiguous, by a list
 * of descriptors that it fetches itself.
 *
 * A descriptor is 32 bytes: u64 source, u64 destination, u32 bytes (16 MiB at most), and 12 that
 * are ignored. The engine works on COUNT of them from LIST on, 255 at most, and raises its MSI-X
 * vector at the end, good or bad.
 *
 * ```sh
 * vfu serve ./examples/dma_engine.ts --socket-path=/tmp/dma.sock &
 * vfu dma /tmp/dma.sock --pci-enable --map 1M:64K --hold --changes
 * ```
 *
 * @module
 */

import { cap, defineDevice, DeviceError, option, registers } from "../mod.ts";

const DESCRIPTOR_SIZE = 32;
/** Bytes that are copied at once: others may have their turn in between. */
const CHUNK_SIZE = 1 << 20;
/** The most that a descriptor copies. */
const MAX_LENGTH = 16 << 20;
const DMA_WRITE = 2;
const EIO = 5;
const EINVAL = 22;

export default defineDevice({
  name: "dma_engine",
  title: "DMA engine with descriptors",
  options: {
    channels: option.integer({ default: 2, min: 1, max: 32, description: "Copies at one time" }),
  },
  pci: ({ channels }) => ({
    vendor: 0x1234,
    device: 0x0de7,
    class: 0x080102, // DMA controller
    capabilities: [cap.pm(), cap.msix({ vectors: channels, bar: 4 }), cap.express()],
  }),
  create({ options, irq, dma, run, turn }) {
    const count = options.channels;
    // Each channel has 32 bytes of registers.
    const bar0 = registers({
      registers: [
        { name: "LIST", offset: 0x00, width: 8, count, stride: 32 },
        { name: "COUNT", offset: 0x08, width: 1, count, stride: 32 },
        { name: "CTRL", offset: 0x0c, width: 4, access: "wo", count, stride: 32 },
        {
          name: "STATUS",
          offset: 0x10,
          width: 4,
          access: "ro",
          count,
          stride: 32,
          fields: [
            { name: "BUSY", bits: 0 },
            { name: "DONE", bits: 1 },
            { name: "ERROR", bits: 2 },
            { name: "ERRNO", bits: "31:16" },
          ],
        },
        { name: "COPIED", offset: 0x18, width: 8, access: "ro", count, stride: 32 },
      ],
    });
    const { LIST, COUNT, STATUS, COPIED } = bar0.regs;

    async function copy(source: bigint, destination: bigint, length: number): Promise<void> {
      const from = dma.view(source, length);
      const to = dma.view(destination, length, DMA_WRITE);
      if (from !== undefined && to !== undefined) to.set(from); // the client shares both
      else await dma.write(destination, await dma.read(source, length));
    }

    async function work(channel: number): Promise<void> {
      for (let i = 0; i < COUNT.at(channel).value; i++) {
        const at = LIST.at(channel).value + BigInt(i * DESCRIPTOR_SIZE);
        const descriptor = new DataView((await dma.read(at, DESCRIPTOR_SIZE)).buffer);
        const length = descriptor.getUint32(16, true);
        if (length > MAX_LENGTH) throw new DeviceError(EINVAL);
        for (let done = 0; done < length; done += CHUNK_SIZE) {
          await turn(); // the client decides how much there is to do: others must not wait for that
          const size = Math.min(CHUNK_SIZE, length - done);
          const [source, destination] = [0, 8].map((each) => descriptor.getBigUint64(each, true));
          await copy(source! + BigInt(done), destination! + BigInt(done), size);
          COPIED.at(channel).value += BigInt(size);
        }
      }
    }

    async function start(channel: number): Promise<void> {
      const status = STATUS.at(channel);
      COPIED.at(channel).value = 0n;
      status.value = 0;
      status.BUSY = 1;
      try {
        await work(channel);
        status.set({ BUSY: 0, DONE: 1 });
      } catch (error) {
        const errno = error instanceof DeviceError ? error.errno : EIO;
        status.set({ BUSY: 0, ERROR: 1, ERRNO: errno });
      }
      irq.msix(channel).raise();
    }

    bar0.on({
      CTRL: {
        write(value, _old, channel) {
          if ((value & 1) === 1 && STATUS.at(channel).BUSY === 0) run(() => start(channel));
        },
      },
    });
    return { regions: { bar0 } };
  },
});

if (import.meta.main) {
  const { main } = await import("../cli/main.ts");
  main(["serve", import.meta.filename!, ...Deno.args]).then(Deno.exit);
}
