/**
 * One direction of a connection in the middle. Bytes and descriptors are received from one side,
 * cut into messages, and passed on to the other side in their order.
 *
 * @module
 */

import { IoBuffer } from "../../ffi/buffer.ts";
import { EAGAIN, EINTR } from "../../ffi/errno.ts";
import { closeAll, type OwnedFd } from "../../ffi/fd.ts";
import type { UnixSocket } from "../../ffi/socket.ts";
import {
  HEADER_SIZE,
  MAX_HELD_BACK,
  MAX_HELD_COMMANDS,
  MAX_HELD_FDS,
  MAX_RECORDED_MESSAGE,
  RECORD_PATIENCE_MS,
  RECORD_WHOLE_PATIENCE_MS,
  WRITE_CHUNK_SIZE,
} from "../base/limits.ts";
import { RECEIVE_SIZE } from "../transport/receiver.ts";
import { HeaderLayout, MessageFlags } from "../wire/header.ts";
import type { DescriptorFacts } from "./descriptor.ts";
import { FdQueue } from "./fd_queue.ts";
import type { Passage } from "./passage.ts";
import { NO_FDS, SendQueue } from "./send_queue.ts";

const { messageId: ID_AT, command: COMMAND_AT, size: SIZE_AT, flags: FLAGS_AT } =
  HeaderLayout.offsets;

/** Messages without descriptors leave together up to this size: one segment in the kernel. */
const BATCH_SIZE = WRITE_CHUNK_SIZE + 256;

/** Memory for a large message grows with what has come, from this size on. */
const FIRST_LARGE_SIZE = 2 << 20;

/** The largest buffer that is kept for the next large message. */
const MAX_SPARE = (1 << 20) + (8 << 10);

/** The number of times that the rest of a piece waits for room, a tenth of a millisecond each. */
const PATIENT_SENDS = 16;

const NO_DESCRIPTORS: readonly DescriptorFacts[] = Object.freeze([]);

/** Reasons for the end of a direction. */
export type RelayEnd =
  /** The sender closed, or ended this direction. */
  | { readonly kind: "left" }
  /** The sender closed in the middle of a message. */
  | { readonly kind: "cut"; readonly came: number; readonly size: number | undefined }
  /** The sender's socket failed. */
  | { readonly kind: "lost"; readonly errno: number }
  /** The receiver takes no more. */
  | { readonly kind: "gone"; readonly errno: number };

/** Reports of a relay, and its decisions about messages. */
export interface RelayHooks {
  /** Tells messages that `inspect` wants to see, by their header. */
  isInspected(command: number, isReply: boolean): boolean;
  /** Tells those of them that must not be passed on before `inspect` has seen them whole. */
  needsWhole(command: number, isReply: boolean, messageId: number): boolean;
  /** Decides about a message. */
  inspect(passage: Passage): void;
  /** Asks for commands to be held back until `resume`. Replies that are awaited overtake them. */
  isHeld?: (() => boolean) | undefined;
  /** Tells whether a reply with this message id is awaited; without it each one is. */
  isAwaited?: ((messageId: number) => boolean) | undefined;
  /** Too many commands were held back: all are passed on. */
  onOverrun?: (() => void) | undefined;
  /** A message was passed on; `bytes` is a view that holds during the call. */
  onMessage(
    bytes: Uint8Array,
    descriptors: readonly DescriptorFacts[],
    passage: Passage | undefined,
  ): void;
  /** Bytes that are no message were passed on, with the reason why they are none. */
  onGarbage(bytes: Uint8Array, descriptors: readonly DescriptorFacts[], reason: string): void;
  /** Descriptors that came are not passed on, with the reason. */
  onLostFds(reason: string): void;
}

/** A whole command that waits for its turn. */
interface HeldBack {
  readonly bytes: Uint8Array<ArrayBuffer>;
  readonly fds: OwnedFd[];
  readonly descriptors: DescriptorFacts[];
}

