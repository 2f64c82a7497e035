/**
 * The client's interrupts: its eventfds for the device's vectors, and the vectors that the client
 * has masked (specification: "VFIO_USER_DEVICE_SET_IRQS").
 *
 * An index serves what its flags say: MASK and UNMASK with MASKABLE, eventfds with EVENTFD.
 *
 * A descriptor is an eventfd, or a pipe, which gets 8 bytes for each interrupt: a 1, little-endian.
 *
 * @module
 */

import { BudgetShare, type Purse, signalDescriptors } from "../../ffi/budget.ts";
import { EINVAL, SystemError } from "../../ffi/errno.ts";
import { closeAll, type OwnedFd } from "../../ffi/fd.ts";
import { PeerEvent } from "../../ffi/peer_event.ts";
import { IrqFlags, IrqSetFlags, PciIrq, type SetIrqsRequest } from "../wire/irq.ts";
import { DeviceError, type DeviceIrqs, type ServedIrq } from "./served_device.ts";
import { IrqInput, Pace } from "./irq_input.ts";

const { DATA_NONE, DATA_BOOL, DATA_EVENTFD } = IrqSetFlags;
const { ACTION_MASK, ACTION_UNMASK, ACTION_TRIGGER } = IrqSetFlags;

/** Hears when the client masks or unmasks a vector. */
export type MaskReport = (index: number, vector: number, isMasked: boolean) => void;

/** One vector, as far as the client has set it up. */
class Vector {
  readonly #isAutomasked: boolean;
  readonly #pace: Pace;
  readonly #report: (isMasked: boolean) => void;
  #trigger: PeerEvent | undefined;
  #maskOn: IrqInput | undefined;
  #unmaskOn: IrqInput | undefined;
  #isMasked = false;
  #isReported = false; // as masked
  #isPending = false;
  #level = false;

  constructor(isAutomasked: boolean, pace: Pace, report: (isMasked: boolean) => void) {
    this.#isAutomasked = isAutomasked;
    this.#pace = pace;
    this.#report = report;
  }

  get isEnabled(): boolean {
    return this.#trigger !== undefined;
  }

