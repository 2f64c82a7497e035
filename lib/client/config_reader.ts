/**
 * Configuration space, read in as few messages as the server takes.
 *
 * @module
 */

import { RemoteError } from "../base/errors.ts";
import type { Negotiated, WaitOptions } from "./info.ts";

/** Bytes of configuration space that PCI Express defines: what is read of a larger region. */
export const MAX_CONFIG_SIZE = 4096;
/**
 * Bytes of one read of any server; at its end 4, 2 or 1. Most servers take those, but not 3 bytes.
 */
const CONFIG_PIECE = 8;
/** Bytes of one read of a server that refuses those: the widest that hardware does. */
const NARROW_PIECE = 4;
/** Servers that split a read do so by 4 bytes, and QEMU's ends itself on a rest of 3. */
const SPLIT = 4;
/** The minor version from which on a server takes a longer read; see docs/peers.md. */
const LONG_READS_MINOR = 1;
/** Part of configuration space that is read or left out as a whole. */
const CONFIG_BLOCK = 256;
/** Extended capabilities begin here. */
const EXTENDED_START = 256;
/** Capabilities are decoded no further than this from their beginning, but for those of lists. */
const CAPABILITY_REACH = 64;
/** Config reads in flight together. */
const CONFIG_PIPELINE = 64;

/** The parts of a device that a {@linkcode ConfigReader} is made of. */
export interface ConfigHost {
  /** The limits that both ends agreed on. */
  readonly negotiated: Negotiated;
  /** Reads bytes of the space with one message, as `Device.readRegion`. */
  read(at: number, count: number, options: WaitOptions): Promise<Uint8Array>;
  /** The same of a server that may answer fewer bytes. */
  readSome(at: number, count: number, options: WaitOptions): Promise<Uint8Array>;
}

/**
 * Reads the configuration space of one device. Nothing of its content is kept.
 *
 * A server of version 0.1 or later is asked for all at once: libvfio-user, and so QEMU and SPDK,
 * take that. A server that refuses it, or answers less, is asked in pieces from then on. So are
 * servers of version 0.0, of which some end at a read of more than 8 bytes. The pieces have 8
 * bytes, or 4 if the server refuses those.
 */
export class ConfigReader {
  readonly #host: ConfigHost;
  #takesLong: boolean;
  #piece = CONFIG_PIECE;

  /** Sends nothing by itself. */
  constructor(host: ConfigHost) {
    this.#host = host;
    this.#takesLong = host.negotiated.minor >= LONG_READS_MINOR;
  }

  /**
   * Reads `length` bytes from the start of the space.
   *
   * @param sparse true if blocks without content may be left out; those are 0
   * @throws {RemoteError} if the server refuses
   */
  async read(length: number, sparse: boolean, options: WaitOptions): Promise<Uint8Array> {
    const config = new Uint8Array(length);
    const whole = length - length % SPLIT;
    const bytes = await this.readLong(0, whole, options);
    if (bytes !== undefined) {
      config.set(bytes);
      await this.#readPieces(config, whole, length, options);
      return config;
    }
    const parts = sparse ? usedParts(config) : [[0, length] as const];
    for (const [start, end] of parts) await this.#readPieces(config, start, end, options);
    return config;
  }

  /**
   * Reads the bytes from `start` to `end`, multiples of 4, with as few messages as limits allow.
   *
   * @returns undefined if the server does not take such reads
   */
  async readLong(
    start: number,
    end: number,
    options: WaitOptions,
  ): Promise<Uint8Array | undefined> {
    const { maxDataXferSize } = this.#host.negotiated;
    const most = maxDataXferSize - maxDataXferSize % SPLIT;
    if (!this.#takesLong || most <= CONFIG_PIECE || end - start <= CONFIG_PIECE) return undefined;
    const bytes = new Uint8Array(end - start);
    for (let at = start; at < end; at += most) {
      const part = await this.#readAtOnce(at, Math.min(most, end - at), options);
      if (part === undefined) return undefined;
      bytes.set(part, at - start);
    }
    return bytes;
  }

  /** Reads with one message. A server that does not take it is not asked again. */
  async #readAtOnce(
    at: number,
    count: number,
    options: WaitOptions,
  ): Promise<Uint8Array | undefined> {
    try {
      const bytes = await this.#host.readSome(at, count, options);
      if (bytes.length === count) return bytes;
    } catch (error) {
      if (!(error instanceof RemoteError)) throw error;
    }
    this.#takesLong = false;
    return undefined;
  }

