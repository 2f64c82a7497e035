/**
 * The folder of a fuzzer's findings, and words of the command that sends them again.
 *
 * @module
 */

import type { FindingReport } from "../../lib/fuzz/finding.ts";
import { fileError } from "../../lib/text/file_error.ts";

/** Writes findings into a folder, as long as that can be done. */
export class FindingStore {
  readonly #folder: string;
  readonly #seed: number;
  readonly #onProblem: (text: string) => void;
  #isBroken = false;

  /**
   * Makes one that has written nothing.
   *
   * @param onProblem hears once why a file can't be written
   */
  constructor(folder: string, seed: number, onProblem: (text: string) => void) {
    this.#folder = folder;
    this.#seed = seed;
    this.#onProblem = onProblem;
  }

  /**
   * Has a finding written.
   *
   * @param write writes it to a path
   * @returns the path of the file; undefined if it can't be written
   */
  write(
    finding: Pick<FindingReport, "kind" | "number">,
    write: (path: string) => void,
  ): string | undefined {
    if (this.#isBroken) return undefined;
    const name = `${finding.kind.replace(" ", "-")}-${this.#seed}-${finding.number}.pcapng`;
    const path = `${this.#folder}/${name}`;
    try {
      try {
        Deno.mkdirSync(this.#folder, { recursive: true });
      } catch (cause) {
        throw fileError(`write into ${this.#folder}`, cause, true);
      }
      write(path);
      return path;
    } catch (error) {
      this.#isBroken = true; // findings are shown all the same
      this.#onProblem(error instanceof Error ? error.message : String(error));
      return undefined;
    }
  }
}
