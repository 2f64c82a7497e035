/**
 * The state of a device on its way to the client: what feeds the stream of `Migration.save`.
 *
 * @module
 */

import { EINVAL } from "../../../ffi/errno.ts";
import { ProtocolError, RemoteError } from "../../base/errors.ts";
import { MAX_SHORT_PRE_COPY, SAVE_PIPELINE } from "../../base/limits.ts";
import type { AfterMigration, MigrationStates, SaveOptions } from "./options.ts";
import { Recovery } from "./recovery.ts";
import type { VfioProxy } from "../../transport/proxy.ts";
import { RECEIVE_SIZE } from "../../transport/receiver.ts";
import type { Message } from "../../transport/message.ts";
import { Command } from "../../wire/command.ts";
import { MigDataReadReply, MigDataReadRequest, MigDataReplyLayout } from "../../wire/migration.ts";

/** Bytes ahead of the data of a reply. */
const HEAD_SIZE = MigDataReplyLayout.size;

/** Result of a read. */
interface Chunk {
  readonly data: Uint8Array<ArrayBuffer>;
  /** Memory that may be used again when the reader is done with it. */
  readonly memory: Uint8Array<ArrayBuffer> | undefined;
}

/** Reads the device while the stream is read. */
export class StateSource implements UnderlyingDefaultSource<Uint8Array<ArrayBuffer>> {
  readonly #migration: MigrationStates;
  readonly #proxy: VfioProxy;
  readonly #options: SaveOptions & { chunkSize: number };
  readonly #recovery: Recovery;
  readonly #reads: Promise<Chunk>[] = []; // in flight, in their order
  readonly #free: Uint8Array<ArrayBuffer>[] = []; // memory of chunks, to be used again
  #given: Uint8Array<ArrayBuffer> | undefined; // that of the chunk that the reader has
  #state: "PRE_COPY" | "STOP_COPY" | undefined; // undefined: it has not begun
  #before: AfterMigration = "RUNNING";
  // The newest answer in this state, against what was asked for.
  #last: "whole" | "short" | "empty" = "whole";
  #goesOnAfterShort = false; // whether data have come behind a short answer
  #shortAnswers = 0; // in this state
  #bytes = 0;

  constructor(
    migration: MigrationStates,
    proxy: VfioProxy,
    options: SaveOptions & { chunkSize: number },
  ) {
    this.#migration = migration;
    this.#proxy = proxy;
    this.#options = options;
    this.#recovery = new Recovery(migration, proxy, options.signal);
  }

