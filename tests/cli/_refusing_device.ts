/**
 * A device whose regions refuse parts of themselves, for `vfu serve`:
 *
 * - bar0: 64 KiB of registers of 4 bytes or more. 0x1000 to 0x2000 and the register at 0x8004
 *   refuse reads.
 * - bar1: can only be written.
 * - bar2: memory that is mapped, and refuses messages.
 *
 * A register at N reads as N.
 *
 * @module
 */

import { DeviceError, DeviceFlags, MemoryRegion, RegionFlags } from "../../mod.ts";
import type { ServedDevice, ServedRegion } from "../../mod.ts";

const SIZE = 0x10000;
const EINVAL = 22;

function isRefused(offset: number, length: number): boolean {
  const overlaps = (start: number, end: number) => offset < end && start < offset + length;
  return length < 4 || overlaps(0x1000, 0x2000) || overlaps(0x8004, 0x8008);
}

/** Makes the device. */
export default function makeDevice(): ServedDevice {
  const bar0: ServedRegion = {
    flags: RegionFlags.READ | RegionFlags.WRITE,
    size: SIZE,
    read(offset, into) {
      if (isRefused(offset, into.length)) throw new DeviceError(EINVAL);
      const view = new DataView(into.buffer, into.byteOffset, into.length);
      for (let at = 0; at + 4 <= into.length; at += 4) view.setUint32(at, offset + at, true);
    },
    write() {},
  };
  const bar1: ServedRegion = { ...bar0, flags: RegionFlags.WRITE };
  const memory = new MemoryRegion("bar2", 0x1000);
  const bar2: ServedRegion = {
    flags: memory.flags,
    size: memory.size,
    fds: memory.fds,
    read() {
      throw new DeviceError(EINVAL);
    },
    write() {
      throw new DeviceError(EINVAL);
    },
  };
  const flags = DeviceFlags.RESET;
  return { flags, regions: [bar0, bar1, bar2], irqs: [], reset() {} };
}
