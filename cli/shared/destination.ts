/**
 * The destination of a command's bytes: a file that appears only when it is whole, or standard
 * output.
 *
 * @module
 */

import type { CommandUnknownOpts } from "@commander-js/extra-typings";
import { fileError } from "../../lib/text/file_error.ts";
import type { Output } from "./context.ts";

/** Takes bytes. */
export interface Destination extends Disposable {
  /** Says where the bytes are that came so far, as "are in FILE.partial". */
  readonly where: string;
  /** The number of bytes that have come there, also of a write that failed in the middle. */
  readonly written: number;
  /** Takes bytes. */
  write(bytes: Uint8Array): void;
  /** All have come. */
  finish(): void;
}

/**
 * Opens what a command writes: a file at `path`, or standard output if that is "-".
 *
 * A regular file is replaced once the new one is whole. A character device or a pipe takes the
 * bytes as they come and stays what it is. A symbolic link stands for the file that it names.
 *
 * @param keepsPart leaves what has come in FILE.partial if not all does. Where a part is of no use,
 *   false
 * @throws {Error} if the path names a folder, a block device or a socket, or cannot be written
 */
export function openDestination(path: string, out: Output, keepsPart = true): Destination {
  if (path === "-") return new StandardOutput(out);
  const info = infoOf(path);
  if (info?.isCharDevice) return new Stream(path);
  if (info?.isFifo) {
    const letGo = holdOpen(path);
    try {
      return new Stream(path);
    } finally {
      letGo();
    }
  }
  const kind = info === undefined ? undefined : kindOf(info);
  if (kind !== undefined) throw new Error(`Cannot write ${path}: it is a ${kind}; name a file`);
  return new PartialFile(targetOf(path), keepsPart);
}

/**
 * Refuses, as wrong usage, a file to write that is also a file to read. The same file is known by
 * device and inode, so through links as well. The name of the unfinished file counts too.
 *
 * @param outputs paths by the names of their options, without the dashes
 * @param inputs paths of files that the command reads; names of other things are ignored
 */
export function assertNotInput(
  self: CommandUnknownOpts,
  outputs: Readonly<Record<string, string | undefined>>,
  inputs: readonly string[],
): void {
  for (const [option, path] of Object.entries(outputs)) {
    if (path === undefined) continue;
    const written = [path, `${realPath(path)}.partial`].map(fileOf);
    for (const input of inputs) {
      const read = fileOf(input);
      if (read === undefined) continue;
      if (!written.some((each) => each?.dev === read.dev && each.ino === read.ino)) continue;
      self.error(`error: --${option} would replace ${input}, which is read; name another file`);
    }
  }
}

/** The facts of a regular file; undefined if it is none, or can't be looked at. */
function fileOf(path: string): Deno.FileInfo | undefined {
  try {
    const info = Deno.statSync(path);
    return info.isFile ? info : undefined;
  } catch {
    return undefined; // opening it says why
  }
}

function realPath(path: string): string {
  try {
    return Deno.realPathSync(path);
  } catch {
    return path;
  }
}

/** The facts of what a path names, through links; undefined if there is nothing. */
function infoOf(path: string): Deno.FileInfo | undefined {
  try {
    return Deno.statSync(path);
  } catch (cause) {
    if (cause instanceof Deno.errors.NotFound) return undefined;
    throw fileError(`write ${path}`, cause, true);
  }
}

/**
 * Opens a pipe without waiting for a reader, which would be deaf to Ctrl-C.
 *
 * @returns a function that closes it again, once the pipe is open for writing. The reader would
 *   take an earlier end for the end of all bytes
 * @throws {Error} if no process reads the pipe
 */
function holdOpen(path: string): () => void {
  // An import of node:process costs as much as a probe; the global loads it only here.
  const { process } = globalThis as unknown as { process: typeof import("node:process") };
  const fs = process.getBuiltinModule("node:fs");
  try {
    const fd = fs.openSync(path, fs.constants.O_WRONLY | fs.constants.O_NONBLOCK);
    return () => fs.closeSync(fd);
  } catch (cause) {
    if (cause instanceof Error && "code" in cause && cause.code === "ENXIO") {
      throw new Error(`Cannot write ${path}: no process reads this pipe; start the reader first`);
    }
    throw fileError(`open ${path}`, cause);
  }
}

/** The kind of what a command must not replace or overwrite; undefined for a regular file. */
function kindOf(info: Deno.FileInfo): string | undefined {
  if (info.isDirectory) return "folder";
  if (info.isBlockDevice) return "block device";
  if (info.isSocket) return "socket";
  return info.isFile ? undefined : "special file";
}

