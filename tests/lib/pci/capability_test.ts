import { assert, assertEquals } from "@std/assert";
import { parseConfigSpace } from "../../../lib/pci/config_space.ts";
import { blank, find } from "./_find.ts";
import { type ConfigImage, crowdedImage, nvmeImage } from "./_images.ts";

function chain(image: ConfigImage): { offsets: number[]; notes: string[] } {
  const { capabilities, extendedCapabilities, notes } = parseConfigSpace(image.bytes);
  return { offsets: [...capabilities, ...extendedCapabilities].map(({ offset }) => offset), notes };
}

Deno.test("parseCapabilities() follows the list in its own order", () => {
  assertEquals(chain(nvmeImage()), { offsets: [0x40, 0x80, 0x60], notes: [] });
});

Deno.test("parseCapabilities() finds nothing if the status register says that there is no list", () => {
  assertEquals(chain(blank().u8(0x34, 0x40).u8(0x40, 0x05)), { offsets: [], notes: [] });
});

Deno.test("parseCapabilities() masks the low two bits of pointers", () => {
  const image = blank().u16(0x06, 0x10).u8(0x34, 0x43).u8(0x40, 0x01, 0x52).u8(0x50, 0x03, 0x01);
  assertEquals(chain(image), { offsets: [0x40, 0x50], notes: [] });
});

Deno.test("parseCapabilities() ends at a loop", () => {
  const image = blank().capability(0x40, 0x01).capability(0x50, 0x05).u8(0x51, 0x40);
  assertEquals(chain(image), {
    offsets: [0x40, 0x50],
    notes: ["The list of capabilities is broken: the list returns to 0x40"],
  });
});

Deno.test("parseCapabilities() ends at a pointer into the header", () => {
  const image = blank().capability(0x40, 0x01).u8(0x41, 0x3c);
  assertEquals(chain(image), {
    offsets: [0x40],
    notes: ["The list of capabilities is broken: a capability at 0x3c would be inside the header"],
  });
});

Deno.test("parseCapabilities() ends at the end of a short space", () => {
  const { bytes } = blank().capability(0x40, 0x01).capability(0x80, 0x05);
  const { capabilities, notes } = parseConfigSpace(bytes.subarray(0, 0x80));
  assertEquals(capabilities.length, 1);
  assertEquals(notes, [
    "The list of capabilities is broken: a capability at 0x80 is past the end, 0x80",
  ]);
});

Deno.test("parseCapabilities() ends where nothing answers", () => {
  const image = blank().capability(0x40, 0x01).u8(0x41, 0x50).u8(0x50, 0xff, 0xff);
  assertEquals(chain(image).notes, [
    "The list of capabilities is broken: no capability at 0x50",
  ]);
});

const NOT_EXPRESS = "There are extended capabilities, though none of PCI Express or PCI-X";

Deno.test("parseCapabilities() ends a hostile list that fills the space", () => {
  const image = blank().u16(0x06, 0x10).u8(0x34, 0x40);
  for (let offset = 0x40; offset < 0x100; offset += 4) image.u8(offset, 0x01, (offset + 4) & 0xff);
  assertEquals(chain(image), {
    offsets: Array.from({ length: 48 }, (_, index) => 0x40 + 4 * index),
    notes: [],
  });
});

Deno.test("parseExtendedCapabilities() ends a hostile list that fills the space and returns", () => {
  const image = blank(4096);
  for (let offset = 0x100; offset < 0x1000; offset += 4) {
    const next = offset + 4 < 0x1000 ? offset + 4 : 0x100;
    image.u32(offset, (next << 20 | 0x1_0002) >>> 0);
  }
  const { extendedCapabilities, notes } = parseConfigSpace(image.bytes);
  assertEquals(extendedCapabilities.length, 960);
  assertEquals(notes, [NOT_EXPRESS]);
});

Deno.test("parseExtendedCapabilities() ends at loops, at the header and where nothing answers", () => {
  const next = (offset: number) => blank(4096).u32(0x100, (offset << 20 | 0x1_0003) >>> 0);
  const broken = "The list of extended capabilities is broken: ";
  assertEquals(chain(next(0x100)).notes, [`${broken}the list returns to 0x100`, NOT_EXPRESS]);
  assertEquals(chain(next(0x0fc)).notes, [
    `${broken}a capability at 0xfc would be inside the header`,
    NOT_EXPRESS,
  ]);
  assertEquals(chain(next(0x200)).notes, [`${broken}no capability at 0x200`, NOT_EXPRESS]);
  assertEquals(chain(next(0)), { offsets: [0x100], notes: [NOT_EXPRESS] });
});

Deno.test("parseExtendedCapabilities() finds none in zeros, in ones and in 256 bytes", () => {
  assertEquals(chain(blank(4096)), { offsets: [], notes: [] });
  assertEquals(chain(blank(4096).u32(0x100, 0xffffffff)), { offsets: [], notes: [] });
  assertEquals(chain(blank(256)), { offsets: [], notes: [] });
});

Deno.test("a capability that reaches past the end is decoded as far as it is there, with a note", () => {
  const msi = find(blank().capability(0xfc, 0x05, 0x0180), "msi");
  assertEquals([msi.addressBits, msi.maskable, msi.address], [64, true, 0n]);
  assertEquals(msi.notes, ["it reaches past the end of the configuration space"]);
});

Deno.test("a standard capability is not decoded from the extended list behind it", () => {
  const image = blank(4096).capability(0xfc, 0x05, 0x0181).u16(0x100, 0x0001, 0x0001);
  const msi = find(image, "msi");
  assertEquals(msi.address, 0n);
  assertEquals(msi.notes, ["it reaches past the end of the configuration space"]);
});

Deno.test("extended capabilities beside PCI Express or PCI-X have no note", () => {
  for (const id of [0x10, 0x07]) {
    const image = blank(4096).capability(0x40, id).u32(0x100, 0x1_0003);
    assertEquals(chain(image).notes, []);
  }
});

Deno.test("a capability has its place, names and version", () => {
  const msix = find(nvmeImage(), "msix");
  assertEquals(
    [msix.offset, msix.id, msix.extended, msix.version, msix.name, msix.setpciName],
    [0x40, 0x11, false, undefined, "MSI-X", "CAP_MSIX"],
  );
  const aer = find(crowdedImage(), "aer");
  assertEquals(
    [aer.offset, aer.id, aer.extended, aer.version, aer.setpciName],
    [0x100, 1, true, 1, "ECAP_AER"],
  );
});

Deno.test("an unknown capability has its id and first bytes", () => {
  const image = blank(4096).capability(0x40, 0x77, 0xbeef).extended(0x100, 0x7777, 3, 0xdeadbeef);
  const { capabilities: [standard], extendedCapabilities: [extended] } = parseConfigSpace(
    image.bytes,
  );
  assert(standard?.kind === "unknown" && extended?.kind === "unknown");
  assertEquals(standard.bytes.subarray(0, 4), Uint8Array.of(0x77, 0, 0xef, 0xbe));
  assertEquals([standard.name, standard.setpciName], ["Unknown capability 0x77", undefined]);
  assertEquals(extended.bytes.subarray(4, 8), Uint8Array.of(0xef, 0xbe, 0xad, 0xde));
  assertEquals([extended.name, extended.version], ["Unknown extended capability 0x7777", 3]);
});
