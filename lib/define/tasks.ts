/**
 * What a device does by itself, besides answering its client.
 *
 * @module
 */

import { ConnectionError } from "../errors.ts";
import type { ErrorReport } from "../server/device.ts";

/** Work of a device in the background. */
export class DeviceTasks {
  readonly #running = new Set<Promise<void>>();
  readonly #held: (() => void)[] = [];
  #isStopped = false;
  #isClosed = false;
  #report: ErrorReport | undefined;

  /** Where errors are told. */
  set report(report: ErrorReport) {
    this.#report = report;
  }

  /**
   * Does something, which is waited for before the device stands still; while it does, what is to be done waits. What it throws
   * is reported, except that the client is gone.
   *
   * @returns settled when it is done, never rejected; undefined if it is done already
   */
  run(doing: string, task: () => void | Promise<void>): Promise<void> | undefined {
    if (this.#isClosed) return undefined;
    if (this.#isStopped) {
      return new Promise((resolve) => this.#held.push(() => resolve(this.run(doing, task))));
    }
    try {
      const result = task();
      if (!(result instanceof Promise)) return undefined;
      const running: Promise<void> = result.catch((error) => this.#tell(error, doing))
        .finally(() => this.#running.delete(running));
      this.#running.add(running);
      return running;
    } catch (error) {
      this.#tell(error, doing);
    }
  }

  /** Settled when nothing runs any more; undefined if nothing does. */
  idle(): Promise<void> | undefined {
    return this.#running.size === 0 ? undefined : this.#settle();
  }

  async #settle(): Promise<void> {
    while (this.#running.size > 0) await Promise.all(this.#running);
  }

  /** Settled when nothing runs any more; nothing begins until `start`. */
  async stop(): Promise<void> {
    this.#isStopped = true;
    await this.#settle();
  }

  /** Begins what was to be done meanwhile. */
  start(): void {
    this.#isStopped = false;
    for (const each of this.#held.splice(0)) each();
  }

  /** Nothing begins any more. */
  close(): void {
    this.#isClosed = true;
    this.start(); // settles what waits
  }

  #tell(error: unknown, doing: string): void {
    if (this.#isClosed || error instanceof ConnectionError) return;
    this.#report?.(error, doing);
  }
}
