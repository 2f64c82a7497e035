/**
 * Values of registers: which fit, and how messages carry them.
 *
 * @module
 */

import { hex } from "../text/hex.ts";
import type { Message } from "../transport/message.ts";
import { RegionAccessLayout } from "../wire/access.ts";
import type { Width } from "./info.ts";

const HEAD_SIZE = RegionAccessLayout.size;

export function merge(
  old: number | bigint,
  mask: number | bigint,
  value: number | bigint,
  width: Width,
): number | bigint {
  checkValue(value, width);
  const next = (BigInt(old) & ~BigInt(mask)) | (BigInt(value) & BigInt(mask));
  return width === 8 ? next : Number(next);
}

const MAX_VALUE = { 1: 0xff, 2: 0xffff, 4: 0xffff_ffff, 8: 0xffff_ffff_ffff_ffffn } as const;

export function checkValue(value: number | bigint, width: Width): void {
  if (
    value >= 0 && value <= MAX_VALUE[width] &&
    (typeof value === "bigint" || Number.isInteger(value))
  ) return;
  throw new RangeError(
    `${
      typeof value === "bigint" || Number.isInteger(value) ? hex(value) : value
    } is no unsigned value of ${width * 8} bits`,
  );
}

export function bytesOf(value: number | bigint, width: Width): Uint8Array {
  const bytes = new Uint8Array(width);
  setValue(new DataView(bytes.buffer), width, value);
  return bytes;
}

export function setValue(view: DataView, width: Width, value: number | bigint): void {
  if (width === 8) view.setBigUint64(0, BigInt(value), true);
  else if (width === 4) view.setUint32(0, Number(value), true);
  else if (width === 2) view.setUint16(0, Number(value), true);
  else view.setUint8(0, Number(value));
}

/** The value of 1 to 4 bytes that a read reply holds. */
export function numberIn(reply: Message, width: 1 | 2 | 4): number {
  return (reply.uint32(HEAD_SIZE) & MAX_VALUE[width]) >>> 0;
}

export function bigintIn(reply: Message): bigint {
  return BigInt(reply.uint32(HEAD_SIZE)) | BigInt(reply.uint32(HEAD_SIZE + 4)) << 32n;
}
