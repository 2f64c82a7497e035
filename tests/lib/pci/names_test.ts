import { assertEquals } from "@std/assert";
import { parseConfigSpace } from "../../../lib/pci/config_space.ts";
import {
  capabilityKey,
  findCapability,
  findRegister,
  REGISTER_NAMES,
} from "../../../lib/pci/names.ts";
import { crowdedImage, virtioImage } from "./_images.ts";

Deno.test("findRegister() knows offset, width and header of setpci's names", () => {
  assertEquals(findRegister("COMMAND"), {
    name: "COMMAND",
    offset: 4,
    width: 2,
    header: "common",
  });
  assertEquals(findRegister("base_address_5")?.offset, 0x24);
  assertEquals(findRegister("BRIDGE_CONTROL")?.header, "bridge");
  assertEquals(findRegister("CB_LEGACY_MODE_BASE")?.width, 4);
  assertEquals(findRegister("NOTHING"), undefined);
});

Deno.test("REGISTER_NAMES has each name once", () => {
  assertEquals(new Set(REGISTER_NAMES.map(({ name }) => name)).size, REGISTER_NAMES.length);
});

Deno.test("capabilityKey() takes names, hexadecimal ids and any case", () => {
  assertEquals(capabilityKey("CAP_MSIX"), { extended: false, id: 0x11 });
  assertEquals(capabilityKey("ecap_aer"), { extended: true, id: 1 });
  assertEquals(capabilityKey("CAP_EXP"), { extended: false, id: 0x10 });
  assertEquals(capabilityKey("CAP1f"), { extended: false, id: 0x1f });
  assertEquals(capabilityKey("ECAP0108"), { extended: true, id: 0x108 });
  assertEquals(capabilityKey("CAP100"), undefined);
  assertEquals(capabilityKey("CAP_NOTHING"), undefined);
  assertEquals(capabilityKey("CAPABILITIES"), undefined);
});

Deno.test("findCapability() finds the offset of a capability, and of the later ones of its id", () => {
  const space = parseConfigSpace(crowdedImage().bytes);
  assertEquals(findCapability(space, "CAP_PM"), 0x40);
  assertEquals(findCapability(space, "ECAP_SRIOV"), 0x160);
  assertEquals(findCapability(space, "ECAP7777"), 0x330);
  assertEquals(findCapability(space, "CAP_MSIX"), undefined);
  const virtio = parseConfigSpace(virtioImage().bytes);
  assertEquals(findCapability(virtio, "CAP_VNDR"), 0x84);
  assertEquals(findCapability(virtio, "CAP_VNDR", 4), 0x40);
  assertEquals(findCapability(virtio, "CAP_VNDR", 5), undefined);
});
