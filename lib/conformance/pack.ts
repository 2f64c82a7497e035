/**
 * Bytes of messages, made of integers without any judgement.
 *
 * @module
 */

import { joined } from "../base/bytes.ts";

const WIDTHS = { u8: 1, u16: 2, u32: 4, u64: 8 } as const;

/**
 * Integers as little-endian bytes, one behind the other.
 *
 * @param form the width of each, separated by spaces: "u32 u32 u64"
 */
export function pack(form: string, ...values: (number | bigint)[]): Uint8Array {
  const widths = form.split(" ").map((word) => WIDTHS[word as keyof typeof WIDTHS]);
  const bytes = new Uint8Array(widths.reduce((sum, width) => sum + width, 0));
  let at = 0;
  for (const [i, width] of widths.entries()) {
    let value = BigInt.asUintN(width * 8, BigInt(values[i]!));
    for (let byte = 0; byte < width; byte++, value >>= 8n) bytes[at++] = Number(value & 0xffn);
  }
  return bytes;
}

/** Pieces as one array of bytes. */
export function join(...parts: readonly Uint8Array[]): Uint8Array {
  return joined(parts);
}

/** Reads 32 bits at a place; 0 behind the end. */
export function u32At(bytes: Uint8Array, at: number): number {
  return Number(uintAt(bytes, at, 4));
}

/** Reads 64 bits at a place; 0 behind the end. */
export function u64At(bytes: Uint8Array, at: number): bigint {
  return uintAt(bytes, at, 8);
}

function uintAt(bytes: Uint8Array, at: number, width: number): bigint {
  let value = 0n;
  for (let i = width - 1; i >= 0; i--) value = value << 8n | BigInt(bytes[at + i] ?? 0);
  return value;
}
