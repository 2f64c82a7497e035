/**
 * The identity of the device of a saved state.
 *
 * @module
 */

import type { Device } from "../../lib/client/device.ts";
import { RemoteError } from "../../lib/base/errors.ts";
import type { DeviceStateName } from "../../lib/client/migration/options.ts";
import { DeviceFlags } from "../../lib/wire/device.ts";
import { PciRegion } from "../../lib/wire/region.ts";
import { hexDigits } from "../../lib/text/hex.ts";
import { HEADER, HEADER_NORMAL } from "../../lib/pci/registers.ts";

/** A PCI device, as its configuration space has it. All 0 if it is none. */
export interface DeviceIdentity {
  readonly vendor: number;
  readonly device: number;
  readonly subsystemVendor: number;
  readonly subsystem: number;
  readonly revision: number;
}

/** The registers that say what a device is. */
const IDENTITY_REGISTERS = [
  HEADER.VENDOR_ID,
  HEADER.CLASS_REVISION,
  HEADER_NORMAL.SUBSYSTEM_VENDOR_ID,
];

const NO_PCI_DEVICE: DeviceIdentity = {
  vendor: 0,
  device: 0,
  subsystemVendor: 0,
  subsystem: 0,
  revision: 0,
};

/**
 * Asks in which state a device is.
 *
 * @throws {RangeError} if it does not migrate, or has failed
 */
export async function stateOf({ migration }: Device): Promise<DeviceStateName> {
  if (await migration.support() === undefined) {
    throw new RangeError("The device does not migrate: its server refuses the feature MIGRATION");
  }
  const state = await migration.state();
  if (state !== "ERROR") return state;
  throw new RangeError("The device has failed (state ERROR): reset it first (vfu reset SOCKET)");
}

/**
 * Asks a device what it is. Nothing changes: configuration space can be read of a device that is
 * stopped, too.
 *
 * @throws {RemoteError} if it is a PCI device and does not tell; the message says so if it is
 *   stopped, and its server serves nothing then
 */
export async function identify(device: Device): Promise<DeviceIdentity> {
  try {
    return await readConfig(device);
  } catch (error) {
    if (!(error instanceof RemoteError) || await hasConfig(device)) throw error;
    return NO_PCI_DEVICE;
  }
}

async function hasConfig(device: Device): Promise<boolean> {
  const { flags, numRegions } = await device.info();
  if ((flags & DeviceFlags.PCI) === 0 || numRegions <= PciRegion.CONFIG) return false;
  return (await device.regionInfo(PciRegion.CONFIG)).size > 0n;
}

async function readConfig(device: Device): Promise<DeviceIdentity> {
  const [id, revision, subsystem] = await Promise.all(
    IDENTITY_REGISTERS.map(async (at) => {
      const bytes = await device.readRegion(PciRegion.CONFIG, BigInt(at), 4);
      return new DataView(bytes.buffer, bytes.byteOffset, 4).getUint32(0, true);
    }),
  );
  return {
    vendor: id! & 0xffff,
    device: id! >>> 16,
    subsystemVendor: subsystem! & 0xffff,
    subsystem: subsystem! >>> 16,
    revision: revision! & 0xff,
  };
}

/** Reports whether two are of the same kind. */
export function isSameDevice(a: DeviceIdentity, b: DeviceIdentity): boolean {
  return a.vendor === b.vendor && a.device === b.device && a.revision === b.revision &&
    a.subsystemVendor === b.subsystemVendor && a.subsystem === b.subsystem;
}

/** A device in words: "1234:0de5, subsystem 1234:0001, revision 1", or "no PCI device". */
export function identityText(identity: DeviceIdentity): string {
  if (isSameDevice(identity, NO_PCI_DEVICE)) return "no PCI device";
  const { vendor, device, subsystemVendor, subsystem, revision } = identity;
  const id = (value: number) => hexDigits(value, 4);
  return `${id(vendor)}:${id(device)}, subsystem ${id(subsystemVendor)}:${id(subsystem)}, ` +
    `revision ${revision}`;
}

/** The same in JSON. */
export function identityJson(identity: DeviceIdentity) {
  const { vendor, device, subsystemVendor, subsystem, revision } = identity;
  return { vendor, device, subsystem_vendor: subsystemVendor, subsystem, revision };
}
