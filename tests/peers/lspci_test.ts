import { assert, assertEquals } from "@std/assert";
import { capabilityKey, parseConfigSpace, REGISTER_NAMES } from "../../lib/pci/mod.ts";
import {
  ConfigImage,
  crowdedImage,
  nvmeImage,
  rootPortImage,
  virtioImage,
} from "../lib/pci/_images.ts";
import { compareWithLspci, lspciPrograms } from "./lspci.ts";

/** Asserts that every lspci sees what we see. */
async function assertAgrees(image: ConfigImage, what?: string): Promise<void> {
  const space = parseConfigSpace(image.bytes);
  for (const program of lspciPrograms()) {
    assertEquals(await compareWithLspci(image.bytes, space, program), [], what ?? program);
  }
}

Deno.test("parseConfigSpace() agrees with lspci about an NVMe controller", async () => {
  await assertAgrees(nvmeImage());
});

Deno.test("parseConfigSpace() agrees with lspci about a root port", async () => {
  await assertAgrees(rootPortImage());
});

Deno.test("parseConfigSpace() agrees with lspci about a bridge whose windows are closed", async () => {
  const image = rootPortImage().u8(0x1c, 0xf0, 0x00).u16(0x20, 0xfff0, 0).u16(0x24, 0xfff1, 1)
    .u32(0x28, 0, 0);
  await assertAgrees(image);
});

Deno.test("parseConfigSpace() agrees with lspci about a virtio function", async () => {
  await assertAgrees(virtioImage());
});

Deno.test("parseConfigSpace() agrees with lspci about a function with many capabilities", async () => {
  await assertAgrees(crowdedImage());
});

Deno.test("parseConfigSpace() agrees with lspci about the slot and the errors of a root port", async () => {
  // Power limit, slot control, then the root's errors in AER.
  for (const [power, control] of [[25, 0x1bff], [0x1_00fa, 0x0480], [0xf0, 0x0340]] as const) {
    const image = new ConfigImage(4096, 0x8086, 0x3420, 0x060400).u8(0x0e, 1)
      .capability(0x40, 0x10, 0x0142).u16(0x18 + 0x40, control)
      .u32(0x14 + 0x40, (power & 0xff) << 7 | (power >>> 16) << 15 | 7 << 19)
      .extended(0x100, 0x01, 2).u32(0x12c, 5).u32(0x130, 0x4b).u32(0x134, 0x0208_0100);
    await assertAgrees(image);
  }
});

/** A generator of numbers that are the same on every run. */
function randomNumbers(seed: number): (below: number) => number {
  let state = seed;
  return (below) => {
    state = (Math.imul(state, 1664525) + 1013904223) >>> 0;
    return Math.floor(state / 2 ** 32 * below);
  };
}

/** A function with any flags, BARs and capabilities, in any order, whose registers are anything. */
function mixedImage(seed: number): ConfigImage {
  const random = randomNumbers(seed);
  const words = (count: number) => Array.from({ length: count }, () => random(0x10000));
  const image = new ConfigImage(4096, 0x8086, 1 + random(0xfffe), 0x020000)
    .u16(0x04, random(0x800), random(0x10000) & ~0x10)
    .u8(0x08, random(256))
    .u16(0x2c, 0x1af4, 1 + random(0xfff0));
  for (let bar = 0; bar < 6; bar++) {
    // A 64-bit BAR does not fit the last register.
    const types = bar === 5 ? [0x0, 0x8, 0x2, 0x1] : [0x0, 0x4, 0xc, 0x8, 0x2, 0x1];
    const type = types[random(types.length)]!;
    const is64Bit = (type & 0x5) === 0x4;
    image.u32(0x10 + 4 * bar, (random(0xf000) + 1) * 0x1000 | type);
    if (is64Bit) image.u32(0x10 + 4 * ++bar, random(2) * random(0x10000));
  }
  const capabilities = [
    () => image.capability(0x40, 0x01, ...words(2)),
    () => image.capability(0x50, 0x05, ...words(11)),
    () => image.capability(0x70, 0x11, ...words(5)),
    () => image.capability(0x80, 0x10, 0x02 | random(2) * 0x100 | random(32) << 9, ...words(28)),
    () => image.capability(0xc0, 0x09, 4 + random(12)),
    () => image.capability(0xd0, 0x0d, ...words(3)),
  ];
  const extended = [
    () => image.extended(0x100, 0x01, 1 + random(2), ...words(20)),
    () => image.extended(0x180, 0x03, 1, ...words(2)),
    () => image.extended(0x200, 0x10, 1, ...words(15)),
    () => image.extended(0x280, 0x0d, 1, random(0x7f)),
  ];
  capabilities.sort(() => random(2) - 0.5).forEach((add) => add());
  extended.forEach((add) => random(4) > 0 && add());
  return image;
}

