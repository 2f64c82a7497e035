/**
 * Interrupts of a device, as its client sees them: eventfds that the server signals (specification:
 * "VFIO_USER_DEVICE_SET_IRQS").
 *
 * @module
 */

import { EventFd } from "../ffi/event.ts";
import type { OwnedFd } from "../ffi/fd.ts";
import { type Watch, watch } from "../ffi/poller.ts";
import { POLLIN } from "../ffi/event.ts";
import type { IrqInfo } from "./device.ts";
import { ConnectionError, TimeoutError } from "./errors.ts";
import { DEFAULT_TIMEOUT_MS } from "./limits.ts";
import type { VfioProxy } from "./proxy.ts";
import { Command } from "./wire/command.ts";
import { irqName, IrqSetFlags, SetIrqsRequest } from "./wire/irq.ts";

/** Interrupts of one vector that came since it was last asked about. */
export interface Interrupt {
  /** The vector, from 0. */
  readonly vector: number;
  /** How many signals came; at least 1. */
  readonly count: bigint;
}

/** How long to wait for an interrupt. */
export interface IrqWaitOptions {
  /** In milliseconds; default 5000. Infinity waits as long as the connection lasts. */
  timeoutMs?: number;
}

/** How long to wait for an interrupt, asynchronously. */
export interface AsyncIrqWaitOptions extends IrqWaitOptions {
  /** Ends the wait with the signal's reason. */
  signal?: AbortSignal;
}

/** Vectors of an IRQ index. */
export interface VectorRange {
  /** The first; default 0. */
  start?: number;
  /** How many; default all from `start` on. */
  count?: number;
}

/** A vector that is enabled. */
interface Vector {
  readonly event: EventFd;
  /** Signals that came and were not asked about. */
  pending: bigint;
  /** Signals in all. */
  total: bigint;
}

/**
 * The vectors of one IRQ index. `Device.irqs` gives it.
 *
 * Signals are counted by the kernel and lost by nobody: what came between two waits is in the next one's count.
 *
 * @example
 * ```ts
 * import { connect } from "./client.ts";
 * import { DemoDevice, DemoRegister } from "./devices/demo.ts";
 * import { Server } from "./server/server.ts";
 *
 * const path = Deno.makeTempDirSync() + "/demo.sock";
 * using server = Server.listen(path, new DemoDevice());
 * using device = await connect(path);
 * const msix = await device.irqs("msix");
 * await msix.enable({ count: 2 });
 * await msix.trigger(1);
 * console.assert((await msix.waitAsync(1)).count === 1n);
 * ```
 */
export class IrqIndex implements Disposable {
  /** What the index is. */
  readonly info: IrqInfo;
  /** "intx", "msi", "msix", "err", "req", or "irq 5". */
  readonly name: string;
  readonly #proxy: VfioProxy;
  readonly #vectors = new Map<number, Vector>();
  readonly #masks: OwnedFd[] = [];

  /** @ignore made by `Device.irqs` */
  constructor(info: IrqInfo, proxy: VfioProxy) {
    this.info = info;
    this.name = irqName(info.index);
    this.#proxy = proxy;
  }

  /** How many vectors the device has. */
  get count(): number {
    return this.info.count;
  }

