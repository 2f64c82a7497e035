/**
 * Devices that leave the memory alone which they were given.
 *
 * @module
 */

import { crc32 } from "../../lib/base/crc32.ts";
import { dmaSilenceText } from "../../lib/client/diagnose/diagnose.ts";
import type { Device } from "../../lib/client/device.ts";
import type { DmaMap } from "../../lib/client/dma_map.ts";

/** Shared memory that is compared: more would cost time and, if it is sparse, memory. */
const MAX_COMPARED = 64 << 20;

/** Words about a device that did no DMA. */
export interface Silence {
  /** The sentence about what is seen. */
  readonly text: string;
  /** The causes, in one text. */
  readonly why?: string;
  /** True if the device can do no DMA; else it may have done some. */
  readonly isCertain: boolean;
}

/** Accesses of a device to its memory, as far as they are seen. */
export class DmaSigns {
  /** True if an access came as a message. */
  hasAccessed = false;
  readonly #device: Device;
  readonly #checksums: ReadonlyMap<DmaMap, number> | undefined;

  /** Looks at the memory as it is now, before the device is told to use it. */
  constructor(device: Device) {
    this.#device = device;
    const shared = device.dma.maps.filter(({ isShared }) => isShared);
    const size = shared.reduce((sum, map) => sum + map.size, 0);
    if (size > MAX_COMPARED) return;
    this.#checksums = new Map(shared.map((map) => [map, crc32(map.bytes)]));
  }

  /**
   * Says that the device did no DMA, and why as far as it tells.
   *
   * @returns nothing if it did some, or may have: its reads of shared memory are not seen
   */
  async silence(): Promise<Silence | undefined> {
    const checksums = this.#checksums;
    if (this.hasAccessed) return undefined;
    const isUnchanged = checksums !== undefined &&
      [...checksums].every(([map, before]) => crc32(map.bytes) === before);
    if (checksums !== undefined && !isUnchanged) return undefined;
    const why = await dmaSilenceText(this.#device);
    if (why !== undefined) {
      return { text: "The device did no DMA that is seen", why, isCertain: true };
    }
    if (!isUnchanged) return undefined;
    const shared = checksums.size > 0
      ? "the shared memory is as it was, and reads of it are not seen (:message shows them)"
      : "it asked for none of the memory";
    return { text: `The device did no DMA that is seen: ${shared}`, isCertain: false };
  }
}
