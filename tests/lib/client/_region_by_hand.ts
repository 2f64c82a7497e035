/**
 * A region whose server is driven by hand.
 */

import { createMemfd } from "../../../ffi/memory.ts";
import { connect } from "../../../lib/client/connect.ts";
import type { Device } from "../../../lib/client/device.ts";
import type { Region } from "../../../lib/client/region.ts";
import { Command } from "../../../lib/wire/command.ts";
import { RegionFlags, RegionInfoReply } from "../../../lib/wire/region.ts";
import { RawPeer } from "../../_raw_peer.ts";

/** Facts about the region; the rest are defaults. */
export interface FakeRegion {
  size?: bigint;
  flags?: number;
  offset?: bigint;
  capabilities?: RegionInfoReply["capabilities"];
}

/** A device whose server is driven by hand, with one region known. */
export async function withRegion(
  region: FakeRegion,
  body: (region: Region, peer: RawPeer, device: Device) => Promise<void>,
  fdSize?: number,
): Promise<void> {
  const [peer, socket] = RawPeer.pair();
  const connecting = connect(socket.release());
  await peer.acceptVersion();
  using device = await connecting;
  const info = device.regionInfo(0);
  const {
    size = 0x4000n,
    flags = RegionFlags.READ | RegionFlags.WRITE,
    offset = 0n,
    capabilities = [],
  } = region;
  // The first request's argsz has no room for capabilities. This server sends them all the same,
  // as some do.
  const request = await peer.expect(Command.DEVICE_GET_REGION_INFO);
  using fd = fdSize === undefined ? undefined : createMemfd("test", fdSize);
  const reply = RegionInfoReply.encode({ argsz: 32, flags, index: 0, size, offset, capabilities });
  peer.reply(request, reply, fd && [fd]);
  await info;
  await body(device.region(0), peer, device);
  peer.close();
}