/** A message that is larger than the receive buffer. */
interface Large {
  buffer: IoBuffer;
  readonly size: number;
  /** Bytes that have come. */
  end: number;
  /** Bytes that were passed on. */
  passed: number;
  /** True if it is passed on as it comes; else when it is whole. */
  streams: boolean;
}

/**
 * One direction. It owns neither socket, and waits for nothing: `turn` is called when something may
 * have come, `flush` when there may be room.
 *
 * Memory is bounded by one message, and by what is held back: what the receiver does not take stops
 * the reading.
 */
export class Relay {
  readonly #from: UnixSocket;
  readonly #to: SendQueue;
  readonly #fds: FdQueue;
  readonly #hooks: RelayHooks;
  readonly #streamsLarge: boolean;

  readonly #small = new IoBuffer(RECEIVE_SIZE);
  #start = 0; // of the first message that is not passed on whole
  #end = 0;
  #passed = 0; // bytes of that message that were passed on before it was whole
  #large: Large | undefined;
  #spare: IoBuffer | undefined;
  #serial = 0;
  readonly #ends: number[] = []; // of the messages of a batch
  #held: HeldBack[] = [];
  #heldSize = 0; // bytes
  #heldFds = 0;
  #ended: RelayEnd | undefined;

  /**
   * @param streamsLarge passes large messages on as they come. A server may read the body of a
   *   message with a single recv, so those to a server are better passed on whole
   */
  constructor(from: UnixSocket, to: UnixSocket, streamsLarge: boolean, hooks: RelayHooks) {
    this.#from = from;
    this.#to = new SendQueue(to, (errno) => this.#ended ??= { kind: "gone", errno });
    this.#fds = new FdQueue((reason) => hooks.onLostFds(reason));
    this.#streamsLarge = streamsLarge;
    this.#hooks = hooks;
  }

  /** True while the receiver does not take what came: nothing is read meanwhile. */
  get isBlocked(): boolean {
    return !this.#to.isEmpty || this.#hasUnsentPart;
  }

  /** True if what waits has descriptors, and the kernel passes no more of them for now. */
  get isCrowded(): boolean {
    return this.#to.isCrowded;
  }

  /** True while commands, or the beginning of one, may wait for `resume`. */
  get isHolding(): boolean {
    return this.#held.length > 0 || this.#large !== undefined || this.#end > this.#start;
  }

  /** True between two messages, with nothing left to send. */
  get isAtBoundary(): boolean {
    return this.#large === undefined && this.#passed === 0 && this.#to.isEmpty;
  }

  /** True if a large message has come in part. */
  get isInLargeMessage(): boolean {
    return this.#large !== undefined;
  }

  /**
   * The time in milliseconds to wait for the rest of a message that is not passed on before it is
   * whole. Undefined if there is none.
   */
  get patienceMs(): number | undefined {
    const large = this.#large;
    if (this.#ended !== undefined || this.#isHeldStart) return undefined;
    const isWaiting = large === undefined
      ? this.#end - this.#start > this.#passed
      : !large.streams && large.end < large.size;
    if (!isWaiting) return undefined;
    const isSpecial = large === undefined
      ? this.#isSpecialStart
      : this.#isSpecial(large.buffer.view, 0);
    return isSpecial ? RECORD_WHOLE_PATIENCE_MS : RECORD_PATIENCE_MS;
  }

  /** The number of the message that has come in part: another one for another message. */
  get serial(): number {
    return this.#serial;
  }

  /** Why it has ended, if it has. */
  get ended(): RelayEnd | undefined {
    return this.#ended;
  }

  get #hasUnsentPart(): boolean {
    const large = this.#large;
    return large !== undefined && large.passed < large.end &&
      (large.streams || large.end === large.size);
  }

