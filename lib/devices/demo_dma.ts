/**
 * The demo device's copy engine: it copies within the client's memory, by DMA, and raises an interrupt when it is done.
 *
 * @module
 */

import { EIO, ENXIO, ETIMEDOUT } from "../../ffi/errno.ts";
import { RemoteError, TimeoutError } from "../errors.ts";
import { type DeviceDma, DeviceError } from "../server/device.ts";

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

/** Copies, one copy at a time. It goes forward in chunks of 1 MiB: what overlaps within a chunk arrives as it was. */
export class CopyEngine {
  #isBusy = false;
  #isDone = false;
  #errno = 0;
  #run = 0; // a copy stops when it is not this one

  /** Whether it copies. */
  get isBusy(): boolean {
    return this.#isBusy;
  }

  /** Whether the last copy is complete. */
  get isDone(): boolean {
    return this.#isDone;
  }

  /** Why the last copy failed: Linux's error number; 0 if it did not. */
  get errno(): number {
    return this.#errno;
  }

  /**
   * Starts a copy.
   *
   * @param dma the client's memory; without one it fails with ENXIO
   * @param onEnd called when it is complete or has failed
   */
  start(dma: DeviceDma | undefined, copy: Copy, onEnd: () => void): void {
    const run = ++this.#run;
    this.#isBusy = true;
    this.#isDone = false;
    this.#errno = 0;
    this.#copy(dma, copy, run).then(() => 0, errnoOf).then((errno) => {
      if (run !== this.#run) return;
      this.#end(errno);
      onEnd();
    });
  }

  /** Ends at once what can't be started. */
  refuse(errno: number, onEnd: () => void): void {
    this.#end(errno);
    onEnd();
  }

  /** Stops what is under way, and forgets what was. */
  reset(): void {
    this.#run++;
    this.#isBusy = this.#isDone = false;
    this.#errno = 0;
  }

  #end(errno: number): void {
    this.#isBusy = false;
    this.#isDone = errno === 0;
    this.#errno = errno;
  }

  async #copy(dma: DeviceDma | undefined, copy: Copy, run: number): Promise<void> {
    if (dma === undefined) throw new DeviceError(ENXIO);
    await undefined; // the write that has started it is answered first
    for (let at = 0; at < copy.length && run === this.#run; at += CHUNK_SIZE) {
      if (at > 0) await new Promise((resolve) => setTimeout(resolve));
      const length = Math.min(CHUNK_SIZE, copy.length - at);
      const data = await dma.read(copy.source + BigInt(at), length);
      if (run === this.#run) await dma.write(copy.destination + BigInt(at), data);
    }
  }
}

/** An error as the register shows it. */
function errnoOf(error: unknown): number {
  if (error instanceof DeviceError) return error.errno;
  if (error instanceof RemoteError) return error.errno || EIO;
  return error instanceof TimeoutError ? ETIMEDOUT : EIO;
}
