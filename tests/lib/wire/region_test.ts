import { assertEquals, assertThrows } from "@std/assert";
import {
  encodeRegionInfo,
  parseRegionCapabilities,
  ProtocolError,
  type RegionCapability,
  RegionInfoReply,
  RegionInfoRequest,
  regionName,
} from "../../../lib/wire/mod.ts";
import { MAX_CAPABILITIES, MAX_REGION_INFO_SIZE } from "../../../lib/base/limits.ts";
import { assertGolden, hex } from "./_golden.ts";

const INFO = { index: 0, size: 0x4000n, offset: 0x10000n };
/** The fixed part, with flags 0xf, argsz and cap_offset to fill in. */
const fixed = (argsz: string, capOffset: string) =>
  `${argsz} 00 00 00  0f 00 00 00  00 00 00 00  ${capOffset} 00 00 00` +
  "00 40 00 00 00 00 00 00  00 00 01 00 00 00 00 00";

function refuses(wire: string | Uint8Array, message: string): void {
  const payload = typeof wire === "string" ? hex(wire) : wire;
  assertThrows(
    () => RegionInfoReply.decode(payload),
    ProtocolError,
    `Cannot decode DEVICE_GET_REGION_INFO reply: ${message}`,
  );
}

Deno.test("regionName() names the indexes of PCI and numbers the others", () => {
  assertEquals([0, 1, 2, 3, 4, 5, 6, 7, 8, 9].map(regionName), [
    "bar0",
    "bar1",
    "bar2",
    "bar3",
    "bar4",
    "bar5",
    "rom",
    "config",
    "vga",
    "region 9",
  ]);
});

Deno.test("RegionInfoRequest has the bytes of the specification", () => {
  assertGolden(
    RegionInfoRequest,
    { argsz: 0x1000, index: 7 },
    "00 10 00 00  00 00 00 00  07 00 00 00  00 00 00 00" +
      "00 00 00 00 00 00 00 00  00 00 00 00 00 00 00 00",
  );
});

Deno.test("RegionInfoReply has the bytes of the specification", () => {
  assertGolden(
    RegionInfoReply,
    { argsz: 32, flags: 3, index: 7, size: 0x1000n, offset: 0n, capabilities: [] },
    "20 00 00 00  03 00 00 00  07 00 00 00  00 00 00 00" +
      "00 10 00 00 00 00 00 00  00 00 00 00 00 00 00 00",
  );
});

Deno.test("RegionInfoReply has the bytes of each capability", () => {
  assertGolden(
    RegionInfoReply,
    {
      ...INFO,
      argsz: 0x98,
      flags: 0xf,
      capabilities: [
        { kind: "sparse_mmap", version: 1, areas: [{ offset: 0x1000n, size: 0x2000n }] },
        { kind: "type", version: 1, type: 0x11, subtype: 0x22 },
        { kind: "msix_mappable", version: 1 },
        {
          kind: "sparse_mmap_fds",
          version: 1,
          areas: [{ offset: 0x3000n, fdOffset: 0x99n, size: 0x1000n, fdIndex: 2 }],
        },
        { kind: "unknown", id: 0x77, version: 2, bytes: hex("01 02 03 04 05 06 07 08") },
      ],
    },
    fixed("98", "20") +
      "01 00 01 00 40 00 00 00  01 00 00 00 00 00 00 00" +
      "00 10 00 00 00 00 00 00  00 20 00 00 00 00 00 00" +
      "02 00 01 00 50 00 00 00  11 00 00 00 22 00 00 00" +
      "03 00 01 00 58 00 00 00" +
      "01 80 01 00 88 00 00 00  01 00 00 00 00 00 00 00" +
      "00 30 00 00 00 00 00 00  99 00 00 00 00 00 00 00" +
      "00 10 00 00 00 00 00 00  02 00 00 00 00 00 00 00" +
      "77 00 02 00 00 00 00 00  01 02 03 04 05 06 07 08",
  );
});

Deno.test("encodeRegionInfo() leaves out capabilities that don't fit, and says what would", () => {
  const areas = [{ offset: 0n, size: 0x1000n }, { offset: 0x2000n, size: 0x1000n }];
  const capabilities: RegionCapability[] = [{ kind: "sparse_mmap", version: 1, areas }];
  for (const room of [32, 79]) {
    const cut = encodeRegionInfo({ ...INFO, flags: 7, capabilities }, room);
    assertEquals(cut.length, 32);
    assertEquals(RegionInfoReply.decode(cut), { ...INFO, argsz: 80, flags: 7, capabilities: [] });
  }
  const whole = encodeRegionInfo({ ...INFO, flags: 7, capabilities }, 80);
  assertEquals(RegionInfoReply.decode(whole), { ...INFO, argsz: 80, flags: 15, capabilities });
});

Deno.test("encodeRegionInfo() clears CAPS when there are none", () => {
  const reply = encodeRegionInfo({ ...INFO, flags: 0xf, capabilities: [] }, 32);
  assertEquals(RegionInfoReply.decode(reply).flags, 7);
});

Deno.test("RegionInfoReply takes a reply that was cut with CAPS set", () => {
  for (const capOffset of ["00", "20"]) {
    assertEquals(RegionInfoReply.decode(hex(fixed("50", capOffset))).capabilities, []);
  }
});

