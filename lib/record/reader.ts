/**
 * A recording, read from its file event by event.
 *
 * @module
 */

import {
  MAX_RECORDING_BLOCK,
  MAX_RECORDING_INTERFACES,
  RECORDING_BUFFER,
  RECORDING_FLUSH_MS,
} from "../base/limits.ts";
import { type InputFile, openInput } from "../base/input.ts";
import { sleep } from "../base/sleep.ts";
import { turnUnless } from "../base/turn.ts";
import { fileError } from "../text/file_error.ts";
import type { RecordedEvent, RecordedSocket } from "./event.ts";
import { eventOf, interfaceOf } from "./packet.ts";
import {
  type Block,
  BlockParser,
  BlockType,
  type Interface,
  LINK_TYPE_UPPER_PDU,
  PcapngError,
  readInterface,
  readPacket,
} from "./pcapng.ts";

/** A file that is no recording, or is damaged: "Cannot read FILE: REASON". */
export class RecordingError extends Error {
  /** The name of the class. */
  override readonly name = "RecordingError";
  /** The offset in the file; undefined if the file is of another kind. */
  readonly offset: number | undefined;

  /** An error about the file at `path`. */
  constructor(path: string, { offset, message }: { offset: number | undefined; message: string }) {
    super(`Cannot read ${path}: ${message}`);
    this.offset = offset;
  }
}

/** The way in which a recording is read. */
export interface ReadRecordingOptions {
  /** Waits at the end of the file for more, until the signal ends it. */
  follow?: boolean;
  /** Ends the reading; the loop then throws the signal's reason. */
  signal?: AbortSignal;
  /**
   * Has the bytes of an event valid until the loop asks for the next one, and no longer. Memory
   * then stays the same for messages of any size; otherwise large ones are left to the collector.
   */
  reuse?: boolean;
}

/** The end of a file in the middle of a block. */
export interface RecordingCut {
  /** The offset of the block. */
  readonly offset: number;
  /** Bytes that are there of it. */
  readonly bytes: number;
}

/** A recording that is read: go over it with `for await`, once. */
export interface Recording extends AsyncIterable<RecordedEvent> {
  /** The path of its file. */
  readonly path: string;
  /** Bytes that were read so far. */
  readonly bytesRead: number;
  /** Bytes of the file when it was opened; 0 before, and for a pipe. */
  readonly size: number;
  /** Set at the end, if the file ends in the middle of a block: a writer that had no time. */
  readonly cut: RecordingCut | undefined;
  /** Packets that were passed over: of other programs, or of later versions of this one. */
  readonly skipped: number;
}

/**
 * Reads a recording. The memory it takes does not depend on the length of the file.
 *
 * @returns the recording. Its loop throws {@linkcode RecordingError} at what is no recording or is
 * damaged, and an Error with path and reason if the file can't be read. All events ahead of the
 * damage come before that. A cut end is no error: see {@linkcode Recording.cut}.
 *
 * @example
 * ```ts
 * import { readRecording, RecordingWriter } from "./mod.ts";
 *
 * const path = Deno.makeTempFileSync({ suffix: ".pcapng" });
 * {
 *   using writer = RecordingWriter.create(path);
 *   const place = { timeNs: 1n, connection: 0, socket: "main" } as const;
 *   writer.write({ kind: "end", ...place, side: "client", reason: "left", text: "left" });
 * }
 * const recording = readRecording(path);
 * for await (const { kind, index } of recording) {
 *   if (kind !== "end" || index !== 0) throw new Error();
 * }
 * if (recording.cut !== undefined) throw new Error();
 * Deno.removeSync(path);
 * ```
 */
export function readRecording(path: string, options: ReadRecordingOptions = {}): Recording {
  return new FileRecording(path, options);
}

async function isSocket(path: string): Promise<boolean> {
  return await Deno.stat(path).then((info) => info.isSocket === true, () => false);
}

class FileRecording implements Recording {
  readonly path: string;
  bytesRead = 0;
  size = 0;
  cut: RecordingCut | undefined;
  readonly #options: ReadRecordingOptions;
  readonly #parser = new BlockParser();
  readonly #section = new Section();

