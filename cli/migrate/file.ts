/**
 * A saved state as a file: a header that names the device, the state, and a trailer with size and
 * checksum. All numbers are little-endian.
 *
 * Header, 32 bytes: "vfu-mig\n", u32 version of the form (1), u32 bytes of the header, u16 vendor,
 * device, subsystem vendor, subsystem, u8 revision, zeros. Trailer, 24 bytes: "vfu-end\n", u64
 * bytes of the state, u32 CRC-32 of header and state, zeros.
 *
 * @module
 */

import { crc32 } from "../../lib/base/crc32.ts";
import { layout, u16, u32, u64, u8 } from "../../lib/wire/layout.ts";
import { nextTurn } from "../../lib/base/turn.ts";
import { openFile } from "../shared/source.ts";
import type { DeviceIdentity } from "./identity.ts";

const HEADER_MAGIC = 0x0a67696d2d756676n; // "vfu-mig\n"
const TRAILER_MAGIC = 0x0a646e652d756676n; // "vfu-end\n"
const FORM_VERSION = 1;

const Header = layout("header of a saved state", 32, {
  magic: u64(0),
  version: u32(8),
  size: u32(12),
  vendor: u16(16),
  device: u16(18),
  subsystemVendor: u16(20),
  subsystem: u16(22),
  revision: u8(24),
});
const Trailer = layout("trailer of a saved state", 24, {
  magic: u64(0),
  size: u64(8),
  crc: u32(16),
});

const BLOCK_SIZE = 1 << 20;
/** Blocks that are read between two turns of the event loop. */
const BLOCKS_A_TURN = 64;

/** The header of a file. */
export interface StateFileInfo {
  readonly identity: DeviceIdentity;
  /** Bytes of the state. */
  readonly size: number;
  /** The checksum. */
  readonly crc: number;
}

/** Puts a state into the form of a file. */
export class StateFileWriter {
  readonly #write: (bytes: Uint8Array) => void;
  readonly #header: Uint8Array;
  #size = 0;
  #crc = 0;

  /** A file of which nothing is written before there is something of the state. */
  constructor(identity: DeviceIdentity, write: (bytes: Uint8Array) => void) {
    this.#write = write;
    const { vendor, device, subsystemVendor, subsystem, revision } = identity;
    this.#header = Header.encode({
      magic: HEADER_MAGIC,
      version: FORM_VERSION,
      size: Header.size,
      vendor,
      device,
      subsystemVendor,
      subsystem,
      revision,
    });
  }

  /** Writes a part of the state. */
  add(bytes: Uint8Array): void {
    if (this.#size === 0) {
      this.#write(this.#header);
      this.#crc = crc32(this.#header);
    }
    this.#write(bytes);
    this.#size += bytes.length;
    this.#crc = crc32(bytes, this.#crc);
  }

  /** Writes the trailer. */
  finish(): { size: number; crc: number } {
    if (this.#size === 0) throw new RangeError("Cannot save the device: its state is empty");
    const [size, crc] = [this.#size, this.#crc];
    this.#write(Trailer.encode({ magic: TRAILER_MAGIC, size: BigInt(size), crc }));
    return { size, crc };
  }
}

/** A file with a saved state, that is whole. */
export class StateFile implements Disposable {
  /** The header of the file. */
  readonly info: StateFileInfo;
  readonly #file: Deno.FsFile;
  readonly #path: string;

  private constructor(file: Deno.FsFile, path: string, info: StateFileInfo) {
    this.#file = file;
    this.#path = path;
    this.info = info;
  }

  /**
   * Opens a file and checks all of it.
   *
   * @throws {Error} if that can't be done, or it is no saved state, cut off or changed; the message
   * names it
   */
  static async open(path: string, signal: AbortSignal): Promise<StateFile> {
    const file = await openFile(path, `use ${path}`, signal);
    try {
      const info = readInfo(file, path);
      const opened = new StateFile(file, path, info);
      let crc = crc32(readPart(file, path, 0, Header.size));
      for await (const bytes of opened.blocks(signal)) crc = crc32(bytes, crc);
      if (crc !== info.crc) {
        throw new Error(`Cannot use ${path}: its checksum is another; it was changed or damaged`);
      }
      return opened;
    } catch (error) {
      file.close();
      throw error;
    }
  }

  /** The state, in blocks; each is the same memory again. */
  async *blocks(signal: AbortSignal): AsyncGenerator<Uint8Array<ArrayBuffer>, void> {
    const block = new Uint8Array(BLOCK_SIZE);
    const { size } = this.info;
    for (let at = 0, count = 0; at < size; at += BLOCK_SIZE, count++) {
      if (count % BLOCKS_A_TURN === BLOCKS_A_TURN - 1) await nextTurn();
      signal.throwIfAborted();
      const part = block.subarray(0, Math.min(BLOCK_SIZE, size - at));
      readInto(this.#file, this.#path, Header.size + at, part);
      yield part;
    }
  }

  /** Closes it. */
  [Symbol.dispose](): void {
    this.#file.close();
  }
}

function readInfo(file: Deno.FsFile, path: string): StateFileInfo {
  const refuse = (reason: string) => new Error(`Cannot use ${path}: ${reason}`);
  const { size: length } = file.statSync();
  if (length < Header.size) throw refuse("it is no state that vfu migrate save has written");
  const header = Header.decode(readPart(file, path, 0, Header.size));
  if (header.magic !== HEADER_MAGIC || header.size !== Header.size) {
    throw refuse("it is no state that vfu migrate save has written");
  }
  if (header.version !== FORM_VERSION) {
    throw refuse(`it has the form ${header.version}, this vfu knows ${FORM_VERSION}`);
  }
  const size = length - Header.size - Trailer.size;
  if (size < 0) throw refuse("it is cut off");
  const trailer = Trailer.decode(readPart(file, path, Header.size + size, Trailer.size));
  if (trailer.magic !== TRAILER_MAGIC || trailer.size !== BigInt(size)) {
    throw refuse("it is cut off, or something follows its end");
  }
  return { identity: header, size, crc: trailer.crc };
}

function readPart(file: Deno.FsFile, path: string, at: number, count: number): Uint8Array {
  const bytes = new Uint8Array(count);
  readInto(file, path, at, bytes);
  return bytes;
}

function readInto(file: Deno.FsFile, path: string, at: number, into: Uint8Array): void {
  file.seekSync(at, Deno.SeekMode.Start);
  for (let done = 0; done < into.length;) {
    const got = file.readSync(into.subarray(done));
    if (got === null) throw new Error(`Cannot read ${path}: it has become shorter`);
    done += got;
  }
}