  /**
   * Receives once, and passes on what is whole.
   *
   * @returns false if there was nothing, or nothing can be done now
   */
  turn(): boolean {
    if (this.#ended !== undefined) return false;
    if (this.isBlocked && !this.flush()) return false;
    const large = this.#large;
    const count = large === undefined ? this.#receiveSmall() : this.#receiveLarge(large);
    const { receivedFds, fdsLost } = this.#from;
    if (receivedFds.length > 0) {
      this.#from.receivedFds = [];
      this.#fds.add(receivedFds, this.#end);
    }
    if (fdsLost) this.#hooks.onLostFds("too many are open here");
    if (count > 0) {
      if (large === undefined) this.#cut();
      else this.#goOn(large);
      if (receivedFds.length > 0) this.#fds.limit();
      return true;
    }
    if (count === -EAGAIN || count === -EINTR) return false;
    this.#finish(-count);
    return true;
  }

  /** Goes on with commands that were held back, as far as they may go now. */
  resume(): void {
    if (this.#isMidway) return;
    while (this.#held.length > 0 && !this.#hooks.isHeld!()) this.#passHeld();
  }

  /** True if a message was passed on in part: nothing may come between. */
  get #isMidway(): boolean {
    return this.#passed > 0 || (this.#large !== undefined && this.#large.passed > 0);
  }

  /** Passes on the beginning of a message that does not become whole. */
  hurry(): void {
    const patienceMs = this.patienceMs;
    if (patienceMs === undefined) return;
    if (patienceMs === RECORD_WHOLE_PATIENCE_MS) this.#fds.withhold();
    const large = this.#large;
    if (large !== undefined) {
      large.streams = true;
      this.#goOn(large);
      return;
    }
    const from = this.#start + this.#passed;
    this.#passed = this.#end - this.#start;
    this.#to.send(this.#small, from, this.#end, this.#fds.claim(Infinity));
  }

  /**
   * Sends bytes of the recorder's own, between two messages.
   *
   * Contract: `isAtBoundary` holds.
   */
  inject(message: Uint8Array<ArrayBuffer>): void {
    this.#to.send(new IoBuffer(message), 0, message.length, NO_FDS);
  }

  /**
   * Sends what is left, as far as the receiver takes it.
   *
   * @returns true if nothing is left
   */
  flush(): boolean {
    if (!this.#to.flush()) return false;
    const large = this.#large;
    if (large === undefined || !this.#hasUnsentPart) return true;
    this.#goOn(large);
    return !this.isBlocked;
  }

  /** Closes the descriptors that were not passed on. */
  close(): void {
    this.#fds.close();
    this.#to.close();
    for (const { fds } of this.#held) closeAll(fds);
    this.#held = [];
  }

  #receiveSmall(): number {
    if (this.#start === this.#end) this.#start = this.#end = 0;
    else if (this.#start > 0) this.#moveToFront();
    const count = this.#from.receive(this.#small, this.#end, RECEIVE_SIZE - this.#end);
    if (count > 0) this.#end += count;
    return count;
  }

  #moveToFront(): void {
    this.#small.bytes.copyWithin(0, this.#start, this.#end);
    this.#fds.shift(this.#start);
    this.#end -= this.#start;
    this.#start = 0;
  }

  #receiveLarge(large: Large): number {
    if (large.end === large.buffer.length) {
      const larger = new IoBuffer(Math.min(large.size, large.buffer.length * 2));
      larger.bytes.set(large.buffer.bytes);
      large.buffer = larger;
    }
    const room = Math.min(large.size, large.buffer.length) - large.end;
    const count = this.#from.receive(large.buffer, large.end, room);
    if (count > 0) large.end += count;
    return count;
  }

  /** Passes on the whole messages among what has come. */
  #cut(): void {
    const { view, bytes } = this.#small;
    let run = this.#start; // the first byte of the batch
    while (this.#ended === undefined) {
      const start = this.#start;
      const available = this.#end - start;
      if (available < HEADER_SIZE) break;
      const size = view.getUint32(start + SIZE_AT, true);
      if (size < HEADER_SIZE || size > MAX_RECORDED_MESSAGE) {
        this.#sendBatch(run);
        this.#passAllHeld();
        return this.#passGarbage(size);
      }
      const isReply = isReplyAt(view, start);
      if (available < size) {
        this.#sendBatch(run);
        if (size > RECEIVE_SIZE) this.#beginLarge(size);
        return;
      }
      const end = start + size;
      if (this.#passed === 0 && this.#holdsBackAt(view, start)) {
        this.#sendBatch(run);
        run = this.#start = end;
        this.#serial++;
        this.#holdBack(bytes.slice(start, end), end);
        continue;
      }
      const command = view.getUint16(start + COMMAND_AT, true);
      if (
        this.#fds.isEmpty && this.#passed === 0 && !this.#hooks.isInspected(command, isReply)
      ) {
        this.#start = end;
        this.#serial++;
        this.#ends.push(end);
        if (end - run >= BATCH_SIZE) {
          this.#sendBatch(run);
          run = end;
        }
        continue;
      }
      this.#sendBatch(run);
      if (this.#passed > 0) this.#passRest(bytes.subarray(start, end), start + this.#passed, end);
      else this.#passMessage(this.#small, start, end, this.#fds.claim(end));
      run = this.#start = end;
      this.#serial++;
    }
    this.#sendBatch(run);
  }

  /** True if a command that comes now has to wait. */
  get #holdsBack(): boolean {
    return this.#held.length > 0 || this.#hooks.isHeld?.() === true;
  }

  /** True if what has come in part is a command that will have to wait. */
  get #isHeldStart(): boolean {
    const large = this.#large;
    if (large !== undefined) return large.passed === 0 && this.#holdsBackAt(large.buffer.view, 0);
    if (this.#passed > 0) return false;
    if (this.#end - this.#start < HEADER_SIZE) return this.#end > this.#start && this.#holdsBack;
    return this.#holdsBackAt(this.#small.view, this.#start);
  }

  /** Finds out whether a message has to wait. A reply without its request keeps its place. */
  #holdsBackAt(view: DataView, at: number): boolean {
    if (!this.#holdsBack) return false;
    if (!isReplyAt(view, at)) return true;
    return this.#hooks.isAwaited?.(view.getUint16(at + ID_AT, true)) === false;
  }

  /** Keeps a whole command, whose descriptors came up to `end`, until `resume`. */
  #holdBack(bytes: Uint8Array<ArrayBuffer>, end: number): void {
    const fds = this.#fds.claim(end);
    this.#held.push({ bytes, fds, descriptors: this.#fds.takeFacts() });
    this.#heldSize += bytes.length;
    this.#heldFds += fds.length;
    const isFew = this.#held.length <= MAX_HELD_COMMANDS && this.#heldFds <= MAX_HELD_FDS;
    if (isFew && this.#heldSize <= MAX_HELD_BACK) return;
    this.#hooks.onOverrun?.();
    this.#passAllHeld();
  }

  #passAllHeld(): void {
    while (this.#held.length > 0) this.#passHeld();
  }

  /** Passes on the first command that was held back. */
  #passHeld(): void {
    const { bytes, fds, descriptors } = this.#held.shift()!;
    this.#heldSize -= bytes.length;
    this.#heldFds -= fds.length;
    const before = this.#fds.swapFacts(descriptors); // of a message that has come in part
    this.#passMessage(new IoBuffer(bytes), 0, bytes.length, fds);
    this.#fds.swapFacts(before);
  }

  /** Sends whole messages that are passed on as they came, then reports them. */
  #sendBatch(start: number): void {
    if (this.#ends.length === 0) return;
    this.#to.send(this.#small, start, this.#start, NO_FDS);
    let at = start;
    for (const end of this.#ends) {
      this.#hooks.onMessage(this.#small.bytes.subarray(at, end), NO_DESCRIPTORS, undefined);
      at = end;
    }
    this.#ends.length = 0;
  }

  /** Passes on a message that has a send of its own. */
  #passMessage(buffer: IoBuffer, start: number, end: number, fds: OwnedFd[]): void {
    const message = buffer.bytes.subarray(start, end);
    const command = buffer.view.getUint16(start + COMMAND_AT, true);
    const isReply = isReplyAt(buffer.view, start);
    if (!this.#hooks.isInspected(command, isReply)) {
      this.#to.send(buffer, start, end, fds);
      return this.#hooks.onMessage(message, this.#fds.takeFacts(), undefined);
    }
    const passage = this.#inspect(message, command, isReply, fds);
    const out = passage.fds.filter((fd) => fd !== undefined);
    if (passage.isOurs) return closeAll(out);
    if (passage.replacement === undefined) this.#to.send(buffer, start, end, out);
    else {
      const { replacement } = passage;
      this.#to.send(new IoBuffer(replacement), 0, replacement.length, out);
    }
    this.#hooks.onMessage(message, passage.descriptors, passage);
  }

  #inspect(
    bytes: Uint8Array<ArrayBuffer>,
    command: number,
    isReply: boolean,
    fds: OwnedFd[],
    isPassed = false,
  ): Passage {
    const passage: Passage = {
      bytes,
      view: new DataView(bytes.buffer, bytes.byteOffset, bytes.length),
      command,
      isReply,
      fds,
      descriptors: this.#fds.takeFacts(),
      replacement: undefined,
      comment: undefined,
      isPassed,
      isOurs: false,
    };
    this.#hooks.inspect(passage);
    return passage;
  }

  /** Passes on the rest of a message whose beginning was passed on already. */
  #passRest(message: Uint8Array<ArrayBuffer>, from: number, end: number): void {
    this.#passed = 0;
    const fds = this.#fds.claim(end);
    if (from < end) this.#to.send(this.#small, from, end, fds);
    else closeAll(fds); // there is no byte left that could carry them
    this.#reportPassed(message);
  }

