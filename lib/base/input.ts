/**
 * Files that are read from their start to their end, standard input among them.
 *
 * @module
 */

/** The path that stands for standard input, where a file is read. */
export const STANDARD_INPUT = "-";

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

/** Standard input, which stays open for others. */
class StandardInput implements InputFile {
  read(into: Uint8Array): Promise<number | null> {
    return Deno.stdin.read(into);
  }

  close(): void {}

  [Symbol.dispose](): void {}
}
