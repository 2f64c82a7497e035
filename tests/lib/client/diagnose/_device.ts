/**
 * A device whose regions refuse what a test says.
 */

import { connect } from "../../../../lib/client/connect.ts";
import type { Device } from "../../../../lib/client/device.ts";
import {
  DeviceError,
  type ServedDevice,
  type ServedRegion,
} from "../../../../lib/server/served_device.ts";
import { embed } from "../../../../lib/server/embedded.ts";
import { Command } from "../../../../lib/wire/command.ts";
import { HeaderLayout, MessageFlags } from "../../../../lib/wire/header.ts";
import { DeviceFlags } from "../../../../lib/wire/device.ts";
import { RegionFlags } from "../../../../lib/wire/region.ts";

/** Says whether an access is answered. */
export type Rule = (access: { kind: "read" | "write"; offset: number; count: number }) => boolean;

/** Bytes of bar0. */
export const BAR0_SIZE = 0x1000;

/** A PCI device with bar0, which obeys the rule, and a configuration space of these bytes. */
export function refusingDevice(rule: Rule, config: Uint8Array, errno = 22): ServedDevice {
  const check = (kind: "read" | "write", offset: bigint | number, count: number) => {
    if (!rule({ kind, offset: Number(offset), count })) throw new DeviceError(errno);
  };
  const flags = RegionFlags.READ | RegionFlags.WRITE;
  const bar0: ServedRegion = {
    flags,
    size: BAR0_SIZE,
    read(offset, into) {
      check("read", offset, into.length);
      into.fill(0x5a);
    },
    write: (offset, data) => check("write", offset, data.length),
  };
  const space: ServedRegion = {
    flags,
    size: config.length,
    read: (at, into) => into.set(config.subarray(Number(at), Number(at) + into.length)),
    write: (at, data) => config.set(data, Number(at)),
  };
  const regions = [bar0, undefined, undefined, undefined, undefined, undefined, undefined, space];
  return { flags: DeviceFlags.PCI | DeviceFlags.RESET, regions, irqs: [], reset() {} };
}

/**
 * A configuration space in which BAR 0 has an address, if `address` is not 0, and COMMAND is
 * `command`.
 */
export function configWith(address: number, command: number): Uint8Array<ArrayBuffer> {
  const config = new Uint8Array(256);
  const view = new DataView(config.buffer);
  view.setUint16(0x04, command, true);
  view.setUint32(0x10, address, true);
  return config;
}

/** Connects to a device in this process, and counts what is sent. */
export async function connectTo(
  device: ServedDevice,
): Promise<{ device: Device; sent: Map<number, number> }> {
  const sent = new Map<number, number>();
  const client = await connect(embed(device, { onError: () => {} }).fd, {
    trace(direction, bytes) {
      const { command, flags } = HeaderLayout.decode(bytes);
      if (direction !== "sent" || (flags & MessageFlags.TYPE_MASK) !== 0) return;
      sent.set(command, (sent.get(command) ?? 0) + 1);
    },
  });
  await client.regionInfo(0);
  await client.regionInfo(7);
  return { device: client, sent };
}

/** Counts the REGION_READ that were sent. */
export function reads(sent: ReadonlyMap<number, number>): number {
  return sent.get(Command.REGION_READ) ?? 0;
}
