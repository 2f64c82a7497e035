import { assert, assertEquals } from "@std/assert";
import { parseConfigSpace } from "../../../lib/pci/config_space.ts";
import { find } from "./_find.ts";
import { ConfigImage, virtioImage } from "./_images.ts";

Deno.test("decodeVirtio() names the structures of a virtio function and their places", () => {
  const { capabilities } = parseConfigSpace(virtioImage().bytes);
  const structures = capabilities.flatMap((capability) => {
    assertEquals(capability.notes, []);
    return capability.kind === "vendor" ? [capability.virtio!] : [];
  });
  assertEquals(structures.map(({ cfgTypeName, bar, barOffset }) => [cfgTypeName, bar, barOffset]), [
    ["PCI_CFG", 0, 0n],
    ["NOTIFY_CFG", 4, 0x3000n],
    ["DEVICE_CFG", 4, 0x2000n],
    ["ISR_CFG", 4, 0x1000n],
    ["COMMON_CFG", 4, 0n],
  ]);
  assertEquals(structures[1]!.notifyOffMultiplier, 4);
});

Deno.test("decodeVirtio() takes 64-bit places of shared memory", () => {
  const image = new ConfigImage(256, 0x1af4, 0x105a, 0).capability(
    ...[0x40, 0x09, 0x0818, 0x0102, 0, 0x1000, 0, 0, 0x8000, 2, 0, 1, 0] as const,
  );
  const { virtio } = find(image, "vendor");
  assert(virtio);
  assertEquals([virtio.bar, virtio.structureId], [2, 1]);
  assertEquals([virtio.barOffset, virtio.structureLength], [0x2_0000_1000n, 0x1_8000_0000n]);
});

Deno.test("decodeVirtio() notes a short capability and a structure outside its BAR", () => {
  const short = new ConfigImage(256, 0x1af4, 0x1041, 0).capability(0x40, 0x09, 0x0108);
  assertEquals(find(short, "vendor").notes, ["a virtio structure has 16 bytes, this one 8"]);
  const notes = parseConfigSpace(virtioImage().bytes, { regionSizes: () => 0x3fffn }).capabilities
    .flatMap((capability) => capability.notes);
  assertEquals(notes, ["the structure ends at 0x4000 of BAR 4, which has 0x3fff bytes"]);
});
