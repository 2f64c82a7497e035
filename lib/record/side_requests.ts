/**
 * Requests of others on a connection that a client uses: let in between the client's own, with ids
 * that do not meet the client's.
 *
 * @module
 */

import { EBUSY, ENOTCONN, ETIMEDOUT } from "../../ffi/errno.ts";
import { monotonicMs } from "../../ffi/clock.ts";
import {
  DEFAULT_TIMEOUT_MS,
  HEADER_SIZE,
  MAX_SIDE_ABANDONED,
  SIDE_HOLD_MS,
  SIDE_PATIENCE_MS,
} from "../base/limits.ts";
import { encodeMessage, HeaderLayout, MessageFlags } from "../wire/header.ts";
import type { DescriptorFacts } from "./descriptor.ts";
import type { RecordedDirection } from "./event.ts";
import type { Link } from "./link.ts";
import { alterable, hasFlag, type Passage, remark } from "./passage.ts";

const { messageId: ID_AT, error: ERROR_AT } = HeaderLayout.offsets;

/** Clients count their ids up from 0: those of the recorder go down from here. */
const FIRST_ID = 0x7fff;
const IDS = 0x10000;

/** An answer of the server. */
export interface SideReply {
  /** Linux's error number; 0 if it is no error. An error without a number is undefined. */
  readonly errno: number | undefined;
  /** The bytes behind the header. */
  readonly payload: Uint8Array<ArrayBuffer>;
}

/** The connection that requests are let into. */
export interface SideHooks {
  /** Its main socket. */
  link(): Link;
  /** True if the server's own commands have a socket of their own. */
  hasTwin(): boolean;
  /** True if the server must not get another request now. */
  isShut(): boolean;
  /** Records a message of a request that was let in. */
  sink(
    direction: RecordedDirection,
    bytes: Uint8Array,
    descriptors: readonly DescriptorFacts[],
  ): void;
}

/** A request that is waiting for its turn or its reply. */
interface SideRequest {
  readonly command: number;
  readonly payload: Uint8Array;
  readonly sinceMs: number;
  settle: ((reply: SideReply) => void) | undefined;
}

/**
 * Lets requests in, one at a time, and only where the server has nothing else to do.
 *
 * A server may take whatever comes next for the answer to a DMA_READ of its own. So without a twin
 * socket a request waits until neither side has asked something. The client's next command waits
 * for the reply, for a tenth of a second at most.
 */
export class SideRequests {
  readonly #hooks: SideHooks;
  readonly #queue: SideRequest[] = [];
  readonly #sent = new Map<number, SideRequest>(); // by id
  readonly #renamed = new Map<number, number>(); // ids of the client: as sent -> as the client's
  readonly #asked = new Uint16Array(IDS); // requests of the client without a reply, by id
  #clientAsks = 0;
  #serverAsks = 0;
  #isHolding = false;
  #nextId = FIRST_ID;
  #isOpen = true;
  readonly #timers = new Set<ReturnType<typeof setTimeout>>();

  /** No request is under way. */
  constructor(hooks: SideHooks) {
    this.#hooks = hooks;
  }

