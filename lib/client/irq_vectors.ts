/**
 * Vectors of an IRQ index that are enabled: their eventfds, the signals that came, and callers that
 * wait for more.
 *
 * @module
 */

import { monotonicMs } from "../../ffi/clock.ts";
import { EventFd, POLLIN } from "../../ffi/event.ts";
import type { OwnedFd } from "../../ffi/fd.ts";
import { type Watch, watch } from "../../ffi/poller.ts";
import { endedWhile, TimeoutError } from "../base/errors.ts";
import { DEFAULT_TIMEOUT_MS } from "../base/limits.ts";
import type { VfioProxy } from "../transport/proxy.ts";
import { vectorsName } from "../wire/irq.ts";

/** Interrupts of one vector that came since it was last asked about. */
export interface Interrupt {
  /** The vector, from 0. */
  readonly vector: number;
  /** Number of signals that came; at least 1. */
  readonly count: bigint;
}

/** Limit of waiting for an interrupt. */
export interface IrqWaitOptions {
  /** In milliseconds; default 5000. Infinity waits as long as the connection lasts. */
  timeoutMs?: number;
}

/** Limit of waiting for an interrupt asynchronously. */
export interface AsyncIrqWaitOptions extends IrqWaitOptions {
  /** Ends the wait with the signal's reason. */
  signal?: AbortSignal;
}

/** A vector that is enabled. */
interface Vector {
  readonly event: EventFd;
  /** Signals that came and were not taken. */
  pending: bigint;
  /** Signals in all. */
  total: bigint;
}

/** A caller that waits without blocking. */
interface Waiter {
  /** The vector that it waits for; undefined for any, also those enabled later. */
  readonly vector: number | undefined;
  readonly timeoutMs: number;
  readonly deadline: number;
  /** Watches of the vectors that it waits for, while they are enabled. */
  readonly watches: Map<number, Watch>;
  /** Ends the wait: with an interrupt, or without one for a reason. */
  settle(interrupt: Interrupt | undefined, reason?: unknown): void;
}

/** The enabled vectors of one IRQ index. */
export class EnabledVectors {
  readonly #name: string;
  readonly #proxy: VfioProxy;
  readonly #vectors = new Map<number, Vector>();
  readonly #waiters = new Set<Waiter>();

  /**
   * Has no vector at first.
   *
   * @param name of the index, for errors
   */
  constructor(name: string, proxy: VfioProxy) {
    this.#name = name;
    this.#proxy = proxy;
  }

