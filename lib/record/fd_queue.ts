/**
 * Descriptors between their receive and the message that carries them on.
 *
 * @module
 */

import { closeAll, type OwnedFd } from "../../ffi/fd.ts";
import { MAX_FDS_PER_MESSAGE } from "../../ffi/socket.ts";
import { type DescriptorFacts, factsOf } from "./descriptor.ts";

const NO_FACTS: readonly DescriptorFacts[] = Object.freeze([]);

/** Descriptors that came with one receive. */
interface ReceivedFds {
  readonly fds: readonly OwnedFd[];
  readonly descriptors: readonly DescriptorFacts[];
  /** The position in the buffer after the byte that they came with. */
  end: number;
}

/** Descriptors in the order in which they came, and the facts of those that are passed on. */
export class FdQueue {
  readonly #onLost: (reason: string) => void;
  #received: ReceivedFds[] = []; // of messages that are not whole
  #claimed: DescriptorFacts[] = []; // of the message that is being passed on
  #isOverfull = false; // it came with more than a message can carry

  /** @param onLost called when descriptors that came are closed here, with the reason */
  constructor(onLost: (reason: string) => void) {
    this.#onLost = onLost;
  }

  /** True if none waits for its message. */
  get isEmpty(): boolean {
    return this.#received.length === 0;
  }

  /** Keeps descriptors that came with the byte before `end`. */
  add(fds: readonly OwnedFd[], end: number): void {
    this.#received.push({ fds, descriptors: fds.map(factsOf), end });
  }

  /** Keeps descriptors that were claimed, as the receiver did not take them. */
  putBack(fds: readonly OwnedFd[]): void {
    if (fds.length > 0) this.#received.push({ fds, descriptors: NO_FACTS, end: 0 });
  }

  /** Closes descriptors beyond those that one message carries: all that wait belong to one. */
  limit(): void {
    let room = MAX_FDS_PER_MESSAGE;
    this.#received = this.#received.flatMap((came) => {
      const fds = came.fds.slice(0, room);
      this.#discard(came.fds.slice(room));
      room -= fds.length;
      if (fds.length === 0) return [];
      return [{ ...came, fds, descriptors: came.descriptors.slice(0, fds.length) }];
    });
  }

  /** Moves positions as the bytes of the buffer: to the front by `count`. */
  shift(count: number): void {
    for (const came of this.#received) came.end -= count;
  }

  /** Takes the descriptors of the message that ends at `end`: as many as a message carries. */
  claim(end: number): OwnedFd[] {
    const claimed: OwnedFd[] = [];
    while (this.#received.length > 0 && this.#received[0]!.end <= end) {
      const { fds, descriptors } = this.#received.shift()!;
      // Those that were put back were counted already.
      const isCounted = descriptors.length === 0;
      const room = isCounted ? fds.length : MAX_FDS_PER_MESSAGE - this.#claimed.length;
      this.#discard(fds.slice(room));
      claimed.push(...fds.slice(0, room));
      this.#claimed.push(...descriptors.slice(0, room));
    }
    return claimed;
  }

  /** Takes the facts of the descriptors that were claimed since the last message. */
  takeFacts(): DescriptorFacts[] {
    return this.swapFacts([]);
  }

  /** Sets other facts in place of those of the descriptors that were claimed, and returns these. */
  swapFacts(facts: DescriptorFacts[]): DescriptorFacts[] {
    const before = this.#claimed;
    this.#claimed = facts;
    this.#isOverfull = false;
    return before;
  }

  /** Closes the descriptors of a message that can't be altered, as it does not become whole. */
  withhold(): void {
    closeAll(this.claim(Infinity));
    for (const facts of this.#claimed) facts.fate = "withheld";
  }

  /** Closes the descriptors that wait. */
  close(): void {
    for (const { fds } of this.#received) closeAll(fds);
    this.#received = [];
  }

  #discard(fds: readonly OwnedFd[]): void {
    if (fds.length === 0) return;
    closeAll(fds);
    if (this.#isOverfull) return;
    this.#isOverfull = true;
    this.#onLost(`a message carries ${MAX_FDS_PER_MESSAGE} at most`);
  }
}