  constructor(path: string, options: ReadRecordingOptions) {
    this.path = path;
    this.#options = options;
  }

  get skipped(): number {
    return this.#section.skipped;
  }

  async *[Symbol.asyncIterator](): AsyncGenerator<RecordedEvent, void> {
    const { signal, follow = false, reuse = false } = this.#options;
    signal?.throwIfAborted();
    using interrupt = new Interrupt(signal);
    using file = await this.#open(interrupt);
    /** Bytes from `start` to `end` are of blocks that were not taken yet. */
    let buffer = new Uint8Array(RECORDING_BUFFER);
    let start = 0;
    let end = 0;
    for (;;) {
      let needed: number;
      for (;;) {
        const block = this.#next(buffer.subarray(start, end));
        if (typeof block === "number") {
          needed = block;
          break;
        }
        const event = this.#event(block);
        start += block.body.length + BLOCK_FRAME;
        this.bytesRead += block.body.length + BLOCK_FRAME;
        if (event !== undefined) yield event;
      }
      await turnUnless(signal); // a read of a file may be done at once, each time
      [buffer, start, end] = withRoom({ buffer, start, end }, needed, reuse);
      const read = await interrupt.or(this.#read(file, buffer.subarray(end)));
      if (read !== null) end += read;
      else if (!follow) break;
      else {
        if (await this.#isShorter(file, end - start)) end = start;
        await sleep(RECORDING_FLUSH_MS, signal);
      }
    }
    if (end > start) this.cut = { offset: this.bytesRead, bytes: end - start };
    if (this.bytesRead === 0) {
      const message = end > 0 ? "it ends within its head" : "it is empty";
      throw new RecordingError(this.path, { offset: undefined, message });
    }
  }

  async #open(interrupt: Interrupt): Promise<InputFile> {
    const opening = openInput(this.path);
    let file;
    try {
      file = await interrupt.or(opening);
    } catch (cause) {
      // A pipe without a writer may open much later, or never.
      opening.then((late) => late.close(), () => {});
      if (this.#options.signal?.aborted) throw cause;
      if (await isSocket(this.path)) {
        const message = "it is a socket; name a recording, and sockets after it";
        throw new RecordingError(this.path, { offset: undefined, message });
      }
      throw fileError(`read ${this.path}`, cause);
    }
    try {
      const info = await file.stat?.();
      if (info?.isDirectory) throw Object.assign(new Error(), { code: "EISDIR" });
      if (info?.isFile) this.size = info.size;
      return file;
    } catch (cause) {
      file.close();
      throw fileError(`read ${this.path}`, cause);
    }
  }

  async #read(file: InputFile, into: Uint8Array): Promise<number | null> {
    try {
      return await file.read(into);
    } catch (cause) {
      throw fileError(`read ${this.path}`, cause);
    }
  }

  /**
   * Goes back to the end of a file that has lost part of a block that is read. The writer of the
   * file removes such a part when the disk is full.
   *
   * @param held bytes of that block
   * @returns true if there was such a part
   */
  async #isShorter(file: InputFile, held: number): Promise<boolean> {
    const info = await file.stat?.();
    if (!info?.isFile || info.size >= this.bytesRead + held) return false;
    if (info.size < this.bytesRead) {
      const message =
        "it was made shorter while it was read; another recording may have begun in it";
      throw new RecordingError(this.path, { offset: info.size, message });
    }
    await file.seek?.(this.bytesRead, Deno.SeekMode.Start);
    return true;
  }

  #next(bytes: Uint8Array): Block | number {
    try {
      return this.#parser.next(bytes, this.bytesRead);
    } catch (error) {
      throw this.#inWords(error);
    }
  }

  #event(block: Block): RecordedEvent | undefined {
    try {
      return this.#section.event(block);
    } catch (error) {
      throw this.#inWords(error);
    }
  }

  #inWords(error: unknown): unknown {
    return error instanceof PcapngError ? new RecordingError(this.path, error) : error;
  }
}

/** Type and both lengths of a block. */
const BLOCK_FRAME = 12;

/** Ends waiting for a file that may never answer, as a pipe whose writer is silent. */
class Interrupt implements Disposable {
  readonly #signal: AbortSignal | undefined;
  #reject: ((reason: unknown) => void) | undefined;
  readonly #onAbort = () => this.#reject?.(this.#signal!.reason);