Deno.test("RegionInfoReply reads capabilities when argsz is the request's, larger than the reply", () => {
  const reply = RegionInfoReply.decode(hex(fixed("ff", "20") + "03 00 01 00 00 00 00 00"));
  assertEquals(reply.capabilities, [{ kind: "msix_mappable", version: 1 }]);
});

Deno.test("parseRegionCapabilities() follows a chain that is unaligned and runs backwards", () => {
  const wire = fixed("3d", "35") +
    "03 00 01 00 00 00 00 00" + // at 0x20: the last
    "ff ff ff ff ff ff ff ff ff ff ff ff ff" + // a gap, which no area has
    "99 00 01 00 20 00 00 00"; // at 0x35: the first
  assertEquals(parseRegionCapabilities(hex(wire)), [
    { kind: "unknown", id: 0x99, version: 1, bytes: hex("") },
    { kind: "msix_mappable", version: 1 },
  ]);
});

Deno.test("parseRegionCapabilities() keeps a known capability of an unknown version", () => {
  const wire = fixed("30", "20") + "02 00 02 00 00 00 00 00  aa bb cc dd 00 00 00 00";
  assertEquals(parseRegionCapabilities(hex(wire)), [
    { kind: "unknown", id: 2, version: 2, bytes: hex("aa bb cc dd 00 00 00 00") },
  ]);
});

Deno.test("parseRegionCapabilities() refuses a chain that leaves the reply", () => {
  refuses(fixed("20", "00"), "a capability is at offset 0, inside the fixed part");
  refuses(fixed("20", "1f"), "a capability is at offset 31, inside the fixed part");
  refuses(fixed("20", "20"), "a capability is at offset 32, the reply ends at 32");
  refuses(fixed("28", "21") + "03 00 01 00 00 00 00 00", "a capability is at offset 33");
  refuses(fixed("28", "20") + "03 00 01 00 10 00 00 00", "a capability is at offset 16, inside");
  refuses(fixed("28", "20") + "03 00 01 00 ff ff ff ff", "a capability is at offset 4294967295");
});

Deno.test("parseRegionCapabilities() refuses a loop", () => {
  refuses(
    fixed("28", "20") + "03 00 01 00 20 00 00 00",
    "the chain of capabilities loops at offset 32",
  );
  refuses(
    fixed("30", "20") + "03 00 01 00 28 00 00 00  03 00 01 00 20 00 00 00",
    "the chain of capabilities loops at offset 32",
  );
});

Deno.test("parseRegionCapabilities() refuses headers that overlap", () => {
  refuses(fixed("2c", "20") + "03 00 01 00 24 00 00 00  00 00 00 00", "capabilities overlap at");
});

Deno.test("parseRegionCapabilities() takes as many capabilities as the limit, and no more", () => {
  const some = (count: number): RegionCapability[] =>
    Array.from({ length: count }, () => ({ kind: "msix_mappable", version: 1 }));
  const encode = (count: number) =>
    encodeRegionInfo({ ...INFO, flags: 7, capabilities: some(count) }, 0xffff);
  assertEquals(parseRegionCapabilities(encode(MAX_CAPABILITIES)).length, MAX_CAPABILITIES);
  refuses(encode(MAX_CAPABILITIES + 1), `more than ${MAX_CAPABILITIES} capabilities`);
});

Deno.test("parseRegionCapabilities() refuses areas that are not there before it makes room for them", () => {
  const sparse = (count: string) =>
    fixed("40", "20") + `01 00 01 00 00 00 00 00  ${count} 00 00 00 00` +
    "00 00 00 00 00 00 00 00  00 10 00 00 00 00 00 00";
  assertEquals(parseRegionCapabilities(hex(sparse("01 00 00 00"))).length, 1);
  refuses(sparse("02 00 00 00"), "2 sparse areas need 32 bytes, there are 16");
  refuses(sparse("ff ff ff ff"), "4294967295 sparse areas need 68719476720 bytes, there are 16");
});

Deno.test("parseRegionCapabilities() ends areas where the next capability begins", () => {
  const wire = fixed("40", "20") +
    "01 00 01 00 38 00 00 00  01 00 00 00 00 00 00 00  00 00 00 00 00 00 00 00" +
    "03 00 01 00 00 00 00 00";
  refuses(wire, "1 sparse areas need 16 bytes, there are 8");
});

Deno.test("parseRegionCapabilities() refuses an area outside the region", () => {
  const sparse = (offset: string, size: string) =>
    fixed("40", "20") + `01 00 01 00 00 00 00 00  01 00 00 00 00 00 00 00 ${offset} ${size}`;
  const whole = sparse("00 00 00 00 00 00 00 00", "00 40 00 00 00 00 00 00");
  assertEquals(parseRegionCapabilities(hex(whole)).length, 1);
  refuses(
    sparse("01 00 00 00 00 00 00 00", "00 40 00 00 00 00 00 00"),
    "sparse area 0 (offset 0x1, size 0x4000) ends after the region (size 0x4000)",
  );
  // The sum wraps to 0 in 64 bits.
  refuses(sparse("00 10 00 00 00 00 00 00", "00 f0 ff ff ff ff ff ff"), "sparse area 0");
});

Deno.test("parseRegionCapabilities() refuses a reply longer than the limit", () => {
  refuses(new Uint8Array(MAX_REGION_INFO_SIZE + 1), "65537 bytes came, the limit is 65536");
});