  /**
   * Passes on what came behind a header that can't be delimited. The next receive is looked at
   * anew: a server that refuses a header may go on behind it.
   */
  #passGarbage(size: number): void {
    const from = this.#start + this.#passed;
    const bytes = this.#small.bytes.subarray(this.#start, this.#end);
    if (from < this.#end) this.#to.send(this.#small, from, this.#end, this.#fds.claim(Infinity));
    const reason = `a header says ${size} bytes`;
    this.#hooks.onGarbage(bytes, this.#fds.takeFacts(), reason);
    this.#start = this.#end = this.#passed = 0;
  }

  #beginLarge(size: number): void {
    const came = this.#end - this.#start;
    const room = Math.min(size, FIRST_LARGE_SIZE);
    const spare = this.#spare;
    this.#spare = undefined;
    const buffer = spare !== undefined && spare.length >= room ? spare : new IoBuffer(room);
    buffer.bytes.set(this.#small.bytes.subarray(this.#start, this.#end));
    const streams = this.#passed > 0 || (this.#streamsLarge && !this.#isSpecialStart);
    const large: Large = { buffer, size, end: came, passed: this.#passed, streams };
    this.#large = large;
    this.#start = this.#end = this.#passed = 0;
    if (streams) this.#sendPart(large);
  }

  /** Passes on more of a large message, and reports it when it is whole. */
  #goOn(large: Large): void {
    const isWhole = large.end === large.size;
    const { buffer, size } = large;
    if (isWhole && large.passed === 0) {
      if (this.#holdsBackAt(buffer.view, 0)) {
        this.#large = undefined;
        this.#serial++;
        return this.#holdBack(buffer.bytes.subarray(0, size), Infinity);
      }
      if (this.#isSpecial(buffer.view, 0)) {
        this.#endLarge(large);
        return this.#passMessage(buffer, 0, size, this.#fds.claim(Infinity));
      }
    }
    if (!large.streams && !isWhole) return;
    this.#sendPart(large);
    if (!isWhole || large.passed < size || this.#ended !== undefined) return;
    this.#endLarge(large);
    this.#reportPassed(buffer.bytes.subarray(0, size));
  }

  /** Reports a message that was passed on in pieces. */
  #reportPassed(bytes: Uint8Array<ArrayBuffer>): void {
    const { buffer, byteOffset, length } = bytes;
    const view = new DataView(buffer, byteOffset, length);
    const command = view.getUint16(COMMAND_AT, true);
    const isReply = isReplyAt(view, 0);
    const isInspected = this.#hooks.isInspected(command, isReply);
    const passage = isInspected ? this.#inspect(bytes, command, isReply, [], true) : undefined;
    const descriptors = passage?.descriptors ?? this.#fds.takeFacts();
    this.#hooks.onMessage(bytes, descriptors, undefined);
  }

