/**
 * Interrupts of a mock: eventfds of its client, and signals for them.
 *
 * @module
 */

import { EventFd } from "../../ffi/event.ts";
import { closeAll, type OwnedFd } from "../../ffi/fd.ts";
import type { IncomingRequest } from "../transport/incoming.ts";
import { IrqSetFlags, type SetIrqsRequest } from "../wire/irq.ts";
import { MAX_SIGNALS, type SignalledVector } from "./signals.ts";

/** Vectors that have descriptors at most; MSI-X has no more. */
const MAX_VECTORS = 2048;

/** The vectors of one client. */
export class Vectors implements Disposable {
  readonly #eventfds = new Map<string, EventFd>();
  /** Signals for vectors that have no descriptor yet. */
  readonly #waiting = new Map<string, bigint>();

  /** Signals a vector, as soon as it has an eventfd. */
  signal({ irq, vector, count }: SignalledVector): void {
    const key = `${irq} ${vector}`;
    const event = this.#eventfds.get(key);
    if (event === undefined) {
      this.#waiting.set(key, (this.#waiting.get(key) ?? 0n) + count);
      return;
    }
    try {
      event.signal(count < MAX_SIGNALS ? count : MAX_SIGNALS);
    } catch { /* the client passed what is no eventfd */ }
  }

  /** Takes the eventfds of a request; false if there are too many. */
  set(request: IncomingRequest, { flags, index, start, count }: SetIrqsRequest): boolean {
    if ((flags & IrqSetFlags.ACTION_MASK_BITS) !== IrqSetFlags.ACTION_TRIGGER) return true;
    const data = flags & IrqSetFlags.DATA_MASK;
    const isAll = data === IrqSetFlags.DATA_NONE && count === 0;
    if (!isAll && data !== IrqSetFlags.DATA_EVENTFD) return true;
    for (const [key, event] of this.#eventfds) {
      const [irq, vector] = key.split(" ").map(Number) as [number, number];
      if (irq !== index || (!isAll && (vector < start || vector >= start + count))) continue;
      event[Symbol.dispose]();
      this.#eventfds.delete(key);
    }
    const fds: OwnedFd[] = request.fdCount === 0 ? [] : request.takeFds();
    for (const [i, fd] of fds.entries()) {
      if (this.#eventfds.size >= MAX_VECTORS || i >= count) {
        closeAll(fds.slice(i));
        return i >= count;
      }
      const vector = start + i;
      const key = `${index} ${vector}`;
      this.#eventfds.set(key, new EventFd(fd));
      const waiting = this.#waiting.get(key);
      this.#waiting.delete(key);
      if (waiting !== undefined) this.signal({ irq: index, vector, count: waiting });
    }
    return true;
  }

  /** Closes the eventfds. */
  [Symbol.dispose](): void {
    for (const event of this.#eventfds.values()) event[Symbol.dispose]();
    this.#eventfds.clear();
  }
}
