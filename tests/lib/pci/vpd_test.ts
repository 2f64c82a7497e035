import { assert, assertEquals } from "@std/assert";
import fc from "fast-check";
import { parseVpd, VpdExtent } from "../../../lib/pci/vpd.ts";
import { boardVpd, field, large } from "./_vpd.ts";

Deno.test("parseVpd() decodes the identifier, fields of both kinds and the checksum", () => {
  const bytes = boardVpd();
  const vpd = parseVpd(bytes);
  assertEquals([vpd.length, vpd.checksumGood, vpd.notes], [bytes.length, true, []]);
  const [id, readOnly, readWrite] = vpd.resources;
  assertEquals([id!.kind, id!.text, id!.offset, id!.length], ["id", "Example Adapter", 0, 15]);
  assertEquals(readOnly!.fields.map(({ keyword, text }) => [keyword, text]), [
    ["PN", "E-1000"],
    ["SN", "0042"],
    ["V0", undefined],
    ["RV", undefined],
  ]);
  assertEquals(readOnly!.fields[1]!.name, "Serial number");
  assertEquals(readOnly!.fields[2]!.bytes, Uint8Array.of(0, 255));
  assertEquals(readWrite!.fields.map(({ keyword, text }) => [keyword, text]), [
    ["YA", "rack 7"],
    ["RW", undefined],
  ]);
});

Deno.test("parseVpd() says that a checksum is wrong, or that there is none", () => {
  const bytes = boardVpd();
  bytes[5] = bytes[5]! ^ 1;
  assertEquals(parseVpd(bytes).checksumGood, false);
  assertEquals(parseVpd(Uint8Array.of(0x78)).checksumGood, undefined);
});

Deno.test("parseVpd() says what is broken", () => {
  const noted = (...bytes: number[]) => parseVpd(Uint8Array.from(bytes)).notes;
  assertEquals(noted(0xff, 0xff), ["The data is broken: no resource at 0x0"]);
  assertEquals(noted(0, 0), ["The data is broken: no resource at 0x0"]);
  assertEquals(noted(), ["The data is broken: there is no end tag by 0x0"]);
  assertEquals(noted(0x82, 1), ["The data is broken: there is no end tag by 0x0"]);
  assertEquals(noted(0x82, 9, 0, 0x41), ["The data is broken: the resource at 0x0 ends at 0xc"]);
  assertEquals(noted(...large(0x90, [...field("SN", "1").slice(0, 3)]), 0x78), [
    "the field at 0x3 reaches past its resource",
  ]);
  assertEquals(noted(...large(0x90, [0x53]), 0x78), ["1 bytes at 0x3 are no field"]);
  // A small resource that is not the end is passed over.
  assertEquals(parseVpd(Uint8Array.of(0x0a, 1, 2, 0x78)).resources[0]!.length, 2);
});

const neededOf = (bytes: Uint8Array) => new VpdExtent().needed(bytes);

Deno.test("VpdExtent asks for no byte behind the end tag", () => {
  const bytes = boardVpd();
  const longer = new Uint8Array(bytes.length + 64);
  longer.set(bytes);
  const extent = new VpdExtent();
  let known = 0;
  for (let needed = extent.needed(new Uint8Array()); needed > known;) {
    known = needed;
    assert(known <= bytes.length);
    needed = extent.needed(longer.subarray(0, known));
    assertEquals(needed, neededOf(longer.subarray(0, known)));
  }
  assertEquals(known, bytes.length);
  assertEquals(neededOf(Uint8Array.of(0xff)), 1);
  assertEquals(neededOf(Uint8Array.of(0x82, 0xff, 0xff)), 0x8000);
});

Deno.test("parseVpd() and VpdExtent take any bytes, and mutations of good ones", () => {
  const good = boardVpd();
  const mutated = fc.array(fc.tuple(fc.nat({ max: good.length - 1 }), fc.nat({ max: 255 })), {
    maxLength: 4,
  }).map((changes) => {
    const bytes = good.slice();
    for (const [at, value] of changes) bytes[at] = value;
    return bytes;
  });
  fc.assert(fc.property(fc.oneof(fc.uint8Array({ maxLength: 300 }), mutated), (bytes) => {
    const vpd = parseVpd(bytes);
    assert(vpd.length <= bytes.length);
    for (const { offset, fields } of vpd.resources) {
      assert(offset < bytes.length);
      assert(fields.every((each) => each.offset + 3 + each.bytes.length <= bytes.length));
    }
    assert(neededOf(bytes) <= 0x8000);
    if (vpd.notes.length === 0) assert(neededOf(bytes) <= bytes.length);
  }));
});
