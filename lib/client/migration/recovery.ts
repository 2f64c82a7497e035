/**
 * Recovery of a device when saving or restoring it ends early: the device does again what it did.
 *
 * @module
 */

import type { WaitOptions } from "../../base/wait.ts";
import { RemoteError } from "../../base/errors.ts";
import type { AfterMigration, MigrationStates } from "./options.ts";
import type { VfioProxy } from "../../transport/proxy.ts";
import { thrownText } from "../../base/thrown.ts";

/** Sees to it that one device is not left in a state in between. */
export class Recovery {
  readonly #migration: MigrationStates;
  readonly #proxy: VfioProxy;
  readonly #signal: AbortSignal | undefined; // of the caller
  readonly #own = new AbortController(); // of everything that is under way
  #before: AfterMigration | undefined; // to be set again, if there is something to take back
  #spoil: (() => Promise<unknown>) | undefined;
  #recovering: Promise<Error | undefined> | undefined;
  #unwatch: (() => void) | undefined;

  constructor(migration: MigrationStates, proxy: VfioProxy, signal: AbortSignal | undefined) {
    this.#migration = migration;
    this.#proxy = proxy;
    this.#signal = signal;
  }

  /** Limits of requests, all of which end with the stream. */
  wait({ timeoutMs }: WaitOptions): WaitOptions {
    return { signal: this.#own.signal, ...(timeoutMs !== undefined && { timeoutMs }) };
  }

  /**
   * Notes the state that the device is to be set back to.
   *
   * @param spoil makes the data that the device got useless beforehand, because the device would
   *   take them on otherwise; may be refused
   */
  begin(before: AfterMigration, spoil?: () => Promise<unknown>): void {
    this.#before = before;
    this.#spoil = spoil;
  }

  /** Ends the recovery: the device stays as it is. */
  done(): void {
    this.#before = undefined;
    this.#unwatch?.();
  }

  /**
   * Ends everything when the caller's signal is aborted, also while the stream is neither read nor
   * written.
   *
   * @param onEnd is called with the reason when the device is set back: the caller may close the
   *   connection then
   */
  watch(onEnd: (reason: unknown) => void): void {
    const signal = this.#signal;
    if (signal === undefined) return;
    const abort = async () => {
      this.#own.abort(signal.reason);
      onEnd(bothOf(signal.reason, await this.#recover()));
    };
    signal.addEventListener("abort", abort, { once: true });
    this.#unwatch = () => signal.removeEventListener("abort", abort);
  }

  /** Does a part of the work. If that fails the device is set back, and then it throws. */
  async guard(work: () => Promise<void>): Promise<void> {
    try {
      this.#signal?.throwIfAborted();
      await work();
    } catch (error) {
      throw bothOf(error, await this.#recover());
    }
  }

  /** Ends what is under way, and sets the device back. */
  async abort(reason: unknown): Promise<void> {
    this.#own.abort(reason);
    const error = await this.#recover();
    if (error !== undefined) throw error;
  }

  /** Sets the device back, once. Returns the error if that fails. */
  #recover(): Promise<Error | undefined> {
    return this.#recovering ??= this.#setBack();
  }

  async #setBack(): Promise<Error | undefined> {
    const before = this.#before;
    this.done();
    this.#own.abort(); // what else is under way
    if (before === undefined || this.#proxy.state !== "CONNECTED") return undefined;
    try {
      await this.#spoil?.().catch(ignoreRefusal);
      await this.#setOrLeave(before);
    } catch (cause) {
      return new Error(
        `The device could not be set back to ${before}: ${thrownText(cause)}`,
        { cause },
      );
    }
  }

  /**
   * Sets the state. A device that was being restored may refuse once because of the data, which it
   * then discards.
   */
  async #setOrLeave(before: AfterMigration): Promise<void> {
    try {
      await this.#migration.setState(before);
    } catch (error) {
      if (!(error instanceof RemoteError)) throw error;
      await this.#migration.setState(before);
    }
  }
}

function ignoreRefusal(error: unknown): void {
  if (!(error instanceof RemoteError)) throw error;
}

/** An error, and what came on top of it. */
function bothOf(error: unknown, other: Error | undefined): unknown {
  if (other === undefined) return error;
  return new AggregateError([error, other], `${thrownText(error)}; ${thrownText(other)}`);
}
