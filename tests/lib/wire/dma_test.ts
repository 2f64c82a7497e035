import { assertThrows } from "@std/assert";
import {
  DmaMapReply,
  DmaMapRequest,
  DmaUnmapReply,
  DmaUnmapRequest,
  ProtocolError,
} from "../../../lib/wire/mod.ts";
import { assertGolden, hex } from "./_golden.ts";

Deno.test("DmaMapRequest has the bytes of the specification", () => {
  assertGolden(
    DmaMapRequest,
    { argsz: 32, flags: 3, offset: 0x1000n, address: 0x123456789an, size: 0x200000n },
    "20 00 00 00  03 00 00 00  00 10 00 00 00 00 00 00" +
      "9a 78 56 34 12 00 00 00  00 00 20 00 00 00 00 00",
  );
  assertGolden(DmaMapReply, undefined, "");
});

Deno.test("DmaMapRequest refuses an argsz below its struct", () => {
  const value = { argsz: 31, flags: 3, offset: 0n, address: 0n, size: 0n };
  const short = DmaMapRequest.encode(value);
  assertThrows(() => DmaMapRequest.decode(short), ProtocolError, "argsz is 31, the least is 32");
});

Deno.test("DmaUnmapRequest and DmaUnmapReply have the bytes of the specification", () => {
  for (const codec of [DmaUnmapRequest, DmaUnmapReply]) {
    assertGolden(
      codec,
      { argsz: 24, flags: 2, address: 0x100000n, size: 0x200000n },
      "18 00 00 00  02 00 00 00  00 00 10 00 00 00 00 00  00 00 20 00 00 00 00 00",
    );
  }
});

Deno.test("DmaUnmapReply keeps a bitmap", () => {
  assertGolden(
    DmaUnmapReply,
    { argsz: 26, flags: 1, address: 0n, size: 0n, bitmap: hex("f0 0f") },
    "1a 00 00 00  01 00 00 00  00 00 00 00 00 00 00 00  00 00 00 00 00 00 00 00  f0 0f",
  );
});
