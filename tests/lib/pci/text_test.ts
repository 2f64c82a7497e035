import { assert, assertEquals } from "@std/assert";
import { parseConfigSpace } from "../../../lib/pci/config_space.ts";
import { configSpaceText } from "../../../lib/pci/text.ts";
import { ConfigImage, crowdedImage, nvmeImage, rootPortImage, virtioImage } from "./_images.ts";

Deno.test("configSpaceText() shows an NVMe controller", () => {
  const regionSizes = (index: number) => index === 0 ? 0x4000n : 0n;
  const space = parseConfigSpace(nvmeImage().bytes, { regionSizes });
  const lines = configSpaceText(space, { vendor: "Red Hat, Inc.", device: "QEMU NVMe" });
  assertEquals(lines.slice(0, 14), [
    "1b36:0010 Red Hat, Inc. QEMU NVMe (rev 02)",
    "  Class:       010802 Non-Volatile memory controller, NVM Express",
    "  Subsystem:   1af4:1100",
    "  Header:      type 0, ordinary function",
    "  Control:     I/O- Mem- BusMaster- SpecCycle- MemWINV- VGASnoop- ParErr-",
    "               Stepping- SERR- FastB2B- DisINTx-",
    "  Status:      ImmReady- INTx- Cap+ 66MHz- UDF- FastB2B- ParErr- >TAbort-",
    "               <TAbort- <MAbort- >SERR- <PERR- DEVSEL=fast",
    "  Latency:     0, cache line size: 0 bytes",
    "  Interrupt:   pin A, line 0",
    "  BAR 0:       memory, 64-bit, non-prefetchable, unassigned [size=16K]",
    "  [40] MSI-X: Enable- Count=65 Masked-",
    "      Vector table: BAR=0 offset=00002000",
    "      PBA: BAR=0 offset=00003000",
  ]);
});

Deno.test("configSpaceText() shows the windows of a bridge", () => {
  const lines = configSpaceText(parseConfigSpace(rootPortImage().u16(0x20, 0xfff0, 0).bytes));
  for (
    const line of [
      "  Bus:         primary=00, secondary=01, subordinate=03, sec-latency=32",
      "  I/O window:  0001c000-0001dfff [size=8K], 32-bit",
      "  Mem window:  disabled, 32-bit",
      "  Pref window: 0000000800000000-000000080fffffff [size=256M], 64-bit",
    ]
  ) {
    assert(lines.includes(line), `There is no line "${line}"`);
  }
});

Deno.test("configSpaceText() shows virtio structures and notes", () => {
  const space = parseConfigSpace(virtioImage().bytes, { regionSizes: () => 0x3800n });
  const lines = configSpaceText(space);
  const start = lines.indexOf("  [70] Vendor Specific: VirtIO NOTIFY_CFG");
  assertEquals(lines.slice(start + 1, start + 3), [
    "      Place: BAR=4 offset=00003000 size=00001000 multiplier=00000004",
    "      ! the structure ends at 0x4000 of BAR 4, which has 0x3800 bytes",
  ]);
});

Deno.test("configSpaceText() takes given names and stays below 80 columns", () => {
  const name = "Very long words ".repeat(9).trim();
  const names = { vendor: name, device: name, subsystem: name, class: name };
  const images = [nvmeImage(), crowdedImage(), rootPortImage(), virtioImage()];
  for (const image of images) {
    const lines = configSpaceText(parseConfigSpace(image.bytes), names);
    assert(lines.every((line) => line.length < 80 && line === line.trimEnd()));
    assert(lines.some((line) => /^ {2}Class: +[0-9a-f]{6} Very long words/.test(line)));
  }
});

Deno.test("configSpaceText() says what is broken", () => {
  const image = new ConfigImage(256, 1, 2, 0).u32(0x24, 0x4).capability(0x40, 0x01).u8(0x41, 0x40);
  const lines = configSpaceText(parseConfigSpace(image.bytes));
  assert(lines.includes("               ! 64-bit, but no register follows for the upper half"));
  assertEquals(
    lines.at(-1),
    "  Note: The list of capabilities is broken: the list returns to 0x40",
  );
});

Deno.test("configSpaceText() shows an absent function in two lines", () => {
  assertEquals(configSpaceText(parseConfigSpace(new Uint8Array(256).fill(0xff))), [
    "ffff:ffff (rev ff)",
    "  Note: There is no function: the header reads as ones only",
  ]);
});
