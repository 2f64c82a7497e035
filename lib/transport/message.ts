/**
 * A message as it arrives, and what one receive brought.
 *
 * @module
 */

import { closeAll, type OwnedFd } from "../../ffi/fd.ts";
import { HEADER_SIZE } from "../base/limits.ts";
import { HeaderLayout, MessageFlags } from "../wire/header.ts";

const { messageId: ID_AT, command: COMMAND_AT, flags: FLAGS_AT, error: ERROR_AT } =
  HeaderLayout.offsets;

const NO_FDS: readonly OwnedFd[] = Object.freeze([]);

/**
 * Bytes that one receive brought, from the start of the receive buffer. Messages that outlive the
 * next receive share one copy: an allocation costs more than what most messages hold.
 */
export class Receipt {
  readonly #bytes: Uint8Array;
  readonly #end: number;
  #copy: Uint8Array | undefined;

  constructor(bytes: Uint8Array, end: number) {
    this.#bytes = bytes;
    this.#end = end;
  }

  get copy(): Uint8Array {
    return this.#copy ??= this.#bytes.slice(0, this.#end);
  }
}

/**
 * Sees every message: its direction, its bytes (a view, valid during the call) and its descriptor
 * count.
 */
export type Trace = (direction: "sent" | "received", bytes: Uint8Array, fds: number) => void;

/** A whole message that came. */
export class Message {
  /** Chosen by its sender. */
  readonly messageId: number;
  /** The command's number. */
  readonly command: number;
  /** Type and flags. */
  readonly flags: number;
  /** The errno of an error reply. */
  readonly error: number;
  #bytes: Uint8Array;
  #start: number;
  #end: number;
  #fds: readonly OwnedFd[];
  #receipt: Receipt | undefined;
  #isOwned = false;
  #isPlaced: boolean;

  /**
   * A message in `bytes`: its header begins at `start`, its payload ends at `end`.
   *
   * @param receipt the receive that brought the message; none if it came into a buffer of its own
   */
  constructor(
    bytes: Uint8Array,
    view: DataView,
    start: number,
    end: number,
    fds: readonly OwnedFd[],
    receipt?: Receipt,
    isPlaced = false,
  ) {
    this.messageId = view.getUint16(start + ID_AT, true);
    this.command = view.getUint16(start + COMMAND_AT, true);
    this.flags = view.getUint32(start + FLAGS_AT, true);
    this.error = view.getUint32(start + ERROR_AT, true);
    this.#bytes = bytes;
    this.#start = start;
    this.#end = end;
    this.#fds = fds;
    this.#receipt = receipt;
    this.#isPlaced = isPlaced;
  }

  /**
   * True if the data went where the request wanted them. The payload is then only what comes before
   * the data.
   */
  get isPlaced(): boolean {
    return this.#isPlaced;
  }

  /** True for a reply, false for a command: the receiver rejects other types. */
  get isReply(): boolean {
    return (this.flags & MessageFlags.TYPE_MASK) === MessageFlags.REPLY;
  }

  /** True if the error flag is set. */
  get isError(): boolean {
    return (this.flags & MessageFlags.ERROR) !== 0;
  }

  /** Bytes after the header. */
  get payloadSize(): number {
    return this.#end - this.#start - HEADER_SIZE;
  }

  /**
   * The bytes after the header: a view that holds until the stream receives again, unless `own` was
   * called.
   */
  get payload(): Uint8Array {
    return this.#bytes.subarray(this.#start + HEADER_SIZE, this.#end);
  }

  /** The payload from a byte on: a view like `payload`. */
  payloadFrom(offset: number): Uint8Array {
    return this.#bytes.subarray(this.#start + HEADER_SIZE + offset, this.#end);
  }

  /**
   * The 32 bits at `offset` of the payload: cheaper than a view. The caller has checked that the
   * payload is so long; bits beyond its end mean nothing.
   */
  uint32(offset: number): number {
    const bytes = this.#bytes;
    const at = this.#start + HEADER_SIZE + offset;
    return (bytes[at]! | bytes[at + 1]! << 8 | bytes[at + 2]! << 16 | bytes[at + 3]! << 24) >>> 0;
  }

  /** Header and payload, a view like `payload`. */
  get bytes(): Uint8Array {
    return this.#bytes.subarray(this.#start, this.#end);
  }

  /** Copies the bytes unless they are the message's own: it then outlives the next receive. */
  own(): this {
    this.#isOwned = true;
    if (this.#receipt !== undefined) {
      this.#bytes = this.#receipt.copy;
      this.#receipt = undefined;
    }
    return this;
  }

  /** As `own`, but puts the data at the end where the request wants them, if there are so many. */
  place(into: Uint8Array): this {
    if (this.#isPlaced || this.payloadSize < into.length) return this.own();
    const dataAt = this.#end - into.length;
    into.set(this.#bytes.subarray(dataAt, this.#end));
    this.#bytes = this.#bytes.slice(this.#start, dataAt);
    this.#end = this.#bytes.length;
    this.#start = 0;
    this.#receipt = undefined;
    this.#isPlaced = this.#isOwned = true;
    return this;
  }

  /** True if `own` was called. */
  get isOwned(): boolean {
    return this.#isOwned;
  }

  /** The number of descriptors that came with it and were not taken. */
  get fdCount(): number {
    return this.#fds.length;
  }

  /** Takes over its descriptors: the caller closes them. */
  takeFds(): OwnedFd[] {
    const fds = [...this.#fds];
    this.#fds = NO_FDS;
    return fds;
  }

  /** Closes all of its descriptors but the first `count`. */
  keepFds(count: number): void {
    if (this.#fds.length <= count) return;
    closeAll(this.#fds.slice(count));
    this.#fds = this.#fds.slice(0, count);
  }

  /** Closes the descriptors that were not taken. */
  discardFds(): void {
    if (this.#fds.length > 0) closeAll(this.takeFds());
  }
}
