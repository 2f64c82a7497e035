/**
 * Memory that is given to the device.
 *
 * @module
 */

import type { Device } from "../../../lib/client/device.ts";
import { Doorbell, type Mode, sink } from "./mode.ts";
import { bar0 } from "./region.ts";

/** As in baseline.c. */
const IOVA = 0x100000;
const SIZE = 1 << 20;

/** Modes by name. */
export const dmaModes: Record<string, Mode> = {
  "dma-copy"(device, size) {
    device.dma.map({ iova: IOVA, size: SIZE });
    const into = new Uint8Array(size);
    return (count) => {
      for (let i = 0; i < count; i++) {
        into.set(device.dma.view(IOVA, size));
        sink[0]! ^= into[i % size]!;
      }
    };
  },

  "dma-read": (device, size) => serveMemory(device, Doorbell.READ_MEMORY, size),
  "dma-write": (device, size) => serveMemory(device, Doorbell.WRITE_MEMORY, size),
};

/** The server accesses memory while the write that has it do so waits. */
function serveMemory(device: Device, doorbell: number, size: number) {
  device.dma.map({ iova: IOVA, size: SIZE, share: "message" });
  const region = bar0(device);
  return (count: number) => region.write64(doorbell, BigInt(count) | BigInt(size) << 32n);
}