  constructor(signal: AbortSignal | undefined) {
    this.#signal = signal;
    signal?.addEventListener("abort", this.#onAbort);
  }

  /** Settles as `work` does, or throws the signal's reason before. */
  or<T>(work: Promise<T>): Promise<T> {
    return new Promise((resolve, reject) => {
      this.#reject = reject;
      work.then(resolve, reject);
    });
  }

  [Symbol.dispose](): void {
    this.#signal?.removeEventListener("abort", this.#onAbort);
  }
}

/** A buffer, and the bytes in it that were not taken yet. */
interface Held {
  readonly buffer: Uint8Array<ArrayBuffer>;
  readonly start: number;
  readonly end: number;
}

/**
 * Moves what was not taken to the start of a buffer that has room for `needed` bytes. Unless events
 * end with the next one, a buffer that had to grow is never used again: large messages are views
 * of it.
 */
function withRoom(
  { buffer, start, end }: Held,
  needed: number,
  reuse: boolean,
): [buffer: Uint8Array<ArrayBuffer>, start: number, end: number] {
  if (start === 0 && needed <= buffer.length) return [buffer, 0, end];
  const isFree = reuse || buffer.length === RECORDING_BUFFER;
  if (isFree && needed <= buffer.length) {
    buffer.copyWithin(0, start, end);
    return [buffer, 0, end - start];
  }
  const least = reuse ? Math.min(2 * buffer.length, MAX_RECORDING_BLOCK) : RECORDING_BUFFER;
  const other = new Uint8Array(Math.max(needed, least));
  other.set(buffer.subarray(start, end));
  return [other, 0, end - start];
}

interface RecordedInterface extends Interface {
  readonly connection: number;
  readonly socket: RecordedSocket;
}

/** The section that is read: its interfaces give packets their time and their client. */
class Section {
  skipped = 0;
  #interfaces: RecordedInterface[] = [];
  #index = 0;

  /** The event of a block, if it has one. */
  event(block: Block): RecordedEvent | undefined {
    switch (block.type) {
      case BlockType.SECTION:
        this.#interfaces = [];
        return undefined;
      case BlockType.INTERFACE:
        return this.#describe(block);
      case BlockType.PACKET:
        return this.#packet(block);
      case BlockType.SIMPLE_PACKET:
      case BlockType.OBSOLETE_PACKET:
        this.#skip(block.offset);
        return undefined;
      default:
        return undefined;
    }
  }

  #describe(block: Block): undefined {
    if (this.#interfaces.length >= MAX_RECORDING_INTERFACES) {
      const reason = `a section has more than ${MAX_RECORDING_INTERFACES} interfaces`;
      throw new PcapngError(block.offset, reason);
    }
    const described = readInterface(block);
    this.#interfaces.push({ ...described, ...interfaceOf(described.name) });
  }

  #packet(block: Block): RecordedEvent | undefined {
    const packet = readPacket(block);
    const from = this.#interfaces[packet.interfaceId];
    if (from === undefined) {
      const reason = `a packet is of interface ${packet.interfaceId}, which is not described`;
      throw new PcapngError(block.offset, reason);
    }
    if (from.linkType !== LINK_TYPE_UPPER_PDU) return this.#skip(block.offset);
    const { connection, socket } = from;
    const timeNs = from.timeNs(packet.stamp);
    const event = eventOf(block, packet, { timeNs, index: this.#index, connection, socket });
    if (event === undefined) this.skipped++;
    else this.#index++;
    return event;
  }

  /** Passes over a packet of another program, unless the file has none of ours. */
  #skip(offset: number): undefined {
    this.skipped++;
    if (this.#interfaces.some(({ linkType }) => linkType === LINK_TYPE_UPPER_PDU)) return;
    if (this.#index > 0) return;
    const types = [...new Set(this.#interfaces.map(({ linkType }) => linkType))].slice(0, 4);
    throw new PcapngError(
      undefined,
      `its packets at byte ${offset} have link type ${types.join(", ")}, ` +
        `vfio-user is recorded with ${LINK_TYPE_UPPER_PDU}`,
    );
  }
}
