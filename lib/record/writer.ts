/**
 * A recording, written as it is made.
 *
 * @module
 */

import {
  RECORDING_BUFFER,
  RECORDING_CLOSE_MS,
  RECORDING_FLUSH_MS,
  RECORDING_SECTION_INTERFACES,
} from "../base/limits.ts";
import { plural } from "../text/plural.ts";
import { fileError } from "../text/file_error.ts";
import type { NewEvent, RecordedDirection, RecordedSocket } from "./event.ts";
import { openOutput, type Output } from "./output.ts";
import { interfaceName, packetOf } from "./packet.ts";
import { interfaceDescription, packetParts, putPlainPacket, sectionHeader } from "./pcapng.ts";

/** The way in which a recording is written. */
export interface RecordingWriterOptions {
  /** The program that records, for the file's head; default "vfu". */
  application?: string;
  /**
   * Called once, when the file can't be written any more: with the reason, in a sentence. The file
   * then ends with the last event that is whole in it, and later ones are discarded.
   */
  onFailure?: (error: Error) => void;
  /** Called when events begin to be discarded, because the reader of a pipe does not take them. */
  onStall?: () => void;
  /** Called when the reader goes on: with the number of events that were discarded meanwhile. */
  onResume?: (discarded: number) => void;
}

/**
 * Writes a recording: whole blocks, one behind the other. Events wait in a buffer of fixed size
 * for at most a tenth of a second. A failure of the disk is reported once and never thrown, so
 * that what is recorded goes on. The reader of a pipe may stop: 16 MiB wait for the reader, and
 * further events are discarded. A note in the recording then says how many.
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
  readonly #output: Output;
  readonly #path: string;
  readonly #options: RecordingWriterOptions;
  readonly #buffer = new Uint8Array(RECORDING_BUFFER);
  readonly #view = new DataView(this.#buffer.buffer);
  /** Bytes in the buffer, all of whole blocks. */
  #held = 0;
  /** Events in the file, before it, and in the buffer. */
  #events = 0;
  #heldEvents = 0;
  #discarded = 0;
  /** Events that are discarded since the reader stalled; the last of them. */
  #gap: { count: number; last: NewEvent } | undefined;
  #failure: Error | undefined;
  #timer: ReturnType<typeof setTimeout> | undefined;
  #isClosed = false;
  /** The interfaces of this section by their names. */
  readonly #interfaces = new Map<string, number>();
  /** The interface of the last event. */
  #last: { connection: number; socket: RecordedSocket; id: number } | undefined;

  private constructor(path: string, options: RecordingWriterOptions) {
    this.#path = path;
    this.#options = options;
    this.#output = openOutput(path, {
      onFailure: (cause, lost) => this.#fail(cause, lost),
      onRoom: () => this.#endGap(),
    });
    this.#putWhole(this.#sectionHeader());
  }

  /**
   * Makes a file, or empties the one that is there, and begins a recording in it. A pipe has to
   * have a reader.
   *
   * @throws {Error} if the file can't be made; the message has path, reason and remedy
   */
  static create(path: string, options: RecordingWriterOptions = {}): RecordingWriter {
    return new RecordingWriter(path, options);
  }

  /** Events in the file, and in the buffer before it. */
  get events(): number {
    return this.#events;
  }

  /** Events that are not in the file: it can't be written any more, or its reader stalled. */
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
   * @returns false if it was discarded: the file can't be written, or its reader has stalled
   * @throws {RangeError} if its time or another number has too many bits, or its message is far too
   * large
   */
  write(event: NewEvent): boolean {
    if (this.#failure !== undefined || this.#isClosed) {
      this.#discarded++;
      return false;
    }
    if (this.#gap !== undefined) return this.#leaveOut(event);
    const isWaiting = this.#output.isWaiting;
    const interfaceId = this.#interfaceOf(event);
    if (!isWaiting && isPlain(event) && this.#putPlain(event, interfaceId)) return true;
    const packet = packetOf(event, interfaceId);
    const [head, tail] = packetParts(packet);
    const size = head.length + packet.bytes.length + tail.length;
    if (isWaiting && !this.#output.hasRoomFor(this.#held + size)) return this.#leaveOut(event);
    this.#put([head, packet.bytes, tail], 1);
    return this.#failure === undefined;
  }

  /** Writes what waits in the buffer; what the reader of a pipe does not take goes on waiting. */
  flush(): void {
    clearTimeout(this.#timer);
    this.#timer = undefined;
    if (this.#failure !== undefined || this.#held === 0) return;
    const held = this.#buffer.subarray(0, this.#held);
    const events = this.#heldEvents;
    this.#held = this.#heldEvents = 0;
    this.#output.write([held], events);
  }

  /**
   * Writes what waits, and closes the file. The reader of a pipe has a second to take the rest;
   * events that it has not taken by then are discarded.
   */
  async close(): Promise<void> {
    if (this.#isClosed) return;
    this.flush();
    await this.#output.drain(RECORDING_CLOSE_MS);
    this[Symbol.dispose]();
  }

  /** Writes what waits in the buffer, as far as that does not wait, and closes the file. */
  [Symbol.dispose](): void {
    if (this.#isClosed) return;
    this.flush();
    this.#isClosed = true;
    this.#discard(this.#output.close());
  }

  /** Discards an event, because there is no room for it. */
  #leaveOut(event: NewEvent): false {
    this.#discarded++;
    if (this.#gap === undefined) {
      this.#gap = { count: 1, last: event };
      this.#options.onStall?.();
    } else {
      this.#gap.count++;
      this.#gap.last = event;
    }
    return false;
  }

  /** Says in the recording how many events are missing at this place. */
  #endGap(): void {
    if (this.#gap === undefined) return;
    const { count, last: { timeNs, connection, socket } } = this.#gap;
    this.#gap = undefined;
    const text = `${plural(count, "event")} of the recording ${count === 1 ? "is" : "are"} ` +
      "missing here: the reader of the file did not take more";
    this.write({ kind: "note", timeNs, connection, socket, text });
    this.flush();
    this.#options.onResume?.(count);
  }

  /** Events of before are not in the file. */
  #discard(events: number): void {
    this.#events -= events;
    this.#discarded += events;
  }

  #sectionHeader(): Uint8Array {
    return sectionHeader(this.#options.application ?? "vfu");
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
      this.#putWhole(this.#sectionHeader());
    }
    const id = this.#interfaces.size;
    this.#interfaces.set(name, id);
    this.#putWhole(interfaceDescription(name));
    return id;
  }

  /**
   * Writes a message without options of its own into the buffer. That takes a third of the time of
   * the general way, and most messages are such.
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
    this.#put([block], 0);
  }

  /** Takes one block in parts. It waits in the buffer, unless it is too large for it. */
  #put(parts: readonly Uint8Array[], events: number): void {
    const size = parts.reduce((sum, { length }) => sum + length, 0);
    if (size > this.#buffer.length - this.#held) this.flush();
    if (this.#failure !== undefined) {
      this.#discarded += events;
      return;
    }
    this.#events += events;
    if (size > this.#buffer.length) {
      return this.#output.write(parts as readonly Uint8Array<ArrayBuffer>[], events);
    }
    for (const part of parts) {
      this.#buffer.set(part, this.#held);
      this.#held += part.length;
    }
    this.#heldEvents += events;
    this.#timer ??= setTimeout(() => this.flush(), RECORDING_FLUSH_MS);
  }

  /** Ends the recording: the output can't be written any more. */
  #fail(cause: unknown, lost: number): void {
    this.#discard(lost + this.#heldEvents);
    this.#held = this.#heldEvents = 0;
    clearTimeout(this.#timer);
    this.#timer = undefined;
    this.#failure = fileError(`write ${this.#path}`, cause, true);
    this.#options.onFailure?.(this.#failure);
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
