/**
 * The interrupts of a device that is not on the PCI bus: by IRQ index alone.
 *
 * @module
 */

import type { DeviceIrqs, ServedIrq } from "../server/served_device.ts";
import { IrqFlags } from "../wire/irq.ts";
import {
  type InterruptPin,
  type InterruptVector,
  type ServedInterrupts,
  Vector,
} from "./interrupts.ts";
import { sealed } from "./sealed.ts";

/** One IRQ index of a device that is not on the PCI bus. */
export interface InterruptSpec {
  /** The number of vectors, 0 or more. Default 1. */
  readonly vectors?: number;
  /** True if a client may mask it. Default true. */
  readonly isMaskable?: boolean;
  /** True if it masks itself when it fires, as VFIO has it for level interrupts. Default false. */
  readonly masksItself?: boolean;
}

/** The most vectors that an index may have: as many as MSI-X. */
export const MAX_VECTORS = 2048;

/** The interrupts of one device, for whichever client is connected. */
export class IndexInterrupts implements ServedInterrupts {
  /** By IRQ index, as they are served. */
  readonly served: readonly ServedIrq[];
  /** The levels of the pins: they migrate. */
  readonly contents: readonly Uint8Array[];
  readonly #levels: Uint8Array;
  #irqs: DeviceIrqs | undefined;

  constructor(specs: readonly InterruptSpec[]) {
    this.served = specs.map(({ vectors = 1, isMaskable = true, masksItself = false }) => ({
      flags: IrqFlags.EVENTFD | (isMaskable || masksItself ? IrqFlags.MASKABLE : 0) |
        (masksItself ? IrqFlags.AUTOMASKED : 0),
      count: vectors,
    }));
    this.#levels = new Uint8Array(specs.length);
    this.contents = specs.length === 0 ? [] : [this.#levels];
  }

  /** As `Interrupts.at`. */
  at(index: number, vector = 0): InterruptVector {
    const { count } = this.served[index] ?? { count: 0 };
    if (Number.isInteger(vector) && vector >= 0 && vector < count) {
      return new Vector(this, index, vector, `at(${index}, ${vector})`);
    }
    throw new RangeError(
      `The device has no vector ${vector} of IRQ index ${index}; declare it in interrupts`,
    );
  }

  /** As `Interrupts.pin`. */
  pin(index: number): InterruptPin {
    this.at(index);
    const levels = this.#levels;
    return sealed({
      set: (isUp: boolean) => {
        levels[index] = isUp ? 1 : 0;
        this.#irqs?.setLevel(isUp, index);
      },
      get isUp() {
        return levels[index] === 1;
      },
    }, { path: `irq.pin(${index})` });
  }

  /** There is none. */
  get intx(): never {
    return noPci();
  }

  /** There is none. */
  msi(): never {
    return noPci();
  }

  /** There is none. */
  msix(): never {
    return noPci();
  }

  /** There is none. */
  get error(): never {
    return noPci();
  }

  /** There is none. */
  get request(): never {
    return noPci();
  }

  /** From here on they go to this client. */
  connect(irqs: DeviceIrqs): void {
    this.#irqs = irqs;
    this.refresh();
  }

  /** They go nowhere. */
  disconnect(): void {
    this.#irqs = undefined;
  }

  /** The pins go down. */
  reset(): void {
    this.#levels.fill(0);
    this.refresh();
  }

  /** State was restored: shows the levels. */
  refresh(): void {
    for (const [index, level] of this.#levels.entries()) {
      if (this.served[index]!.count > 0) this.#irqs?.setLevel(level === 1, index);
    }
  }

  /** Fires a vector. */
  raise(index: number, vector: number): boolean {
    return this.#irqs?.raise(index, vector) ?? false;
  }

  /** Tells if a client has set a vector up. */
  isEnabled(index: number, vector: number): boolean {
    return this.#irqs?.isEnabled(index, vector) ?? false;
  }
}

function noPci(): never {
  throw new RangeError("The device is not on the PCI bus; use irq.at(index) and irq.pin(index)");
}
