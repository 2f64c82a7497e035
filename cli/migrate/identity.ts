/**
 * Of which device a saved state is.
 *
 * @module
 */

import type { Device } from "../../lib/device.ts";
import { RemoteError } from "../../lib/errors.ts";
import { PciRegion } from "../../lib/wire/region.ts";

/** A PCI device, as its configuration space has it. All 0 if it is none. */
export interface DeviceIdentity {
  readonly vendor: number;
  readonly device: number;
  readonly subsystemVendor: number;
  readonly subsystem: number;
  readonly revision: number;
}

const NO_PCI_DEVICE: DeviceIdentity = {
  vendor: 0,
  device: 0,
  subsystemVendor: 0,
  subsystem: 0,
  revision: 0,
};

/** Where configuration space says it. */
const ID_AT = 0x00;
const REVISION_AT = 0x08;
const SUBSYSTEM_AT = 0x2c;

/**
 * Asks a device what it is. One that is stopped answers that only while it is read, so it is taken to that state and back.
 *
 * @throws {RangeError} if it does not migrate
 */
export async function identify(device: Device): Promise<DeviceIdentity> {
  const { migration } = device;
  if (await migration.support() === undefined) {
    throw new RangeError("The device does not migrate: its server refuses the feature MIGRATION");
  }
  if (await migration.state() !== "STOP") return await readIdentity(device);
  await migration.setState("STOP_COPY");
  try {
    return await readIdentity(device);
  } finally {
    await migration.setState("STOP");
  }
}

async function readIdentity(device: Device): Promise<DeviceIdentity> {
  try {
    return await readConfig(device);
  } catch (error) {
    if (error instanceof RemoteError) return NO_PCI_DEVICE; // it has no configuration space
    throw error;
  }
}

async function readConfig(device: Device): Promise<DeviceIdentity> {
  const [id, revision, subsystem] = await Promise.all(
    [ID_AT, REVISION_AT, SUBSYSTEM_AT].map(async (at) => {
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

/** Whether two are of the same kind. */
export function isSameDevice(a: DeviceIdentity, b: DeviceIdentity): boolean {
  return a.vendor === b.vendor && a.device === b.device && a.revision === b.revision &&
    a.subsystemVendor === b.subsystemVendor && a.subsystem === b.subsystem;
}

/** A device in words: "1234:0de5, subsystem 1234:0001, revision 1", or "no PCI device". */
export function identityText(identity: DeviceIdentity): string {
  if (isSameDevice(identity, NO_PCI_DEVICE)) return "no PCI device";
  const { vendor, device, subsystemVendor, subsystem, revision } = identity;
  const id = (value: number) => value.toString(16).padStart(4, "0");
  return `${id(vendor)}:${id(device)}, subsystem ${id(subsystemVendor)}:${id(subsystem)}, ` +
    `revision ${revision}`;
}

/** The same in JSON. */
export function identityJson(identity: DeviceIdentity) {
  const { vendor, device, subsystemVendor, subsystem, revision } = identity;
  return { vendor, device, subsystem_vendor: subsystemVendor, subsystem, revision };
}
