/**
 * A recording, written as it is made.
 *
 * @module
 */

import {
  RECORDING_BUFFER,
  RECORDING_FLUSH_MS,
  RECORDING_SECTION_INTERFACES,
} from "../base/limits.ts";
import { fileError } from "../text/file_error.ts";
import type { NewEvent, RecordedDirection, RecordedSocket } from "./event.ts";
import { interfaceName, packetOf } from "./packet.ts";
import {
  BlockType,
  interfaceDescription,
  packetParts,
  putPlainPacket,
  sectionHeader,
  viewOf,
} from "./pcapng.ts";

/** The way in which a recording is written. */
export interface RecordingWriterOptions {
  /** The program that records, for the file's head; default "vfu". */
  application?: string;
  /**
   * Called once, when the file can't be written any more: with the reason, in a sentence. The file
   * then ends with the last event that is whole in it, and later ones are discarded.
   */
  onFailure?: (error: Error) => void;
}

/** A file that takes bytes. */
interface Sink {
  writeSync(bytes: Uint8Array): number;
  truncateSync(length: number): void;
  close(): void;
}

/**
 * Writes a recording: whole blocks, one behind the other. Events wait in a buffer of fixed size
 * for at most a tenth of a second. A failure of the disk is reported once and never thrown, so
 * that what is recorded goes on.
 *
 * @example
 * ```ts
 * import { readRecording, RecordingWriter } from "./mod.ts";
 *
 * const path = Deno.makeTempFileSync({ suffix: ".pcapng" });
 * {
 *   using writer = RecordingWriter.create(path);
 *   const timeNs = BigInt(Date.now()) * 1_000_000n;
 *   writer.write({ kind: "note", timeNs, connection: 0, socket: "main", text: "begins" });
 * }
 * for await (const event of readRecording(path)) {
 *   if (event.kind !== "note" || event.text !== "begins") throw new Error();
 * }
 * Deno.removeSync(path);
 * ```
 */
export class RecordingWriter implements Disposable {
  readonly #file: Sink;
  readonly #path: string;
  readonly #application: string;
  readonly #onFailure: (error: Error) => void;
  readonly #buffer = new Uint8Array(RECORDING_BUFFER);
  readonly #view = new DataView(this.#buffer.buffer);
  /** Bytes in the buffer, all of whole blocks. */
  #held = 0;
  /** Bytes in the file, all of whole blocks. */
  #written = 0;
  /** Events in the file and in the buffer. */
  #events = 0;
  #heldEvents = 0;
  #discarded = 0;
  #failure: Error | undefined;
  #timer: ReturnType<typeof setTimeout> | undefined;
  #isClosed = false;
  /** The interfaces of this section by their names. */
  readonly #interfaces = new Map<string, number>();
  /** The interface of the last event. */
  #last: { connection: number; socket: RecordedSocket; id: number } | undefined;

  private constructor(file: Sink, path: string, options: RecordingWriterOptions) {
    this.#file = file;
    this.#path = path;
    this.#application = options.application ?? "vfu";
    this.#onFailure = options.onFailure ?? (() => {});
    this.#putWhole(sectionHeader(this.#application));
  }

  /**
   * Makes a file, or empties the one that is there, and begins a recording in it.
   *
   * @throws {Error} if the file can't be made; the message has path, reason and remedy
   */
  static create(path: string, options: RecordingWriterOptions = {}): RecordingWriter {
    let file;
    try {
      file = Deno.openSync(path, { write: true, create: true, truncate: true });
    } catch (cause) {
      throw fileError(`write ${path}`, cause, true);
    }
    return new RecordingWriter(file, path, options);
  }

  /** Events in the file, and in the buffer before it. */
  get events(): number {
    return this.#events;
  }

  /** Events that are not in the file, because it can't be written any more. */
  get discarded(): number {
    return this.#discarded;
  }

  /** Why the file can't be written any more; undefined while it can. */
  get failure(): Error | undefined {
    return this.#failure;
  }

