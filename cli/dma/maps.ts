/**
 * All maps that a command gives a device, and takes back.
 *
 * @module
 */

import type { DmaSpace } from "../../lib/client/dma.ts";
import type { DmaMapOptions } from "../../lib/client/dma_map.ts";
import type { WaitOptions } from "../../lib/client/info.ts";

/**
 * Maps one after the other, until the signal comes. Throws as `DmaSpace.mapAsync`, or its reason.
 */
export async function mapAll(
  dma: DmaSpace,
  maps: readonly DmaMapOptions[],
  signal: AbortSignal,
): Promise<void> {
  for (const map of maps) {
    signal.throwIfAborted();
    await dma.mapAsync(map);
  }
}

/** Takes back all that is mapped. Throws as `DmaSpace.unmapAsync`. */
export async function unmapAll({ maps }: DmaSpace, wait: WaitOptions): Promise<void> {
  for (const map of maps) await map.unmapAsync(wait);
}
