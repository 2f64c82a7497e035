import { assert, assertEquals } from "@std/assert";
import { capabilityKey, parseConfigSpace, REGISTER_NAMES } from "../../lib/pci/mod.ts";
import {
  ConfigImage,
  crowdedImage,
  nvmeImage,
  rootPortImage,
  virtioImage,
} from "../lib/pci/_images.ts";
import { compareWithLspci } from "./lspci.ts";

async function assertAgrees(image: ConfigImage): Promise<void> {
  assertEquals(await compareWithLspci(image.bytes, parseConfigSpace(image.bytes)), []);
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
    const { bytes } = mixedImage(seed);
    assertEquals(await compareWithLspci(bytes, parseConfigSpace(bytes)), [], `seed ${seed}`);
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
