/** A client that has several requests under way: `deno run -A _busy_client.ts SOCKET`. */

import { connect } from "../../lib/client/connect.ts";
import { PATIENT } from "../_until.ts";

using device = await connect(Deno.args[0]!, PATIENT);
const bar0 = device.region("bar0");
const places = [0, 1, 2].map((i) => ({ iova: 0x10_0000 * (i + 1), size: 0x1000 }));
const maps = await Promise.all(places.map((place) => device.dma.mapAsync(place)));
await Promise.all([8, 0x10, 0x18].map((at) => bar0.write32Async(at, at)));
const found = await Promise.all([8, 0x10, 0x18].map((at) => bar0.read32Async(at)));
if (String(found) !== "8,16,24") throw new Error(`Found ${found}`);
bar0.writeBatch([0x40, 0x48, 0x50].map((offset) => ({ offset, data: new Uint8Array(4) })));
await Promise.all(maps.map((map) => map.unmapAsync()));
await device.reset(PATIENT);