  /**
   * Adds an event. Its bytes may be used again when this returns.
   *
   * @returns false if it was discarded, because the file can't be written
   * @throws {RangeError} if its time is none of 64 bits, or its message is far too large
   */
  write(event: NewEvent): boolean {
    if (this.#failure !== undefined || this.#isClosed) {
      this.#discarded++;
      return false;
    }
    const interfaceId = this.#interfaceOf(event);
    if (isPlain(event) && this.#putPlain(event, interfaceId)) return true;
    const packet = packetOf(event, interfaceId);
    const [head, tail] = packetParts(packet);
    const isHeld = this.#put(head, packet.bytes, tail);
    if (this.#failure !== undefined) {
      this.#discarded++;
      return false;
    }
    this.#events++;
    if (isHeld) this.#heldEvents++;
    return true;
  }

  /** Writes what waits in the buffer. */
  flush(): void {
    clearTimeout(this.#timer);
    this.#timer = undefined;
    if (this.#failure !== undefined || this.#held === 0) return;
    const held = this.#buffer.subarray(0, this.#held);
    this.#held = 0;
    this.#writeAll(held, true);
    if (this.#failure === undefined) this.#written += held.length;
    this.#heldEvents = 0;
  }

  /** Writes what waits in the buffer, and closes the file. */
  [Symbol.dispose](): void {
    if (this.#isClosed) return;
    this.flush();
    this.#isClosed = true;
    this.#file.close();
  }

  #interfaceOf({ connection, socket }: NewEvent): number {
    const last = this.#last;
    if (last?.connection === connection && last.socket === socket) return last.id;
    const id = this.#interfaceNamed(interfaceName(connection, socket));
    this.#last = { connection, socket, id };
    return id;
  }

  #interfaceNamed(name: string): number {
    const known = this.#interfaces.get(name);
    if (known !== undefined) return known;
    if (this.#interfaces.size >= RECORDING_SECTION_INTERFACES) {
      this.#interfaces.clear();
      this.#putWhole(sectionHeader(this.#application));
    }
    const id = this.#interfaces.size;
    this.#interfaces.set(name, id);
    this.#putWhole(interfaceDescription(name));
    return id;
  }

  /**
   * Writes a message without options of its own into the buffer: a third of the time that the
   * general way takes, and most messages are such.
   *
   * @returns false if there is no room, or the time is none of 64 bits
   */
  #putPlain({ direction, bytes, timeNs }: NewMessage, interfaceId: number): boolean {
    const [head, tail] = PLAIN_PARTS[direction];
    const end = head.length + bytes.length;
    const pad = -bytes.length & 3;
    const size = end + pad + tail.length;
    const at = this.#held;
    if (size > this.#buffer.length - at || timeNs < 0n || timeNs >= 1n << 64n) return false;
    const buffer = this.#buffer;
    buffer.set(head, at);
    buffer.set(bytes, at + head.length);
    buffer.fill(0, at + end, at + end + pad);
    buffer.set(tail, at + end + pad);
    putPlainPacket(this.#view, at, { size, interfaceId, timeNs, added: bytes.length });
    this.#held = at + size;
    this.#events++;
    this.#heldEvents++;
    this.#timer ??= setTimeout(() => this.flush(), RECORDING_FLUSH_MS);
    return true;
  }

  #putWhole(block: Uint8Array): void {
    this.#put(block, new Uint8Array(), new Uint8Array());
  }

  /** Takes a block in parts; returns true if it waits in the buffer, which large ones do not. */
  #put(...parts: readonly [Uint8Array, Uint8Array, Uint8Array]): boolean {
    const [a, b, c] = parts;
    const size = a.length + b.length + c.length;
    if (size > this.#buffer.length - this.#held) this.flush();
    if (this.#failure !== undefined) return false;
    if (size > this.#buffer.length) {
      for (const part of parts) this.#writeAll(part, false);
      if (this.#failure === undefined) this.#written += size;
      return false;
    }
    this.#buffer.set(a, this.#held);
    this.#buffer.set(b, this.#held + a.length);
    this.#buffer.set(c, this.#held + a.length + b.length);
    this.#held += size;
    this.#timer ??= setTimeout(() => this.flush(), RECORDING_FLUSH_MS);
    return true;
  }

  /** Writes whole blocks, or a part of one. */
  #writeAll(bytes: Uint8Array, areBlocks: boolean): void {
    let done = 0;
    try {
      while (this.#failure === undefined && done < bytes.length) {
        done += this.#file.writeSync(bytes.subarray(done));
      }
    } catch (cause) {
      this.#fail(cause, areBlocks ? wholeBlocks(bytes.subarray(0, done)) : NONE);
    }
  }

  /** Ends the recording behind the last block that is whole. */
  #fail(cause: unknown, whole: WholeBlocks): void {
    const lost = this.#heldEvents - whole.packets;
    this.#events -= lost;
    this.#discarded += lost;
    try {
      this.#file.truncateSync(this.#written + whole.size);
    } catch { /* a pipe has no end to set */ }
    this.#failure = fileError(`write ${this.#path}`, cause, true);
    this.#onFailure(this.#failure);
  }
}

type NewMessage = Extract<NewEvent, { kind: "message" }>;

/** The parts of a message's block that are always the same. */
const PLAIN_PARTS = {
  "to-client": packetParts(packetOf(emptyMessage("to-client"), 0)),
  "to-server": packetParts(packetOf(emptyMessage("to-server"), 0)),
} as const;

function emptyMessage(direction: RecordedDirection): NewMessage {
  return {
    kind: "message",
    timeNs: 0n,
    connection: 0,
    socket: "main",
    origin: "peer",
    direction,
    bytes: new Uint8Array(),
    descriptors: [],
  };
}

/** Finds out whether there is nothing to say of an event but its bytes. */
function isPlain(event: NewEvent): event is NewMessage {
  return event.kind === "message" && event.origin === "peer" && event.passedOn === undefined &&
    event.comment === undefined && event.descriptors.length === 0;
}

/** Blocks that are whole. */
interface WholeBlocks {
  /** Their bytes. */
  readonly size: number;
  /** The number of them that are events. */
  readonly packets: number;
}

const NONE: WholeBlocks = { size: 0, packets: 0 };

/** The whole blocks at the start of what was written of several. */
function wholeBlocks(written: Uint8Array): WholeBlocks {
  const view = viewOf(written);
  let [size, packets] = [0, 0];
  while (size + 8 <= written.length) {
    const next = view.getUint32(size + 4, true);
    if (size + next > written.length) break;
    if (view.getUint32(size, true) === BlockType.PACKET) packets++;
    size += next;
  }
  return { size, packets };
}
