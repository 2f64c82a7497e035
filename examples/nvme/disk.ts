/**
 * The disk of the NVMe controller.
 *
 * @module
 */

/** Bytes of a block. */
export const BLOCK = 512;

/** Blocks in memory or in a file. All places and lengths are bytes. */
export abstract class Disk {
  /** @param size a multiple of the block's */
  protected constructor(readonly size: number) {}

  /** The number of blocks. */
  get blocks(): number {
    return this.size / BLOCK;
  }

  /** True if there are these blocks. */
  has(first: number, count: number): boolean {
    return first + count <= this.blocks;
  }

  /** The part that migrates along: the bytes that are in memory. */
  readonly bytes: readonly Uint8Array[] = [];

  /** The bytes at a place, until the next call. */
  abstract read(at: number, length: number): Uint8Array;
  /** Room for bytes that are to be written to a place, until the next call. */
  abstract room(at: number, length: number): Uint8Array;
  /** Takes bytes; those of its room may be there already. */
  abstract write(at: number, data: Uint8Array): void;
  /** Makes what was written last. */
  flush(): void | Promise<void> {}
  /** Frees what it holds. */
  close(): void {}

  /** Opens the file, or makes a disk of `size` bytes in memory. */
  static open(path: string | undefined, size: number): Disk {
    return path === undefined ? new MemoryDisk(size) : new FileDisk(path);
  }
}

class MemoryDisk extends Disk {
  override readonly bytes: readonly [Uint8Array<ArrayBuffer>];

  constructor(size: number) {
    super(size - size % BLOCK);
    this.bytes = [new Uint8Array(this.size)];
  }

  read(at: number, length: number): Uint8Array {
    return this.bytes[0].subarray(at, at + length);
  }

  room(at: number, length: number): Uint8Array {
    return this.read(at, length);
  }

  write(at: number, data: Uint8Array): void {
    if (data.buffer !== this.bytes[0].buffer) this.bytes[0].set(data, at);
  }
}

class FileDisk extends Disk {
  readonly #file: Deno.FsFile;
  readonly #path: string;
  #scratch = new Uint8Array(0);

  constructor(path: string) {
    const file = Deno.openSync(path, { read: true, write: true });
    const size = file.seekSync(0, Deno.SeekMode.End); // of a block device too
    super(size - size % BLOCK);
    this.#file = file;
    this.#path = path;
  }

  read(at: number, length: number): Uint8Array {
    const bytes = this.room(at, length);
    this.#move(at, bytes, (part) => this.#file.readSync(part));
    return bytes;
  }

  room(_at: number, length: number): Uint8Array {
    if (length > this.#scratch.length) this.#scratch = new Uint8Array(length);
    return this.#scratch.subarray(0, length);
  }

  write(at: number, data: Uint8Array): void {
    this.#move(at, data, (part) => this.#file.writeSync(part));
  }

  override flush(): Promise<void> {
    return this.#file.syncData(); // takes its time: not on this thread
  }

  override close(): void {
    this.#file.close();
  }

  #move(at: number, bytes: Uint8Array, act: (part: Uint8Array) => number | null): void {
    this.#file.seekSync(at, Deno.SeekMode.Start);
    for (let done = 0; done < bytes.length;) {
      const count = act(bytes.subarray(done));
      if (!count) throw new Error(`${this.#path} has become shorter`);
      done += count;
    }
  }
}
