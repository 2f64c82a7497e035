/**
 * Work that a device does by itself, besides answering its client.
 *
 * @module
 */

import { EAGAIN } from "../../ffi/errno.ts";
import { ConnectionError } from "../base/errors.ts";
import { MAX_HELD_TASKS } from "../base/limits.ts";
import { type Activity, Doing, during } from "../server/activity.ts";
import { DeviceError, type ErrorReport } from "../server/served_device.ts";

/** A task that begins when the device goes on. */
interface HeldTask {
  /** Begins it. */
  readonly begin: () => void;
  /** Drops the task, which is not wanted any more. */
  readonly drop: () => void;
}

/** Work of a device in the background. */
export class DeviceTasks {
  readonly #running = new Set<Promise<void>>();
  readonly #held = new Set<HeldTask>();
  #isStopped = false;
  #isClosed = false;
  #report: ErrorReport | undefined;
  #activity: Activity | undefined;

  /** Receiver of errors. */
  set report(report: ErrorReport) {
    this.#report = report;
  }

  /** Hears when the thread enters and leaves a task. */
  set activity(activity: Activity | undefined) {
    this.#activity = activity;
  }

  /**
   * Runs a task, which ends before the device stands still. While the device stands still, further
   * tasks wait. Errors of the task are reported, except that the client is gone.
   *
   * @returns settled when it is done, never rejected; undefined if it is done already
   * @throws {DeviceError} EAGAIN if too much waits already
   */
  run(doing: string, task: () => void | Promise<void>): Promise<void> | undefined {
    if (this.#isClosed) return undefined;
    if (this.#isStopped) return this.#hold(doing, task);
    try {
      const result = during(this.#activity, Doing.OWN_WORK, task);
      if (!(result instanceof Promise)) return undefined;
      const running: Promise<void> = result.catch((error) => this.#tell(error, doing))
        .finally(() => this.#running.delete(running));
      this.#running.add(running);
      return running;
    } catch (error) {
      this.#tell(error, doing);
    }
  }

  #hold(doing: string, task: () => void | Promise<void>): Promise<void> {
    if (this.#held.size >= MAX_HELD_TASKS) {
      throw new DeviceError(
        EAGAIN,
        `Cannot begin a ${doing}: ${MAX_HELD_TASKS} wait for the device to go on already`,
      );
    }
    return new Promise((resolve) =>
      this.#held.add({ begin: () => resolve(this.run(doing, task)), drop: resolve })
    );
  }

  /**
   * Snapshot of the tasks that wait now. Calling the returned function drops these, but no later
   * ones.
   */
  held(): () => void {
    const held = [...this.#held];
    return () => {
      for (const each of held) if (this.#held.delete(each)) each.drop();
    };
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
    const held = [...this.#held];
    this.#held.clear();
    for (const { begin } of held) begin();
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
