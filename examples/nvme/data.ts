/**
 * The data of an NVMe command in the client's memory, where PRP entries say.
 *
 * @module
 */

import type { DeviceDma } from "../../mod.ts";
import type { Command } from "./command.ts";
import { PAGE } from "./promises.ts";
import { Failed, Status } from "./status.ts";

/** A part of the data, in as many pages as follow one another. */
interface Piece {
  readonly address: bigint;
  size: number;
}

/** Writes the data of a command. */
export async function toHost(dma: DeviceDma, command: Command, data: Uint8Array): Promise<void> {
  await move(dma, command, data, (address, part) => dma.write(address, part));
}

/** Reads the data of a command. */
export async function fromHost(dma: DeviceDma, command: Command, data: Uint8Array): Promise<void> {
  await move(dma, command, data, (address, part) => dma.readInto(address, part));
}

async function move(
  dma: DeviceDma,
  command: Command,
  data: Uint8Array,
  act: (address: bigint, part: Uint8Array) => Promise<void>,
): Promise<void> {
  const pieces = await piecesOf(dma, command, data.length);
  let at = 0;
  const moves = pieces.map(({ address, size }) => act(address, data.subarray(at, at += size)));
  try {
    if (moves.length === 1) return await moves[0];
    await Promise.all(moves);
  } catch {
    await Promise.allSettled(moves); // `data` is used again: none of them goes on
    throw unreachable();
  }
}

/**
 * Finds the pieces of a command's data. PRP1 is the first page; PRP2 is the second page, or a list
 * of all further ones.
 */
async function piecesOf(dma: DeviceDma, command: Command, length: number): Promise<Piece[]> {
  const pieces: Piece[] = [];
  const add = (address: bigint) => {
    const offset = Number(address % BigInt(PAGE));
    if (pieces.length === 0 ? offset % 4 !== 0 : offset !== 0) throw misplaced("a PRP entry");
    const size = Math.min(length, PAGE - offset);
    const last = pieces.at(-1);
    if (last !== undefined && last.address + BigInt(last.size) === address) last.size += size;
    else pieces.push({ address, size });
    length -= size;
  };
  add(command.prp1);
  if (length > 0 && length <= PAGE) add(command.prp2);
  let list = command.prp2;
  while (length > 0) {
    if (list % 8n !== 0n) throw misplaced("a PRP list");
    const needed = Math.ceil(length / PAGE);
    const room = (PAGE - Number(list % BigInt(PAGE))) / 8; // a list ends with its page
    const bytes = await dma.read(list, 8 * Math.min(needed, room)).catch(() => {
      throw unreachable();
    });
    const entries = [...new BigUint64Array(bytes.buffer)];
    // The last entry is the address of the next list.
    const chained = needed > room ? entries.pop() : undefined;
    for (const each of entries) add(each);
    if (chained === undefined) break;
    if (chained % BigInt(PAGE) !== 0n) throw misplaced("a PRP list");
    list = chained;
  }
  return pieces;
}

function misplaced(what: string): Failed {
  return new Failed(Status.PRP_OFFSET, `${what} is not where one may be`);
}

function unreachable(): Failed {
  return new Failed(Status.TRANSFER_ERROR, "the client's memory can't be reached");
}