Deno.test("parseConfigSpace() agrees with lspci about mixed capabilities", async () => {
  for (let seed = 1; seed <= 40; seed++) {
    await assertAgrees(mixedImage(seed), `seed ${seed}`);
  }
});

/** A function with one extended capability of this version, whose registers are anything. */
function anyExtended(id: number, version: number, seed: number): ConfigImage {
  const random = randomNumbers(seed);
  const dwords = Array.from({ length: 40 }, () => random(2 ** 32));
  return new ConfigImage(4096, 0x8086, 1, 0x020000).capability(0x40, 0x10, 0x0142)
    .extended(0x100, id, version, ...dwords);
}

Deno.test("each extended capability's registers agree with lspci", async () => {
  for (let id = 0x01; id <= 0x3a; id++) {
    // Those announce structures without end, and have tests of their own.
    if (id === 0x05 || id === 0x30) continue;
    for (let seed = 1; seed <= 2; seed++) {
      await assertAgrees(anyExtended(id, 1 + seed % 2, seed), `${id.toString(16)}, seed ${seed}`);
    }
  }
});

Deno.test("PCI Express of each type and version agrees with lspci", async () => {
  for (const type of [0, 1, 4, 5, 6, 7, 8, 9, 10]) {
    for (let seed = 1; seed <= 3; seed++) {
      const random = randomNumbers(seed);
      const words = Array.from({ length: 28 }, () => random(0x10000));
      const image = new ConfigImage(4096, 0x8086, 1, 0x020000)
        .capability(0x40, 0x10, 1 + seed % 2 | type << 4 | 0x100, ...words);
      await assertAgrees(image, `type ${type}, seed ${seed}`);
    }
  }
});

Deno.test("links, streams and blocks of a bounded number agree with lspci", async () => {
  for (let seed = 1; seed <= 5; seed++) {
    const random = randomNumbers(seed);
    const link = anyExtended(0x05, 1, seed).u8(0x105, random(4));
    await assertAgrees(link, `links, seed ${seed}`);
    const streams = anyExtended(0x30, 1, seed).u8(0x104, random(256)).u8(0x106, random(3));
    await assertAgrees(streams, `streams, seed ${seed}`);
  }
});

Deno.test("CXL's capabilities agree with lspci", async () => {
  const lengths = { 0: 0x3c, 2: 0x2c, 3: 0x28, 4: 0x10, 5: 0x10, 7: 0x20, 8: 0x24, 9: 0x10 };
  for (const [id, length] of Object.entries(lengths)) {
    for (let seed = 1; seed <= 2; seed++) {
      const random = randomNumbers(seed);
      for (const revision of [0, 2]) {
        const image = anyExtended(0x23, 1, seed)
          .u32(0x104, length * 2 ** 20 + revision * 2 ** 16 + 0x1e98).u16(0x108, Number(id));
        // lspci looks types and classes of ranges up without a bound, and may end by a signal.
        if (id === "0") image.u8(0x11c, random(4)).u8(0x12c, random(4));
        await assertAgrees(image, `${id}, revision ${revision}, seed ${seed}`);
      }
    }
  }
});

