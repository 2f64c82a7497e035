/**
 * A folder of connections that are worth varying: read at the start, and grown.
 *
 * @module
 */

import { crc32 } from "../base/crc32.ts";
import { fileError } from "../text/file_error.ts";
import { readCase, writeCase } from "./case_file.ts";
import type { FuzzConnection } from "./message.ts";

/** Connections that are kept. */
const MAX_CONNECTIONS = 2048;
/** Files of a folder that are looked at. */
const MAX_FILES = 8192;
const MAX_FILE = 64 << 20;

/** Connections to vary. */
export class Corpus {
  readonly connections: FuzzConnection[] = [];
  readonly #folder: string | undefined;
  readonly #onProblem: (text: string) => void;
  #canWrite = true;
  #added = 0;

  /**
   * A corpus without connections.
   *
   * @param folder where new connections are kept; nowhere if it is left out
   * @param onProblem hears of files that can't be read or written
   */
  constructor(folder: string | undefined, onProblem: (text: string) => void) {
    this.#folder = folder;
    this.#onProblem = onProblem;
  }

  /** Connections that were added. */
  get added(): number {
    return this.#added;
  }

  /**
   * Reads the folder, which is made if there is none. Files that are no recordings are reported and
   * left alone.
   *
   * @throws {Error} if the folder can't be made or read
   */
  async read(signal: AbortSignal): Promise<void> {
    const folder = this.#folder;
    if (folder === undefined) return;
    const names: string[] = [];
    try {
      Deno.mkdirSync(folder, { recursive: true });
      for (const entry of Deno.readDirSync(folder)) {
        if (names.length === MAX_FILES) break;
        if (entry.isFile && entry.name.endsWith(".pcapng")) names.push(entry.name);
      }
    } catch (cause) {
      throw fileError(`use ${folder} as a corpus`, cause, true);
    }
    for (const name of names.sort()) {
      const path = `${folder}/${name}`;
      try {
        if (Deno.statSync(path).size > MAX_FILE) throw new Error(`Cannot read ${path}: too large`);
        await this.readFile(path, signal);
      } catch (error) {
        signal.throwIfAborted();
        this.#onProblem(error instanceof Error ? error.message : String(error));
      }
    }
  }

  /**
   * Reads a recording.
   *
   * @throws {Error} if it is none, or can't be read
   */
  async readFile(path: string, signal: AbortSignal): Promise<void> {
    for (const connection of await readCase(path, signal)) this.#keep(connection);
  }

  /**
   * Adds a connection, and writes it into the folder. Without one nothing is added: then the same
   * seed has the same connections, whatever the server answers.
   */
  add(connection: FuzzConnection): void {
    if (this.#folder === undefined || !this.#keep(connection)) return;
    this.#added++;
    if (!this.#canWrite) return;
    const path = `${this.#folder}/${nameOf(connection)}.pcapng`;
    try {
      writeCase(path, [connection]);
    } catch (error) {
      this.#canWrite = false; // the fuzzer goes on without it
      this.#onProblem(error instanceof Error ? error.message : String(error));
    }
  }

  #keep(connection: FuzzConnection): boolean {
    if (this.connections.length >= MAX_CONNECTIONS) return false;
    this.connections.push(connection);
    return true;
  }
}

/** A name that two different connections hardly share. */
function nameOf({ messages }: FuzzConnection): string {
  let sum = 0;
  let size = 0;
  for (const { bytes } of messages) {
    sum = crc32(bytes, sum);
    size += bytes.length;
  }
  const hex = (value: number) => (value >>> 0).toString(16).padStart(8, "0");
  return `${hex(sum)}-${messages.length}-${size}`;
}
