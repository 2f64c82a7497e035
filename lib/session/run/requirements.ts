/**
 * Compares the requirements of a session with its device.
 *
 * @module
 */

import type { Device } from "../../client/device.ts";
import type { WaitOptions } from "../../client/info.ts";
import { DeviceFlags } from "../../wire/device.ts";
import { hex } from "../../text/hex.ts";
import { PciRegion, RegionFlags } from "../../wire/region.ts";
import type { Requirements } from "../model.ts";
import { HEADER, HEADER_NORMAL } from "../../pci/registers.ts";
import { plural } from "../../text/plural.ts";

/** A requirement of a session that the device does not meet. */
export interface Lack {
  /** The subject, as "vendor" or "bar0". */
  readonly what: string;
  /** The required state. */
  readonly expected: string;
  /** The state found. */
  readonly found: string;
}

/**
 * Everything that a device lacks.
 *
 * @throws {RemoteError} if it refuses to describe itself
 *
 * @example
 * ```ts
 * import { connect } from "../../client/connect.ts";
 * import { DemoDevice } from "../../devices/demo_device.ts";
 * import { Server } from "../../server/server.ts";
 * import { parseSession } from "../file/load.ts";
 * import { lacks } from "./requirements.ts";
 *
 * const path = Deno.makeTempDirSync() + "/demo.sock";
 * using server = Server.listen(path, new DemoDevice());
 * using device = await connect(path);
 * const text = "requires: { vendor: 0x8086 }\nsteps: [{ read: bar0.l }]";
 * const { session } = await parseSession(text, "id.yaml");
 * const [lack] = await lacks(session!.requires, device);
 * console.assert(lack?.what === "vendor" && lack.expected === "0x8086");
 * ```
 */
export async function lacks(
  requires: Requirements,
  device: Device,
  options: WaitOptions = {},
): Promise<Lack[]> {
  const { flags, numRegions, numIrqs } = await device.info(options);
  const found: Lack[] = [];
  if (wantsIdentity(requires)) {
    if ((flags & DeviceFlags.PCI) === 0) {
      return [{ what: "device", expected: "a PCI device", found: "one of another kind" }];
    }
    found.push(...await identityLacks(requires, device, options));
  }
  for (const { index, size, flags: rights } of requires.regions) {
    const what = device.regionName(index);
    const info = index < numRegions ? await device.regionInfo(index, options) : undefined;
    if ((info?.size ?? 0n) < size) {
      found.push({ what, expected: `${hex(size)} bytes at least`, found: hex(info?.size ?? 0n) });
    }
    const missing = rights & ~(info?.flags ?? 0);
    if (missing !== 0) {
      found.push({ what, expected: flagWords(missing), found: "a region without" });
    }
  }
  for (const { index, count } of requires.irqs) {
    const has = index < numIrqs ? (await device.irqInfo(index, options)).count : 0;
    if (has >= count) continue;
    found.push({
      what: device.irqName(index),
      expected: `${plural(count, "vector")} at least`,
      found: String(has),
    });
  }
  return found;
}

function wantsIdentity({ vendor, device, subsystemVendor, subsystem, classCode }: Requirements) {
  return [vendor, device, subsystemVendor, subsystem, classCode].some((each) => each !== undefined);
}

async function identityLacks(
  requires: Requirements,
  device: Device,
  options: WaitOptions,
): Promise<Lack[]> {
  await device.regionInfo(PciRegion.CONFIG, options);
  const config = device.region("config");
  const found: Lack[] = [];
  const ids = [
    ["vendor", requires.vendor, HEADER.VENDOR_ID],
    ["device", requires.device, HEADER.DEVICE_ID],
    ["subsystem vendor", requires.subsystemVendor, HEADER_NORMAL.SUBSYSTEM_VENDOR_ID],
    ["subsystem", requires.subsystem, HEADER_NORMAL.SUBSYSTEM_ID],
  ] as const;
  for (const [what, wanted, at] of ids) {
    if (wanted === undefined) continue;
    const id = await config.read16Async(at, options);
    if (id !== wanted) found.push({ what, expected: hex(wanted, 4), found: hex(id, 4) });
  }
  const { classCode } = requires;
  if (classCode !== undefined) {
    const code = hex(await config.read32Async(HEADER.CLASS_REVISION, options) >>> 8, 6);
    if (!code.slice(2).startsWith(classCode.toLowerCase())) {
      found.push({ what: "class", expected: `0x${classCode}`, found: code });
    }
  }
  return found;
}

function flagWords(flags: number): string {
  return Object.entries(RegionFlags).filter(([, bit]) => (flags & bit) !== 0)
    .map(([name]) => name.toLowerCase()).join(" and ");
}
