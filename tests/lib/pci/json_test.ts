import { assertEquals } from "@std/assert";
import { parseConfigSpace } from "../../../lib/pci/config_space.ts";
import { configSpaceJson } from "../../../lib/pci/json.ts";
import { ConfigImage, crowdedImage, nvmeImage } from "./_images.ts";

Deno.test("configSpaceJson() has snake_case keys and numbers", () => {
  const json = configSpaceJson(parseConfigSpace(nvmeImage().bytes));
  assertEquals(json["vendor_id"], 0x1b36);
  assertEquals(json["command"], { value: 0, set: [] });
  assertEquals(json["subsystem"], { vendor_id: 0x1af4, id: 0x1100 });
  assertEquals(json["capabilities"] instanceof Array && json["capabilities"][0], {
    offset: 0x40,
    id: 0x11,
    extended: false,
    name: "MSI-X",
    setpci_name: "CAP_MSIX",
    notes: [],
    kind: "msix",
    enabled: false,
    function_masked: false,
    table_size: 65,
    table_bar: 0,
    table_offset: 0x2000,
    pba_bar: 0,
    pba_offset: 0x3000,
  });
});

Deno.test("configSpaceJson() writes integers above 2^53 - 1 as hexadecimal strings", () => {
  const at = (upper: number) => {
    const { bytes } = new ConfigImage(256, 1, 1, 0).u32(0x10, 0xfffffff4, upper);
    return (configSpaceJson(parseConfigSpace(bytes))["bars"] as { address: unknown }[])[0]!.address;
  };
  assertEquals(at(0x1f_ffff), 0x1f_ffff_ffff_fff0);
  assertEquals(at(0x20_0000), "0x200000fffffff0");
});

Deno.test("configSpaceJson() survives JSON and writes bytes as digits", () => {
  const json = configSpaceJson(parseConfigSpace(crowdedImage().bytes));
  assertEquals(JSON.parse(JSON.stringify(json)), json);
  const vendor = (json["capabilities"] as { kind: string; bytes?: string }[])
    .find(({ kind }) => kind === "vendor");
  assertEquals(vendor?.bytes, "0834127856");
});
