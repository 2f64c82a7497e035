/**
 * What `nvme.ts` is made of besides its queues: Identify, and moving data by PRP entries.
 *
 * @module
 */

import type { DeviceDma } from "../mod.ts";
import { BLOCK, type Disk } from "./nvme_disk.ts";

const PAGE = 4096;
/** The largest transfer is 2^5 pages. */
const MDTS = 5;
const NAMESPACE = 1;

/** Status codes, with "do not retry". */
export const Status = {
  OPCODE: 0x4001,
  FIELD: 0x4002,
  TRANSFER_ERROR: 0x4004,
  NAMESPACE: 0x400b,
  PRP_OFFSET: 0x4013,
  RANGE: 0x4080,
  NO_COMPLETION_QUEUE: 0x4100,
  QUEUE_ID: 0x4101,
  QUEUE_SIZE: 0x4102,
  VECTOR: 0x4108,
  QUEUE_DELETION: 0x410c,
} as const;

/** A command fails with this status. */
export class Failed extends Error {
  constructor(readonly status: number) {
    super(`status 0x${status.toString(16)}`);
  }
}

/** The page that Identify gives. */
export function identify(what: number, serial: string, diskSize: number): Uint8Array {
  const page = new Uint8Array(PAGE);
  const view = new DataView(page.buffer);
  const text = (at: number, length: number, value: string) =>
    page.set(new TextEncoder().encode(value.padEnd(length)).subarray(0, length), at);
  switch (what) {
    case 0: // the namespace
      for (const at of [0, 8, 16]) view.setBigUint64(at, BigInt(diskSize / BLOCK), true);
      page[130] = Math.log2(BLOCK);
      break;
    case 1: // the controller
      view.setUint16(0, 0x1b36, true);
      view.setUint16(2, 0x1af4, true);
      text(4, 20, serial);
      text(24, 40, "vfu NVMe");
      text(64, 8, "1.0");
      page[77] = MDTS;
      view.setUint32(80, 0x10400, true); // version
      page[111] = 1; // an I/O controller
      [page[258], page[259]] = [3, 3]; // aborts and asynchronous events at one time
      [page[512], page[513]] = [0x66, 0x44]; // entries of 64 and 16 bytes
      view.setUint32(516, NAMESPACE, true); // how many namespaces
      page[525] = 1; // there is a cache: Flush means something
      break;
    case 2: // the namespaces that there are
      view.setUint32(0, NAMESPACE, true);
      break;
    default:
      throw new Failed(Status.FIELD);
  }
  return page;
}

/** Flush, Write and Read. */
export async function transferBlocks(
  dma: DeviceDma,
  disk: Disk,
  command: DataView,
): Promise<number> {
  const opcode = command.getUint8(0);
  if (opcode > 2) throw new Failed(Status.OPCODE);
  if (opcode !== 0 && command.getUint32(4, true) !== NAMESPACE) throw new Failed(Status.NAMESPACE);
  if (opcode === 0) {
    disk.flush();
    return 0;
  }
  const first = command.getBigUint64(40, true) * BigInt(BLOCK);
  const length = (command.getUint16(48, true) + 1) * BLOCK;
  if (first + BigInt(length) > BigInt(disk.size)) throw new Failed(Status.RANGE);
  if (length > PAGE << MDTS) throw new Failed(Status.FIELD);
  const data = new Uint8Array(length);
  if (opcode === 2) disk.read(Number(first), data);
  await transfer(dma, command, data, opcode === 2);
  if (opcode === 1) disk.write(Number(first), data);
  return 0;
}

/** Moves the data of a command. */
export async function transfer(
  dma: DeviceDma,
  command: DataView,
  data: Uint8Array,
  isToHost: boolean,
): Promise<void> {
  let at = 0;
  for (const [address, size] of await pieces(dma, command, data.length)) {
    const part = data.subarray(at, at += size);
    if (isToHost) await dma.write(address, part);
    else part.set(await dma.read(address, size));
  }
}

/** Where the data of a command are: in pages that PRP entries tell of, the first two in the command, or a list for more. */
async function pieces(
  dma: DeviceDma,
  command: DataView,
  length: number,
): Promise<[address: bigint, size: number][]> {
  const found: [bigint, number][] = [];
  const add = (address: bigint) => {
    const offset = Number(address % BigInt(PAGE));
    if (found.length > 0 && offset !== 0) throw new Failed(Status.PRP_OFFSET);
    found.push([address, Math.min(length, PAGE - offset)]);
    length -= PAGE - offset;
  };
  add(command.getBigUint64(24, true));
  let next = command.getBigUint64(32, true);
  if (length > 0 && length <= PAGE) add(next);
  while (length > 0) {
    if (next % 8n !== 0n) throw new Failed(Status.PRP_OFFSET);
    const needed = Math.ceil(length / PAGE);
    const room = (PAGE - Number(next % BigInt(PAGE))) >> 3;
    const bytes = await dma.read(next, 8 * Math.min(needed, room));
    const entries = [...new BigUint64Array(bytes.buffer)];
    const chained = needed > room ? entries.pop() : undefined; // the last one tells of the next list
    for (const each of entries) add(each);
    if (chained === undefined) break;
    if (chained % BigInt(PAGE) !== 0n) throw new Failed(Status.PRP_OFFSET);
    next = chained;
  }
  return found;
}
