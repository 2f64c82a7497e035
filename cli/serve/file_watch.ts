/**
 * Files whose changes are to be heard of, however an editor writes them.
 *
 * The files are looked at, again and again. The runtime's own watch of a folder falls silent when a
 * named pipe is made there. The next such watch then holds the thread for ever.
 *
 * @module
 */

import { sameBytes } from "../../lib/base/bytes.ts";

/** The time between two looks, in milliseconds. A change counts once a look finds no other. */
const LOOK_MS = 100;
/** A change counts after so long, though others follow, in milliseconds. */
const MAX_UNREST_MS = 500;

/** A file as it was at the last look. */
interface Known {
  /** Its place on the disk, size and time of change; empty if there is no such file. */
  stamp: string;
  /** Its bytes, as of a picture that a module imports; undefined if there is no such file. */
  content: Uint8Array | undefined;
}

/** Watches files: a change is one of the contents, whether or not another file took the place. */
export class FileWatch implements Disposable {
  readonly #changed: () => void;
  readonly #files: () => Iterable<string>;
  readonly #known = new Map<string, Known>();
  readonly #timer: ReturnType<typeof setInterval>;
  #unrestSince: number | undefined;

  /**
   * Watches files. What they hold now is known from here on.
   *
   * @param files the files, which may become more
   * @param changed called when a file has changed, a moment later
   */
  constructor(files: () => Iterable<string>, changed: () => void) {
    this.#files = files;
    this.#changed = changed;
    this.learn();
    this.#timer = setInterval(() => this.#tick(), LOOK_MS);
  }

  /** Takes notice of files that have come to be watched. */
  learn(): void {
    for (const file of this.#files()) {
      if (this.#known.has(file)) continue;
      this.#known.set(file, { stamp: stampOf(file), content: contentOf(file) });
    }
  }

  /** Takes notice of what the files hold. Returns true if one has changed. */
  look(): boolean {
    let hasChanged = false;
    for (const [file, known] of this.#known) {
      const { content } = known;
      known.content = contentOf(file);
      hasChanged ||= !isSame(known.content, content);
    }
    return hasChanged;
  }

  /** Watches nothing any more. */
  [Symbol.dispose](): void {
    clearInterval(this.#timer);
  }

  #tick(): void {
    this.learn();
    const now = performance.now();
    if (this.#isMoving()) {
      this.#unrestSince ??= now;
      if (now - this.#unrestSince < MAX_UNREST_MS) return;
    }
    if (this.#unrestSince === undefined) return;
    this.#unrestSince = undefined;
    if (this.look()) this.#changed();
  }

  /** Reports whether a file is another one than at the last tick. */
  #isMoving(): boolean {
    let isMoving = false;
    for (const [file, known] of this.#known) {
      const stamp = stampOf(file);
      isMoving ||= stamp !== known.stamp;
      known.stamp = stamp;
    }
    return isMoving;
  }
}

function stampOf(file: string): string {
  try {
    const { dev, ino, size, mtime } = Deno.statSync(file);
    return `${dev} ${ino} ${size} ${mtime?.getTime()}`;
  } catch {
    return "";
  }
}

function isSame(a: Uint8Array | undefined, b: Uint8Array | undefined): boolean {
  return a === undefined || b === undefined ? a === b : sameBytes(a, b);
}

function contentOf(file: string): Uint8Array | undefined {
  try {
    if (!Deno.statSync(file).isFile) return undefined; // a pipe would hold the thread
    return Deno.readFileSync(file);
  } catch {
    return undefined;
  }
}