/** The path of the file itself where `path` is a symbolic link, so that the link stays. */
function targetOf(path: string): string {
  try {
    if (!Deno.lstatSync(path).isSymlink) return path;
  } catch {
    return path; // nothing is there yet
  }
  try {
    return Deno.realPathSync(path);
  } catch (cause) {
    throw new Error(`Cannot write ${path}: it is a symbolic link to nothing; remove the link`, {
      cause,
    });
  }
}

class StandardOutput implements Destination {
  readonly where = "were written";
  written = 0;
  readonly #out: Output;

  constructor(out: Output) {
    this.#out = out;
  }

  write(bytes: Uint8Array): void {
    this.#out.writeBytes(bytes);
    this.written += bytes.length;
  }

  finish(): void {}

  [Symbol.dispose](): void {}
}

/** A character device or a pipe: it takes the bytes as they come. */
class Stream implements Destination {
  readonly where: string;
  written = 0;
  readonly #path: string;
  readonly #file: Deno.FsFile;

  /** @throws {Error} if it cannot be opened */
  constructor(path: string) {
    this.#path = path;
    this.where = `were written to ${path}`;
    try {
      this.#file = Deno.openSync(path, { write: true });
    } catch (cause) {
      throw fileError(`open ${path}`, cause);
    }
  }

  write(bytes: Uint8Array): void {
    for (const count of writeAll(this.#file, this.#path, bytes)) this.written += count;
  }

  finish(): void {}

  [Symbol.dispose](): void {
    this.#file.close();
  }
}

/**
 * A file that has `.partial` after its name until it is finished. One that nothing came into, or
 * whose part is of no use, is removed.
 */
class PartialFile implements Destination {
  /** Partial files of this process, by device and inode. */
  static readonly unfinished = new Set<string>();
  readonly where: string;
  written = 0;
  readonly #path: string;
  readonly #partialPath: string;
  readonly #file: Deno.FsFile;
  readonly #inode: string;
  readonly #keepsPart: boolean;
  #isFinished = false;

  /** @throws {Error} if it can't be made */
  constructor(path: string, keepsPart: boolean) {
    this.#path = path;
    this.#keepsPart = keepsPart;
    this.#partialPath = `${path}.partial`;
    this.where = `are in ${this.#partialPath}`;
    this.#file = makeFile(this.#partialPath);
    this.#inode = inodeOf(this.#file.statSync());
    PartialFile.unfinished.add(this.#inode);
  }

  write(bytes: Uint8Array): void {
    for (const count of writeAll(this.#file, this.#partialPath, bytes)) this.written += count;
  }

  finish(): void {
    try {
      Deno.renameSync(this.#partialPath, this.#path);
    } catch (cause) {
      throw fileError(`rename ${this.#partialPath} to ${this.#path}`, cause, true);
    }
    this.#isFinished = true;
  }

  [Symbol.dispose](): void {
    this.#file.close();
    PartialFile.unfinished.delete(this.#inode);
    const isUseless = this.written === 0 || !this.#keepsPart;
    if (isUseless && !this.#isFinished) Deno.removeSync(this.#partialPath);
  }
}

function inodeOf({ dev, ino }: Deno.FileInfo): string {
  return `${dev} ${ino}`;
}

/** Writes all bytes, and yields how many each call of the system has taken. */
function* writeAll(file: Deno.FsFile, path: string, bytes: Uint8Array): Generator<number> {
  try {
    for (let rest = bytes; rest.length > 0;) {
      const count = file.writeSync(rest);
      yield count;
      rest = rest.subarray(count);
    }
  } catch (cause) {
    if (cause instanceof Deno.errors.BrokenPipe) throw cause; // the reader has what it wanted
    throw fileError(`write ${path}`, cause);
  }
}

/**
 * Makes a new file. A regular file that an earlier command left there goes first. Anything else
 * stays: a link in a folder that others write to could lead anywhere.
 */
function makeFile(path: string): Deno.FsFile {
  try {
    return Deno.openSync(path, { write: true, createNew: true });
  } catch (cause) {
    if (!(cause instanceof Deno.errors.AlreadyExists)) throw fileError(`make ${path}`, cause, true);
  }
  let isOurs: boolean;
  try {
    const info = Deno.lstatSync(path);
    isOurs = PartialFile.unfinished.has(inodeOf(info));
    if (info.isFile && !isOurs) {
      Deno.removeSync(path);
      return Deno.openSync(path, { write: true, createNew: true });
    }
  } catch (cause) {
    throw fileError(`make ${path}`, cause, true);
  }
  throw new Error(
    isOurs
      ? `Cannot write ${path.replace(/\.partial$/, "")} twice: name another file`
      : `Cannot make ${path}: what is there is no regular file; remove it`,
  );
}
