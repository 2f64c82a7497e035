/**
 * The form of a register map: places, widths and the meaning of bits.
 *
 * @module
 */

import type { Width } from "../client/info.ts";

/**
 * The access to a register or field. `ro` is read, `rw` read and written, `wo` written, `rc`
 * cleared by a read. A bit written as one is cleared by `w1c`, and set by `w1s`.
 */
export type RegisterAccess = typeof REGISTER_ACCESS[number];

/** All of {@linkcode RegisterAccess}. */
export const REGISTER_ACCESS = ["ro", "rw", "wo", "rc", "w1c", "w1s"] as const;

/** Bits of a register that mean something together. */
export interface RegisterField {
  /** The specification's abbreviation, as "MQES". */
  readonly name: string;
  /** A description in words. */
  readonly description?: string;
  /** The highest of its bits. */
  readonly high: number;
  /** The lowest of its bits. */
  readonly low: number;
  /** The access that it allows. */
  readonly access: RegisterAccess;
  /** The names of its values, where they have some. */
  readonly enum: ReadonlyMap<bigint, string>;
}

/** Registers that repeat. */
export interface RegisterArray {
  /** The number of them. */
  readonly count: number;
  /** Bytes from one to the next. */
  readonly stride: number;
}

/** A register, or an array of registers that are the same. */
export interface Register {
  /** The specification's abbreviation, as "CSTS". */
  readonly name: string;
  /** A description in words. */
  readonly description?: string;
  /**
   * The place from which its offset counts: a region, as "bar0" or "config", or a capability by
   * setpci's name, as "CAP_MSIX".
   */
  readonly region: string;
  /** Bytes from there. */
  readonly offset: number;
  /** Its bytes, and those of every access to it. */
  readonly width: Width;
  /** The access that it allows. */
  readonly access: RegisterAccess;
  /** True if a read changes the device, though the register is not cleared by it. */
  readonly readChanges?: true;
  /** Its value after a reset, where that is fixed. */
  readonly reset?: bigint;
  /** The meaning of its bits, from the lowest to the highest. Bits of no field are reserved. */
  readonly fields: readonly RegisterField[];
  /** If it is one of many: `offset` is that of the first. */
  readonly array?: RegisterArray;
}

/** The registers of one kind of device. */
export interface RegisterMap {
  /** The name of its registers' owner, as "nvme" in `nvme.CSTS`. */
  readonly name: string;
  /** The device that it describes. */
  readonly title?: string;
  /** The registers, in the order of the file. */
  readonly registers: readonly Register[];
}

/**
 * The bits of a field, as a mask.
 *
 * @example
 * ```ts
 * import { fieldMask, loadRegisterMap } from "./mod.ts";
 *
 * const nvme = await loadRegisterMap("nvme");
 * const csts = nvme.registers.find(({ name }) => name === "CSTS")!;
 * const shst = csts.fields.find(({ name }) => name === "SHST")!;
 * if (fieldMask(shst) !== 0b1100n) throw new Error();
 * ```
 */
export function fieldMask({ high, low }: RegisterField): bigint {
  return (1n << BigInt(high + 1)) - (1n << BigInt(low));
}

/** The bits of a field as they are written: "7:4", or "3" if it is one. */
export function bitsText({ high, low }: Pick<RegisterField, "high" | "low">): string {
  return high === low ? String(low) : `${high}:${low}`;
}

/** Bytes of a region that a register has; of an array, those of one of its registers. */
export interface RegisterExtent {
  readonly register: Register;
  /** The first byte. */
  readonly start: number;
  /** The byte behind the last one. */
  readonly end: number;
}

/** The bytes of a register, or of each of an array. */
export function extentsOf(register: Register): RegisterExtent[] {
  const { offset, width, array } = register;
  return Array.from({ length: array?.count ?? 1 }, (_, i) => {
    const start = offset + i * (array?.stride ?? width);
    return { register, start, end: start + width };
  });
}

/** Code units of a name. */
export const MAX_NAME = 64;

/** Makes a name of letters, digits and _, as maps and registers have them. */
export function identifier(text: string): string {
  const word = text.replaceAll(/\W+/g, "_").slice(0, MAX_NAME - 1);
  return /^[A-Za-z_]/.test(word) ? word : `_${word}`;
}

/** Reads `7:4` or `3`. The order of the two is not looked at, nor that the register has them. */
export function readBits(value: unknown): { high: number; low: number } | undefined {
  const match = /^(\d{1,4})(?::(\d{1,4}))?$/.exec(String(value));
  if (match === null) return undefined;
  const high = Number(match[1]);
  return { high, low: match[2] === undefined ? high : Number(match[2]) };
}

/**
 * The bits of fields outside `mask` that a change of the bits in it has to write as 0, because ones
 * would do something. Such bits are cleared or set by writing them.
 */
export function sparedBits({ fields }: Pick<Register, "fields">, mask: bigint): bigint {
  return fields.reduce((spared, field) => {
    const bits = fieldMask(field);
    return (bits & mask) === 0n && /^w1[cs]$/.test(field.access) ? spared | bits : spared;
  }, 0n);
}

/**
 * Reports whether a read of a register changes the device. The map says so, or the register or one
 * of its fields is cleared by a read.
 *
 * @example
 * ```ts
 * import { isChangedByRead, loadRegisterMap } from "./mod.ts";
 *
 * const { registers } = await loadRegisterMap("nvme");
 * if (registers.some(isChangedByRead)) throw new Error();
 * ```
 */
export function isChangedByRead(
  { access, readChanges, fields }: Pick<Register, "access" | "readChanges" | "fields">,
): boolean {
  return readChanges === true || access === "rc" || fields.some((field) => field.access === "rc");
}
