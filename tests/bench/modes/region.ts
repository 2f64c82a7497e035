/**
 * A `Region`, by message and through its map.
 *
 * @module
 */

import { createMemfd } from "../../../ffi/memory.ts";
import type { Device } from "../../../lib/client/device.ts";
import { DemoRegister } from "../../../lib/devices/demo.ts";
import { Region } from "../../../lib/client/region.ts";
import { PciRegion, RegionFlags } from "../../../lib/wire/region.ts";
import { type Mode, sink } from "./mode.ts";

const SIZE = 1 << 20;
const POSTED = { posted: true };

/** BAR0, of which the server of baseline.c tells nothing; mapped if there is something to map. */
export function bar0(device: Device, { isMapped = false } = {}): Region {
  const info = {
    index: PciRegion.BAR0,
    flags: RegionFlags.READ | RegionFlags.WRITE | (isMapped ? RegionFlags.MMAP : 0),
    size: BigInt(SIZE),
    offset: 0n,
    capabilities: [],
    fds: isMapped ? [createMemfd("vfu-bench", SIZE)] : [],
  };
  return new Region(info, device);
}

/** Modes by name. */
export const regionModes: Record<string, Mode> = {
  "region-read4": (device) => read4(bar0(device)),
  "map-read4": (device) => read4(bar0(device, { isMapped: true })),
  "region-read-bulk": (device, size) => readBulk(bar0(device), size),
  "map-copy": (device, size) => readBulk(bar0(device, { isMapped: true }), size),

  "region-pipeline"(device, depth) {
    const region = bar0(device);
    return async (count) => {
      let started = 0;
      const reader = async () => {
        while (started < count) {
          started++;
          sink[0]! ^= await region.read32Async(DemoRegister.SCRATCH);
        }
      };
      await Promise.all(Array.from({ length: depth }, reader));
    };
  },

  "region-write-posted"(device) {
    const region = bar0(device);
    return (count) => {
      for (let i = 0; i < count; i++) region.write32(DemoRegister.SCRATCH, i, POSTED);
      region.read32(DemoRegister.SCRATCH);
    };
  },

  "map-write4"(device) {
    const region = bar0(device, { isMapped: true });
    return (count) => {
      for (let i = 0; i < count; i++) region.write32(DemoRegister.SCRATCH, i);
    };
  },
};

function read4(region: Region) {
  return (count: number) => {
    let last = 0;
    for (let i = 0; i < count; i++) last ^= region.read32(DemoRegister.SCRATCH);
    sink[0] = last;
  };
}

function readBulk(region: Region, size: number) {
  const into = new Uint8Array(size);
  return (count: number) => {
    for (let i = 0; i < count; i++) {
      region.read(0, size, { into });
      sink[0]! ^= into[i % size]!;
    }
  };
}
