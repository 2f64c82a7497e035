/**
 * The state of a device on its way to the server: what the stream of `Migration.restore` feeds.
 *
 * @module
 */

import { RemoteError } from "../../base/errors.ts";
import { RESTORE_IN_FLIGHT, RESTORE_PIPELINE } from "../../base/limits.ts";
import type { AfterMigration, MigrationStates, RestoreOptions } from "./options.ts";
import { Recovery } from "./recovery.ts";
import type { VfioProxy } from "../../transport/proxy.ts";
import { Command } from "../../wire/command.ts";
import { MigDataReplyLayout } from "../../wire/migration.ts";

/** Bytes ahead of the data of a request: those of a reply. */
const HEAD_SIZE = MigDataReplyLayout.size;

/** Writes to the device what is written to the stream. */
export class StateSink implements UnderlyingSink<Uint8Array> {
  readonly #migration: MigrationStates;
  readonly #proxy: VfioProxy;
  readonly #options: RestoreOptions & { chunkSize: number };
  readonly #recovery: Recovery;
  readonly #writes: Promise<unknown>[] = []; // in flight, in their order
  #hasBegun = false;
  #isRefused = false; // whether the device has seen all of it, and does not take it on
  #bytes = 0;

  constructor(
    migration: MigrationStates,
    proxy: VfioProxy,
    options: RestoreOptions & { chunkSize: number },
  ) {
    this.#migration = migration;
    this.#proxy = proxy;
    this.#options = options;
    this.#recovery = new Recovery(migration, proxy, options.signal);
  }

  /** @ignore called by the stream */
  start(controller: WritableStreamDefaultController): void {
    this.#recovery.watch((reason) => controller.error(reason));
  }

  /**
   * Writes a chunk, in pieces. The chunk may be reused when this is settled; not all of it need
   * have been answered.
   */
  write(chunk: Uint8Array): Promise<void> {
    return this.#recovery.guard(async () => {
      if (!this.#hasBegun) await this.#begin();
      const { chunkSize, onProgress } = this.#options;
      const inFlight = Math.max(2, Math.floor(RESTORE_IN_FLIGHT / chunkSize));
      const most = Math.min(RESTORE_PIPELINE, inFlight);
      for (let at = 0; at < chunk.length; at += chunkSize) {
        if (this.#writes.length >= most) await this.#answered();
        this.#send(chunk.subarray(at, at + chunkSize));
      }
      onProgress?.({ bytes: this.#bytes, state: "RESUMING" });
    });
  }

  /** All was written: the device takes it on. */
  close(): Promise<void> {
    return this.#recovery.guard(async () => {
      if (!this.#hasBegun) throw new RangeError("Cannot restore the device: the state is empty");
      while (this.#writes.length > 0) await this.#answered();
      const { after = "RUNNING" } = this.#options;
      try {
        await this.#migration.setState(after, this.#recovery.wait(this.#options));
      } catch (error) {
        this.#isRefused = error instanceof RemoteError;
        throw error instanceof RemoteError ? explain(error) : error;
      }
      this.#recovery.done();
    });
  }

  /** No more will be written. */
  abort(reason: unknown): Promise<void> {
    return this.#recovery.abort(reason);
  }

  async #begin(): Promise<void> {
    this.#hasBegun = true;
    const wait = this.#recovery.wait(this.#options);
    const state = await this.#migration.state(wait);
    if (state !== "RUNNING" && state !== "STOP" && state !== "RESUMING") {
      throw new RangeError(
        `Cannot restore the device: it is in the state ${state}; ${
          state === "ERROR" ? "reset it first" : "set it to STOP or RUNNING first"
        }`,
      );
    }
    const before: AfterMigration = state === "RUNNING" ? "RUNNING" : "STOP";
    if (state === "RESUMING") await this.#leave(); // what one has left who was here before
    this.#recovery.begin(before, () => this.#spoil());
    await this.#migration.setState("RESUMING", wait);
  }

  async #leave(): Promise<void> {
    const wait = this.#recovery.wait(this.#options);
    try {
      await this.#migration.setState("STOP", wait);
    } catch (error) {
      if (!(error instanceof RemoteError)) throw error;
      await this.#migration.setState("STOP", wait); // the first time it refuses what has come
    }
  }

  #send(data: Uint8Array): void {
    const at = this.#bytes;
    this.#bytes += data.length;
    const size = data.length;
    const head = MigDataReplyLayout.encode({ argsz: HEAD_SIZE + size, size });
    const write = this.#proxy.request(Command.MIG_DATA_WRITE, head, {
      ...this.#recovery.wait(this.#options),
      data,
      doing: () => `write ${size} bytes of the state of the device at ${at}`,
    });
    write.catch(() => {}); // looked at when it is its turn, if ever
    this.#writes.push(write);
  }

  /**
   * Writes one byte too many. A device that has got all of its state would take it on; with that
   * byte it refuses.
   */
  async #spoil(): Promise<void> {
    if (this.#bytes === 0 || this.#isRefused) return;
    const head = MigDataReplyLayout.encode({ argsz: HEAD_SIZE + 1, size: 1 });
    await this.#proxy.request(Command.MIG_DATA_WRITE, head, {
      ...(this.#options.timeoutMs !== undefined && { timeoutMs: this.#options.timeoutMs }),
      data: new Uint8Array(1),
      doing: "have the device refuse the state that was not to be restored",
    });
  }

  /** Waits for the earliest write in flight. */
  async #answered(): Promise<void> {
    try {
      await this.#writes.shift();
    } catch (error) {
      throw error instanceof RemoteError ? explain(error) : error;
    }
  }
}

function explain(refusal: RemoteError): RemoteError {
  return refusal.because(
    "it does not take this state, which may be incomplete, corrupt or of another device; " +
      "the server's own log may say more",
  );
}
