/**
 * A file in which the state of a served device is kept from one run to the next.
 *
 * @module
 */

import { hasState, restoreState, saveState } from "../../lib/server/state_snapshot.ts";
import type { ServedDevice } from "../../lib/server/served_device.ts";
import { thrownText } from "../../lib/base/thrown.ts";
import { PciRegion } from "../../lib/wire/region.ts";
import { HEADER, HEADER_NORMAL } from "../../lib/pci/registers.ts";
import { StateFile, StateFileWriter } from "../migrate/file.ts";
import { type DeviceIdentity, identityText, isSameDevice } from "../migrate/identity.ts";
import type { Context } from "../shared/context.ts";
import { openDestination } from "../shared/destination.ts";
import { exists } from "../shared/exists.ts";

/** Bytes of configuration space that say what a device is. */
const IDENTITY_SIZE = 0x30;

/**
 * Restores the state of a device from a file, if there is one.
 *
 * @returns true if there was
 * @throws {Error} if the file can't be used, is of another device, or the device refuses it
 * @throws {Error} if the file could not be written at the end
 */
export async function restoreFrom(
  path: string,
  name: string,
  device: ServedDevice,
  { out, signal }: Context,
): Promise<boolean> {
  if (!hasState(device)) {
    throw new Error(`Cannot keep the state of ${name}: the device does not migrate`);
  }
  const tryWriting = () => openDestination(path, out)[Symbol.dispose](); // not only at the end
  if (!await exists(path)) {
    tryWriting();
    return false;
  }
  using file = await StateFile.open(path, signal);
  tryWriting();
  const found = await identityOf(device);
  if (!isSameDevice(file.info.identity, found)) {
    throw new Error(
      `Cannot restore ${path}: it is of ${identityText(file.info.identity)}; ${name} is ` +
        `${identityText(found)}; name another file`,
    );
  }
  try {
    await restoreState(device, file.blocks(signal));
  } catch (cause) {
    throw new Error(
      `Cannot restore ${path}: ${name} refuses it: ${
        thrownText(cause)
      }; remove the file to start ` +
        "afresh",
      { cause },
    );
  }
  return true;
}

/**
 * Saves the state of a device, which stands still afterwards. The file is replaced once all of it
 * is there.
 *
 * @throws {Error} if the device does not tell its state, or the file can't be written
 */
export async function saveTo(
  path: string,
  device: ServedDevice,
  { out }: Context,
): Promise<number> {
  using destination = openDestination(path, out);
  const file = new StateFileWriter(
    await identityOf(device),
    (bytes) => destination.write(bytes),
  );
  for await (const chunk of saveState(device)) file.add(chunk);
  const { size } = file.finish();
  destination.finish();
  return size;
}

/** The registers of a device that say what it is; all 0 if it is no PCI device. */
async function identityOf({ regions }: ServedDevice): Promise<DeviceIdentity> {
  const bytes = new Uint8Array(IDENTITY_SIZE);
  await regions[PciRegion.CONFIG]?.read(0, bytes);
  const view = new DataView(bytes.buffer);
  return {
    vendor: view.getUint16(HEADER.VENDOR_ID, true),
    device: view.getUint16(HEADER.DEVICE_ID, true),
    subsystemVendor: view.getUint16(HEADER_NORMAL.SUBSYSTEM_VENDOR_ID, true),
    subsystem: view.getUint16(HEADER_NORMAL.SUBSYSTEM_ID, true),
    revision: bytes[HEADER.CLASS_REVISION]!,
  };
}
