/**
 * Outputs of a recording: a file, which takes all, or a pipe, whose reader may stop.
 *
 * @module
 */

import { monotonicMs } from "../../ffi/clock.ts";
import { ENXIO, SystemError } from "../../ffi/errno.ts";
import { POLLOUT } from "../../ffi/event.ts";
import { OwnedFd } from "../../ffi/fd.ts";
import { type Watch, watch } from "../../ffi/poller.ts";
import { joined } from "../base/bytes.ts";
import { RECORDING_WAITING } from "../base/limits.ts";
import { fileError } from "../text/file_error.ts";
import { wholeBlocks } from "./pcapng.ts";

/** Reports of an output. */
export interface OutputHooks {
  /** The output failed, once and for good; `lost` events of those that it took are not in it. */
  onFailure(cause: unknown, lost: number): void;
  /** There is room again, after there was none. */
  onRoom(): void;
}

/** An output takes whole blocks in order, and never waits for a reader. */
export interface Output {
  /** True while it holds blocks that its reader has not taken. */
  readonly isWaiting: boolean;
  /** Finds out whether there is room for so many bytes; `onRoom` follows if there is none. */
  hasRoomFor(size: number): boolean;
  /**
   * Takes blocks; the bytes may be used again when this returns.
   *
   * @param parts of blocks: whole ones in a single part, or one block in several parts
   * @param events the number of events in the blocks
   */
  write(parts: readonly Uint8Array<ArrayBuffer>[], events: number): void;
  /** Waits until the reader has taken all, the output has failed, or the time is up. */
  drain(ms: number): Promise<void>;
  /** Closes it. Returns the number of events that its reader has not taken. */
  close(): number;
}

/**
 * Opens the output at a path. A regular file is made, or emptied if it is there.
 *
 * @throws {Error} if that fails; the message has path, reason and remedy
 */
export function openOutput(path: string, hooks: OutputHooks): Output {
  try {
    if (!mayBlock(path)) {
      const file = path === STANDARD_OUTPUT
        ? Deno.stdout
        : Deno.openSync(path, { write: true, create: true, truncate: true });
      return new FileOutput(file, hooks);
    }
    return new PipeOutput(OwnedFd.openOutlet(path), hooks);
  } catch (cause) {
    if (cause instanceof SystemError && cause.errno === ENXIO) {
      const reason = "no process reads this pipe; start the reader first";
      throw new Error(`Cannot write ${path}: ${reason}`, { cause });
    }
    throw fileError(`write ${path}`, cause, true);
  }
}

/** A path of which Deno tells a program nothing, and opens nothing, without all permissions. */
const STANDARD_OUTPUT = "/dev/stdout";
const O_PATH = 0o10000000;

/** Finds out whether writing to what is at a path can wait for a reader. */
function mayBlock(path: string): boolean {
  try {
    if (path === STANDARD_OUTPUT) {
      using file = OwnedFd.open(path, O_PATH);
      const { kind } = file.stat();
      return kind === "pipe" || kind === "character device";
    }
    const { isFifo, isCharDevice } = Deno.statSync(path);
    return isFifo || isCharDevice === true;
  } catch {
    return false; // to open it says why
  }
}

/** The parts of a file that an output uses; standard output can't be cut. */
type OpenFile = Pick<Deno.FsFile, "writeSync" | "close"> & Partial<Deno.FsFile>;

/** A file on a disk. */
class FileOutput implements Output {
  readonly isWaiting = false;
  readonly #file: OpenFile;
  readonly #hooks: OutputHooks;
  /** Bytes in the file, all of whole blocks. */
  #written = 0;
  #hasFailed = false;

  constructor(file: OpenFile, hooks: OutputHooks) {
    this.#file = file;
    this.#hooks = hooks;
  }

  hasRoomFor(): boolean {
    return true;
  }

  write(parts: readonly Uint8Array<ArrayBuffer>[], events: number): void {
    if (this.#hasFailed) return;
    let size = 0;
    for (const part of parts) {
      let done = 0;
      try {
        while (done < part.length) done += this.#file.writeSync(part.subarray(done));
      } catch (cause) {
        return this.#fail(cause, parts.length === 1 ? part.subarray(0, done) : NOTHING, events);
      }
      size += done;
    }
    this.#written += size;
  }

  drain(): Promise<void> {
    return Promise.resolve();
  }

  close(): number {
    this.#file.close();
    return 0;
  }

  /** Ends the file behind the last block that is whole. */
  #fail(cause: unknown, done: Uint8Array, events: number): void {
    const { size, packets } = wholeBlocks(done);
    this.#hasFailed = true;
    try {
      this.#file.truncateSync?.(this.#written + size);
    } catch { /* a block device has no end to set */ }
    this.#hooks.onFailure(cause, events - packets);
  }
}

