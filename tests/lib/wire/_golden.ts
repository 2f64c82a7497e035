/**
 * Helpers of the wire tests: bytes written as hex, and codecs held against them.
 *
 * @module
 */

import { assertEquals } from "@std/assert";
import type { Codec } from "../../../lib/wire/mod.ts";

/** The bytes of hex digits; anything else in the text is for the eye. */
export function hex(text: string): Uint8Array {
  return new Uint8Array((text.match(/[0-9a-f]{2}/g) ?? []).map((pair) => parseInt(pair, 16)));
}

/** The bytes of a text. */
export function utf8(text: string): Uint8Array {
  return new TextEncoder().encode(text);
}

/** Bytes one after the other. */
export function concat(...parts: Uint8Array[]): Uint8Array {
  return new Uint8Array(parts.flatMap((part) => [...part]));
}

/** Fails unless the value is encoded as these bytes and these bytes are decoded as the value. */
export function assertGolden<T>(codec: Omit<Codec<T>, "form">, value: T, wire: string): void {
  assertEquals(codec.encode(value), hex(wire), `${codec.name}, encoded`);
  assertEquals(codec.decode(hex(wire)), value, `${codec.name}, decoded`);
}
