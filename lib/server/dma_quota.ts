/**
 * Bounds of the DMA that may be under way at once.
 *
 * @module
 */

import { EAGAIN } from "../../ffi/errno.ts";
import { MAX_DMA_BYTES_IN_FLIGHT, MAX_DMA_IN_FLIGHT, MAX_DMA_WAITING } from "../base/limits.ts";
import { DeviceError } from "./served_device.ts";

/** One that waits for its turn. */
interface Waiting {
  readonly bytes: number;
  readonly go: () => void;
}

/**
 * Bounds requests and their bytes. Requests beyond the bound wait for their turn, in order, and
 * hold nothing meanwhile. When too many wait, further requests are refused.
 */
export class Quota {
  #count = 0;
  #bytes = 0;
  readonly #waiting: Waiting[] = [];

  /**
   * Takes `bytes`.
   *
   * @returns undefined if it is its turn at once, else what is settled when it is
   * @throws {DeviceError} EAGAIN if too many wait
   */
  enter(bytes: number): Promise<void> | undefined {
    if (this.#waiting.length === 0 && this.#fits(bytes)) {
      this.#take(bytes);
      return undefined;
    }
    if (this.#waiting.length >= MAX_DMA_WAITING) {
      throw new DeviceError(
        EAGAIN,
        `Cannot ask the client for more memory: ${MAX_DMA_WAITING} requests wait already`,
      );
    }
    return new Promise((go) => this.#waiting.push({ bytes, go }));
  }

  /** Gives `bytes` back. */
  leave(bytes: number): void {
    this.#count--;
    this.#bytes -= bytes;
    while (this.#waiting.length > 0 && this.#fits(this.#waiting[0]!.bytes)) {
      const next = this.#waiting.shift()!;
      this.#take(next.bytes);
      next.go();
    }
  }

  #fits(bytes: number): boolean {
    return this.#count === 0 ||
      (this.#count < MAX_DMA_IN_FLIGHT && this.#bytes + bytes <= MAX_DMA_BYTES_IN_FLIGHT);
  }

  #take(bytes: number): void {
    this.#count++;
    this.#bytes += bytes;
  }
}
