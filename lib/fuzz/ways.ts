/**
 * Ways to alter an integer: the values at which mistakes are.
 *
 * @module
 */

import type { Random } from "../base/random.ts";
import type { FieldPlace } from "./fields.ts";

/** The value of a field, in two halves: BigInts would cost more than all the rest. */
interface Halves {
  low: number;
  high: number;
}

/** Makes the new value of the old one, in place. */
type Way = (value: Halves, random: Random, width: number) => void;

const ALL = 0xffff_ffff;

/** The ways by name. The table of coverage shows these names. */
const WAYS: Readonly<Record<string, Way>> = {
  "0": (value) => set(value, 0),
  "1": (value) => set(value, 1),
  "all bits set": (value) => set(value, ALL, ALL),
  "sign bit": (value, _, width) => sign(value, width, 0),
  "sign bit, less 1": (value, _, width) => sign(value, width, 1),
  "one less": (value) => add(value, -1),
  "one more": (value) => add(value, 1),
  "below the struct": (value, random) => set(value, random.below(33)),
  "1 to 7": (value, random) => set(value, 1 + random.below(7)),
  "odd length": (value, random) => set(value, (random.below(16) << 2) + 1 + random.below(3)),
  "power of two": (value, random, width) => power(value, random, width),
  "power of two, less 1": (value, random, width) => {
    power(value, random, width);
    add(value, -1);
  },
  "32 bits set": (value) => set(value, ALL),
  "bit 32 set": (value) => set(value, value.low, (value.high | 1) >>> 0),
  "page and a byte": (value, random) => set(value, 0x1000 * (1 + random.below(4)) + 1),
  "large": (value, random) => set(value, (1 << 20) + random.below(64) - 32),
  "a bit flipped": (value, random, width) => {
    const bit = random.below(8 * width);
    if (bit < 32) value.low = (value.low ^ 1 << bit) >>> 0;
    else value.high = (value.high ^ 1 << bit - 32) >>> 0;
  },
  "random": (value, random) => set(value, random.below(2 ** 32), random.below(2 ** 32)),
};

/** The names of the ways. */
export const WAY_NAMES: readonly string[] = Object.keys(WAYS);

const halves: Halves = { low: 0, high: 0 };

/** Alters a field in a way; the bytes hold it whole. */
export function alterField(
  view: DataView,
  { at, width }: FieldPlace,
  name: string,
  random: Random,
): void {
  halves.high = 0;
  if (width === 8) {
    halves.low = view.getUint32(at, true);
    halves.high = view.getUint32(at + 4, true);
  } else if (width === 4) halves.low = view.getUint32(at, true);
  else if (width === 2) halves.low = view.getUint16(at, true);
  else halves.low = view.getUint8(at);
  WAYS[name]!(halves, random, width);
  if (width === 8) {
    view.setUint32(at, halves.low, true);
    view.setUint32(at + 4, halves.high, true);
  } else if (width === 4) view.setUint32(at, halves.low, true);
  else if (width === 2) view.setUint16(at, halves.low, true);
  else view.setUint8(at, halves.low);
}

function set(value: Halves, low: number, high = 0): void {
  value.low = low;
  value.high = high;
}

function sign(value: Halves, width: number, less: 0 | 1): void {
  const top = (2 ** (Math.min(width, 4) * 8 - 1)) - less;
  if (width < 8) set(value, top);
  else set(value, less === 0 ? 0 : ALL, top);
}

function add(value: Halves, change: 1 | -1): void {
  const low = value.low + change;
  if (low > ALL) value.high = (value.high + 1) >>> 0;
  if (low < 0) value.high = (value.high - 1) >>> 0;
  value.low = low >>> 0;
}

function power(value: Halves, random: Random, width: number): void {
  const bit = random.below(8 * width);
  if (bit < 32) set(value, (1 << bit) >>> 0);
  else set(value, 0, (1 << bit - 32) >>> 0);
}