  /** The vectors that are enabled. */
  get enabled(): number[] {
    return [...this.#vectors.keys()].sort((a, b) => a - b);
  }

  /** Signals of a vector since it was enabled, whether asked about or not. */
  total(vector: number): bigint {
    const entry = this.#vector(vector);
    this.#take(entry);
    return entry.total;
  }

  /**
   * Has the device signal these vectors. Those that are enabled already keep their count.
   *
   * One message carries as many eventfds as the server takes. (QEMU's server has one table for all indexes: there, enabling
   * MSI-X takes INTx's place.)
   *
   * @throws {RangeError} if the device does not have them
   * @throws {RemoteError} if the server refuses; what was enabled in this call is disabled
   */
  async enable(range: VectorRange = {}): Promise<void> {
    const { start, count } = this.#range(range);
    const fresh: number[] = [];
    try {
      const chunk = Math.max(1, this.#proxy.peerMaxFds);
      for (let first = start; first < start + count; first += chunk) {
        const vectors = sequence(first, Math.min(chunk, start + count - first));
        for (const vector of vectors) {
          if (this.#vectors.has(vector)) continue;
          this.#vectors.set(vector, { event: new EventFd(), pending: 0n, total: 0n });
          fresh.push(vector);
        }
        const fds = vectors.map((vector) => this.#vectors.get(vector)!.event.handle);
        await this.#set(
          IrqSetFlags.DATA_EVENTFD | IrqSetFlags.ACTION_TRIGGER,
          first,
          vectors.length,
          { fds },
        );
      }
    } catch (error) {
      for (const vector of fresh) this.#forget(vector);
      throw error;
    }
  }

  /**
   * Has the device signal these vectors no more; without a range, tears down all of the index.
   *
   * @throws {RangeError} if the device does not have them
   * @throws {RemoteError} if the server refuses; they are closed here all the same
   */
  async disable(range?: VectorRange): Promise<void> {
    const { start, count } = range === undefined ? { start: 0, count: 0 } : this.#range(range);
    const kind = range === undefined ? IrqSetFlags.DATA_NONE : IrqSetFlags.DATA_EVENTFD;
    try {
      await this.#set(kind | IrqSetFlags.ACTION_TRIGGER, start, count);
    } finally {
      for (const vector of this.enabled) {
        if (range === undefined || (vector >= start && vector < start + count)) {
          this.#forget(vector);
        }
      }
    }
  }

  /** Masks vectors: a masked one that fires is pending until it is unmasked. Throws as `enable`. */
  async mask(vector: number, count = 1): Promise<void> {
    this.#range({ start: vector, count });
    await this.#set(IrqSetFlags.DATA_NONE | IrqSetFlags.ACTION_MASK, vector, count);
  }

  /** Unmasks vectors. INTx, which masks itself when it fires, is armed again by this. Throws as `enable`. */
  async unmask(vector: number, count = 1): Promise<void> {
    this.#range({ start: vector, count });
    await this.#set(IrqSetFlags.DATA_NONE | IrqSetFlags.ACTION_UNMASK, vector, count);
  }

  /** Has the server fire vectors, as if the device had. Throws as `enable`. */
  async trigger(vector: number, count = 1): Promise<void> {
    this.#range({ start: vector, count });
    await this.#set(IrqSetFlags.DATA_NONE | IrqSetFlags.ACTION_TRIGGER, vector, count);
  }

  /**
   * Masks, unmasks or fires the vectors from `start` on for which `which` is true, in one message. Throws as `enable`.
   *
   * @param which a boolean for each vector from `start` on
   */
  async setBool(
    action: "mask" | "unmask" | "trigger",
    start: number,
    which: readonly boolean[],
  ): Promise<void> {
    this.#range({ start, count: which.length });
    const data = Uint8Array.from(which, (each) => each ? 1 : 0);
    await this.#set(IrqSetFlags.DATA_BOOL | ACTIONS[action], start, which.length, { data });
  }

  /**
   * Gives the server an eventfd: who signals it masks, or unmasks, the vector. KVM does so for INTx.
   *
   * @returns the eventfd, open until the index is closed
   */
  async maskBy(action: "mask" | "unmask", vector: number): Promise<EventFd> {
    this.#range({ start: vector, count: 1 });
    const event = new EventFd();
    this.#masks.push(event.handle);
    await this.#set(IrqSetFlags.DATA_EVENTFD | ACTIONS[action], vector, 1, { fds: [event.handle] });
    return event;
  }

  /**
   * Blocks until an interrupt comes, serving the device's commands meanwhile. One that came before counts.
   *
   * @param vector which; any that is enabled if left out
   * @throws {TimeoutError} if none comes in time
   * @throws {ConnectionError} if the connection ends
   */
  wait(vector?: number, options: IrqWaitOptions = {}): Interrupt {
    const { timeoutMs = DEFAULT_TIMEOUT_MS } = options;
    const vectors = this.#waitedFor(vector);
    const came = this.#first(vectors);
    if (came !== undefined) return came;
    const fds = vectors.map((each) => this.#vector(each).event.fd);
    const ready = this.#proxy.waitSync(fds, timeoutMs);
    const interrupt = ready < 0 ? undefined : this.#consume(vectors[ready]!);
    if (interrupt === undefined) throw this.#timeout(vector, timeoutMs);
    return interrupt;
  }

  /** As {@linkcode IrqIndex.wait}, without blocking. */
  waitAsync(vector?: number, options: AsyncIrqWaitOptions = {}): Promise<Interrupt> {
    const { timeoutMs = DEFAULT_TIMEOUT_MS, signal } = options;
    return new Promise((resolve, reject) => {
      signal?.throwIfAborted();
      const vectors = this.#waitedFor(vector);
      const came = this.#first(vectors);
      if (came !== undefined) return resolve(came);
      const watches: Watch[] = [];
      const finish = (settle: () => void) => {
        clearTimeout(timer);
        for (const each of watches) each.close();
        signal?.removeEventListener("abort", onAbort);
        attention[Symbol.dispose]();
        settle();
      };
      const onAbort = () => finish(() => reject(signal!.reason));
      const timer = Number.isFinite(timeoutMs)
        ? setTimeout(() => finish(() => reject(this.#timeout(vector, timeoutMs))), timeoutMs)
        : undefined;
      const attention = this.#proxy.attend((cause) =>
        finish(() =>
          reject(cause ?? new ConnectionError("The connection to the server was closed"))
        )
      );
      signal?.addEventListener("abort", onAbort, { once: true });
      for (const each of vectors) {
        const { fd } = this.#vector(each).event;
        watches.push(watch(fd, POLLIN, () => {
          const interrupt = this.#consume(each);
          if (interrupt !== undefined) finish(() => resolve(interrupt));
        }));
      }
    });
  }

  /**
   * Interrupts of all vectors as they come, until the signal is aborted (with its reason) or the connection ends (with an error).
   *
   * @example
   * ```ts ignore
   * for await (const { vector, count } of msix.interrupts()) console.log(vector, count);
   * ```
   */
  async *interrupts(options: { signal?: AbortSignal } = {}): AsyncGenerator<Interrupt, never> {
    while (true) yield await this.waitAsync(undefined, { ...options, timeoutMs: Infinity });
  }

  /** As {@linkcode IrqIndex.interrupts}. */
  [Symbol.asyncIterator](): AsyncGenerator<Interrupt, never> {
    return this.interrupts();
  }

  /** Closes the eventfds. The server is not told: `disable` does that, and the end of the connection. */
  close(): void {
    for (const vector of this.enabled) this.#forget(vector);
    for (const fd of this.#masks.splice(0)) fd[Symbol.dispose]();
  }

  /** The same as `close`. */
  [Symbol.dispose](): void {
    this.close();
  }

  #range({ start = 0, count }: VectorRange): { start: number; count: number } {
    const all = count ?? this.count - start;
    if (
      !Number.isInteger(start) || !Number.isInteger(all) || start < 0 || all < 1 ||
      start + all > this.count
    ) {
      const what = all === 1 ? `vector ${start}` : `vectors ${start} to ${start + all - 1}`;
      throw new RangeError(
        this.count === 0
          ? `Cannot use ${this.name}: the device does not have it`
          : `Cannot use ${what} of ${this.name}: the device has 0 to ${this.count - 1}`,
      );
    }
    return { start, count: all };
  }

  #vector(vector: number): Vector {
    const entry = this.#vectors.get(vector);
    if (entry === undefined) {
      throw new RangeError(`Vector ${vector} of ${this.name} is not enabled`);
    }
    return entry;
  }

  #waitedFor(vector: number | undefined): number[] {
    if (vector !== undefined) {
      this.#vector(vector);
      return [vector];
    }
    if (this.#vectors.size === 0) throw new RangeError(`No vector of ${this.name} is enabled`);
    return this.enabled;
  }

  #take(entry: Vector): void {
    const count = entry.event.take();
    entry.pending += count;
    entry.total += count;
  }

  /** What came of a vector, which is then asked about; undefined if nothing did. */
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

  #forget(vector: number): void {
    this.#vectors.get(vector)?.event[Symbol.dispose]();
    this.#vectors.delete(vector);
  }

  async #set(
    flags: number,
    start: number,
    count: number,
    { fds, data = new Uint8Array() }: { fds?: readonly OwnedFd[]; data?: Uint8Array } = {},
  ): Promise<void> {
    const { index } = this.info;
    const payload = SetIrqsRequest.encode({
      argsz: 20 + data.length,
      flags,
      index,
      start,
      count,
      data,
    });
    await this.#proxy.request(Command.DEVICE_SET_IRQS, payload, {
      doing: () => `${describeFlags(flags)} of ${this.name} from ${start}, ${count} in number`,
      ...(fds && { fds }),
    });
  }

  #timeout(vector: number | undefined, timeoutMs: number): TimeoutError {
    const which = vector === undefined ? "No interrupt" : `No interrupt of vector ${vector}`;
    return new TimeoutError(`${which} of ${this.name} came within ${timeoutMs} ms`);
  }
}

const ACTIONS = {
  mask: IrqSetFlags.ACTION_MASK,
  unmask: IrqSetFlags.ACTION_UNMASK,
  trigger: IrqSetFlags.ACTION_TRIGGER,
} as const;

function describeFlags(flags: number): string {
  if ((flags & IrqSetFlags.ACTION_MASK) !== 0) return "mask vectors";
  if ((flags & IrqSetFlags.ACTION_UNMASK) !== 0) return "unmask vectors";
  return (flags & IrqSetFlags.DATA_EVENTFD) !== 0 ? "set the eventfds" : "trigger vectors";
}

function sequence(first: number, count: number): number[] {
  return Array.from({ length: count }, (_, i) => first + i);
}
