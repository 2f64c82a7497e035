/**
 * The I/O commands of the NVMe controller: the NVM command set.
 *
 * @module
 */

import { after, type Late } from "../../mod.ts";
import type { Command } from "./command.ts";
import type { Commands, Controller } from "./controller.ts";
import { fromHost, toHost } from "./data.ts";
import { BLOCK, type Disk } from "./disk.ts";
import { FEATURE } from "./features.ts";
import { Failed, Status } from "./status.ts";

/** The commands, by opcode. */
export const IO: Commands = {
  0x00: (_command, { disk }) => flush(disk), // Flush
  0x01: write,
  0x02: read,
  0x08: writeZeroes,
  0x09: manageDataset,
};

/** Each is supported; some change blocks. */
export const EFFECTS = new Map([[0x00, 1], [0x01, 3], [0x02, 1], [0x08, 3], [0x09, 3]]);

/** Bit 30 of dword 12: the command ends when its blocks last. */
const FUA = 1 << 30;
/** Bit 2 of dword 11 of Dataset Management: deallocate. */
const DEALLOCATE = 4;
const RANGE_SIZE = 16;

const ZEROS = new Uint8Array(64 << 10);

function read(command: Command, { dma, disk, logs }: Controller): Late<number> {
  const [at, length] = place(command);
  const data = onDisk(Status.READ_ERROR, () => disk.read(at, length));
  return after(() => toHost(dma, command, data), () => {
    logs.moved("read", command.blockCount);
    return 0;
  });
}

function write(command: Command, controller: Controller): Late<number> {
  const { dma, disk, logs } = controller;
  const [at, length] = place(command);
  const data = disk.room(at, length);
  return after(() => fromHost(dma, command, data), () => {
    onDisk(Status.WRITE_FAULT, () => disk.write(at, data));
    logs.moved("written", command.blockCount);
    return settle(command, controller);
  });
}

async function writeZeroes(command: Command, controller: Controller): Promise<number> {
  const [at, length] = place(command);
  await zero(at, length, controller);
  return await settle(command, controller);
}

/** Dataset Management. Only the attribute to deallocate does something: blocks then read as 0. */
async function manageDataset(command: Command, controller: Controller): Promise<number> {
  const ranges = new DataView(new ArrayBuffer(((command.dword(10) & 0xff) + 1) * RANGE_SIZE));
  await fromHost(controller.dma, command, new Uint8Array(ranges.buffer));
  const found: [at: number, length: number][] = [];
  for (let i = 0; i < ranges.byteLength; i += RANGE_SIZE) {
    const count = ranges.getUint32(i + 4, true);
    const first = Number(ranges.getBigUint64(i + 8, true));
    if (!controller.disk.has(first, count)) {
      throw new Failed(Status.RANGE, `range ${i / RANGE_SIZE}: the disk is not so large`);
    }
    found.push([first * BLOCK, count * BLOCK]);
  }
  if ((command.dword(11) & DEALLOCATE) === 0) return 0;
  for (const [at, length] of found) await zero(at, length, controller);
  return 0;
}

/** Finds the blocks of a command on the disk, in bytes. That they are there was checked. */
function place(command: Command): [at: number, length: number] {
  return [command.firstBlock * BLOCK, command.blockCount * BLOCK];
}

/**
 * Makes blocks 0. Holes of a file stay holes. The command says how many blocks there are: others
 * have their turn in between.
 */
async function zero(at: number, length: number, { disk, turn }: Controller): Promise<void> {
  for (const end = at + length; at < end; at += ZEROS.length) {
    await turn();
    const size = Math.min(ZEROS.length, end - at);
    onDisk(Status.WRITE_FAULT, () => {
      const bytes = disk.read(at, size);
      const words = new BigUint64Array(bytes.buffer, bytes.byteOffset, size / 8);
      if (words.some((word) => word !== 0n)) disk.write(at, ZEROS.subarray(0, size));
    });
  }
}

/** Makes what was written last, if the driver wants to be sure of that. */
function settle(command: Command, { disk, features }: Controller): Late<number> {
  const isSure = (command.dword(12) & FUA) !== 0 || features.get(FEATURE.WRITE_CACHE) === 0;
  return isSure ? flush(disk) : 0;
}

function flush(disk: Disk): Late<number> {
  return after(() => disk.flush(), () => 0, (error) => failed(Status.WRITE_FAULT, error));
}

/** Does something with the disk, whose failure is the command's. */
function onDisk<T>(status: number, act: () => T): T {
  try {
    return act();
  } catch (error) {
    return failed(status, error);
  }
}

function failed(status: number, error: unknown): never {
  throw new Failed(status, error instanceof Error ? error.message : String(error));
}
