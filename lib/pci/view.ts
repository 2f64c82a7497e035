/**
 * Reads of a configuration space that cannot fail.
 *
 * @module
 */

/**
 * A little-endian view of a configuration space. What lies past its end reads as zero, and is
 * remembered. A hostile or careless device may let a structure run over the edge: it is decoded as
 * far as it is there.
 */
export class ConfigView {
  /** Bytes of the configuration space. */
  readonly size: number;
  /** True if a read since the last reset of this flag went past the end. */
  overrun = false;
  readonly #bytes: Uint8Array;

  /** A view of `bytes`, which are not copied. */
  constructor(bytes: Uint8Array) {
    this.#bytes = bytes;
    this.size = bytes.length;
  }

  /** The byte at `offset`. */
  u8(offset: number): number {
    const byte = this.#bytes[offset];
    if (byte === undefined) this.overrun = true;
    return byte ?? 0;
  }

  /** The two bytes at `offset`. */
  u16(offset: number): number {
    return this.u8(offset) | this.u8(offset + 1) << 8;
  }

  /** The four bytes at `offset`, unsigned. */
  u32(offset: number): number {
    return (this.u16(offset) | this.u16(offset + 2) << 16) >>> 0;
  }

  /** The unsigned value of `width` bytes at `offset`. */
  uint(offset: number, width: 1 | 2 | 4): number {
    return width === 1 ? this.u8(offset) : width === 2 ? this.u16(offset) : this.u32(offset);
  }

  /** The eight bytes at `offset`. */
  u64(offset: number): bigint {
    return BigInt(this.u32(offset)) | BigInt(this.u32(offset + 4)) << 32n;
  }

  /** A copy of up to `length` bytes at `offset`: fewer if the space ends before. */
  bytes(offset: number, length: number): Uint8Array {
    return this.#bytes.slice(offset, offset + length);
  }
}

/** Bits `low` to `low + width - 1` of `value`, as a number. Width at most 31. */
export function bits(value: number, low: number, width: number): number {
  return (value >>> low) & ((1 << width) - 1);
}

/** Reports whether bit `index` of `value` is set. */
export function bit(value: number, index: number): boolean {
  return bits(value, index, 1) === 1;
}