  /** Asks the server something. Errors of the recorder's own are answers, too. */
  request(command: number, payload: Uint8Array): Promise<SideReply> {
    if (!this.#isOpen) return Promise.resolve(failure(ENOTCONN));
    if (this.#abandoned >= MAX_SIDE_ABANDONED) return Promise.resolve(failure(EBUSY));
    const { promise, resolve } = Promise.withResolvers<SideReply>();
    const request: SideRequest = { command, payload, sinceMs: monotonicMs(), settle: resolve };
    this.#queue.push(request);
    const timer = this.#after(DEFAULT_TIMEOUT_MS, () => this.#expire(request));
    promise.then(() => this.#cancel(timer));
    this.letIn();
    return promise;
  }

  /** Finds out whether a command of the client has to wait. */
  isHeld(): boolean {
    return this.#isHolding;
  }

  /**
   * Finds out whether an id of the client's, or of a reply, is to be changed or is the recorder's.
   */
  isReserved(messageId: number): boolean {
    return this.#sent.has(messageId) || this.#renamed.has(messageId);
  }

  /** Counts a message of the client, and changes an id that meets one of the recorder's. */
  onClientMessage(passage: Passage): void {
    const { view, isReply } = passage;
    if (isReply) {
      this.#serverAsks = Math.max(0, this.#serverAsks - 1);
      return;
    }
    const id = view.getUint16(ID_AT, true);
    const used = this.#sent.has(id) && !passage.isPassed ? this.#freeId() : id;
    if (used !== id) rename(passage, used);
    if (hasFlag(passage, MessageFlags.NO_REPLY)) return;
    if (used !== id) this.#renamed.set(used, id);
    if (this.#asked[used]! < 0xffff) this.#asked[used]!++;
    this.#clientAsks++;
  }

  /** Takes the reply to a request of the recorder's, and counts others. */
  onServerMessage(passage: Passage): void {
    const { view, command, isReply } = passage;
    if (!isReply) {
      if (!hasFlag(passage, MessageFlags.NO_REPLY)) this.#serverAsks++;
      return;
    }
    const id = view.getUint16(ID_AT, true);
    const request = passage.isPassed ? undefined : this.#sent.get(id);
    if (request?.command === command) {
      this.#sent.delete(id);
      this.#isHolding = false;
      passage.isOurs = true;
      for (const facts of passage.descriptors) facts.fate = "withheld";
      this.#hooks.sink("to-client", passage.bytes, passage.descriptors);
      request.settle?.(replyOf(passage));
      return;
    }
    const theirs = this.#renamed.get(id);
    if (theirs !== undefined && !passage.isPassed) {
      this.#renamed.delete(id);
      rename(passage, theirs);
    }
    if (this.#asked[id] === 0) return;
    this.#asked[id]!--;
    this.#clientAsks--;
  }

  /** Lets the next request in, if this is the moment for it. */
  letIn(): void {
    const link = this.#hooks.link();
    if (!this.#isOpen || !link.isOpen) return;
    const [request] = this.#queue;
    if (request === undefined || this.#inFlight > 0) return;
    const { toServer } = link;
    if (!toServer.isAtBoundary || !this.#isMoment(request, toServer.isHolding)) {
      this.#lookAgain();
      return;
    }
    this.#queue.shift();
    const id = this.#freeId();
    const message = encodeMessage(
      { messageId: id, command: request.command },
      request.payload,
    ) as Uint8Array<ArrayBuffer>;
    this.#sent.set(id, request);
    this.#isHolding = !this.#hooks.hasTwin();
    this.#hooks.sink("to-server", message, []);
    if (this.#isHolding) this.#after(SIDE_HOLD_MS, () => this.#release());
    link.inject(message);
  }

  /** The connection has ended: so has every request. */
  close(): void {
    this.#isOpen = false;
    this.#isHolding = false;
    for (const timer of this.#timers) clearTimeout(timer);
    this.#timers.clear();
    for (const request of [...this.#queue, ...this.#sent.values()]) {
      request.settle?.(failure(ENOTCONN));
      request.settle = undefined;
    }
  }

  /** Requests whose askers still wait. */
  get #inFlight(): number {
    return this.#sent.size - this.#abandoned;
  }

  /** Requests without a reply whose askers were told so. */
  get #abandoned(): number {
    let count = 0;
    for (const { settle } of this.#sent.values()) if (settle === undefined) count++;
    return count;
  }

  /** @param isHolding commands of the client wait for their turn: they go first at first */
  #isMoment({ sinceMs }: SideRequest, isHolding: boolean): boolean {
    if (this.#hooks.hasTwin()) return true;
    if (this.#serverAsks > 0 || this.#hooks.isShut()) return false;
    const isLate = monotonicMs() - sinceMs > SIDE_PATIENCE_MS;
    return isLate || (this.#clientAsks === 0 && !isHolding);
  }

  #lookAgain(): void {
    if (this.#retry !== undefined) return;
    this.#retry = this.#after(SIDE_PATIENCE_MS, () => {
      this.#retry = undefined;
      this.letIn();
    });
  }
  #retry: ReturnType<typeof setTimeout> | undefined;

  #release(): void {
    if (!this.#isHolding) return;
    this.#isHolding = false;
    const link = this.#hooks.link();
    if (link.isOpen) link.resume();
  }

  #expire(request: SideRequest): void {
    const at = this.#queue.indexOf(request);
    if (at >= 0) this.#queue.splice(at, 1);
    request.settle?.(failure(at >= 0 ? EBUSY : ETIMEDOUT));
    request.settle = undefined; // its id stays reserved until the reply comes
    this.letIn();
  }

  /** An id that neither side uses. */
  #freeId(): number {
    for (let i = 0; i < IDS; i++) {
      const id = this.#nextId;
      this.#nextId = id === 0 ? IDS - 1 : id - 1;
      if (this.#asked[id] === 0 && !this.#sent.has(id)) return id;
    }
    return this.#nextId; // 65536 requests without a reply: no id is better than another
  }

  #after(ms: number, act: () => void): ReturnType<typeof setTimeout> {
    const timer = setTimeout(() => {
      this.#timers.delete(timer);
      act();
    }, ms);
    this.#timers.add(timer);
    return timer;
  }

  #cancel(timer: ReturnType<typeof setTimeout>): void {
    clearTimeout(timer);
    this.#timers.delete(timer);
  }
}

function failure(errno: number): SideReply {
  return { errno, payload: new Uint8Array() };
}

function replyOf(passage: Passage): SideReply {
  const { bytes, view } = passage;
  const isError = hasFlag(passage, MessageFlags.ERROR);
  const errno = isError ? view.getUint32(ERROR_AT, true) || undefined : 0;
  return { errno, payload: bytes.slice(HEADER_SIZE) };
}

function rename(passage: Passage, id: number): void {
  alterable(passage).setUint16(ID_AT, id, true);
  remark(passage, "id changed");
}
