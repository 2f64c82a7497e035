import { assert, assertEquals, assertThrows } from "@std/assert";
import fc from "fast-check";
import { ProtocolError } from "../../../lib/base/errors.ts";
import { parseConfigSpace } from "../../../lib/pci/config_space.ts";
import { configSpaceJson } from "../../../lib/pci/json.ts";
import { configSpaceText } from "../../../lib/pci/text.ts";
import { ConfigImage, crowdedImage, nvmeImage, rootPortImage } from "./_images.ts";

Deno.test("parseConfigSpace() decodes the header of an NVMe controller", () => {
  const space = parseConfigSpace(nvmeImage().u16(0x04, 0x0406).bytes);
  assertEquals(space.vendorId, 0x1b36);
  assertEquals(space.deviceId, 0x0010);
  assertEquals(space.classCode, 0x010802);
  assertEquals(space.revisionId, 2);
  assertEquals(space.subsystem, { vendorId: 0x1af4, id: 0x1100 });
  assertEquals(space.command, { value: 0x0406, set: ["MEMORY", "MASTER", "INTX_DISABLE"] });
  assertEquals(space.status, { value: 0x0010, set: ["CAP_LIST"] });
  assertEquals(space.devsel, "fast");
  assertEquals([space.headerType, space.multifunction], [0, false]);
  assertEquals([space.interruptPin, space.interruptLine], [1, 0]);
  assertEquals(space.notes, []);
});

Deno.test("parseConfigSpace() gives region sizes to BARs", () => {
  const regionSizes = (index: number) => index === 0 ? 0x4000n : 0n;
  const { bars } = parseConfigSpace(nvmeImage().bytes, { regionSizes });
  assertEquals(bars.length, 1);
  assertEquals(bars[0]!.size, 0x4000n);
});

Deno.test("parseConfigSpace() decodes timers, BIST and DEVSEL", () => {
  const space = parseConfigSpace(crowdedImage().bytes);
  assertEquals([space.cacheLineSize, space.latencyTimer], [16, 32]);
  assertEquals(space.bist, { capable: true, running: true, completionCode: 3 });
  assertEquals(space.devsel, "medium");
  assertEquals(space.header, { layout: "normal", cardbusCis: 0, minGnt: 3, maxLat: 4 });
  assertEquals(space.subsystem, undefined);
});

Deno.test("parseConfigSpace() decodes buses and windows of a bridge", () => {
  const space = parseConfigSpace(rootPortImage().bytes);
  const { header } = space;
  assert(header.layout === "bridge");
  assertEquals([header.primaryBus, header.secondaryBus, header.subordinateBus], [0, 1, 3]);
  assertEquals(header.ioWindow, {
    base: 0x1c000n,
    limit: 0x1dfffn,
    widthBits: 32,
    enabled: true,
  });
  assertEquals(header.memoryWindow.base, 0xfe600000n);
  assertEquals(header.memoryWindow.limit, 0xfe7fffffn);
  assertEquals(header.prefetchableWindow.base, 0x8_0000_0000n);
  assertEquals(header.prefetchableWindow.limit, 0x8_0fff_ffffn);
  assertEquals(header.bridgeControl.set, ["PARITY", "SERR", "VGA_16BIT"]);
  assertEquals(header.secondaryStatus.set, ["REC_MASTER_ABORT"]);
  assertEquals(space.subsystem, { vendorId: 0x1b36, id: 0 });
  assertEquals(space.multifunction, true);
});

Deno.test("parseConfigSpace() says that a window with base above limit is closed", () => {
  const { header } = parseConfigSpace(rootPortImage().u16(0x20, 0xfff0, 0x0000).bytes);
  assert(header.layout === "bridge");
  assertEquals(header.memoryWindow.enabled, false);
});

Deno.test("parseConfigSpace() notes a window whose base and limit have different types", () => {
  const { notes } = parseConfigSpace(rootPortImage().u8(0x1c, 0xc1, 0xd0).bytes);
  assertEquals(notes, ["The I/O window has types 1 of base and 0 of limit"]);
});

Deno.test("parseConfigSpace() follows the list of a CardBus bridge from 0x14", () => {
  const image = new ConfigImage(256, 0x104c, 0xac56, 0x060700).u8(0x0e, 2).u16(0x06, 0x10)
    .u8(0x14, 0xa0).u8(0x18, 1, 2, 3).u16(0x40, 0x1014, 0x0512).u8(0xa0, 0x01, 0);
  const space = parseConfigSpace(image.bytes);
  assert(space.header.layout === "cardbus");
  assertEquals(space.header.cardBus, 2);
  assertEquals(space.capabilities.map(({ offset, kind }) => [offset, kind]), [[0xa0, "pm"]]);
  assertEquals(space.subsystem, { vendorId: 0x1014, id: 0x0512 });
  assertEquals(space.bars, []);
});

