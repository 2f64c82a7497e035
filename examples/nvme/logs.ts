/**
 * The log pages of the NVMe controller.
 *
 * @module
 */

import { BLOCK } from "./disk.ts";
import { LIMITS, PAGE } from "./promises.ts";
import { Failed, Status } from "./status.ts";

/** The firmware, 8 characters. */
export const FIRMWARE = "1.0";
/** The temperature that there is. */
export const KELVIN = 300;

const ERROR_SIZE = 64;

/** A command that failed. */
export interface ErrorEntry {
  readonly queue: number;
  readonly command: number;
  readonly status: number;
  readonly block: bigint;
  readonly namespace: number;
}

/** The counts and errors that the logs report. */
export class Logs {
  #errors: ErrorEntry[] = []; // the youngest first
  #errorCount = 0;
  #blocks = { read: 0, written: 0 };
  #commands = { read: 0, written: 0 };
  #mediaErrors = 0;

  /** A command has failed. */
  failed(entry: ErrorEntry): void {
    this.#errorCount++;
    if (entry.status === Status.READ_ERROR || entry.status === Status.WRITE_FAULT) {
      this.#mediaErrors++;
    }
    this.#errors = [entry, ...this.#errors.slice(0, LIMITS.ELPE)];
  }

  /** Blocks were moved. */
  moved(which: "read" | "written", blocks: number): void {
    this.#blocks[which] += blocks;
    this.#commands[which]++;
  }

  /**
   * A log page.
   *
   * @param id 1 errors, 2 health, 3 firmware, 5 commands and their effects
   * @param isTooWarm whether the temperature is beyond its threshold
   * @param effects of admin commands and of I/O commands, by opcode
   * @throws {Failed} if there is no such page
   */
  page(
    id: number,
    isTooWarm: boolean,
    effects: readonly [admin: ReadonlyMap<number, number>, io: ReadonlyMap<number, number>],
  ): Uint8Array {
    switch (id) {
      case 1:
        return this.#errorPage();
      case 2:
        return this.#healthPage(isTooWarm);
      case 3:
        return firmwarePage();
      case 5:
        return effectsPage(...effects);
      default:
        throw new Failed(Status.LOG_PAGE, `there is no log page ${id}`);
    }
  }

  #errorPage(): Uint8Array {
    const page = new Uint8Array(ERROR_SIZE * (LIMITS.ELPE + 1));
    for (const [i, { queue, command, status, block, namespace }] of this.#errors.entries()) {
      const entry = new DataView(page.buffer, i * ERROR_SIZE, ERROR_SIZE);
      entry.setBigUint64(0, BigInt(this.#errorCount - i), true);
      entry.setUint16(8, queue, true);
      entry.setUint16(10, command, true);
      entry.setUint16(12, status << 1, true);
      entry.setUint16(14, 0xffff, true); // of no particular field
      entry.setBigUint64(16, block, true);
      entry.setUint32(24, namespace, true);
    }
    return page;
  }

  #healthPage(isTooWarm: boolean): Uint8Array {
    const page = new Uint8Array(512);
    const view = new DataView(page.buffer);
    const count = (at: number, value: number) => view.setBigUint64(at, BigInt(value), true);
    page[0] = isTooWarm ? 2 : 0; // critical warnings
    view.setUint16(1, KELVIN, true);
    [page[3], page[4]] = [100, 10]; // percents of spare blocks: those that there are, and too few
    count(32, Math.ceil(this.#blocks.read * BLOCK / 512_000));
    count(48, Math.ceil(this.#blocks.written * BLOCK / 512_000));
    count(64, this.#commands.read);
    count(80, this.#commands.written);
    count(112, 1); // power cycles
    count(128, Math.floor(performance.now() / 3_600_000)); // hours
    count(160, this.#mediaErrors);
    count(176, this.#errorCount);
    return page;
  }
}

function firmwarePage(): Uint8Array {
  const page = new Uint8Array(512);
  page[0] = 1; // slot 1 is active
  page.set(new TextEncoder().encode(FIRMWARE.padEnd(8)), 8);
  return page;
}

function effectsPage(...effects: readonly ReadonlyMap<number, number>[]): Uint8Array {
  const page = new Uint8Array(PAGE);
  const view = new DataView(page.buffer);
  for (const [i, each] of effects.entries()) {
    for (const [opcode, bits] of each) view.setUint32(i * 1024 + opcode * 4, bits, true);
  }
  return page;
}