const NOTHING = new Uint8Array();

/** The most that one turn writes to a pipe, in bytes: messages wait meanwhile. */
const MAX_TURN = 1 << 20;

/** Blocks that wait for the reader of a pipe. */
interface Waiting {
  readonly bytes: Uint8Array<ArrayBuffer>;
  /** The number of bytes that the pipe has taken. */
  done: number;
  readonly events: number;
}

/** A pipe or a terminal: what its reader does not take waits here, up to a limit. */
class PipeOutput implements Output {
  readonly #pipe: OwnedFd;
  readonly #hooks: OutputHooks;
  #waiting: Waiting[] = [];
  #size = 0; // bytes that wait
  #wasFull = false;
  #hasFailed = false;
  #watch: Watch | undefined;
  #drained: PromiseWithResolvers<void> | undefined;

  constructor(pipe: OwnedFd, hooks: OutputHooks) {
    this.#pipe = pipe;
    this.#hooks = hooks;
  }

  get isWaiting(): boolean {
    return this.#size > 0;
  }

  hasRoomFor(size: number): boolean {
    const hasRoom = this.#size === 0 || this.#size + size <= RECORDING_WAITING;
    this.#wasFull ||= !hasRoom;
    return hasRoom;
  }

  write(parts: readonly Uint8Array<ArrayBuffer>[], events: number): void {
    if (this.#hasFailed) return;
    let done = 0;
    if (this.#size === 0) {
      try {
        done = this.#writeParts(parts);
      } catch (cause) {
        return this.#fail(cause, events); // of these blocks none may be whole
      }
    }
    const size = parts.reduce((sum, { length }) => sum + length, 0);
    if (done === size) return;
    this.#waiting.push({ bytes: joined(parts), done, events });
    this.#size += size - done;
    this.#watch ??= watch(this.#pipe.fd, POLLOUT, (revents) => {
      if (revents === 0) this.#drained?.resolve(); // its time is up
      else this.#goOn();
    });
  }

  async drain(ms: number): Promise<void> {
    if (this.#watch === undefined) return;
    this.#watch.deadline = monotonicMs() + ms;
    this.#drained ??= Promise.withResolvers();
    await this.#drained.promise;
  }

  close(): number {
    const lost = this.#lost();
    this.#rest();
    this.#pipe.close();
    return lost;
  }

  /** Writes parts as far as there is room. Returns the number of bytes that went. */
  #writeParts(parts: readonly Uint8Array<ArrayBuffer>[]): number {
    let total = 0;
    for (const part of parts) {
      for (let at = 0; at < part.length;) {
        const count = this.#pipe.writeSome(part.subarray(at));
        if (count === 0) return total;
        at += count;
        total += count;
      }
    }
    return total;
  }

  #fail(cause: unknown, lost: number): void {
    this.#hasFailed = true;
    this.#rest();
    this.#hooks.onFailure(cause, lost);
  }

  /** Writes what waits, as far as there is room. */
  #goOn(): void {
    const end = Math.max(0, this.#size - MAX_TURN);
    try {
      while (this.#size > end) {
        const first = this.#waiting[0]!;
        const count = this.#pipe.writeSome(first.bytes.subarray(first.done));
        if (count === 0) break;
        first.done += count;
        this.#size -= count;
        if (first.done === first.bytes.length) this.#waiting.shift();
      }
    } catch (cause) {
      return this.#fail(cause, this.#lost());
    }
    if (this.#size === 0) this.#rest();
    if (!this.#wasFull || this.#size > RECORDING_WAITING / 2) return;
    this.#wasFull = false;
    this.#hooks.onRoom();
  }

  /** The number of events that wait, also in part. */
  #lost(): number {
    const [first] = this.#waiting;
    if (first === undefined) return 0;
    const whole = wholeBlocks(first.bytes.subarray(0, first.done)).packets;
    return this.#waiting.reduce((sum, { events }) => sum + events, -whole);
  }

  #rest(): void {
    this.#waiting = [];
    this.#size = 0;
    this.#watch?.close();
    this.#watch = undefined;
    this.#drained?.resolve();
  }
}
