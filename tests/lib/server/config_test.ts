import { assertEquals, assertThrows } from "@std/assert";
import { ConfigRegion } from "../../../lib/server/config.ts";

/** The 32 bits at an offset, as a client reads them. */
function read32(config: ConfigRegion, at: number): number {
  const bytes = new Uint8Array(4);
  config.read(at, bytes);
  return new DataView(bytes.buffer).getUint32(0, true);
}

function write32(config: ConfigRegion, at: number, value: number): void {
  const bytes = new Uint8Array(4);
  new DataView(bytes.buffer).setUint32(0, value, true);
  config.write(at, bytes);
}

Deno.test("read() gives what was set, at any width and place", () => {
  const config = new ConfigRegion(256);
  config.set16(0, 0x1234);
  config.set16(2, 0xabcd);
  config.set32(8, 0xfedcba98);
  config.set8(255, 7);
  assertEquals(read32(config, 0), 0xabcd1234);
  assertEquals(read32(config, 8), 0xfedcba98);
  assertEquals(config.get16(2), 0xabcd);
  const all = new Uint8Array(256);
  config.read(0, all);
  assertEquals([all[1], all[2], all[255]], [0x12, 0xcd, 7]);
});

Deno.test("write() changes the bits that are writable, and no others", () => {
  const config = new ConfigRegion(256);
  config.set16(4, 0x0010, 0x0507);
  config.write(4, new Uint8Array([0xff, 0xff]));
  assertEquals(config.get16(4), 0x0517);
  config.write(5, new Uint8Array([0])); // one byte of the register
  assertEquals(config.get16(4), 0x0017);
  config.write(0, new Uint8Array(256).fill(0xff));
  assertEquals(read32(config, 0), 0);
  assertEquals(read32(config, 4), 0x0517);
  assertEquals(read32(config, 252), 0);
});

for (
  const [what, index, options, low, high] of [
    ["of memory", 0, { size: 4096 }, 0xfffff000, 0],
    ["of 16 bytes", 5, { size: 16 }, 0xfffffff0, 0],
    ["of 2 GiB", 1, { size: 2 ** 31 }, 0x80000000, 0],
    ["of I/O ports", 2, { size: 256, io: true }, 0xffffff01, 0],
    ["that is prefetchable", 2, { size: 4096, prefetchable: true }, 0xfffff008, 0],
    ["of 64 bits", 2, { size: 65536, is64Bit: true }, 0xffff0004, 0xffffffff],
    ["of 8 GiB", 4, { size: 2 ** 33, is64Bit: true, prefetchable: true }, 0xc, 0xfffffffe],
  ] as const
) {
  Deno.test(`setBar() ${what} gives its size when all ones are written`, () => {
    const config = new ConfigRegion(256);
    config.setBar(index, options);
    const at = 0x10 + 4 * index;
    for (const register of [at, at + 4]) write32(config, register, 0xffffffff);
    assertEquals([read32(config, at), read32(config, at + 4)], [low, high]);
    write32(config, at, 0);
    write32(config, at + 4, 0);
    assertEquals(read32(config, at), low & 0xf, "the type bits stay");
  });
}

Deno.test("setBar() refuses a register or a size that can't be", () => {
  const config = new ConfigRegion(256);
  for (const index of [-1, 6, 0.5]) {
    assertThrows(() => config.setBar(index, { size: 16 }), RangeError, "0 to 5 are possible");
  }
  assertThrows(() => config.setBar(5, { size: 16, is64Bit: true }), RangeError, "0 to 4 are");
  for (const size of [0, 8, 100, -16, 4097, 2 ** 32, NaN, Infinity]) {
    assertThrows(
      () => config.setBar(0, { size }),
      RangeError,
      "is not a power of two in its range",
    );
  }
  assertEquals(config.bytes, new Uint8Array(256));
});

Deno.test("addCapability() links a chain that begins at 0x34", () => {
  const config = new ConfigRegion(256);
  config.addCapability(0x40, 0x01);
  config.addCapability(0x80, 0x11);
  config.addCapability(0x50, 0x10); // the order is that of the calls
  assertEquals(config.get16(6) & 0x10, 0x10);
  const chain: number[][] = [];
  for (let at = config.bytes[0x34]!; at !== 0; at = config.bytes[at + 1]!) {
    chain.push([at, config.bytes[at]!]);
  }
  assertEquals(chain, [[0x40, 1], [0x80, 0x11], [0x50, 0x10]]);
});

Deno.test("addExtendedCapability() writes id, version and next", () => {
  const config = new ConfigRegion(4096);
  config.addExtendedCapability(0x100, 0x0003, 1, 0xffc);
  assertEquals(read32(config, 0x100), 0xffc10003);
});

Deno.test("reset() puts back what was declared, and keeps what is writable", () => {
  const config = new ConfigRegion(256);
  config.set16(4, 0x0002, 0x0507);
  config.setBar(0, { size: 4096 });
  config.addCapability(0x40, 1);
  const declared = config.bytes.slice();
  config.write(0, new Uint8Array(256).fill(0xff));
  config.reset();
  assertEquals(config.bytes, declared);
  write32(config, 0x10, 0xffffffff);
  assertEquals(read32(config, 0x10), 0xfffff000);
});