  /** The numbers of the vectors, in rising order. */
  get numbers(): number[] {
    return [...this.#vectors.keys()].sort((a, b) => a - b);
  }

  /** Tells whether a vector is enabled. */
  has(vector: number): boolean {
    return this.#vectors.has(vector);
  }

  /** The eventfd of a vector, which the server signals. */
  handle(vector: number): OwnedFd {
    return this.#vector(vector).event.handle;
  }

  /** Makes the eventfd of another vector. Who waits for any vector waits for this one, too. */
  add(vector: number): void {
    this.#vectors.set(vector, { event: new EventFd(), pending: 0n, total: 0n });
    for (const waiter of this.#waiters) {
      if (waiter.vector === undefined) this.#watchFor(waiter, vector);
    }
  }

  /** Closes the eventfd of a vector. Who waits for that vector alone fails. */
  remove(vector: number): void {
    for (const waiter of [...this.#waiters]) {
      waiter.watches.get(vector)?.close();
      waiter.watches.delete(vector);
      if (waiter.watches.size === 0) {
        const reason = new RangeError(`Vector ${vector} of ${this.#name} was disabled`);
        waiter.settle(undefined, reason);
      }
    }
    this.#vectors.get(vector)?.event[Symbol.dispose]();
    this.#vectors.delete(vector);
  }

  /** Signals of a vector since it was enabled, whether asked about or not. */
  total(vector: number): bigint {
    const entry = this.#vector(vector);
    this.#take(entry);
    this.#offer(vector); // the eventfd, now read, wakes no waiter
    return entry.total;
  }

  /**
   * Blocks until an interrupt comes, as `IrqIndex.wait`. This pair is not written once: `wait`
   * polls and `waitAsync` is called back, so that they have no steps in common.
   */
  wait(vector: number | undefined, options: IrqWaitOptions): Interrupt {
    const { timeoutMs = DEFAULT_TIMEOUT_MS } = options;
    const vectors = this.#waitedFor(vector);
    // While there is a connection, the poll below reports what came: no read is in vain.
    const isKnown = vectors.some((each) => this.#vector(each).pending > 0n);
    const came = isKnown || this.#proxy.state !== "CONNECTED" ? this.#first(vectors) : undefined;
    if (came !== undefined) return came;
    const fds = vectors.map((each) => this.#vector(each).event.fd);
    const deadline = monotonicMs() + timeoutMs;
    for (let remaining = timeoutMs;; remaining = deadline - monotonicMs()) {
      const ready = this.#proxy.waitSync(fds, remaining);
      if (ready < 0) throw this.#timeout(vector, timeoutMs);
      const interrupt = this.#consume(vectors[ready]!);
      if (interrupt !== undefined) return interrupt; // else the server has read its eventfd
    }
  }

  /** Waits for an interrupt, as `IrqIndex.waitAsync`. */
  waitAsync(
    vector: number | undefined,
    options: AsyncIrqWaitOptions,
  ): Promise<Interrupt> {
    const { timeoutMs = DEFAULT_TIMEOUT_MS, signal } = options;
    return new Promise((resolve, reject) => {
      signal?.throwIfAborted();
      const vectors = this.#waitedFor(vector);
      const came = this.#first(vectors);
      if (came !== undefined) return resolve(came);
      const onAbort = () => waiter.settle(undefined, signal!.reason);
      const attention = this.#proxy.attend((cause) =>
        waiter.settle(undefined, endedWhile(`wait for an interrupt of ${this.#name}`, cause))
      );
      const settle = (interrupt: Interrupt | undefined, reason?: unknown) => {
        this.#waiters.delete(waiter);
        for (const each of waiter.watches.values()) each.close();
        signal?.removeEventListener("abort", onAbort);
        attention[Symbol.dispose]();
        if (interrupt !== undefined) resolve(interrupt);
        else reject(reason);
      };
      const deadline = monotonicMs() + timeoutMs;
      const waiter: Waiter = { vector, timeoutMs, deadline, watches: new Map(), settle };
      this.#waiters.add(waiter);
      signal?.addEventListener("abort", onAbort, { once: true });
      try {
        for (const each of vectors) this.#watchFor(waiter, each);
      } catch (error) {
        settle(undefined, error);
      }
    });
  }

  #vector(vector: number): Vector {
    const entry = this.#vectors.get(vector);
    if (entry === undefined) {
      throw new RangeError(`${vectorsName(this.#name, vector)} is not enabled`);
    }
    return entry;
  }

  #waitedFor(vector: number | undefined): number[] {
    if (vector !== undefined) {
      this.#vector(vector);
      return [vector];
    }
    if (this.#vectors.size === 0) throw new RangeError(`No vector of ${this.#name} is enabled`);
    return this.numbers;
  }

  #take(entry: Vector): void {
    const count = entry.event.take();
    entry.pending += count;
    entry.total += count;
  }

  /** Takes the signals of a vector that came; undefined without any. */
  #consume(vector: number): Interrupt | undefined {
    const entry = this.#vector(vector);
    this.#take(entry);
    const count = entry.pending;
    entry.pending = 0n;
    return count > 0n ? { vector, count } : undefined;
  }

  #first(vectors: readonly number[]): Interrupt | undefined {
    for (const vector of vectors) {
      const came = this.#consume(vector);
      if (came !== undefined) return came;
    }
    return undefined;
  }

  /** Wakes a waiter when a vector is signalled, or at its deadline. */
  #watchFor(waiter: Waiter, vector: number): void {
    const watched = watch(this.#vector(vector).event.fd, POLLIN, (revents) => {
      if (revents === 0) {
        return waiter.settle(undefined, this.#timeout(waiter.vector, waiter.timeoutMs));
      }
      const interrupt = this.#consume(vector);
      if (interrupt !== undefined) waiter.settle(interrupt); // else another one got it
    });
    watched.deadline = waiter.deadline;
    waiter.watches.set(vector, watched);
  }

  /** Hands the signals of a vector to a waiter, if there is one. */
  #offer(vector: number): void {
    for (const waiter of this.#waiters) {
      if (!waiter.watches.has(vector)) continue;
      const interrupt = this.#consume(vector);
      return interrupt && waiter.settle(interrupt);
    }
  }

  #timeout(vector: number | undefined, timeoutMs: number): TimeoutError {
    const which = vector === undefined ? this.#name : vectorsName(this.#name, vector);
    return new TimeoutError(`No interrupt of ${which} came within ${timeoutMs} ms`);
  }
}
