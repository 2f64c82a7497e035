/**
 * Asking a device everything that it can be asked without changing it.
 *
 * @module
 */

import type { Device } from "../../lib/client/device.ts";
import type { DeviceInfo, IrqInfo, Negotiated, RegionInfo } from "../../lib/client/info.ts";
import { STANDARD_INPUT } from "../../lib/base/input.ts";
import { RemoteError } from "../../lib/base/errors.ts";
import type { RegionIoFd } from "../../lib/client/io_fds.ts";
import {
  CONFIG_HEADER_SIZE,
  type ConfigSpace,
  parseConfigSpace,
} from "../../lib/pci/config_space.ts";
import type { RegionSizes } from "../../lib/pci/bar.ts";
import { PCI_IDS_PATHS, PciIds } from "../../lib/pci/pci_ids.ts";
import { DeviceFlags } from "../../lib/wire/device.ts";
import { irqNameOf } from "../../lib/wire/irq.ts";
import { PciRegion, regionNameOf } from "../../lib/wire/region.ts";

/** A refusal, as far as it is shown: a `RemoteError`, or one that was saved. */
export type Refusal = Pick<RemoteError, "errno" | "code" | "message">;

/** The server's reply to one question: an answer, or a refusal. */
export type Answer<T> = { readonly value: T } | { readonly refusal: Refusal };

/** A region as it is shown: its descriptors are counted. */
export type RegionView = Omit<RegionInfo, "fds"> & { readonly fds: { readonly length: number } };

/** A part of a region that a descriptor stands in for; `fd` is undefined if none came. */
export type IoFdView =
  & Pick<RegionIoFd, "offset" | "size" | "kind" | "flags" | "data">
  & { readonly fd: unknown };

/** The server's reply about a region or IRQ index. */
export type Indexed<T> = Answer<T> & { readonly index: number; readonly name: string };

/** Names from the machine's `pci.ids`, as far as they are there. */
export interface PciNames {
  readonly vendor?: string | undefined;
  readonly device?: string | undefined;
  readonly subsystem?: string | undefined;
}

/** The PCI view of a device. */
export interface PciView {
  /** Its configuration space; what was left out of it is 0. */
  readonly config: Uint8Array;
  /** The decoded space; undefined if it is too short to decode. */
  readonly space: ConfigSpace | undefined;
  /** Names of the ids in it. */
  readonly names: PciNames;
}

/** All that there is to know. */
export interface Probe {
  /** The version and limits that both ends agreed on. */
  readonly negotiated: Negotiated;
  /** The device's flags, and the numbers of its regions and IRQ indexes. */
  readonly info: DeviceInfo;
  /** Its regions, by index. */
  readonly regions: readonly Indexed<RegionView>[];
  /** Its IRQ indexes. */
  readonly irqs: readonly Indexed<IrqInfo>[];
  /** Its PCI view; undefined if it is no PCI device or has no configuration space. */
  readonly pci: Answer<PciView> | undefined;
  /**
   * The I/O descriptors of its regions, by region index; undefined if none were asked for, or none
   * came.
   */
  readonly ioFds: ReadonlyMap<number, readonly IoFdView[]> | undefined;
}

/** The questions to ask. */
export interface ProbeDeviceOptions {
  /** True if those bytes of configuration space that say nothing may be left out. */
  sparse?: boolean;
  /**
   * True if to ask for the I/O descriptors of the regions. Default: of servers that speak 0.1 or
   * later. Cloud Hypervisor's crate, which says 0.0, does not know the question, and gets out of
   * step.
   */
  ioFds?: boolean | undefined;
}

/**
 * Asks a device about itself.
 *
 * @throws as `Device.info`; and whatever ends the connection
 */
export async function probeDevice(
  device: Device,
  options: ProbeDeviceOptions = {},
): Promise<Probe> {
  const opening = PciIds.open(PCI_IDS_PATHS.filter(isReadable)); // while the server answers
  try {
    return await askAll(device, opening, options);
  } finally {
    await opening;
  }
}

