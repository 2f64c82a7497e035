/**
 * The disk of `nvme.ts`.
 *
 * @module
 */

/** Bytes of a block. */
export const BLOCK = 512;

/** Blocks in memory or in a file. */
export interface Disk {
  /** Bytes. */
  readonly size: number;
  /** Those in memory. */
  readonly bytes: readonly Uint8Array[];
  read(at: number, into: Uint8Array): void;
  write(at: number, data: Uint8Array): void;
  flush(): void;
  close(): void;
}

/** Opens the disk: the file, or `size` bytes of memory. */
export function openDisk(path: string | undefined, size: number): Disk {
  if (path === undefined) {
    const bytes = new Uint8Array(size - size % BLOCK);
    return {
      size: bytes.length,
      bytes: [bytes],
      read: (at, into) => into.set(bytes.subarray(at, at + into.length)),
      write: (at, data) => bytes.set(data, at),
      flush: () => {},
      close: () => {},
    };
  }
  const file = Deno.openSync(path, { read: true, write: true });
  const fileSize = file.statSync().size;
  const move = (at: number, bytes: Uint8Array, act: (part: Uint8Array) => number | null) => {
    file.seekSync(at, Deno.SeekMode.Start);
    for (let done = 0; done < bytes.length;) {
      const count = act(bytes.subarray(done));
      if (!count) throw new Error(`${path} has become shorter`);
      done += count;
    }
  };
  return {
    size: fileSize - fileSize % BLOCK,
    bytes: [],
    read: (at, into) => move(at, into, (part) => file.readSync(part)),
    write: (at, data) => move(at, data, (part) => file.writeSync(part)),
    flush: () => file.syncDataSync(),
    close: () => file.close(),
  };
}
