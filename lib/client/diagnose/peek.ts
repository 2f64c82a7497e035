/**
 * Reads of a device for evidence: they may fail, and all of them together take a bounded time.
 *
 * @module
 */

import { monotonicMs } from "../../../ffi/clock.ts";
import type { Device } from "../device.ts";
import { RemoteError } from "../../base/errors.ts";
import type { Width } from "../info.ts";
import { PciRegion } from "../../wire/region.ts";

/** Limit of all reads together, in milliseconds. */
const BUDGET_MS = 1000;

/** Reads of one device. None of them throws: what can't be read is undefined. */
export class Peek {
  readonly #device: Device;
  readonly #deadline = monotonicMs() + BUDGET_MS;
  #isOver = false;

  /** Reads of `device` within the next second. */
  constructor(device: Device) {
    this.#device = device;
  }

  /** The number at an offset of a region. */
  async read(region: number, offset: number, width: Width): Promise<number | undefined> {
    return await this.#attempt(async (wait) => {
      // So that opening does not block.
      const { size } = await this.#device.regionInfo(region, wait);
      if (size < BigInt(offset + width)) return undefined;
      const options = { ...wait, explain: false };
      return Number(await this.#device.region(region).readWidthAsync(offset, width, options));
    });
  }

  /** The number at an offset of the configuration space. */
  config(offset: number, width: Width): Promise<number | undefined> {
    return this.read(PciRegion.CONFIG, offset, width);
  }

  /** The offset of a capability by its name. */
  capability(name: string): Promise<number | undefined> {
    return this.#attempt((wait) => this.#device.pci.capability(name, 0, wait));
  }

  /**
   * Gives up at the first failure that is no refusal: a device that does not answer would cost the
   * time again.
   */
  async #attempt<T>(look: (wait: { timeoutMs: number }) => Promise<T>): Promise<T | undefined> {
    const timeoutMs = this.#deadline - monotonicMs();
    if (this.#isOver || timeoutMs <= 0 || this.#device.state !== "CONNECTED") return undefined;
    try {
      return await this.#device.explaining(() => look({ timeoutMs }));
    } catch (error) {
      const isRefused = error instanceof RemoteError || error instanceof RangeError ||
        error instanceof TypeError;
      if (!isRefused) this.#isOver = true;
      return undefined;
    }
  }
}
