/**
 * Files whose changes are to be heard of, however an editor writes them.
 *
 * @module
 */

import { thrownText } from "../../lib/base/thrown.ts";

/** The time without another change after which a change counts, in milliseconds. */
const QUIET_MS = 50;
/** A change counts after so long, though others follow, in milliseconds. */
const MAX_QUIET_MS = 500;

/**
 * Watches the folders of some files: an editor may write a file in place, or put another one in its
 * place. A change is one of the contents.
 */
export class FileWatch implements Disposable {
  readonly #changed: () => void;
  readonly #folders = new Map<string, Deno.FsWatcher>();
  readonly #contents = new Map<string, string | undefined>(); // undefined: there is no such file
  #timer: ReturnType<typeof setTimeout> | undefined;
  #first = 0; // when the first of several changes came
  #isOpen = true;

  /** @param changed called when a file has changed, a moment later */
  constructor(changed: () => void) {
    this.#changed = changed;
  }

  /**
   * Watches further files. What they hold now is known from here on.
   *
   * @throws {Error} if a folder can't be watched: the message says what to do
   */
  add(files: Iterable<string>): void {
    for (const file of files) {
      if (this.#contents.has(file) || !this.#isOpen) continue;
      this.#contents.set(file, contentOf(file));
      this.#watch(file.slice(0, file.lastIndexOf("/")) || "/");
    }
  }

  /** Takes notice of what the files hold. Returns true if one has changed. */
  look(): boolean {
    let hasChanged = false;
    for (const [file, before] of this.#contents) {
      const now = contentOf(file);
      this.#contents.set(file, now);
      hasChanged ||= now !== before;
    }
    return hasChanged;
  }

  /** Watches nothing any more. */
  [Symbol.dispose](): void {
    this.#isOpen = false;
    clearTimeout(this.#timer);
    for (const watcher of this.#folders.values()) watcher.close();
    this.#folders.clear();
  }

  #watch(folder: string): void {
    if (this.#folders.has(folder)) return;
    try {
      const watcher = Deno.watchFs(folder, { recursive: false });
      this.#folders.set(folder, watcher);
      void this.#listen(watcher);
    } catch (cause) {
      if (cause instanceof Deno.errors.NotFound) return; // as the import has said
      const remedy = cause instanceof Deno.errors.NotCapable ? "; run deno with --allow-read" : "";
      throw new Error(`Cannot watch ${folder}: ${thrownText(cause)}${remedy}`, { cause });
    }
  }

  async #listen(watcher: Deno.FsWatcher): Promise<void> {
    for await (const { kind, paths } of watcher) {
      const isOurs = paths.length === 0 || paths.some((path) => this.#contents.has(path));
      if (kind !== "access" && isOurs) this.#note();
    }
  }

  #note(): void {
    const now = performance.now();
    if (this.#timer === undefined) this.#first = now;
    clearTimeout(this.#timer);
    const wait = Math.max(0, Math.min(QUIET_MS, this.#first + MAX_QUIET_MS - now));
    this.#timer = setTimeout(() => {
      this.#timer = undefined;
      if (this.look()) this.#changed();
    }, wait);
  }
}

function contentOf(file: string): string | undefined {
  try {
    if (!Deno.statSync(file).isFile) return undefined; // a pipe would hold the thread
    return Deno.readTextFileSync(file);
  } catch {
    return undefined;
  }
}