  /** Reads the bytes from `start` to `end` into `config`, each piece with a message. */
  async #readPieces(
    config: Uint8Array,
    start: number,
    end: number,
    options: WaitOptions,
  ): Promise<void> {
    const readPiece = async ([at, count]: [number, number]) => {
      config.set(await this.#host.read(at, count, options), at);
    };
    const most = Math.min(this.#piece, this.#host.negotiated.maxDataXferSize);
    const pieces = configPieces(start, end, most);
    try {
      for (let i = 0; i < pieces.length; i += CONFIG_PIPELINE) {
        await Promise.all(pieces.slice(i, i + CONFIG_PIPELINE).map(readPiece));
      }
    } catch (error) {
      if (!(error instanceof RemoteError) || most <= NARROW_PIECE) throw error;
      this.#piece = NARROW_PIECE;
      try {
        await this.#readPieces(config, start, end, options);
      } catch (other) {
        throw other instanceof RemoteError ? error : other; // the width was not the reason
      }
    }
  }
}

/**
 * Finds the parts of a configuration space that have content, as the start and end of each. Each
 * part must be read into `config` before the next one is asked for: its capabilities lead there.
 */
function* usedParts(config: Uint8Array): Generator<readonly [start: number, end: number]> {
  const { buffer, length } = config;
  const view = new DataView(buffer);
  yield [0, Math.min(length, 2 * CONFIG_BLOCK)];
  const read = new Set([0, 1]); // blocks
  const followed = new Set<number>();
  let at = EXTENDED_START;
  while (at >= EXTENDED_START && at + 4 <= length && !followed.has(at)) {
    followed.add(at);
    let end = at + CAPABILITY_REACH;
    for (let block = Math.floor(at / CONFIG_BLOCK); block * CONFIG_BLOCK < end; block++) {
      const start = block * CONFIG_BLOCK;
      if (start >= length) break;
      if (!read.has(block)) {
        read.add(block);
        yield [start, Math.min(length, start + CONFIG_BLOCK)];
      }
      // Its words, which say how long its list is, may be in the next block.
      if (at + 8 <= start + CONFIG_BLOCK && at + 8 <= length) end = at + reachOf(view, at);
    }
    const header = view.getUint32(at, true);
    if (header === 0 || header === 0xffff_ffff) return;
    at = (header >>> 20) & ~3;
  }
}

/** Bytes of a capability that are decoded: of one with a list its words tell. */
function reachOf(view: DataView, at: number): number {
  const id = view.getUint16(at, true);
  const list = LISTS[id]?.(view.getUint32(at + 4, true)) ?? 0;
  return Math.max(CAPABILITY_REACH, list);
}

/** Bytes of extended capabilities with lists, by their id and second word. */
const LISTS: Readonly<Record<number, (word: number) => number>> = {
  0x02: virtualChannels,
  0x05: (word) => 0x10 + 0x10 * (word >>> 8 & 0xff), // links of a root complex
  0x08: virtualChannels,
  0x09: virtualChannels,
  0x23: (word) => word >>> 20, // of a vendor, which says its length
  0x30: () => Infinity, // streams of encryption, whose words say the length of each
};

function virtualChannels(word: number): number {
  return 0x10 + 0x0c * ((word & 7) + 1);
}

/**
 * Cuts the bytes from `start` to `end` of configuration space into reads, each aligned to its size.
 * Returns offset and count of each.
 */
function configPieces(
  start: number,
  end: number,
  most: number,
): [number, number][] {
  const pieces: [number, number][] = [];
  for (let at = start, count = 0; at < end; at += count) {
    count = CONFIG_PIECE;
    while (count > most || count > end - at) count /= 2;
    pieces.push([at, count]);
  }
  return pieces;
}