async function askAll(
  device: Device,
  opening: Promise<PciIds | undefined>,
  options: ProbeDeviceOptions,
): Promise<Probe> {
  const info = await device.info();
  const isPci = (info.flags & DeviceFlags.PCI) !== 0;
  const [regions, irqs] = await Promise.all([
    askEach(info.numRegions, (index) => regionNameOf(index, isPci), (index) => {
      return device.regionInfo(index);
    }),
    askEach(info.numIrqs, (index) => irqNameOf(index, isPci), (index) => {
      return device.irqInfo(index);
    }),
  ]);
  const regionSizes = (index: number) => {
    const region = regions[index];
    return region && "value" in region ? region.value.size : undefined;
  };
  const hasConfig = isPci && (regionSizes(PciRegion.CONFIG) ?? 0n) > 0n;
  const config = hasConfig ? await ask(device.readConfigSpace(options)) : undefined;
  const pci = config && "value" in config
    ? { value: pciView(config.value, regionSizes, await opening) }
    : config;
  // Last, so that everything else is there if a server stumbles over it.
  const ioFds = options.ioFds ?? device.negotiated.minor >= 1
    ? await askIoFds(device, regions, options.ioFds)
    : undefined;
  return { negotiated: device.negotiated, info, regions, irqs, pci, ioFds };
}

/**
 * Asks for the I/O descriptors of each region that is there. They are closed; a refusal means that
 * there are none.
 *
 * @param isWanted whether it is an error if the server can't be asked
 */
async function askIoFds(
  device: Device,
  regions: Probe["regions"],
  isWanted = false,
): Promise<ReadonlyMap<number, readonly RegionIoFd[]> | undefined> {
  try {
    return await askEachForIoFds(device, regions);
  } catch (error) {
    if (isWanted) throw error;
    return undefined;
  }
}

async function askEachForIoFds(
  device: Device,
  regions: Probe["regions"],
): Promise<ReadonlyMap<number, readonly RegionIoFd[]>> {
  const found = new Map<number, readonly RegionIoFd[]>();
  await Promise.all(regions.map(async (region) => {
    if (!("value" in region) || region.value.size === 0n) return;
    const answer = await ask(device.regionIoFds(region.index));
    if (!("value" in answer)) return;
    using ioFds = answer.value;
    if (ioFds.entries.length > 0) found.set(region.index, ioFds.entries);
  }));
  return found;
}

/** Asks about every index below `count` at once. */
function askEach<T>(
  count: number,
  nameOf: (index: number) => string,
  question: (index: number) => Promise<T>,
): Promise<Indexed<T>[]> {
  return Promise.all(Array.from({ length: count }, async (_, index) => {
    return { index, name: nameOf(index), ...await ask(question(index)) };
  }));
}

/** A refusal is an answer too; anything else that fails ends the probe. */
async function ask<T>(question: Promise<T>): Promise<Answer<T>> {
  try {
    return { value: await question };
  } catch (error) {
    if (error instanceof RemoteError) return { refusal: error };
    throw error;
  }
}

/** Decodes a configuration space, and finds the names of its ids. */
export function pciView(
  config: Uint8Array,
  regionSizes: RegionSizes,
  ids: PciIds | undefined,
): PciView {
  if (config.length < CONFIG_HEADER_SIZE) return { config, space: undefined, names: {} };
  const space = parseConfigSpace(config, { regionSizes });
  const { vendorId, deviceId, subsystem } = space;
  const names = {
    vendor: ids?.vendor(vendorId),
    device: ids?.device(vendorId, deviceId),
    subsystem: subsystem && ids?.subsystem(vendorId, deviceId, subsystem.vendorId, subsystem.id),
  };
  return { config, space, names };
}

/** Reports whether a file may be read without asking anybody for the permission. */
export function isReadable(path: string): boolean {
  return Deno.permissions.querySync({ name: "read", path }).state === "granted";
}

/** Reports whether a path is a file or a pipe of what was saved, and not a socket. */
export function isSavedFile(path: string): boolean {
  if (path === STANDARD_INPUT) return true;
  if (!isReadable(path)) return false;
  try {
    const { isFile, isFifo } = Deno.statSync(path);
    return isFile || isFifo === true;
  } catch {
    return false; // connecting says why
  }
}
