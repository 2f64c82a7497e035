/**
 * Interrupts of a server that is played to: eventfds that it gets, and the signals that came.
 *
 * @module
 */

import { EventFd, POLLIN } from "../../ffi/event.ts";
import type { OwnedFd } from "../../ffi/fd.ts";
import { type Watch, watch } from "../../ffi/poller.ts";
import type { RecordedInterrupt } from "../record/event.ts";

/** Signals that are sent at once. */
export const MAX_SIGNALS = 1024n;

/** An eventfd for a vector, or for its masking. */
interface Line {
  readonly event: EventFd;
  readonly watch: Watch;
  readonly irq: number;
  readonly vector: number;
  /** Signals that came and that the play has not waited for. */
  pending: bigint;
  /** True if the recording has the interrupts of this vector. */
  isSeen: boolean;
}

/** A vector on which signals came. */
export interface SignalledVector {
  readonly irq: number;
  readonly vector: number;
  readonly count: bigint;
}

/** The eventfds of one connection. */
export class Signals implements Disposable {
  readonly #lines = new Map<string, Line>();
  readonly #onSignal: () => void;

  /** @param onSignal called when signals came */
  constructor(onSignal: () => void) {
    this.#onSignal = onSignal;
  }

  /**
   * The eventfd of a vector; the same each time, however often the client sets the vector.
   *
   * @param isSeen true if the recording has its interrupts
   * @throws {SystemError} if no descriptor is left
   */
  handle(
    irq: number,
    vector: number,
    action: RecordedInterrupt["action"],
    isSeen: boolean,
  ): OwnedFd {
    const key = `${action} ${irq} ${vector}`;
    let line = this.#lines.get(key);
    if (line === undefined) {
      line = this.#make(irq, vector, isSeen && action === "trigger");
      this.#lines.set(key, line);
    }
    return line.event.handle;
  }

  #make(irq: number, vector: number, isSeen: boolean): Line {
    const event = new EventFd();
    try {
      const watched = watch(event.fd, POLLIN, () => {
        line.pending += event.take();
        this.#onSignal();
      });
      const line: Line = { event, watch: watched, irq, vector, pending: 0n, isSeen };
      return line;
    } catch (error) {
      event.close();
      throw error;
    }
  }

  /** Signals that came on a vector and were not taken. */
  pending(irq: number, vector: number): bigint {
    return this.#lines.get(`trigger ${irq} ${vector}`)?.pending ?? 0n;
  }

  /** Takes signals that came on a vector: `count`, or as many as came. */
  take(irq: number, vector: number, count: bigint): void {
    const line = this.#lines.get(`trigger ${irq} ${vector}`);
    if (line !== undefined) line.pending -= count < line.pending ? count : line.pending;
  }

  /** Signals the server, as its client does that masks a vector. */
  signal({ action, irq, vector, count }: RecordedInterrupt): void {
    const most = count < MAX_SIGNALS ? count : MAX_SIGNALS;
    this.#lines.get(`${action} ${irq} ${vector}`)?.event.signal(most);
  }

  /** Signals that the recording does not have, and forgets them. */
  takeSurplus(): SignalledVector[] {
    const found: SignalledVector[] = [];
    for (const line of this.#lines.values()) {
      line.pending += line.event.take();
      const { irq, vector, pending: count, isSeen } = line;
      if (isSeen && count > 0n) found.push({ irq, vector, count });
      line.pending = 0n;
    }
    return found;
  }

  /** Closes them. */
  [Symbol.dispose](): void {
    for (const line of this.#lines.values()) {
      line.watch.close();
      line.event.close();
    }
    this.#lines.clear();
  }
}
