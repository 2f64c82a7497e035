/**
 * A summary of a served device, as `vfu probe` would give it.
 *
 * @module
 */

import { classNames } from "../../lib/pci/class.ts";
import { HEADER } from "../../lib/pci/registers.ts";
import type { ServedDevice, ServedRegion } from "../../lib/server/served_device.ts";
import { DeviceFlags } from "../../lib/wire/device.ts";
import { hex, hexDigits } from "../../lib/text/hex.ts";
import { irqNameOf } from "../../lib/wire/irq.ts";
import { PciRegion, RegionFlags, regionNameOf } from "../../lib/wire/region.ts";
import { accessText, flagNames } from "../probe/flags.ts";
import { humanSize } from "../shared/size.ts";

/** A device in short. */
export interface DeviceJson {
  /** Names of its flags. */
  flag_names: string[];
  /** The ids in its configuration space; null for no PCI device. */
  pci: PciIdsJson | null;
  /** The regions that it has. */
  regions: { index: number; name: string; size: number; flags: number; flag_names: string[] }[];
  /** The IRQ indexes of which it has vectors. */
  irqs: { index: number; name: string; count: number }[];
}

/** Who made it, and what it is. */
export interface PciIdsJson {
  vendor_id: number;
  device_id: number;
  /** 24 bits: base class, subclass, programming interface. */
  class_code: number;
  revision: number;
}

/** Asks the device itself, ahead of its first client. */
export async function describeDevice(device: ServedDevice): Promise<DeviceJson> {
  const isPci = (device.flags & DeviceFlags.PCI) !== 0;
  const regions = [...device.regions.entries()].flatMap(([index, region]) =>
    region === undefined ? [] : [{
      index,
      name: regionNameOf(index, isPci),
      size: region.size,
      flags: region.flags,
      flag_names: flagNames(region.flags, RegionFlags),
    }]
  );
  const irqs = [...device.irqs.entries()].filter(([, { count }]) => count > 0)
    .map(([index, { count }]) => ({ index, name: irqNameOf(index, isPci), count }));
  const pci = isPci ? await readPci(device.regions[PciRegion.CONFIG]) : null;
  return { flag_names: flagNames(device.flags, DeviceFlags), pci, regions, irqs };
}

/** The description as lines for people. */
export function deviceLines({ pci, regions, irqs }: DeviceJson): string[] {
  const lines: string[] = [];
  if (pci !== null) {
    const { base, sub = base } = classNames(pci.class_code);
    const id = (value: number) => hexDigits(value, 4);
    lines.push(
      `PCI ${id(pci.vendor_id)}:${id(pci.device_id)}, class ${id(pci.class_code >> 8)}${
        sub === undefined ? "" : ` (${sub})`
      }, revision ${hex(pci.revision)}`,
    );
  }
  const each = regions.map(({ name, size, flags }) =>
    `${name} ${humanSize(BigInt(size))} ${accessText(flags)}`
  );
  lines.push(`Regions: ${each.join(", ") || "none"}`);
  lines.push(
    `Interrupts: ${irqs.map(({ name, count }) => `${name} ${count}`).join(", ") || "none"}`,
  );
  return lines;
}

async function readPci(config: ServedRegion | undefined): Promise<PciIdsJson | null> {
  if (config === undefined || config.size < 16) return null;
  const bytes = new Uint8Array(16);
  await config.read(0, bytes);
  const view = new DataView(bytes.buffer);
  return {
    vendor_id: view.getUint16(HEADER.VENDOR_ID, true),
    device_id: view.getUint16(HEADER.DEVICE_ID, true),
    class_code: view.getUint32(HEADER.CLASS_REVISION, true) >>> 8,
    revision: view.getUint8(HEADER.CLASS_REVISION),
  };
}
