/**
 * The window to a BAR in configuration space (Virtio 1.2, section 4.1.4.9), for firmware that
 * reaches no BAR. The driver writes which BAR, where and how many bytes. An access to the data is
 * one to the BAR then.
 *
 * @module
 */

import { cap, type DeviceContext, type DeviceRegion } from "../../mod.ts";

const TYPE = 5;

/** Offsets in the capability. */
const BAR_AT = 4;
const OFFSET_AT = 8;
const LENGTH_AT = 12;
const DATA_AT = 16;
const DATA_SIZE = 4;

/** The capability. */
export const WINDOW = cap.vendor([TYPE, ...new Uint8Array(16)], {
  writable: [0, 0xff, 0, 0, 0, ...new Uint8Array(12).fill(0xff)],
});

/** Has the window lead to a BAR. What can't be one access to it is none. */
export function openWindow(
  { capability }: Pick<DeviceContext, "capability">,
  bar: number,
  region: DeviceRegion,
): void {
  const bytes = capability(WINDOW, {
    offset: DATA_AT,
    size: DATA_SIZE,
    read: () => passOn("read"),
    write: () => passOn("write"),
  });
  const view = new DataView(bytes.buffer, bytes.byteOffset, bytes.length);

  function passOn(access: "read" | "write"): void | Promise<void> {
    const [at, length] = [view.getUint32(OFFSET_AT, true), view.getUint32(LENGTH_AT, true)];
    const isPossible = bytes[BAR_AT] === bar && [1, 2, 4].includes(length) && at % length === 0 &&
      at + length <= region.size;
    if (isPossible) return region[access](at, bytes.subarray(DATA_AT, DATA_AT + length));
  }
}
