/**
 * The modes of baseline.c, done with the library.
 *
 *   client.ts MODE PATH N [ARGUMENT]   for each line on stdin, do N operations
 *
 * @module
 */

import { connect } from "../../lib/client.ts";
import { DemoRegister } from "../../lib/devices/demo.ts";
import type { VfioProxy } from "../../lib/proxy.ts";
import { RegionReadRequest, RegionWriteRequest } from "../../lib/wire/access.ts";
import { Command } from "../../lib/wire/command.ts";
import { PciRegion } from "../../lib/wire/region.ts";
import { measureOnDemand } from "./stopwatch.ts";

const PLACE = { region: PciRegion.BAR0, offset: BigInt(DemoRegister.SCRATCH) };
const READ4 = RegionReadRequest.encode({ ...PLACE, count: 4 });
const WRITE4 = RegionWriteRequest.encode({ ...PLACE, data: new Uint8Array(4) });
/** Bytes of a reply's payload ahead of the data. */
const HEAD_SIZE = 16;

type Mode = (proxy: VfioProxy, count: number, argument: number) => void | Promise<void>;

/** Where the data of replies end up, so that reading them is part of the measurement. */
let sink = 0;

const modes: Record<string, Mode> = {
  "read4"(proxy, count) {
    for (let i = 0; i < count; i++) {
      sink ^= proxy.requestSync(Command.REGION_READ, READ4).payload[HEAD_SIZE]!;
    }
  },

  async "pipeline"(proxy, count, depth) {
    let started = 0;
    const reader = async () => {
      while (started < count) {
        started++;
        sink ^= (await proxy.request(Command.REGION_READ, READ4)).payload[HEAD_SIZE]!;
      }
    };
    await Promise.all(Array.from({ length: depth }, reader));
  },

  "write-posted"(proxy, count) {
    for (let i = 0; i < count; i++) {
      WRITE4[HEAD_SIZE] = i;
      proxy.post(Command.REGION_WRITE, WRITE4);
    }
    proxy.requestSync(Command.REGION_READ, READ4);
  },

  "write-flushed"(proxy, count) {
    for (let i = 0; i < count; i++) {
      WRITE4[HEAD_SIZE] = i;
      proxy.post(Command.REGION_WRITE, WRITE4);
      proxy.flushSync();
    }
    proxy.requestSync(Command.REGION_READ, READ4);
  },

  "read-bulk"(proxy, count, size) {
    const request = RegionReadRequest.encode({ ...PLACE, count: size });
    for (let i = 0; i < count; i++) {
      const { payload } = proxy.requestSync(Command.REGION_READ, request);
      if (payload.length !== HEAD_SIZE + size) throw new Error("The reply has another length");
      sink ^= payload[HEAD_SIZE]!;
    }
  },
};

if (import.meta.main) {
  const [mode = "", path = "", count, argument] = Deno.args;
  const run = modes[mode];
  if (run === undefined) throw new Error(`There is no mode "${mode}"`);
  using device = await connect(path);
  await measureOnDemand(Number(count), (batch) => run(device.proxy, batch, Number(argument)));
}
