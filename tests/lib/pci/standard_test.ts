import { assertEquals } from "@std/assert";
import { blank, find } from "./_find.ts";
import { crowdedImage, nvmeImage } from "./_images.ts";

Deno.test("Power Management is decoded", () => {
  const pm = find(crowdedImage(), "pm");
  assertEquals(pm.structureVersion, 2);
  assertEquals(pm.auxCurrentMa, 375);
  assertEquals([pm.d1, pm.d2], [false, false]);
  assertEquals(pm.pmeSupport, ["D0", "D3hot", "D3cold"]);
  assertEquals([pm.powerState, pm.noSoftReset], ["D3", false]);
  assertEquals([pm.pmeEnabled, pm.pmeStatus], [true, true]);
  assertEquals(find(nvmeImage(), "pm").noSoftReset, true);
});

Deno.test("MSI of 32 and 64 bits, with and without masks, has its fields where they are", () => {
  const wide = find(crowdedImage(), "msi");
  assertEquals([wide.enabled, wide.enabledCount, wide.capableCount], [true, 1, 8]);
  assertEquals([wide.address, wide.data], [0xfee0f00cn, 0x4021]);
  assertEquals([wide.mask, wide.pending], [3, 1]);
  const narrow = find(blank().capability(0x40, 0x05, 0x0012, 0xf000, 0xfee0, 0x4022, 9), "msi");
  assertEquals([narrow.enabledCount, narrow.capableCount], [2, 2]);
  assertEquals([narrow.addressBits, narrow.address, narrow.data], [32, 0xfee0f000n, 0x4022]);
  assertEquals([narrow.mask, narrow.pending], [undefined, undefined]);
  const masked = find(blank().capability(0x40, 0x05, 0x0100, 0, 0, 1, 0, 2, 0, 4, 0), "msi");
  assertEquals([masked.data, masked.mask, masked.pending], [1, 2, 4]);
});

Deno.test("MSI-X is decoded", () => {
  const msix = find(nvmeImage().u16(0x42, 0xc040), "msix");
  assertEquals([msix.enabled, msix.functionMasked, msix.tableSize], [true, true, 65]);
  assertEquals([msix.tableBar, msix.tableOffset], [0, 0x2000]);
  assertEquals([msix.pbaBar, msix.pbaOffset], [0, 0x3000]);
  assertEquals(msix.notes, []);
});

Deno.test("MSI-X is checked against the sizes of its BARs", () => {
  assertEquals(find(nvmeImage(), "msix", () => 0x4000n).notes, []);
  assertEquals(find(nvmeImage(), "msix", () => 0x3010n).notes, []);
  assertEquals(find(nvmeImage(), "msix", () => 0x300fn).notes, [
    "the pending bit array ends at 0x3010 of BAR 0, which has 0x300f bytes",
  ]);
  assertEquals(find(nvmeImage(), "msix", () => 0n).notes.length, 2);
});

Deno.test("MSI-X notes a BAR that cannot be and a table over the pending bits", () => {
  assertEquals(find(blank().capability(0x40, 0x11, 0, 7, 0, 0, 0), "msix").notes, [
    "the vector table is in BAR 7, which does not exist",
  ]);
  assertEquals(find(blank().capability(0x40, 0x11, 1, 0, 0, 0x18, 0), "msix").notes, [
    "the vector table and the pending bit array overlap",
  ]);
  assertEquals(find(blank().capability(0x40, 0x11, 1, 0, 0, 0x20, 0), "msix").notes, []);
});

Deno.test("the smaller standard capabilities are decoded", () => {
  const image = crowdedImage().u8(0xaa, 3);
  const vpd = find(image, "vpd");
  assertEquals([vpd.address, vpd.flag], [0x123, true]);
  const debug = find(image, "debug_port");
  assertEquals([debug.bar, debug.barOffset], [1, 0xa0]);
  const sata = find(image, "sata");
  assertEquals([sata.major, sata.minor, sata.barLocation, sata.barOffset], [1, 0, 8, 0x10]);
  const af = find(image, "af");
  assertEquals([af.length, af.functionLevelReset, af.transactionsPending], [6, true, true]);
  const slot = find(image, "slot_id");
  assertEquals([slot.numSlots, slot.firstInChassis, slot.chassis], [5, true, 1]);
  assertEquals(find(image, "ea").numEntries, 3);
  assertEquals(find(image, "ht").htType, 0x10);
  const agp = find(image, "agp");
  assertEquals([agp.major, agp.minor], [3, 0]);
  assertEquals(find(image, "named").setpciName, "CAP_PCIX");
});

Deno.test("a vendor-specific capability has the bytes that it says", () => {
  const vendor = find(crowdedImage(), "vendor");
  assertEquals(vendor.length, 8);
  assertEquals(vendor.bytes, Uint8Array.of(0x08, 0x34, 0x12, 0x78, 0x56));
  assertEquals(vendor.virtio, undefined);
});

Deno.test("a vendor-specific capability with a length that cannot be is noted", () => {
  assertEquals(find(blank().capability(0x40, 0x09, 0x0002), "vendor").notes.length, 1);
  const long = find(blank().capability(0xf0, 0x09, 0x00ff), "vendor");
  assertEquals([long.bytes.length, long.notes.length], [13, 1]);
});
