/**
 * The features of the NVMe controller: what Set Features and Get Features are about.
 *
 * @module
 */

import { LIMITS } from "./promises.ts";

/** A feature. Its values may be several, told apart by some bits of dword 11. */
interface Feature {
  readonly initial: number | ((select: number) => number);
  /** The bits that are kept. */
  readonly bits: number;
  /** The bits of dword 11 that select a value. */
  readonly select?: number;
  readonly isOfNamespace?: true;
}

/** Ids of features that the controller itself looks at. */
export const FEATURE = {
  ARBITRATION: 0x01,
  TEMPERATURE_THRESHOLD: 0x04,
  WRITE_CACHE: 0x06,
  QUEUES: 0x07,
  EVENTS: 0x0b,
} as const;

/** Bit 20 of dword 11: the lower threshold. */
const UNDER = 0x10_0000;
/** Bits 19:16 of dword 11: a sensor is always the composite one. */
const THRESHOLD_SELECT = UNDER;

const FEATURES: Readonly<Record<number, Feature>> = {
  [FEATURE.ARBITRATION]: { initial: 0, bits: 0xffff_ff07 },
  0x02: { initial: 0, bits: 0xff }, // power management
  [FEATURE.TEMPERATURE_THRESHOLD]: {
    initial: (select) => select === UNDER ? 0 : LIMITS.WCTEMP,
    bits: 0xffff,
    select: THRESHOLD_SELECT,
  },
  0x05: { initial: 0, bits: 0xffff, isOfNamespace: true }, // error recovery
  [FEATURE.WRITE_CACHE]: { initial: 1, bits: 1 },
  [FEATURE.QUEUES]: { initial: 0, bits: 0 }, // the controller has its own number
  0x08: { initial: 0, bits: 0xffff }, // interrupt coalescing: a recommendation
  0x09: { initial: (vector) => vector, bits: 0x1_ffff, select: 0xffff }, // a vector's configuration
  0x0a: { initial: 0, bits: 1 }, // write atomicity
  [FEATURE.EVENTS]: { initial: 0, bits: 0xff },
};

const KEY = 2 ** 32;

function keyOf(id: number, selected: number): number {
  return id * KEY + selected;
}

/** The values of the features. */
export class Features {
  #values = new Map<number, number>(); // those that were set, by keyOf

  /** @param queues pairs of I/O queues */
  constructor(readonly queues: number) {}

  /** True if there is such a feature. */
  has(id: number): boolean {
    return Object.hasOwn(FEATURES, id);
  }

  /** True if it is of a namespace, and not of the controller. */
  isOfNamespace(id: number): boolean {
    return FEATURES[id]?.isOfNamespace === true;
  }

  /** The value of a feature, or its default. */
  get(id: number, dword11 = 0, isDefault = false): number {
    if (id === FEATURE.QUEUES) return (this.queues - 1) * 0x1_0001;
    const { initial, select = 0 } = FEATURES[id]!;
    const selected = (dword11 & select) >>> 0;
    const value = isDefault ? undefined : this.#values.get(keyOf(id, selected));
    return value ?? (typeof initial === "function" ? initial(selected) : initial);
  }

  /** Sets a feature; what selects it is part of the value. */
  set(id: number, value: number): void {
    const { bits, select = 0 } = FEATURES[id]!;
    this.#values.set(keyOf(id, (value & select) >>> 0), (value & bits) >>> 0);
  }

  /** Get Features, of supported capabilities: each can be changed, none be saved. */
  capabilities(id: number): number {
    return 4 | (this.isOfNamespace(id) ? 2 : 0);
  }

  /** True if a temperature, in kelvin, is beyond a threshold. */
  isBeyond(kelvin: number): boolean {
    const [over, under] = [0, UNDER].map((each) => this.get(FEATURE.TEMPERATURE_THRESHOLD, each));
    return kelvin >= over! || kelvin <= under!;
  }

  /** Puts all back to the defaults. */
  clear(): void {
    this.#values.clear();
  }

  /** Plain data. */
  get saved(): [number, number][] {
    return [...this.#values];
  }

  /**
   * Takes plain data, which may be anything.
   *
   * @throws {RangeError} if it is not what was saved
   */
  restore(saved: unknown): void {
    const values = new Map(saved as [number, number][]);
    for (const [key, value] of values) {
      const isGood = Number.isSafeInteger(key) && this.has(Math.floor(key / KEY)) &&
        Number.isInteger(value) && value >= 0 && value < 2 ** 32;
      if (!isGood) throw new RangeError(`The state has a feature ${key} that can't be`);
    }
    this.#values = values;
  }
}
