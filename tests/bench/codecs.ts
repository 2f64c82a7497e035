/**
 * Encoding and decoding of messages, without a socket.
 *
 *   codecs.ts encode|decode SUBJECT N   for each line on stdin, do it N times
 *
 * @module
 */

import { RegionReadReply, RegionReadRequest } from "../../lib/wire/access.ts";
import type { Codec } from "../../lib/wire/codec.ts";
import { HeaderLayout } from "../../lib/wire/header.ts";
import { RegionInfoReply } from "../../lib/wire/region.ts";
import { Version } from "../../lib/wire/version.ts";
import { measureOnDemand } from "./stopwatch.ts";

/** A message, or its header, ready to be encoded and decoded. */
interface Subject {
  encode(): unknown;
  decode(): unknown;
}

/** The codecs that are measured, by name. */
export const subjects: Readonly<Record<string, Subject>> = {
  "header": subject(HeaderLayout, { messageId: 7, command: 9, size: 32, flags: 0, error: 0 }),
  "REGION_READ request": subject(RegionReadRequest, { offset: 0x1cn, region: 0, count: 4 }),
  "REGION_READ reply": subject(RegionReadReply, {
    offset: 0x1cn,
    region: 0,
    data: new Uint8Array(4),
  }),
  "region info reply, 2 areas": subject(RegionInfoReply, {
    argsz: 80,
    flags: 0xf,
    index: 2,
    size: 0x10000n,
    offset: 0n,
    capabilities: [{
      kind: "sparse_mmap",
      version: 1,
      areas: [{ offset: 0x1000n, size: 0x3000n }, { offset: 0x8000n, size: 0x8000n }],
    }],
  }),
  "VERSION": subject(Version, {
    major: 0,
    minor: 2,
    capabilities: {
      maxMsgFds: 16,
      maxDataXferSize: 1 << 20,
      maxDmaMaps: 65535,
      pgsizes: 4096n,
      writeMultiple: true,
    },
  }),
};

function subject<T>(codec: Pick<Codec<T>, "encode" | "decode">, value: T): Subject {
  const bytes = codec.encode(value);
  return { encode: () => codec.encode(value), decode: () => codec.decode(bytes) };
}

if (import.meta.main) {
  const [verb = "", name = "", count] = Deno.args;
  const chosen = subjects[name];
  if (chosen === undefined || (verb !== "encode" && verb !== "decode")) {
    throw new Error(`There is nothing to ${verb || "do"} that is called "${name}"`);
  }
  let last: unknown;
  const run = (batch: number) => {
    for (let i = 0; i < batch; i++) last = chosen[verb]();
  };
  await measureOnDemand(Number(count), run);
  if (last === undefined) throw new Error(`${name} is nothing`);
}
