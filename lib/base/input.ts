/**
 * Files that are read from their start to their end, standard input among them.
 *
 * @module
 */

/** The path that stands for standard input, where a file is read. */
export const STANDARD_INPUT = "-";

/** Bytes that are read at a time. */
const CHUNK = 64 << 10;

/** The parts of a file that a reader uses. Standard input has no size, and is read once. */
export type InputFile = Pick<Deno.FsFile, "read" | "close"> & Disposable & Partial<Deno.FsFile>;

/**
 * Opens a file for reading, or standard input at {@linkcode STANDARD_INPUT}.
 *
 * Deno keeps /dev/stdin from programs that have not all permissions.
 */
export async function openInput(path: string | URL): Promise<InputFile> {
  return path === STANDARD_INPUT ? new StandardInput() : await Deno.open(path);
}

/**
 * Reads a file to its end. Endless ones, as /dev/zero, have no size to go by.
 *
 * @param most the bytes that it may have
 * @returns undefined if it has more
 */
export async function readInput(
  path: string | URL,
  most: number,
): Promise<Uint8Array<ArrayBuffer> | undefined> {
  using file = await openInput(path);
  const chunks: Uint8Array<ArrayBuffer>[] = [];
  const chunk = new Uint8Array(CHUNK);
  let size = 0;
  for (let count; (count = await file.read(chunk)) !== null;) {
    size += count;
    if (size > most) return undefined;
    chunks.push(chunk.slice(0, count));
  }
  return await new Blob(chunks).bytes();
}

/** Standard input, which stays open for others. */
class StandardInput implements InputFile {
  read(into: Uint8Array): Promise<number | null> {
    return Deno.stdin.read(into);
  }

  close(): void {}

  [Symbol.dispose](): void {}
}
