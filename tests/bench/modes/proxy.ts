/**
 * Messages about a register, by the proxy alone.
 *
 * @module
 */

import { DemoRegister } from "../../../lib/devices/demo.ts";
import { RegionReadRequest, RegionWriteRequest } from "../../../lib/wire/access.ts";
import { Command } from "../../../lib/wire/command.ts";
import { PciRegion } from "../../../lib/wire/region.ts";
import { type Mode, sink } from "./mode.ts";

const PLACE = { region: PciRegion.BAR0, offset: BigInt(DemoRegister.SCRATCH) };
const READ4 = RegionReadRequest.encode({ ...PLACE, count: 4 });
const WRITE4 = RegionWriteRequest.encode({ ...PLACE, data: new Uint8Array(4) });
/** Bytes of a reply's payload ahead of the data. */
const HEAD_SIZE = 16;

/** Modes by name. */
export const proxyModes: Record<string, Mode> = {
  "read4": ({ proxy }) => (count) => {
    for (let i = 0; i < count; i++) {
      sink[0]! ^= proxy.requestSync(Command.REGION_READ, READ4).payload[HEAD_SIZE]!;
    }
  },

  "pipeline": ({ proxy }, depth) => async (count) => {
    let started = 0;
    const reader = async () => {
      while (started < count) {
        started++;
        sink[0]! ^= (await proxy.request(Command.REGION_READ, READ4)).payload[HEAD_SIZE]!;
      }
    };
    await Promise.all(Array.from({ length: depth }, reader));
  },

  "write-posted": ({ proxy }) => (count) => {
    for (let i = 0; i < count; i++) {
      WRITE4[HEAD_SIZE] = i;
      proxy.post(Command.REGION_WRITE, WRITE4);
    }
    proxy.requestSync(Command.REGION_READ, READ4);
  },

  "write-flushed": ({ proxy }) => (count) => {
    for (let i = 0; i < count; i++) {
      WRITE4[HEAD_SIZE] = i;
      proxy.post(Command.REGION_WRITE, WRITE4);
      proxy.flushSync();
    }
    proxy.requestSync(Command.REGION_READ, READ4);
  },

  "read-bulk": ({ proxy }, size) => {
    const request = RegionReadRequest.encode({ ...PLACE, count: size });
    return (count) => {
      for (let i = 0; i < count; i++) {
        const { payload } = proxy.requestSync(Command.REGION_READ, request);
        if (payload.length !== HEAD_SIZE + size) throw new Error("The reply has another length");
        sink[0]! ^= payload[HEAD_SIZE]!;
      }
    };
  },
};
