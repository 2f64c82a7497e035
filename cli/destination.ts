/**
 * Where bytes of a command go: a file that is only there when it is whole, or standard output.
 *
 * @module
 */

import { fileError } from "../lib/file_error.ts";
import type { Output } from "./context.ts";

/** Takes bytes. */
export interface Destination extends Disposable {
  /** Says where the bytes are that came so far, as "are in FILE.partial". */
  readonly where: string;
  /** Takes bytes. */
  write(bytes: Uint8Array): void;
  /** All have come. */
  finish(): void;
}

/** The file at `path`, or standard output if that is "-". */
export function openDestination(path: string, out: Output): Destination {
  return path === "-" ? new StandardOutput(out) : new PartialFile(path);
}

class StandardOutput implements Destination {
  readonly where = "were written";
  readonly #out: Output;

  constructor(out: Output) {
    this.#out = out;
  }

  write(bytes: Uint8Array): void {
    this.#out.writeBytes(bytes);
  }

  finish(): void {}

  [Symbol.dispose](): void {}
}

/** A file that has `.partial` after its name until it is finished. One that nothing came into is removed. */
class PartialFile implements Destination {
  readonly where: string;
  readonly #path: string;
  readonly #partialPath: string;
  readonly #file: Deno.FsFile;
  #isEmpty = true;
  #isFinished = false;

  /** @throws {Error} if it can't be made */
  constructor(path: string) {
    this.#path = path;
    this.#partialPath = `${path}.partial`;
    this.where = `are in ${this.#partialPath}`;
    try {
      this.#file = Deno.openSync(this.#partialPath, { write: true, create: true, truncate: true });
    } catch (cause) {
      throw fileError(`make ${this.#partialPath}`, cause, true);
    }
  }

  write(bytes: Uint8Array): void {
    try {
      for (let rest = bytes; rest.length > 0;) rest = rest.subarray(this.#file.writeSync(rest));
    } catch (cause) {
      throw fileError(`write ${this.#partialPath}`, cause);
    }
    this.#isEmpty &&= bytes.length === 0;
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
    if (this.#isEmpty && !this.#isFinished) Deno.removeSync(this.#partialPath);
  }
}
