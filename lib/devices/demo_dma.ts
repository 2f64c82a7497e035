/**
 * The demo device's copy engine: it copies within the client's memory, by DMA, and raises an interrupt when it is done.
 *
 * @module
 */

import { EIO, ENXIO, ETIMEDOUT } from "../../ffi/errno.ts";
import { RemoteError, TimeoutError } from "../base/errors.ts";
import { type DeviceDma, DeviceError } from "../server/served_device.ts";
import { nextTurn } from "../base/turn.ts";

/** Bytes that are copied at once; then others have their turn. */
const CHUNK_SIZE = 1 << 20;

/** What is to be copied. */
export interface Copy {
  /** The first IOVA to read. */
  readonly source: bigint;
  /** The first IOVA to write. */
  readonly destination: bigint;
  /** How many bytes, 32 bits. */
  readonly length: number;
}

/** What an engine is doing, and what came of the last copy. */
export interface CopyState {
  /** What it copies, and how many bytes of that are done; undefined if it does nothing. */
  readonly copy: (Copy & { readonly done: number }) | undefined;
  /** Whether the last copy is complete. */
  readonly isDone: boolean;
  /** Why the last copy failed: Linux's error number; 0 if it did not. */
  readonly errno: number;
}

/** Copies, one copy at a time. It goes forward in chunks of 1 MiB: what overlaps within a chunk arrives as it was. */
export class CopyEngine {
  #copy: Copy | undefined; // that is under way
  #done = 0; // bytes of it
  #isDone = false;
  #errno = 0;
  #run = 0; // a copy stops when it is not this one
  #isPaused = false;
  #running = Promise.resolve(); // settled when nothing of a copy is under way any more

  /** Whether it copies. */
  get isBusy(): boolean {
    return this.#copy !== undefined;
  }

  /** Whether the last copy is complete. */
  get isDone(): boolean {
    return this.#isDone;
  }

  /** Why the last copy failed: Linux's error number; 0 if it did not. */
  get errno(): number {
    return this.#errno;
  }

  /** All of that; setting it ends what is under way. A copy that it has goes on when the engine does. */
  get state(): CopyState {
    const copy = this.#copy && { ...this.#copy, done: this.#done };
    return { copy, isDone: this.#isDone, errno: this.#errno };
  }
  set state({ copy, isDone, errno }: CopyState) {
    this.#run++;
    this.#copy = copy;
    this.#done = copy?.done ?? 0;
    this.#isDone = isDone;
    this.#errno = errno;
  }

  /**
   * Starts a copy.
   *
   * @param dma the client's memory; without one it fails with ENXIO
   * @param onEnd called when it is complete or has failed
   */
  start(dma: DeviceDma | undefined, copy: Copy, onEnd: () => void): void {
    this.state = { copy: { ...copy, done: 0 }, isDone: false, errno: 0 };
    if (!this.#isPaused) this.#goOn(dma, onEnd);
  }

  /** Stands still, until it is unpaused. Settled when nothing is read or written any more. */
  async pause(): Promise<void> {
    this.#isPaused = true;
    await this.#running;
  }

  /** Goes on with a copy, if there is one. As `start`. */
  unpause(dma: DeviceDma | undefined, onEnd: () => void): void {
    this.#isPaused = false;
    if (this.#copy !== undefined) this.#goOn(dma, onEnd);
  }

  /** Ends at once what can't be started. */
  refuse(errno: number, onEnd: () => void): void {
    this.#end(errno);
    onEnd();
  }

  /** Stops what is under way, and forgets what was. */
  reset(): void {
    this.state = { copy: undefined, isDone: false, errno: 0 };
  }

  #end(errno: number): void {
    this.#copy = undefined;
    this.#isDone = errno === 0;
    this.#errno = errno;
  }

  #goOn(dma: DeviceDma | undefined, onEnd: () => void): void {
    const run = ++this.#run;
    this.#running = this.#copyRest(dma, this.#copy!, run).then(() => 0, errnoOf).then((errno) => {
      const isOver = errno !== 0 || this.#done >= (this.#copy?.length ?? 0);
      if (run !== this.#run || !isOver) return;
      this.#end(errno);
      onEnd();
    });
  }

  async #copyRest(dma: DeviceDma | undefined, copy: Copy, run: number): Promise<void> {
    if (dma === undefined) throw new DeviceError(ENXIO);
    await undefined; // the write that has started it is answered first
    const start = this.#done;
    while (this.#done < copy.length) {
      if (this.#done > start) await nextTurn();
      if (run !== this.#run || this.#isPaused) return;
      const at = BigInt(this.#done);
      const length = Math.min(CHUNK_SIZE, copy.length - this.#done);
      const data = await dma.read(copy.source + at, length);
      if (run !== this.#run) return;
      await dma.write(copy.destination + at, data);
      if (run !== this.#run) return;
      this.#done += length;
    }
  }
}

/** An error as the register shows it. */
function errnoOf(error: unknown): number {
  if (error instanceof DeviceError) return error.errno;
  if (error instanceof RemoteError) return error.errno || EIO;
  return error instanceof TimeoutError ? ETIMEDOUT : EIO;
}
