/**
 * Interrupts of a device, as its client sees them: eventfds that the server signals (specification:
 * "VFIO_USER_DEVICE_SET_IRQS").
 *
 * @module
 */

import { EventFd } from "../../ffi/event.ts";
import type { OwnedFd } from "../../ffi/fd.ts";
import type { IrqInfo, WaitOptions } from "./info.ts";
import {
  type AsyncIrqWaitOptions,
  EnabledVectors,
  type Interrupt,
  type IrqWaitOptions,
} from "./irq_vectors.ts";
import { Queue } from "../base/queue.ts";
import { isUnanswered, TAKE_BACK_TIMEOUT_MS } from "./take_back.ts";
import type { VfioProxy } from "../transport/proxy.ts";
import { Command } from "../wire/command.ts";
import { IrqFlags, irqName, IrqSetFlags, SetIrqsRequest, vectorsName } from "../wire/irq.ts";

/** Vectors of an IRQ index. */
export interface VectorRange {
  /** The first; default 0. */
  start?: number;
  /** Number of vectors; default all from `start` on. */
  count?: number;
}

/**
 * The vectors of one IRQ index. `Device.irqs` returns it.
 *
 * The kernel counts signals, and none is lost: signals between two waits are in the next one's
 * count. Several callers may wait for a vector at one time. Each signal is counted for one of them,
 * and the others go on waiting.
 *
 * @example
 * ```ts
 * import { connect } from "./connect.ts";
 * import { DemoRegister } from "../devices/demo.ts";
 * import { DemoDevice } from "../devices/demo_device.ts";
 * import { Server } from "../server/server.ts";
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
  /** Facts about the index. */
  readonly info: IrqInfo;
  /** "intx", "msi", "msix", "err", "req", or "irq 5". */
  readonly name: string;
  readonly #proxy: VfioProxy;
  readonly #vectors: EnabledVectors;
  readonly #masks: OwnedFd[] = [];
  readonly #changes = new Queue(); // of eventfds: a change that fails is taken back
  readonly #masked = new Set<number>(); // by this client
  readonly #unmaskedAt = new Map<number, bigint>(); // signals before the last unmasking

  /** @ignore made by `Device.irqs` */
  constructor(info: IrqInfo, proxy: VfioProxy, name: string = irqName(info.index)) {
    this.info = info;
    this.name = name;
    this.#proxy = proxy;
    this.#vectors = new EnabledVectors(this.name, proxy);
  }

  /** Number of vectors that the device has. */
  get count(): number {
    return this.info.count;
  }

  /** The vectors that are enabled. */
  get enabled(): number[] {
    return this.#vectors.numbers;
  }

  /** The vectors that this client has masked. */
  get masked(): number[] {
    return [...this.#masked].sort((a, b) => a - b);
  }

  /** Tells whether a vector of an AUTOMASKED index has fired since it was unmasked. */
  isSelfMasked(vector: number): boolean {
    if ((this.info.flags & IrqFlags.AUTOMASKED) === 0 || !this.#vectors.has(vector)) return false;
    return this.total(vector) > (this.#unmaskedAt.get(vector) ?? 0n);
  }

  /** Signals of a vector since it was enabled, whether asked about or not. */
  total(vector: number): bigint {
    return this.#vectors.total(vector);
  }

  /**
   * Makes the device signal these vectors. Vectors that are enabled already keep their count.
   *
   * One message carries as many eventfds as the server takes. (QEMU's server has one table for all
   * indexes: there, MSI-X that is enabled takes INTx's place.)
   *
   * If this fails when the server may have some of the new eventfds, the server is asked to let go
   * of them, within another second. A later call that sets eventfds waits for that: `enable`,
   * `disable` and `maskBy` of one index are done one after another.
   *
   * @throws {RangeError} if the device does not have them
   * @throws {RemoteError} if the server refuses; the eventfds that this call made are closed,
   *   although the server may have some of them
   */
  async enable(range: VectorRange = {}, options: WaitOptions = {}): Promise<void> {
    const { start, count } = this.#range(range);
    const doing = `enable vectors of ${this.name}`;
    await this.#changes.run(doing, options, () => this.#enable(start, count, options));
  }

  async #enable(start: number, count: number, options: WaitOptions): Promise<void> {
    const fresh: number[] = [];
    const chunk = Math.max(1, this.#proxy.peerMaxFds);
    let first = start;
    try {
      for (; first < start + count; first += chunk) {
        const vectors = sequence(first, Math.min(chunk, start + count - first));
        for (const vector of vectors) {
          if (this.#vectors.has(vector)) continue;
          fresh.push(vector);
          this.#vectors.add(vector);
        }
        const fds = vectors.map((vector) => this.#vectors.handle(vector));
        await this.#set(
          IrqSetFlags.DATA_EVENTFD | IrqSetFlags.ACTION_TRIGGER,
          first,
          vectors.length,
          { ...options, fds },
        );
      }
    } catch (error) {
      for (const vector of fresh) this.#forget(vector);
      const end = isUnanswered(error, options.signal) ? first + chunk : first;
      await this.#takeBack(fresh.filter((vector) => vector < end));
      throw error;
    }
  }

  /** Asks the server to let go of eventfds that are closed here already. */
  async #takeBack(
    vectors: readonly number[],
    action: keyof typeof ACTIONS = "trigger",
  ): Promise<void> {
    const flags = IrqSetFlags.DATA_EVENTFD | ACTIONS[action];
    const wait = { timeoutMs: TAKE_BACK_TIMEOUT_MS };
    try {
      for (const { start, count } of runs(vectors)) await this.#set(flags, start, count, wait);
    } catch { /* what `enable` failed with counts more */ }
  }

  /**
   * Stops the device from signalling these vectors; without a range, tears down all of the index.
   *
   * @throws {RangeError} if the device does not have them
   * @throws {RemoteError} if the server refuses; they are closed here all the same
   */
  async disable(range?: VectorRange, options: WaitOptions = {}): Promise<void> {
    const { start, count } = range === undefined ? { start: 0, count: 0 } : this.#range(range);
    const kind = range === undefined ? IrqSetFlags.DATA_NONE : IrqSetFlags.DATA_EVENTFD;
    await this.#changes.run(`disable vectors of ${this.name}`, options, async () => {
      try {
        await this.#set(kind | IrqSetFlags.ACTION_TRIGGER, start, count, options);
      } finally {
        for (const vector of this.enabled) {
          if (range === undefined || (vector >= start && vector < start + count)) {
            this.#forget(vector);
          }
        }
      }
    });
  }

  /** Masks vectors: a masked one that fires is pending until it is unmasked. Throws as `enable`. */
  async mask(vector: number, count = 1, options: WaitOptions = {}): Promise<void> {
    this.#range({ start: vector, count });
    await this.#set(IrqSetFlags.DATA_NONE | IrqSetFlags.ACTION_MASK, vector, count, options);
    this.#noteMasks("mask", sequence(vector, count));
  }

  /**
   * Unmasks vectors. INTx fires again if its level is up; flag AUTOMASKED says that it needs this
   * after each interrupt. Throws as `enable`.
   */
  async unmask(vector: number, count = 1, options: WaitOptions = {}): Promise<void> {
    this.#range({ start: vector, count });
    for (const each of sequence(vector, count)) {
      if (this.#vectors.has(each)) this.#unmaskedAt.set(each, this.total(each));
    }
    await this.#set(IrqSetFlags.DATA_NONE | IrqSetFlags.ACTION_UNMASK, vector, count, options);
    this.#noteMasks("unmask", sequence(vector, count));
  }

  /** Makes the server fire vectors, as if the device had. Throws as `enable`. */
  async trigger(vector: number, count = 1, options: WaitOptions = {}): Promise<void> {
    this.#range({ start: vector, count });
    await this.#set(IrqSetFlags.DATA_NONE | IrqSetFlags.ACTION_TRIGGER, vector, count, options);
  }

  /**
   * Masks, unmasks or fires the vectors from `start` on for which `which` is true, in one message.
   * Throws as `enable`.
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
    if (action === "trigger") return;
    this.#noteMasks(action, sequence(start, which.length).filter((_, i) => which[i]));
  }

  /**
   * Passes an eventfd to the server. A signal on the eventfd masks, or unmasks, the vector; KVM
   * does so for INTx.
   *
   * @returns the eventfd, open until the index is closed
   */
  async maskBy(action: "mask" | "unmask", vector: number): Promise<EventFd> {
    this.#range({ start: vector, count: 1 });
    const doing = `pass an eventfd of ${this.name}`;
    return await this.#changes.run(doing, {}, () => this.#maskBy(action, vector));
  }

  async #maskBy(action: "mask" | "unmask", vector: number): Promise<EventFd> {
    const event = new EventFd();
    const fds = [event.handle];
    try {
      await this.#set(IrqSetFlags.DATA_EVENTFD | ACTIONS[action], vector, 1, { fds });
    } catch (error) {
      event.close();
      if (isUnanswered(error, undefined)) await this.#takeBack([vector], action);
      throw error;
    }
    this.#masks.push(event.handle);
    return event;
  }

  /**
   * Blocks until an interrupt comes, serving the device's commands meanwhile. An interrupt that
   * came before counts.
   *
   * @param vector which; any that is enabled if left out
   * @throws {TimeoutError} if none comes in time
   * @throws {ConnectionError} if the connection ends
   */
  wait(vector?: number, options: IrqWaitOptions = {}): Interrupt {
    return this.#vectors.wait(vector, options);
  }

  /**
   * As {@linkcode IrqIndex.wait}, without blocking.
   *
   * @throws {RangeError} also if what is waited for is disabled, or closed, meanwhile
   */
  waitAsync(vector?: number, options: AsyncIrqWaitOptions = {}): Promise<Interrupt> {
    return this.#vectors.waitAsync(vector, options);
  }

  /**
   * Interrupts of all vectors as they come, until the signal is aborted (with its reason) or the
   * connection ends (with an error).
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

  /** Closes the eventfds. The server lets go of them by `disable`, or when the connection ends. */
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
      throw new RangeError(
        this.count === 0
          ? `Cannot use ${this.name}: the device does not have it`
          : `Cannot use ${all > 0 ? vectorsName(this.name, start, all) : `${all} vectors`}: ` +
            `the device has ${vectorsName(this.name, 0, this.count)}`,
      );
    }
    return { start, count: all };
  }

  #noteMasks(action: "mask" | "unmask", vectors: readonly number[]): void {
    for (const vector of vectors) {
      if (action === "mask") this.#masked.add(vector);
      else this.#masked.delete(vector);
    }
  }

  #forget(vector: number): void {
    this.#unmaskedAt.delete(vector);
    this.#vectors.remove(vector);
  }

  async #set(
    flags: number,
    start: number,
    count: number,
    { fds, data = new Uint8Array(), ...wait }: SetOptions = {},
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
      ...wait,
      ...(fds && { fds }),
    });
  }
}

/** Descriptors and data of a DEVICE_SET_IRQS, and its limits. */
interface SetOptions extends WaitOptions {
  readonly fds?: readonly OwnedFd[];
  readonly data?: Uint8Array;
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

/** Joins vectors, in rising order, that are next to each other. */
function runs(vectors: readonly number[]): Required<VectorRange>[] {
  const ranges: Required<VectorRange>[] = [];
  for (const vector of vectors) {
    const last = ranges.at(-1);
    if (last !== undefined && last.start + last.count === vector) last.count++;
    else ranges.push({ start: vector, count: 1 });
  }
  return ranges;
}

function sequence(first: number, count: number): number[] {
  return Array.from({ length: count }, (_, i) => first + i);
}
