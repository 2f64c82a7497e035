/**
 * The demo device's copy engine: it copies within the client's memory by DMA.
 *
 * @module
 */

import { EIO, ETIMEDOUT } from "../../ffi/errno.ts";
import { RemoteError, TimeoutError } from "../base/errors.ts";
import { nextTurn } from "../base/turn.ts";
import type { DeviceDma } from "../server/device_dma.ts";
import { DeviceError } from "../server/served_device.ts";

/** Bytes that are copied at once; then others have their turn. */
const CHUNK_SIZE = 1 << 20;

/** Bits of DMA_STATUS: at most one of them, and none before the first copy. */
export const DmaStatus = { DONE: 1, ERROR: 2, BUSY: 0x8000_0000 } as const;

/** A copy, and its progress. */
export interface Copy {
  /** The first IOVA to read. */
  readonly source: bigint;
  /** The first IOVA to write. */
  readonly destination: bigint;
  /** Bytes of the copy, 32 bits. */
  readonly length: number;
  /** The vector that is raised at its end. */
  readonly vector: number;
  /** Bytes that are copied already. */
  readonly done: number;
}

/** Takes the end of a copy: Linux's error number, 0 for success. */
type Ended = (errno: number, vector: number) => void;

/**
 * An engine that does one copy at a time, in chunks of 1 MiB. Bytes that overlap within a chunk
 * arrive as they were before.
 */
export class CopyEngine {
  readonly #dma: DeviceDma;
  readonly #ended: Ended;
  #copy: Copy | undefined;
  #run = 0; // a run ends when this is not its number any more
  #isPaused = false;
  #running = Promise.resolve(); // settled when the last run accesses no more memory

  /** @param dma the client's memory, which belongs to whichever client is connected */
  constructor(dma: DeviceDma, ended: Ended) {
    this.#dma = dma;
    this.#ended = ended;
  }

  /**
   * The copy under way. Setting it abandons the previous copy. The new one begins, or goes on after
   * a pause.
   */
  get copy(): Copy | undefined {
    return this.#copy;
  }
  set copy(copy: Copy | undefined) {
    this.#run++;
    this.#copy = copy;
    if (copy !== undefined && !this.#isPaused) this.#goOn();
  }

  /** Pauses the copy. Settled when the engine accesses no more memory. */
  async pause(): Promise<void> {
    this.#isPaused = true;
    await this.#running;
  }

  /** Goes on with the copy, if there is one. */
  unpause(): void {
    this.#isPaused = false;
    if (this.#copy !== undefined) this.#goOn();
  }

  /** Fails the copy of a client that is gone. A paused one goes on with the next client. */
  disconnected(): void {
    if (this.#copy !== undefined && !this.#isPaused) this.#end(EIO);
  }

  #end(errno: number): void {
    const { vector } = this.#copy!;
    this.copy = undefined;
    this.#ended(errno, vector);
  }

  #goOn(): void {
    const run = ++this.#run;
    this.#running = this.#copyRest(run).then(() => 0, errnoOf).then((errno) => {
      if (run !== this.#run || this.#copy === undefined) return;
      if (errno !== 0 || this.#copy.done >= this.#copy.length) this.#end(errno);
    });
  }

  async #copyRest(run: number): Promise<void> {
    await undefined; // the write that started the copy is answered first
    for (let isFirst = true; this.#isToGoOn(run); isFirst = false) {
      if (!isFirst) await nextTurn();
      if (run !== this.#run || this.#isPaused) return;
      const { source, destination, length, done } = this.#copy!;
      const data = await this.#dma.read(source + BigInt(done), Math.min(CHUNK_SIZE, length - done));
      if (run !== this.#run) return;
      await this.#dma.write(destination + BigInt(done), data);
      if (run !== this.#run) return;
      this.#copy = { ...this.#copy!, done: done + data.length };
    }
  }

  #isToGoOn(run: number): boolean {
    return run === this.#run && this.#copy !== undefined && this.#copy.done < this.#copy.length;
  }
}

/** An error as the register shows it. */
function errnoOf(error: unknown): number {
  if (error instanceof DeviceError) return error.errno;
  if (error instanceof RemoteError) return error.errno || EIO;
  return error instanceof TimeoutError ? ETIMEDOUT : EIO;
}