  /** Hands the next chunk, or the end, to the stream. */
  async pull(
    controller: ReadableStreamDefaultController<Uint8Array<ArrayBuffer>>,
  ): Promise<void> {
    await this.#recovery.guard(async () => {
      if (this.#state === undefined) {
        this.#recovery.watch((reason) => controller.error(reason));
        await this.#begin();
      }
      const chunk = await this.#next();
      if (chunk === undefined) {
        await this.#setState(this.#options.after ?? this.#before);
        this.#recovery.done();
        return controller.close();
      }
      this.#bytes += chunk.length;
      this.#options.onProgress?.({ bytes: this.#bytes, state: this.#state! });
      controller.enqueue(chunk);
    });
  }

  /** The stream is not wanted any more. */
  cancel(reason: unknown): Promise<void> {
    return this.#recovery.abort(reason);
  }

  async #begin(): Promise<void> {
    const { preCopy = false } = this.#options;
    const wait = this.#recovery.wait(this.#options);
    if (preCopy && (await this.#migration.support(wait))?.preCopy !== true) {
      throw new RangeError("Cannot save the device while it runs: it has no PRE_COPY");
    }
    const state = await this.#migration.state(wait);
    if (state === "ERROR" || state === "RESUMING") {
      throw new RangeError(
        `Cannot save the device: it is in the state ${state}; ${
          state === "ERROR" ? "reset it first" : "set it to STOP or RUNNING first"
        }`,
      );
    }
    const isStopped = state === "STOP" || state === "STOP_COPY";
    this.#before = isStopped ? "STOP" : "RUNNING";
    this.#recovery.begin(this.#before);
    // One who was here before may have read a part.
    if (state !== this.#before) await this.#setState(this.#before);
    await this.#enter(preCopy && !isStopped ? "PRE_COPY" : "STOP_COPY");
  }

  async #enter(state: "PRE_COPY" | "STOP_COPY"): Promise<void> {
    await this.#setState(state);
    this.#state = state;
    this.#last = "whole";
    this.#goesOnAfterShort = false;
    this.#shortAnswers = 0;
  }

  #setState(state: AfterMigration | "PRE_COPY" | "STOP_COPY"): Promise<void> {
    return this.#migration.setState(state, this.#recovery.wait(this.#options));
  }

  /**
   * Returns the next bytes; undefined at the end. Only an empty answer ends a state. The
   * specification takes a short one for the last, but libvfio-user's devices answer with less than
   * was asked for in the middle. One request at a time follows a short answer.
   */
  async #next(): Promise<Uint8Array<ArrayBuffer> | undefined> {
    const given = this.#given;
    this.#given = undefined;
    // One that the reader has transferred elsewhere is gone.
    if (given !== undefined && given.length > 0) this.#free.push(given);
    while (true) {
      while (this.#reads.length < this.#pipeline) this.#reads.push(this.#read());
      const read = this.#reads.shift();
      if (read !== undefined) {
        const { data, memory } = await this.#orEnd(read);
        this.#goesOnAfterShort ||= this.#last !== "whole" && data.length > 0;
        const isWhole = data.length === this.#options.chunkSize;
        this.#last = isWhole ? "whole" : data.length > 0 ? "short" : "empty";
        if (!isWhole) this.#shortAnswers++;
        if (data.length > 0) {
          this.#given = memory;
          return data;
        }
        if (memory !== undefined) this.#free.push(memory);
      } else if (this.#state === "PRE_COPY") await this.#enter("STOP_COPY");
      else return undefined;
    }
  }

  /**
   * Number of requests that may be in flight. Those behind an empty answer are waited for: their
   * data belong to the state, too.
   */
  get #pipeline(): number {
    const isLong = this.#state === "PRE_COPY" && this.#shortAnswers >= MAX_SHORT_PRE_COPY;
    if (this.#last === "empty" || isLong) return 0;
    return this.#last === "short" && !this.#goesOnAfterShort ? 1 : SAVE_PIPELINE;
  }

  /**
   * A server that goes by the specification alone may refuse a request behind its short answer,
   * with EINVAL. That is the end, unless the server has gone on behind a short answer before.
   */
  async #orEnd(read: Promise<Chunk>): Promise<Chunk> {
    try {
      return await read;
    } catch (error) {
      const isEnd = this.#last !== "whole" && !this.#goesOnAfterShort &&
        error instanceof RemoteError && error.errno === EINVAL;
      if (!isEnd) throw error;
      return { data: new Uint8Array(), memory: undefined };
    }
  }

  #read(): Promise<Chunk> {
    const { chunkSize: size, reuseChunks = false } = this.#options;
    const payload = MigDataReadRequest.encode({ argsz: HEAD_SIZE + size, size });
    const memory = reuseChunks ? this.#free.pop() ?? new Uint8Array(size) : undefined;
    const request = this.#proxy.request(Command.MIG_DATA_READ, payload, {
      ...this.#recovery.wait(this.#options),
      ...(memory && { into: memory }),
      doing: () => `read the state of the device from byte ${this.#bytes} on`,
    });
    const read = request.then((reply) => ({ data: this.#dataOf(reply, memory), memory }));
    read.catch(() => {}); // looked at when it is its turn, if ever
    return read;
  }

  #dataOf(
    { payload, isPlaced }: Message,
    memory: Uint8Array<ArrayBuffer> | undefined,
  ): Uint8Array<ArrayBuffer> {
    const { chunkSize } = this.#options;
    try {
      if (isPlaced && payload.length === HEAD_SIZE) {
        const { size } = MigDataReplyLayout.decode(payload);
        if (size <= chunkSize) return memory!.subarray(0, size);
      }
      const { data } = MigDataReadReply.decode(payload);
      if (data.length > chunkSize) {
        throw new ProtocolError(
          `The server answered ${data.length} bytes of the device's state, asked for ${chunkSize}`,
        );
      }
      // Small answers that came together share a buffer, and a reader may transfer a chunk.
      return data.length < RECEIVE_SIZE ? data.slice() : data as Uint8Array<ArrayBuffer>;
    } catch (error) {
      this.#proxy.close(error as Error);
      throw error;
    }
  }
}
