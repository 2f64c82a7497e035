/**
 * The most memory that a process has had, watched while it runs.
 *
 * @module
 */

import { SystemError } from "../../../ffi/errno.ts";
import { type ProcessMemory, processMemory } from "../../../ffi/process_facts.ts";

/** Time between two looks, in milliseconds. */
const LOOK_MS = 50;
/** Growth over a run with a plain device that is no chance, in bytes. */
const MAX_GROWTH = 1 << 30;

/** Watches a process. */
export class PeakMemory implements Disposable {
  /** The most bytes that were seen. */
  peak = 0;
  /** True once the process has taken far more than is usual. */
  isTooMuch = false;
  readonly #usual: number | undefined;
  readonly #onTooMuch: () => void;
  #process: number | undefined;
  #timer: ReturnType<typeof setInterval> | undefined;

  /**
   * Makes one that watches nothing yet.
   *
   * @param usual the peak with a plain device; undefined to report nothing
   */
  constructor(usual: number | undefined, onTooMuch: () => void) {
    this.#usual = usual;
    this.#onTooMuch = onTooMuch;
  }

  /** Watches a process from now on; undefined and this process itself are left alone. */
  watch(process: number | undefined): void {
    if (process === undefined || process === Deno.pid) return;
    this.#process = process;
    this.#timer ??= setInterval(() => this.#look(), LOOK_MS);
    this.#look();
  }

  #look(): void {
    let memory: ProcessMemory | undefined;
    try {
      memory = processMemory(this.#process!);
    } catch (error) {
      if (!(error instanceof SystemError)) throw error; // else the kernel does not tell
    }
    if (memory === undefined) return; // it has just ended
    this.peak = Math.max(this.peak, memory.peak);
    if (this.isTooMuch || this.#usual === undefined) return;
    if (this.peak <= this.#usual + MAX_GROWTH) return;
    this.isTooMuch = true;
    this.#onTooMuch();
  }

  /** Watches no more. */
  [Symbol.dispose](): void {
    clearInterval(this.#timer);
  }
}