  /** Sets the event to signal; undefined disables the vector. */
  setTrigger(event: PeerEvent | undefined): void {
    this.#trigger?.[Symbol.dispose]();
    this.#trigger = event;
    if (event === undefined) {
      this.#isMasked = this.#isPending = false;
      this.#tell(false);
    } else if (this.#level && !this.#isMasked) this.#fire();
  }

  /** Sets what masks it when it is signalled. */
  setMask(event: PeerEvent | undefined): void {
    this.#maskOn?.[Symbol.dispose]();
    this.#maskOn = event && new IrqInput(event, this.#pace, () => this.mask());
  }

  /** Sets what unmasks it when it is signalled. */
  setUnmask(event: PeerEvent | undefined): void {
    this.#unmaskOn?.[Symbol.dispose]();
    this.#unmaskOn = event && new IrqInput(event, this.#pace, () => this.unmask());
  }

  /** Fires, now or when the vector is unmasked; false if the client has set up no eventfd. */
  raise(): boolean {
    if (!this.isEnabled) return false;
    if (!this.#isMasked) return this.#fire();
    this.#isPending = true;
    return true;
  }

  set level(isUp: boolean) {
    const isRising = isUp && !this.#level;
    this.#level = isUp;
    if (isRising && !this.#isMasked) this.#fire();
  }

  mask(): void {
    this.#isMasked = true;
    this.#tell(true);
  }

  unmask(): void {
    this.#isMasked = false;
    if (this.#isPending || this.#level) this.#fire();
    this.#tell(false);
  }

  /** Reports a change that is the client's. */
  #tell(isMasked: boolean): void {
    if (isMasked === this.#isReported) return;
    this.#isReported = isMasked;
    this.#report(isMasked);
  }

  /** Reports once more that the client has masked it, if that is so. */
  repeat(): void {
    if (this.#isReported) this.#report(true);
  }

  /** Forgets all that the client has set up. The level is the device's. */
  reset(): void {
    this.setTrigger(undefined);
    this.setMask(undefined);
    this.setUnmask(undefined);
  }

  #fire(): boolean {
    this.#isPending = false;
    if (this.#trigger === undefined) return false;
    if (!this.#trigger.signal()) { // a pipe whose other end is closed
      this.setTrigger(undefined);
      return false;
    }
    if (this.#isAutomasked) this.#isMasked = true;
    return true;
  }
}

/** The interrupts of one client. */
export class ClientIrqs implements DeviceIrqs {
  readonly #irqs: readonly ServedIrq[];
  // by index and vector; vectors that were never used are absent
  readonly #vectors: (Vector | undefined)[][];
  readonly #pace = new Pace();
  readonly #purse = new BudgetShare(signalDescriptors);
  readonly #report: MaskReport;
  #isClosed = false;

  /** Interrupts of which nothing is set up. */
  constructor(irqs: readonly ServedIrq[], report: MaskReport = () => {}) {
    this.#irqs = irqs;
    this.#report = report;
    this.#vectors = irqs.map(() => []);
  }

  /** Reports the vectors that the client has masked once more, for a new version of the device. */
  repeatMasks(): void {
    for (const vector of this.#vectors.flat()) vector?.repeat();
  }

  /** As {@linkcode DeviceIrqs.raise}. */
  raise(index: number, vector: number): boolean {
    return this.#vector(index, vector).raise();
  }

  /** As {@linkcode DeviceIrqs.setLevel}. */
  setLevel(isUp: boolean, index: number = PciIrq.INTX): void {
    this.#vector(index, 0).level = isUp;
  }

  /** As {@linkcode DeviceIrqs.isEnabled}. */
  isEnabled(index: number, vector: number): boolean {
    return this.#vectors[index]?.[vector]?.isEnabled ?? false;
  }

  /**
   * DEVICE_SET_IRQS. With eventfds, there is one for each vector, or none, which disables them.
   *
   * @param fds what came with it; taken over
   * @throws {DeviceError} EINVAL; ENOSPC if the process keeps as many descriptors as it may
   */
  set(request: SetIrqsRequest, fds: OwnedFd[]): void {
    const { flags, index, start, count, data } = request;
    const events: PeerEvent[] = [];
    try {
      this.#check(request, fds);
      const use = (flags & ACTION_TRIGGER) !== 0 ? "signal" : "listen";
      for (const fd of fds) events.push(adopt(fd, use, this.#purse));
    } catch (error) {
      for (const event of events) event[Symbol.dispose]();
      closeAll(fds);
      throw error;
    }
    if (flags === (DATA_NONE | ACTION_TRIGGER) && start === 0 && count === 0) {
      return this.#resetIndex(index);
    }
    for (let i = 0; i < count; i++) {
      const vector = this.#vector(index, start + i);
      if ((flags & DATA_EVENTFD) !== 0) setEvent(vector, flags, events[i]);
      else if ((flags & DATA_BOOL) === 0 || data[i] !== 0) act(vector, flags);
    }
  }

  /** Closes every eventfd: the client is gone. */
  close(): void {
    this.#isClosed = true;
    for (const index of this.#irqs.keys()) this.#resetIndex(index);
  }

  #check({ flags, index, start, count }: SetIrqsRequest, fds: readonly OwnedFd[]): void {
    const irq = this.#irqs[index];
    if (irq === undefined) throw new DeviceError(EINVAL, `there is no IRQ index ${index}`);
    if (start >= irq.count || start + count > irq.count) {
      throw new DeviceError(EINVAL, `the index has ${irq.count} vectors`);
    }
    if ((flags & (ACTION_MASK | ACTION_UNMASK)) !== 0 && (irq.flags & IrqFlags.MASKABLE) === 0) {
      throw new DeviceError(EINVAL, `IRQ index ${index} is not MASKABLE`);
    }
    const takesFds = (flags & DATA_EVENTFD) !== 0;
    if (takesFds && (irq.flags & IrqFlags.EVENTFD) === 0) {
      throw new DeviceError(EINVAL, `IRQ index ${index} takes no eventfds`);
    }
    if (fds.length > 0 && !(takesFds && fds.length === count)) {
      throw new DeviceError(EINVAL, `${fds.length} file descriptors came`);
    }
  }

  #resetIndex(index: number): void {
    for (const vector of this.#vectors[index]!) vector?.reset();
  }

  #vector(index: number, vector: number): Vector {
    const irq = this.#irqs[index];
    if (irq === undefined || !Number.isInteger(vector) || vector < 0 || vector >= irq.count) {
      throw new RangeError(`The device has no vector ${vector} of IRQ index ${index}`);
    }
    const isAutomasked = (irq.flags & IrqFlags.AUTOMASKED) !== 0;
    return this.#vectors[index]![vector] ??= new Vector(isAutomasked, this.#pace, (isMasked) => {
      if (!this.#isClosed) this.#report(index, vector, isMasked);
    });
  }
}

/** @throws {DeviceError} EINVAL with the reason, if a descriptor is not good for that; ENOSPC */
function adopt(fd: OwnedFd, use: "signal" | "listen", purse: Purse): PeerEvent {
  try {
    return PeerEvent.adopt(fd, use, purse);
  } catch (error) {
    if (error instanceof SystemError) throw new DeviceError(error.errno, error.message);
    if (!(error instanceof TypeError)) throw error;
    throw new DeviceError(
      EINVAL,
      `Cannot use the client's descriptor for interrupts: ${error.message}`,
    );
  }
}

function setEvent(vector: Vector, flags: number, event: PeerEvent | undefined): void {
  if ((flags & ACTION_TRIGGER) !== 0) vector.setTrigger(event);
  else if ((flags & ACTION_MASK) !== 0) vector.setMask(event);
  else vector.setUnmask(event);
}

function act(vector: Vector, flags: number): void {
  if ((flags & ACTION_TRIGGER) !== 0) vector.raise();
  else if ((flags & ACTION_UNMASK) !== 0) vector.unmask();
  else vector.mask();
}
