/**
 * What the regions of a defined device are: served regions that know their base address register, and what of them migrates.
 *
 * @module
 */

import type { ServedRegion } from "../server/device.ts";

/** What the base address register says of a region. */
export interface BarKind {
  /** I/O ports in place of memory. Default false. */
  readonly io?: boolean;
  /** The register is 64 bits wide, and takes the place of two. Default false. */
  readonly is64Bit?: boolean;
  /** Reading has no side effects. Default false. */
  readonly prefetchable?: boolean;
}

/** A region of a defined device. `registers`, `memory`, `callbacks` and `overlay` make them. */
export interface DeviceRegion extends ServedRegion {
  /** What its base address register says. */
  readonly bar: BarKind;
  /** Bytes in which all of its state is: they migrate. They are of the same lengths always. Undefined if nobody here knows its state. */
  readonly contents?: readonly Uint8Array[];
  /** Puts back what a reset puts back. The reset waits for the promise, if there is one. */
  reset?(): void | Promise<void>;
  /** Frees what it holds. */
  close?(): void;
}

/** Resets regions. The promise, if there is one, is settled when those have ended that take their time. */
export function resetAll(regions: readonly DeviceRegion[]): void | Promise<void> {
  const late = regions.map((each) => each.reset?.()).filter((each) => each instanceof Promise);
  if (late.length > 0) return Promise.all(late).then(() => {});
}

/** The least that a BAR of memory can be. */
const MIN_BAR_SIZE = 16;

/**
 * Bytes of a BAR that has room for `size`: a power of two.
 *
 * @throws {RangeError} if it is no number of bytes
 */
export function barSize(size: number, least = MIN_BAR_SIZE): number {
  if (!Number.isSafeInteger(size) || size < 1) {
    throw new RangeError(`A region can't have ${size} bytes: it takes a whole number from 1 on`);
  }
  return Math.max(least, 2 ** Math.ceil(Math.log2(size)));
}

/**
 * The part of {@linkcode BarKind} of some options.
 *
 * @throws {RangeError} if there is no such base address register
 */
export function barKind({ io, is64Bit, prefetchable }: BarKind): BarKind {
  if (io && (is64Bit || prefetchable)) {
    throw new RangeError("A region of I/O ports can be neither 64 bits wide nor prefetchable");
  }
  return {
    ...(io && { io }),
    ...(is64Bit && { is64Bit }),
    ...(prefetchable && { prefetchable }),
  };
}
