/**
 * A log's way out that neither stalls nor ends a server, whatever becomes of the log.
 *
 * @module
 */

import { joined } from "../../lib/base/bytes.ts";

/** The place where a log goes. */
export interface LogStream {
  /** Writes some of the bytes, and says how many; as `Deno.stdout.write`, off this thread. */
  write(bytes: Uint8Array): Promise<number>;
}

/** The options of a {@linkcode PatientWriter}. */
export interface PatientOptions {
  /** The line that stands for lines that were discarded. */
  notice(lines: number): string;
  /** The stream can't be written to, as on a full disk; called once until it can be again. */
  onFailure?(error: Error): void;
  /** Hears how many UTF-16 units have left the queue. */
  onLeave?(units: number): void;
  /** The delay before a failed stream is tried again, in milliseconds; default 1000. */
  retryMs?: number;
}

/** The most that waits to be written, in UTF-16 units; lines beyond that are discarded. */
export const MAX_WAITING = 1 << 20;
/** The most that is written at once, in bytes. */
const MAX_BATCH = 64 << 10;
const RETRY_MS = 1000;
/** A pipe that another process has made non-blocking is full: its reader may be about to read. */
const FULL_PIPE_PAUSE_MS = 20;

/** Lines that wait. */
interface Entry {
  readonly bytes: Uint8Array;
  /** The number of lines that are lost with it; for a notice the number that it reports. */
  readonly lines: number;
  /** UTF-16 units of the room that it takes; of a notice 0. */
  readonly units: number;
}

/**
 * Writes lines one after another, without making the caller wait. Discards lines while too many
 * wait, and those that the stream fails to take. Reports their number in the log itself as soon as
 * the log can be written to.
 */
export class PatientWriter {
  readonly #stream: LogStream;
  readonly #options: PatientOptions;
  #queue: Entry[] = [];
  #waiting = 0; // UTF-16 units
  #lost = 0; // lines that no notice has reported
  #isCut = false; // whether the last line that was written lacks its end
  #hasFailed = false;
  #running: Promise<void> | undefined;

  /** @param stream which is not closed */
  constructor(stream: LogStream, options: PatientOptions) {
    this.#stream = stream;
    this.#options = options;
  }

  /** Adds whole lines. Never throws. */
  add(text: string): void {
    const lines = countLines(text);
    const units = text.length;
    if (this.#waiting + units > MAX_WAITING) {
      this.#options.onLeave?.(units);
      return this.addLost(lines);
    }
    if (this.#lost > 0) this.#queue.push(this.#takeNotice());
    this.#queue.push({ bytes: encode(text), lines, units });
    this.#waiting += units;
    this.#run();
  }

  /** Counts lines that were discarded elsewhere. */
  addLost(lines: number): void {
    this.#lost += lines;
    if (lines > 0) this.#run();
  }

  /** Settled when nothing waits, and nothing is to be reported; undefined if that is so. */
  get idle(): Promise<void> | undefined {
    return this.#running;
  }

  #takeNotice(): Entry {
    const lines = this.#lost;
    this.#lost = 0;
    return { bytes: encode(this.#options.notice(lines)), lines, units: 0 };
  }

  #run(): void {
    this.#running ??= this.#writeQueue();
  }

  async #writeQueue(): Promise<void> {
    try {
      while (this.#queue.length > 0 || this.#lost > 0) {
        if (this.#queue.length === 0) this.#queue.push(this.#takeNotice());
        const batch = this.#takeBatch();
        const units = batch.reduce((sum, entry) => sum + entry.units, 0);
        const error = await this.#writeBatch(batch);
        this.#waiting -= units;
        this.#options.onLeave?.(units);
        if (error === undefined) {
          this.#hasFailed = false;
          continue;
        }
        if (!this.#hasFailed) this.#options.onFailure?.(error);
        this.#hasFailed = true;
        await pause(this.#options.retryMs ?? RETRY_MS);
      }
    } finally {
      this.#running = undefined; // in the same breath as it is seen that nothing waits
    }
  }

  #takeBatch(): Entry[] {
    let size = 0;
    let count = 0;
    for (const { bytes } of this.#queue) {
      if (count > 0 && size + bytes.length > MAX_BATCH) break;
      size += bytes.length;
      count++;
    }
    return this.#queue.splice(0, count);
  }

  /** Writes all of it, or says why not, and counts what is lost. */
  async #writeBatch(batch: readonly Entry[]): Promise<Error | undefined> {
    const entries = this.#isCut ? [NEW_LINE, ...batch] : batch;
    let rest: Uint8Array = joined(entries.map(({ bytes }) => bytes));
    let left = rest.length;
    while (left > 0) {
      try {
        const count = await this.#stream.write(rest);
        if (count > 0) this.#isCut = rest[count - 1] !== LINE_FEED;
        rest = rest.subarray(count);
        left = rest.length;
      } catch (error) {
        if (!(error instanceof Deno.errors.WouldBlock)) {
          this.#countLost(batch, left);
          return error as Error;
        }
        await pause(FULL_PIPE_PAUSE_MS);
      }
    }
    return undefined;
  }

  /** The entries at the end of a batch that hold its last `left` bytes are lost. */
  #countLost(batch: readonly Entry[], left: number): void {
    for (const { bytes, lines } of batch.toReversed()) {
      if (left <= 0) return;
      this.#lost += lines;
      left -= bytes.length;
    }
  }
}

const LINE_FEED = 10;
const NEW_LINE: Entry = { bytes: new Uint8Array([LINE_FEED]), lines: 0, units: 0 };

function encode(text: string): Uint8Array {
  return new TextEncoder().encode(text);
}

/** The number of lines that a text has. */
export function countLines(text: string): number {
  return text.split("\n").length - (text.endsWith("\n") ? 1 : 0);
}

function pause(ms: number): Promise<void> {
  return new Promise((resolve) => setTimeout(resolve, ms));
}
