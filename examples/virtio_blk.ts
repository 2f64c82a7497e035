/**
 * A virtio block device over PCI, with a disk in memory or in a file, one queue, and interrupts by
 * MSI-X or pin. Linux uses it as any virtio disk.
 *
 * ```sh
 * vfu serve ./examples/virtio_blk.ts --socket-path=/tmp/virtio.sock --option disk=disk.img &
 * vfu run examples/sessions/virtio_blk.yaml /tmp/virtio.sock
 * ```
 *
 * This file has what a block device does (Virtio 1.2, section 5.2). What all virtio devices do is
 * in `virtio/`: the registers in `function.ts`, buffers of the driver in `queue.ts`. The disk is
 * that of `nvme.ts`.
 *
 * @module
 */

import { defineDevice, DeviceError, option, registers } from "../mod.ts";
import { BLOCK, Disk } from "./nvme/disk.ts";
import { virtioFunction, virtioPci } from "./virtio/function.ts";
import { type Chain, cut, MAX_SIZE, QueueError, type Segment, sizeOf } from "./virtio/queue.ts";

const BLOCK_DEVICE = 2;

/** Features. */
const SEG_MAX = 1 << 2;
const FLUSH = 1 << 9;

/** Types of requests. */
const Request = { IN: 0, OUT: 1, FLUSH: 4, GET_ID: 8 } as const;

/** Results of requests. */
const Result = { OK: 0, IOERR: 1, UNSUPP: 2 } as const;

const HEADER_SIZE = 16;
const ID_SIZE = 20;

const CONFIG = {
  name: "virtio_blk",
  registers: [
    { name: "CAPACITY", offset: 0x00, width: 8, access: "ro", description: "In blocks" },
    // The header and the result of a request take a descriptor each.
    { name: "SEG_MAX", offset: 0x0c, width: 4, access: "ro", reset: MAX_SIZE - 2 },
  ],
} as const;

export default defineDevice({
  name: "virtio_blk",
  title: "Virtio block device",
  options: {
    disk: option.text({ description: "The file that is its disk; without one it is in memory" }),
    size: option.size({ default: 16 << 20, min: 512, description: "How large one in memory is" }),
    serial: option.text({ default: "vfu", description: "Serial number: 20 bytes at most" }),
  },
  pci: virtioPci(BLOCK_DEVICE, 0x018000, 0x10),
  create(context) {
    const { options, dma, turn, log } = context;
    const disk = Disk.open(options.disk, options.size);
    const id = new Uint8Array(ID_SIZE);
    new TextEncoder().encodeInto(options.serial, id);

    /** Copies to the driver's memory: `bytes` has those from a place in the segments on. */
    async function send(
      segments: Iterable<Segment>,
      bytes: (at: number, length: number) => Uint8Array,
    ): Promise<void> {
      let done = 0;
      for (const { at, length } of segments) {
        await turn();
        await dma.copyFrom(at, bytes(done, length));
        done += length;
      }
    }

    /** Copies from the driver's memory: `room` is where to, `taken` is called afterwards. */
    async function receive(
      segments: Iterable<Segment>,
      room: (at: number, length: number) => Uint8Array,
      taken?: (at: number, bytes: Uint8Array) => void,
    ): Promise<void> {
      let done = 0;
      for (const { at, length } of segments) {
        await turn();
        const bytes = room(done, length);
        await dma.copyTo(at, bytes);
        taken?.(done, bytes);
        done += length;
      }
    }

    /** Does a request: a header, data, and a byte for the result, in any descriptors. */
    async function serve({ readable, writable }: Chain, accepted: number): Promise<number> {
      const [sent, room] = [sizeOf(readable) - HEADER_SIZE, sizeOf(writable) - 1];
      if (sent < 0 || room < 0) throw new QueueError("A request lacks its header or its result");
      const bytes = new Uint8Array(HEADER_SIZE);
      await receive(cut(readable, 0, HEADER_SIZE), (at, length) => bytes.subarray(at, at + length));
      const header = new DataView(bytes.buffer);
      const sector = Number(header.getBigUint64(8, true));
      const start = sector * BLOCK;
      const has = (size: number) => size % BLOCK === 0 && disk.has(sector, size / BLOCK);
      let [result, written]: [number, number] = [Result.OK, 0];
      try {
        switch (header.getUint32(0, true)) {
          case Request.IN:
            if (!has(room)) {
              result = Result.IOERR;
              break;
            }
            await send(cut(writable, 0, room), (at, length) => disk.read(start + at, length));
            written = room;
            break;
          case Request.OUT:
            if (!has(sent)) {
              result = Result.IOERR;
              break;
            }
            await receive(
              cut(readable, HEADER_SIZE, sent),
              (at, length) => disk.room(start + at, length),
              (at, data) => disk.write(start + at, data),
            );
            // Without FLUSH a driver takes what it wrote to be safe.
            if ((accepted & FLUSH) === 0) await disk.flush();
            break;
          case Request.FLUSH:
            await disk.flush();
            break;
          case Request.GET_ID:
            written = Math.min(room, ID_SIZE);
            await send(cut(writable, 0, written), (at, length) => id.subarray(at, at + length));
            break;
          default:
            result = Result.UNSUPP;
        }
      } catch (error) {
        if (error instanceof DeviceError) throw error; // the driver's memory, not the disk
        log(`${error}`);
        [result, written] = [Result.IOERR, 0];
      }
      await send(cut(writable, room, 1), () => Uint8Array.of(result));
      return written === room ? room + 1 : written;
    }

    const config = registers(CONFIG).on({ CAPACITY: { read: () => BigInt(disk.blocks) } });
    const virtio = virtioFunction(context, { features: SEG_MAX | FLUSH, config, serve });
    return {
      regions: { bar4: virtio.bar4 },
      reset: virtio.reset,
      start: virtio.start,
      close: () => disk.close(),
      state: { bytes: disk.bytes, save: virtio.save, restore: virtio.restore },
    };
  },
});

if (import.meta.main) {
  const { main } = await import("../cli/main.ts");
  main(["serve", import.meta.filename!, ...Deno.args]).then(Deno.exit);
}
