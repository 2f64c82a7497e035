/**
 * Eventfds in the middle: the recorder's own one is given away in place of another one, and signals
 * are counted and passed on.
 *
 * @module
 */

import { BudgetShare, signalDescriptors } from "../../ffi/budget.ts";
import { SystemError } from "../../ffi/errno.ts";
import { EventFd, POLLIN } from "../../ffi/event.ts";
import type { OwnedFd } from "../../ffi/fd.ts";
import { PeerEvent } from "../../ffi/peer_event.ts";
import { type Watch, watch } from "../../ffi/poller.ts";

/** The most signals that one look passes on: each costs a system call's part. */
const MAX_SIGNALS = 1024;

/**
 * The side whose descriptor is kept: `signal` if the recorder signals it, `listen` if its holder
 * signals the recorder.
 */
export type TapUse = "signal" | "listen";

/** One descriptor in the middle. */
export class Tap implements Disposable {
  readonly #kept: PeerEvent;
  readonly #own: EventFd;
  readonly #use: TapUse;
  readonly #onSignal: (count: bigint) => void;
  #watch: Watch | undefined;

  private constructor(
    kept: PeerEvent,
    own: EventFd,
    use: TapUse,
    onSignal: (count: bigint) => void,
  ) {
    this.#kept = kept;
    this.#own = own;
    this.#use = use;
    this.#onSignal = onSignal;
    this.#watch = watch(use === "signal" ? own.fd : kept.fd, POLLIN, (revents) => {
      if (!this.#pass() && (revents & POLLIN) === 0) this.#watch?.close();
    });
  }

  /**
   * Puts itself between a descriptor and its receiver.
   *
   * @param fd taken over, unless that fails
   * @returns the tap, and the descriptor to give away in place of `fd`
   * @throws {TypeError} if the descriptor is neither an eventfd nor a pipe
   * @throws {SystemError} if this process has no descriptors left for it
   */
  static insert(
    fd: OwnedFd,
    use: TapUse,
    share: BudgetShare,
    onSignal: (count: bigint) => void,
  ): { tap: Tap; replacement: OwnedFd } {
    using stack = new DisposableStack();
    const own = stack.use(new EventFd());
    const replacement = stack.use(own.handle.duplicate());
    const kept = PeerEvent.adopt(fd, use, new Pair(share));
    stack.move();
    return { tap: new Tap(kept, own, use, onSignal), replacement };
  }

  /** Passes on what was signalled. Returns false if nothing was. */
  #pass(): boolean {
    const count = this.#take();
    if (count === 0n) return false;
    this.#onSignal(count);
    if (this.#use === "listen") this.#own.signal(1n);
    else this.#kept.signal(Number(count < MAX_SIGNALS ? count : MAX_SIGNALS));
    return true;
  }

  #take(): bigint {
    if (this.#use === "listen") {
      const look = this.#kept.take();
      if (look === "ended") this.#watch?.close();
      return look === "signalled" ? 1n : 0n;
    }
    try {
      return this.#own.take();
    } catch (error) {
      if (!(error instanceof SystemError)) throw error;
      this.#watch?.close();
      return 0n;
    }
  }

  /** Passes on the last signals, and closes both descriptors. */
  [Symbol.dispose](): void {
    if (this.#watch === undefined) return;
    this.#pass();
    this.#watch.close();
    this.#watch = undefined;
    this.#kept[Symbol.dispose]();
    this.#own.close();
  }
}

/** A tap has two descriptors for one that was passed. */
class Pair {
  readonly #share: BudgetShare;

  constructor(share: BudgetShare) {
    this.#share = share;
  }

  take(count: number, doing: string): void {
    this.#share.take(2 * count, doing);
  }

  give(count: number): void {
    this.#share.give(2 * count);
  }
}

/** The taps of one connection. */
export class Taps implements Disposable {
  readonly #share = new BudgetShare(signalDescriptors);
  readonly #taps = new Set<Tap>();

  /**
   * Puts a tap in the place of a descriptor.
   *
   * @returns undefined, and a reason, if the descriptor is better passed on as it is
   */
  insert(
    fd: OwnedFd,
    use: TapUse,
    onSignal: (count: bigint) => void,
  ): { tap: Tap; replacement: OwnedFd } | { tap: undefined; reason: string } {
    try {
      const inserted = Tap.insert(fd, use, this.#share, onSignal);
      this.#taps.add(inserted.tap);
      return inserted;
    } catch (error) {
      if (!(error instanceof TypeError || error instanceof SystemError)) throw error;
      return { tap: undefined, reason: error.message };
    }
  }

  /** Takes a tap out that is not used any more. */
  retire(tap: Tap): void {
    if (this.#taps.delete(tap)) tap[Symbol.dispose]();
  }

  /** Takes out all of them. */
  [Symbol.dispose](): void {
    for (const tap of this.#taps) this.retire(tap);
  }
}
