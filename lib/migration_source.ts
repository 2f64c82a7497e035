/**
 * The state of a device on its way to the client: what feeds the stream of `Migration.save`.
 *
 * @module
 */

import { ProtocolError, RemoteError } from "./errors.ts";
import { SAVE_PIPELINE } from "./limits.ts";
import type { AfterMigration, Migration, SaveOptions } from "./migration.ts";
import { Recovery } from "./migration_recovery.ts";
import type { VfioProxy } from "./proxy.ts";
import type { Message } from "./stream.ts";
import { Command } from "./wire/command.ts";
import { MigDataReadReply, MigDataReadRequest, MigDataReplyLayout } from "./wire/migration.ts";

/** Bytes ahead of the data of a reply. */
const HEAD_SIZE = 8;

/** What a read has brought. */
interface Chunk {
  readonly data: Uint8Array<ArrayBuffer>;
  /** Memory that may be used again when the reader is done with it. */
  readonly memory: Uint8Array<ArrayBuffer> | undefined;
}

/** Reads the device while the stream is read. */
export class StateSource implements UnderlyingDefaultSource<Uint8Array<ArrayBuffer>> {
  readonly #migration: Migration;
  readonly #proxy: VfioProxy;
  readonly #options: SaveOptions & { chunkSize: number };
  readonly #recovery: Recovery;
  readonly #reads: Promise<Chunk>[] = []; // in flight, in their order
  readonly #free: Uint8Array<ArrayBuffer>[] = []; // memory of chunks, to be used again
  #given: Uint8Array<ArrayBuffer> | undefined; // that of the chunk that the reader has
  #state: "PRE_COPY" | "STOP_COPY" | undefined; // undefined: it has not begun
  #before: AfterMigration = "RUNNING";
  #isShort = false; // whether a read gave less than it asked for: nothing follows, in this state
  #bytes = 0;

  constructor(
    migration: Migration,
    proxy: VfioProxy,
    options: SaveOptions & { chunkSize: number },
  ) {
    this.#migration = migration;
    this.#proxy = proxy;
    this.#options = options;
    this.#recovery = new Recovery(migration, proxy, options.signal);
  }

  /** Gives the next chunk, or the end. */
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
    this.#isShort = false;
  }

  #setState(state: AfterMigration | "PRE_COPY" | "STOP_COPY"): Promise<void> {
    return this.#migration.setState(state, this.#recovery.wait(this.#options));
  }

  /** The next bytes; undefined at the end. */
  async #next(): Promise<Uint8Array<ArrayBuffer> | undefined> {
    if (this.#given !== undefined) this.#free.push(this.#given);
    this.#given = undefined;
    while (true) {
      while (!this.#isShort && this.#reads.length < SAVE_PIPELINE) this.#reads.push(this.#read());
      const read = this.#reads.shift();
      if (read !== undefined) {
        const { data, memory } = await this.#orNothing(read);
        this.#isShort = data.length < this.#options.chunkSize; // a server that gives more after that did not mean it so
        if (data.length > 0) {
          this.#given = memory;
          return data;
        }
        if (memory !== undefined) this.#free.push(memory);
      } else if (this.#state === "PRE_COPY") await this.#enter("STOP_COPY");
      else return undefined;
    }
  }

  /** What was asked for beyond the end, a server may as well refuse. */
  async #orNothing(read: Promise<Chunk>): Promise<Chunk> {
    try {
      return await read;
    } catch (error) {
      if (!this.#isShort || !(error instanceof RemoteError)) throw error;
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
      if (data.length <= chunkSize) return data as Uint8Array<ArrayBuffer>;
      throw new ProtocolError(
        `The server answered ${data.length} bytes of the device's state, asked for ${chunkSize}`,
      );
    } catch (error) {
      this.#proxy.close(error as Error);
      throw error;
    }
  }
}
