/**
 * A client's descriptors that mask or unmask a vector when the client signals them.
 *
 * @module
 */

import { monotonicMs } from "../../ffi/clock.ts";
import { POLLIN } from "../../ffi/event.ts";
import type { PeerEvent } from "../../ffi/peer_event.ts";
import { type Watch, watch } from "../../ffi/poller.ts";
import { IRQ_INPUT_BURST, IRQ_INPUT_REST_MS, IRQ_INPUTS_PER_MS } from "../base/limits.ts";

/**
 * The rate at which the server looks at one client's descriptors: a burst at any time, more by the
 * millisecond.
 */
export class Pace {
  #left = IRQ_INPUT_BURST;
  #at = monotonicMs();

  /**
   * Counts a look.
   *
   * @returns how long to rest before the next one, in milliseconds: mostly 0
   */
  spend(): number {
    const now = monotonicMs();
    this.#left = Math.min(IRQ_INPUT_BURST, this.#left + (now - this.#at) * IRQ_INPUTS_PER_MS) - 1;
    this.#at = now;
    return this.#left < 0 ? IRQ_INPUT_REST_MS : 0;
  }
}

/** Calls back when the client has signalled. */
export class IrqInput implements Disposable {
  readonly #event: PeerEvent;
  readonly #pace: Pace;
  readonly #act: () => void;
  #watch: Watch;

  /** Takes over a descriptor and listens. */
  constructor(event: PeerEvent, pace: Pace, act: () => void) {
    this.#event = event;
    this.#pace = pace;
    this.#act = act;
    this.#watch = this.#listen();
  }

  #listen(): Watch {
    return watch(this.#event.fd, POLLIN, (revents) => this.#look(revents));
  }

  /** Does not look for a while. */
  #rest(ms: number): void {
    this.#watch.close();
    this.#watch = watch(this.#event.fd, 0, () => {
      this.#watch.close();
      this.#watch = this.#listen();
    });
    this.#watch.deadline = monotonicMs() + ms;
  }

  #look(revents: number): void {
    const look = this.#event.take();
    // Without something to read, what poll reports stays as it is.
    if (look === "ended" || (look === "quiet" && (revents & POLLIN) === 0)) {
      return this.#watch.close();
    }
    const rest = this.#pace.spend();
    if (rest > 0) this.#rest(rest);
    if (look === "signalled") this.#act();
  }

  /** Listens no more, and closes the descriptor. */
  [Symbol.dispose](): void {
    this.#watch.close();
    this.#event[Symbol.dispose]();
  }
}