Deno.test("parseConfigSpace() decodes BAR, windows and control of a CardBus bridge", () => {
  const image = new ConfigImage(256, 0x104c, 0xac56, 0x060700).u8(0x0e, 2).u32(0x10, 0xfe00_1000)
    .u8(0x18, 1, 2, 3, 0x40).u16(0x16, 0x2220)
    .u32(0x1c, 0x2000_0000, 0x23ff_f000, 0x2400_0000, 0x2000_0000)
    .u32(0x2c, 0x1000, 0x10fc, 0x1_0001, 0x1_00fd).u16(0x3e, 0x05c2).u32(0x44, 0x3e1);
  const lines = configSpaceText(parseConfigSpace(image.bytes));
  for (
    const line of [
      "  Bus:         primary=01, secondary=02, subordinate=03, sec-latency=64",
      "  Mem wind 0:  20000000-23ffffff [size=64M], 32-bit, prefetchable",
      "  Mem wind 1:  disabled, 32-bit",
      "  I/O wind 0:  00001000-000010ff [size=256], 16-bit",
      "  I/O wind 1:  00010000-000100ff [size=256], 32-bit",
      "  Legacy:      ports at 03e1",
      "  BAR 0:       memory, 32-bit, non-prefetchable, at fe001000",
    ]
  ) {
    assert(lines.includes(line), lines.join("\n"));
  }
  const { header } = parseConfigSpace(image.bytes.subarray(0, 64));
  assert(header.layout === "cardbus");
  assertEquals(header.legacyPort, 0);
  assertEquals(header.bridgeControlFlags.set, [
    "SERR",
    "CB_RESET",
    "16BIT_INT",
    "PREFETCH_MEM0",
    "POST_WRITES",
  ]);
});

Deno.test("parseConfigSpace() recognises that there is no function", () => {
  const space = parseConfigSpace(new Uint8Array(256).fill(0xff));
  assertEquals(space.absent, true);
  assertEquals([space.bars, space.capabilities, space.extendedCapabilities], [[], [], []]);
  assertEquals(space.notes.length, 1);
});

Deno.test("parseConfigSpace() refuses fewer bytes than a header has", () => {
  for (const size of [0, 1, 63]) {
    const error = assertThrows(() => parseConfigSpace(new Uint8Array(size)), ProtocolError);
    assertEquals(
      error.message,
      `Cannot decode the PCI configuration space: it has ${size} bytes, ` +
        "64 are needed for its header",
    );
  }
});

Deno.test("parseConfigSpace() takes every truncation of a crowded space", () => {
  const { bytes } = crowdedImage();
  for (let size = 64; size <= bytes.length; size += size < 0x400 ? 1 : 64) {
    const space = parseConfigSpace(bytes.subarray(0, size));
    assertEquals(space.size, size);
    const lists = [...space.capabilities, ...space.extendedCapabilities];
    assert(lists.every(({ offset }) => offset < size));
    configSpaceText(space);
  }
});

Deno.test("parseConfigSpace() and all that shows it take any bytes", () => {
  // Bytes that favour small ids, the pointers of lists and the list bit, so that lists get long.
  const byte = fc.oneof(
    fc.nat({ max: 0x3a }),
    fc.nat({ max: 255 }),
    fc.constantFrom(0x10, 0x40, 0x44, 0x80, 0xfc, 0xff, 0x23, 0x98, 0x1e),
  );
  const size = fc.constantFrom(64, 65, 255, 256, 257, 260, 1024);
  const arbitrary = size.chain((length) =>
    fc.uint8Array({ minLength: length, maxLength: length }).chain((noise) =>
      fc.array(byte, { minLength: 64, maxLength: 256 }).map((head) => {
        noise.set(head.slice(0, length));
        noise[0x06] = 0x10;
        noise[0x0e]! &= 3;
        return noise;
      })
    )
  );
  fc.assert(
    fc.property(arbitrary, fc.bigInt(0n, 1n << 64n), (bytes, regionSize) => {
      const space = parseConfigSpace(bytes, { regionSizes: () => regionSize });
      assert(space.capabilities.length <= 48);
      assert(space.extendedCapabilities.length <= 960);
      JSON.stringify(configSpaceJson(space));
      assert(configSpaceText(space).every((line) => line.length <= 79));
    }),
    { numRuns: 300 },
  );
});

Deno.test("parseConfigSpace() takes any registers of each extended capability, at any end", () => {
  const arbitrary = fc.record({
    id: fc.nat({ max: 0x3b }),
    version: fc.nat({ max: 15 }),
    dwords: fc.array(fc.oneof(fc.constantFrom(0, 0xffffffff), fc.nat({ max: 0xffffffff })), {
      minLength: 16,
      maxLength: 40,
    }),
    isCxl: fc.boolean(),
    size: fc.integer({ min: 0x104, max: 0x1a8 }),
  });
  fc.assert(
    fc.property(arbitrary, ({ id, version, dwords, isCxl, size }) => {
      const image = new ConfigImage(4096, 1, 2, 0).extended(0x100, id, version, ...dwords);
      if (isCxl) image.u16(0x104, 0x1e98).u16(0x108, id % 11);
      const short = image.bytes.slice(0, size);
      const space = parseConfigSpace(short);
      JSON.stringify(configSpaceJson(space));
      assert(configSpaceText(space).every((line) => line.length <= 79));
      for (const { offset, registers = [] } of space.extendedCapabilities) {
        assert(registers.every((each) => offset + each.offset + each.width <= size));
      }
      // What is behind the end is not looked at.
      assertEquals(
        configSpaceJson(parseConfigSpace(image.bytes.subarray(0, size))),
        configSpaceJson(space),
      );
    }),
    { numRuns: 400 },
  );
});