Deno.test("parseConfigSpace() agrees with lspci about CardBus bridges", async () => {
  for (let seed = 1; seed <= 8; seed++) {
    const random = randomNumbers(seed);
    const image = new ConfigImage(256, 0x104c, 0xac56, 0x060700).u16(0x04, 7).u8(0x0e, 2);
    // The low bits of a memory window are 0 in hardware, and lspci does not mask them.
    for (let at = 0x1c; at < 0x2c; at += 4) image.u32(at, random(0x4_0000) * 0x1000);
    for (let at = 0x2c; at < 0x3c; at += 4) image.u32(at, random(2) * 0x1_0000 + random(0x10000));
    image.u32(0x10, 0xfe00_1000).u16(0x16, random(0x10000)).u16(0x3e, random(0x800));
    await assertAgrees(image.u16(0x40, 0x1014, 0x0512), `seed ${seed}`);
  }
});

/** An entry of Enhanced Allocation as words: of 32 or 64 bits, in any BAR. */
function entry(random: (below: number) => number): number[] {
  const isWide = random(2);
  const upper = isWide ? [random(0x10000), random(0x10000)] : [];
  const lower = [random(0x10000) & ~3 | isWide << 1, random(0x10000)];
  return [
    2 + 2 * isWide | random(9) << 4 | random(8) << 8,
    random(8) | random(4) << 14,
    ...lower,
    ...lower,
    ...upper,
    ...upper,
  ];
}

Deno.test("PCI-X and Enhanced Allocation agree with lspci", async () => {
  for (let seed = 1; seed <= 5; seed++) {
    for (const [id, header] of [[0x07, 0], [0x07, 1], [0x14, 0], [0x14, 1]] as const) {
      const random = randomNumbers(seed);
      const words = Array.from({ length: 40 }, () => random(0x10000));
      // lspci ends where an entry has less than its two dwords.
      if (id === 0x14) words.splice(0, 40, 1, ...header ? [0x0201, 0] : [], ...entry(random));
      const image = new ConfigImage(256, 0x8086, 1, 0x060400).u8(0x0e, header)
        .capability(0x40, id, ...words);
      await assertAgrees(image, `${id}, header ${header}, seed ${seed}`);
    }
  }
});

Deno.test("compareWithLspci() says what disagrees", async () => {
  const { bytes } = nvmeImage();
  const space = parseConfigSpace(bytes);
  const other = parseConfigSpace(nvmeImage().u16(0x42, 63).u16(0x04, 2).bytes);
  const disagreements = await compareWithLspci(bytes, { ...other, bars: space.bars });
  assert(disagreements.includes("[40] count: 64 is ours, 65 lspci's"));
  assert(disagreements.includes("Control Mem: true is ours, false lspci's"));
  assertEquals(disagreements.length, 2);
});

Deno.test("names of registers and capabilities agree with setpci", async () => {
  const { stdout } = await new Deno.Command("setpci", { args: ["--dumpregs"] }).output();
  const rows = new TextDecoder().decode(stdout).split("\n").slice(1).filter((row) => row !== "")
    .map((row) => /^\s*([0-9a-f]+)? +([0-9a-f]{2}) ([BWL-]) (\w+)$/.exec(row)!.slice(1));
  assert(rows.length > 100);
  const widths: Record<string, number> = { B: 1, W: 2, L: 4 };
  const names = new Set<string>();
  for (const [id, offset, width, name] of rows) {
    names.add(name!);
    if (id === undefined) {
      const register = REGISTER_NAMES.find((one) => one.name === name);
      assertEquals(
        [register?.offset, register?.width],
        [Number.parseInt(offset!, 16), widths[width!]],
        name,
      );
    } else {
      const key = { extended: id.length === 4, id: Number.parseInt(id, 16) };
      assertEquals(capabilityKey(name!), key, name);
    }
  }
  assertEquals(REGISTER_NAMES.filter((register) => !names.has(register.name)), []);
});
