import { assertEquals, assertThrows } from "@std/assert";
import { ProtocolError, RegionIoFdsReply, RegionIoFdsRequest } from "../../../lib/wire/mod.ts";
import { assertGolden, concat, hex } from "./_golden.ts";

const COMMON = "00 10 00 00 00 00 00 00  04 00 00 00 00 00 00 00  01 00 00 00";

const EVENTFD = {
  offset: 0x1000n,
  size: 4n,
  fdIndex: 1,
  type: 0,
  flags: 1,
  shadowFdIndex: 0,
  data: 0x55n,
  shadowOffset: 0n,
};
const SHADOW = { ...EVENTFD, type: 2, shadowFdIndex: 2, data: 0n, shadowOffset: 0x40n };

Deno.test("RegionIoFdsRequest has the bytes of the specification", () => {
  assertGolden(
    RegionIoFdsRequest,
    { argsz: 96, flags: 0, index: 2, count: 0 },
    "60 00 00 00  00 00 00 00  02 00 00 00  00 00 00 00",
  );
});

Deno.test("RegionIoFdsReply has the bytes of the specification", () => {
  assertGolden(
    RegionIoFdsReply,
    { argsz: 96, flags: 0, index: 2, count: 2, subRegions: [EVENTFD, SHADOW] },
    "60 00 00 00  00 00 00 00  02 00 00 00  02 00 00 00" +
      `${COMMON} 00 00 00 00  01 00 00 00  00 00 00 00  55 00 00 00 00 00 00 00` +
      `${COMMON} 02 00 00 00  01 00 00 00  02 00 00 00  40 00 00 00 00 00 00 00`,
  );
});

Deno.test("RegionIoFdsReply reads libvfio-user's 48 bytes a sub-region", () => {
  const none = "00 00 00 00 00 00 00 00";
  assertGolden(
    RegionIoFdsReply,
    {
      argsz: 160,
      flags: 0,
      index: 2,
      count: 3,
      subRegions: [
        EVENTFD,
        { ...SHADOW, data: 0x66n },
        { ...EVENTFD, type: 1, flags: 0, data: 0x77n },
      ],
    },
    "a0 00 00 00  00 00 00 00  02 00 00 00  03 00 00 00" +
      `${COMMON} 00 00 00 00  01 00 00 00  00 00 00 00  ${none}  55 00 00 00 00 00 00 00` +
      `${COMMON} 02 00 00 00  01 00 00 00  02 00 00 00` +
      "40 00 00 00 00 00 00 00  66 00 00 00 00 00 00 00" +
      `${COMMON} 01 00 00 00  00 00 00 00  00 00 00 00  77 00 00 00 00 00 00 00  ${none}`,
  );
});

Deno.test("RegionIoFdsReply takes a reply that was cut to its fixed part", () => {
  assertGolden(
    RegionIoFdsReply,
    { argsz: 96, flags: 0, index: 2, count: 2, subRegions: [] },
    "60 00 00 00  00 00 00 00  02 00 00 00  02 00 00 00",
  );
});

Deno.test("RegionIoFdsReply goes by argsz when there are surplus bytes", () => {
  const wire = concat(
    hex("38 00 00 00  00 00 00 00  00 00 00 00  01 00 00 00"),
    new Uint8Array(43),
  );
  assertEquals(RegionIoFdsReply.decode(wire).subRegions.length, 1);
});

Deno.test("RegionIoFdsReply refuses a count that does not fit its bytes", () => {
  for (const count of ["01 00 00 00", "03 00 00 00", "ff ff ff ff"]) {
    const head = hex(`60 00 00 00  00 00 00 00  02 00 00 00 ${count}`);
    const wire = concat(head, new Uint8Array(80));
    assertThrows(() => RegionIoFdsReply.decode(wire), ProtocolError, "80 bytes came");
  }
});
