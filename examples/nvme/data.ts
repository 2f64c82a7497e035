/**
 * The client's memory, as the NVMe controller reaches it: entries of queues, and the data of a
 * command where PRP entries say. It is reached at once where the client shares it. Only memory by
 * message makes promises.
 *
 * @module
 */

import { after, type DeviceDma, type Late } from "../../mod.ts";
import type { Command } from "./command.ts";
import { PAGE } from "./promises.ts";
import { Failed, Status } from "./status.ts";

/** A part of the data, in as many pages as follow one another. */
interface Piece {
  readonly address: bigint;
  size: number;
}

/** An address: where numbers hold it a number, which is faster. */
export function addressOf(base: bigint, offset: number): number | bigint {
  const near = Number(base);
  return near < 2 ** 52 ? near + offset : base + BigInt(offset);
}

/** Writes the data of a command. */
export function toHost(dma: DeviceDma, command: Command, data: Uint8Array): Late<void> {
  return move(dma, command, data, (address, part) => dma.copyFrom(address, part));
}

/** Reads the data of a command. */
export function fromHost(dma: DeviceDma, command: Command, data: Uint8Array): Late<void> {
  return move(dma, command, data, (address, part) => dma.copyTo(address, part));
}

function move(
  dma: DeviceDma,
  command: Command,
  data: Uint8Array,
  act: (address: number | bigint, part: Uint8Array) => Late<void> | undefined,
): Late<void> {
  const offset = command.dword(6) % PAGE;
  if (offset % 4 === 0 && data.length <= PAGE - offset) { // one page, as most commands have
    return after(() => act(addressOf(command.prp1, 0), data), () => {}, unreachable);
  }
  let isLost = false;
  const lose = () => void (isLost = true);
  return after(() => piecesOf(dma, command, data.length), (pieces) => {
    let at = 0;
    const late: Promise<void>[] = [];
    for (const { address, size } of pieces) {
      const part = size === data.length ? data : data.subarray(at, at += size);
      const moved = after(() => act(addressOf(address, 0), part), () => {}, lose);
      if (moved !== undefined) late.push(moved);
    }
    // `data` is used again: all of them end first.
    return after(() => late.length > 0 ? Promise.all(late) : undefined, () => {
      if (isLost) unreachable();
    });
  });
}

/**
 * Finds the pieces of a command's data. PRP1 is the first page; PRP2 is the second page, or a list
 * of all further ones.
 */
function piecesOf(dma: DeviceDma, command: Command, length: number): Late<readonly Piece[]> {
  const pieces: Piece[] = [];
  const add = (address: bigint) => {
    const offset = Number(address & BigInt(PAGE - 1));
    if (pieces.length === 0 ? offset % 4 !== 0 : offset !== 0) throw misplaced("a PRP entry");
    const size = Math.min(length, PAGE - offset);
    const last = pieces.at(-1);
    if (last !== undefined && last.address + BigInt(last.size) === address) last.size += size;
    else pieces.push({ address, size });
    length -= size;
  };
  const addList = (list: bigint): Late<readonly Piece[]> => {
    if (list % 8n !== 0n) throw misplaced("a PRP list");
    const needed = Math.ceil(length / PAGE);
    const room = (PAGE - Number(list % BigInt(PAGE))) / 8; // a list ends with its page
    const entries = new BigUint64Array(Math.min(needed, room));
    const read = () => dma.copyTo(addressOf(list, 0), new Uint8Array(entries.buffer));
    return after(read, () => {
      // The last entry is the address of the next list.
      const chained = needed > room ? entries.at(-1) : undefined;
      for (const each of chained === undefined ? entries : entries.subarray(0, -1)) add(each);
      if (chained === undefined) return pieces;
      if (chained % BigInt(PAGE) !== 0n) throw misplaced("a PRP list");
      return addList(chained);
    }, unreachable);
  };
  add(command.prp1);
  if (length > PAGE) return addList(command.prp2);
  if (length > 0) add(command.prp2);
  return pieces;
}

function misplaced(what: string): Failed {
  return new Failed(Status.PRP_OFFSET, `${what} is not where one may be`);
}

function unreachable(): never {
  throw new Failed(Status.TRANSFER_ERROR, "the client's memory can't be reached");
}
