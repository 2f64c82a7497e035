/**
 * Parts of a configuration space that are worth reading, and the pieces in which they are read.
 *
 * @module
 */

/** Bytes of configuration space that PCI Express defines: what is read of a larger region. */
export const MAX_CONFIG_SIZE = 4096;
/**
 * Bytes of one read of configuration space; at its end 4, 2 or 1. Every server takes those, but not
 * 3 bytes.
 */
const CONFIG_PIECE = 8;
/** Part of configuration space that is read or left out as a whole. */
const CONFIG_BLOCK = 256;
/** Extended capabilities begin here. */
const EXTENDED_START = 256;
/** No capability is decoded further than this from its beginning. */
const CAPABILITY_REACH = 64;
/** Config reads in flight together. */
export const CONFIG_PIPELINE = 64;

/**
 * Finds the parts of a configuration space that have content, as the start and end of each. Each
 * part must be read into `config` before the next one is asked for: its capabilities lead there.
 */
export function* usedParts(config: Uint8Array): Generator<readonly [start: number, end: number]> {
  const { buffer, length } = config;
  const view = new DataView(buffer);
  yield [0, Math.min(length, 2 * CONFIG_BLOCK)];
  const read = new Set([0, 1]); // blocks
  const followed = new Set<number>();
  let at = EXTENDED_START;
  while (at >= EXTENDED_START && at + 4 <= length && !followed.has(at)) {
    followed.add(at);
    for (const byte of [at, at + CAPABILITY_REACH - 1]) {
      const block = Math.floor(byte / CONFIG_BLOCK);
      const start = block * CONFIG_BLOCK;
      if (read.has(block) || start >= length) continue;
      read.add(block);
      yield [start, Math.min(length, start + CONFIG_BLOCK)];
    }
    const header = view.getUint32(at, true);
    if (header === 0 || header === 0xffff_ffff) return;
    at = (header >>> 20) & ~3;
  }
}

/**
 * Cuts the bytes from `start` to `end` of configuration space into reads, each aligned to its size.
 * Returns offset and count of each.
 */
export function configPieces(
  start: number,
  end: number,
  maxDataXferSize: number,
): [number, number][] {
  const pieces: [number, number][] = [];
  for (let at = start, count = 0; at < end; at += count) {
    count = CONFIG_PIECE;
    while (count > maxDataXferSize || count > end - at) count /= 2;
    pieces.push([at, count]);
  }
  return pieces;
}