  #sendPart(large: Large): void {
    const { buffer, passed, end } = large;
    if (passed === end || !this.#to.isEmpty) return;
    const fds = this.#fds.claim(Infinity);
    const count = this.#to.sendOnce(buffer, passed, end, fds);
    if (count > 0) large.passed += count;
    // A receiver that reads makes room at once, and spares a trip through the event loop.
    for (let i = 0; i < PATIENT_SENDS && count > 0 && large.passed < end; i++) {
      if (!this.#to.hasRoomSoon()) break;
      large.passed += Math.max(0, this.#to.sendOnce(buffer, large.passed, end, NO_FDS));
    }
    if (count > 0 || this.#to.isGone) closeAll(fds);
    else this.#fds.putBack(fds);
  }

  #endLarge({ buffer }: Large): void {
    this.#large = undefined;
    this.#serial++;
    if (buffer.length <= MAX_SPARE) this.#spare = buffer;
  }

  get #isSpecialStart(): boolean {
    if (this.#passed > 0 || this.#end - this.#start < HEADER_SIZE) return false;
    return this.#isSpecial(this.#small.view, this.#start);
  }

  #isSpecial(view: DataView, at: number): boolean {
    const command = view.getUint16(at + COMMAND_AT, true);
    const messageId = view.getUint16(at + ID_AT, true);
    return this.#hooks.needsWhole(command, isReplyAt(view, at), messageId);
  }

  /** The sender has ended: what was held back, and is left of its last message, is passed on. */
  #finish(errno: number): void {
    if (!this.#isMidway) this.#passAllHeld();
    const large = this.#large;
    const came = large?.end ?? this.#end - this.#start;
    if (came === 0) {
      this.#ended = errno === 0 ? { kind: "left" } : { kind: "lost", errno };
      return;
    }
    const { view } = large?.buffer ?? this.#small;
    const at = large === undefined ? this.#start : 0;
    const size = came < HEADER_SIZE ? undefined : view.getUint32(at + SIZE_AT, true);
    const passed = large?.passed ?? this.#passed;
    const rest = (large?.buffer ?? this.#small).bytes.slice(at, at + came);
    if (passed < came) {
      this.#to.send(
        new IoBuffer(rest.subarray(passed)),
        0,
        came - passed,
        this.#fds.claim(Infinity),
      );
    }
    this.#large = undefined;
    this.#start = this.#end = this.#passed = 0;
    this.#ended = errno === 0 ? { kind: "cut", came, size } : { kind: "lost", errno };
    const of = size === undefined ? `a header's ${HEADER_SIZE}` : size;
    const reason = `the connection ended after ${came} of ${of} bytes`;
    this.#hooks.onGarbage(rest, this.#fds.takeFacts(), reason);
  }
}

function isReplyAt(view: DataView, at: number): boolean {
  return (view.getUint32(at + FLAGS_AT, true) & MessageFlags.TYPE_MASK) === MessageFlags.REPLY;
}
