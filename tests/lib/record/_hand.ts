/**
 * Files of pcapng made by hand, of either byte order.
 *
 * @module
 */

/** Parts of a file: numbers with their bytes, texts and bytes as they are. */
export type Part = [value: number, width: 1 | 2 | 4] | string | Uint8Array | number[];

/** Bytes of parts that follow one another. */
export function bytesOf(parts: readonly Part[], isLittleEndian = true): Uint8Array {
  return Uint8Array.from(parts.flatMap((part) => {
    if (typeof part === "string") return [...new TextEncoder().encode(part)];
    if (part instanceof Uint8Array) return [...part];
    const [value, width] = part as [number, number];
    const bytes = Array.from({ length: width }, (_, i) => (value / 2 ** (8 * i)) & 0xff);
    return isLittleEndian ? bytes : bytes.reverse();
  }));
}

/** A block: its type, what is between the lengths, and the lengths unless they are to lie. */
export function block(
  type: number,
  body: readonly Part[],
  { isLittleEndian = true, size, again }: {
    isLittleEndian?: boolean;
    size?: number;
    again?: number;
  } = {},
): Uint8Array {
  const inner = bytesOf(body, isLittleEndian);
  const length = size ?? inner.length + 12;
  const parts: Part[] = [[type, 4], [length, 4], inner, [again ?? length, 4]];
  return bytesOf(parts, isLittleEndian);
}

/** A section header without options. */
export function section(isLittleEndian = true, major = 1): Uint8Array {
  const body: Part[] = [[0x1a2b3c4d, 4], [major, 2], [0, 2], new Uint8Array(8).fill(0xff)];
  return block(0x0a0d0d0a, body, { isLittleEndian });
}

/** An interface with options. */
export function interfaceBlock(
  linkType: number,
  options: readonly Part[] = [],
  isLittleEndian = true,
): Uint8Array {
  return block(1, [[linkType, 2], [0, 2], [0, 4], ...options], { isLittleEndian });
}

/** The tags of a packet for `vfio_user`, with their padding: big-endian in every file. */
export const TAGS = bytesOf([[12, 2], [12, 2], "vfio_user\0\0\0", [0, 2], [0, 2]], false);

/** A packet on interface 0, with a time of 0x1_0000_0002 units. */
export function packet(
  data: Uint8Array,
  { isLittleEndian = true, options = [], claims = data.length, on = 0 }: {
    isLittleEndian?: boolean;
    options?: readonly Part[];
    claims?: number;
    on?: number;
  } = {},
): Uint8Array {
  const pad = new Uint8Array((4 - data.length % 4) % 4);
  const head: Part[] = [[on, 4], [1, 4], [2, 4], [claims, 4], [data.length, 4]];
  return block(6, [...head, data, pad, ...options], { isLittleEndian });
}

/** Bytes behind one another. */
export function join(...parts: readonly Uint8Array[]): Uint8Array {
  return bytesOf(parts);
}
