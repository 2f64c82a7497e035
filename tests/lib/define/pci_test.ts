import { assertEquals, assertThrows } from "@std/assert";
import { cap } from "../../../lib/define/capabilities.ts";
import { buildConfig, declareBars, type PciSpec } from "../../../lib/define/pci.ts";
import type { DeviceRegion } from "../../../lib/define/device_region.ts";
import { Attempts } from "../../../lib/define/mistakes.ts";
import { callbacks } from "../../../lib/define/callbacks.ts";
import { configSpaceText, parseConfigSpace } from "../../../lib/pci/mod.ts";
import type { ConfigRegion } from "../../../lib/server/config.ts";

const IDS = { vendor: 0x1234, device: 0x5678 };

function build(spec: Partial<PciSpec> = {}, bars: (DeviceRegion | undefined)[] = []): ConfigRegion {
  const built = buildConfig({ ...IDS, ...spec });
  const attempts = new Attempts();
  declareBars(built, bars, attempts);
  attempts.throwAny("Cannot declare the BARs");
  return built.config;
}

function get32(config: ConfigRegion, at: number): number {
  return new DataView(config.bytes.buffer).getUint32(at, true);
}

function put32(config: ConfigRegion, at: number, value: number): number {
  const bytes = new Uint8Array(4);
  new DataView(bytes.buffer).setUint32(0, value, true);
  config.write(at, bytes);
  return get32(config, at);
}

Deno.test("buildConfig() declares what the device is", () => {
  const config = build({
    class: 0x010802,
    revision: 3,
    subsystem: { vendor: 0xaaaa, device: 0xbbbb },
    interruptPin: "C",
  });
  const space = parseConfigSpace(config.bytes);
  assertEquals(config.size, 256);
  assertEquals([space.vendorId, space.deviceId, space.classCode, space.revisionId], [
    0x1234,
    0x5678,
    0x010802,
    3,
  ]);
  assertEquals(space.subsystem, { vendorId: 0xaaaa, id: 0xbbbb });
  assertEquals([space.interruptPin, space.capabilities.length, space.notes], [3, 0, []]);
  assertEquals(space.status.set, []);
});

Deno.test("buildConfig() refuses numbers that are too large", () => {
  assertThrows(() => build({ vendor: 0x10000 }), RangeError, "The vendor id 65536");
  assertThrows(() => build({ device: -1 }), RangeError, "The device id -1");
  assertThrows(() => build({ class: 0x1000000 }), RangeError, "24 bits");
  assertThrows(() => build({ revision: 256 }), RangeError, "The revision 256");
  const subsystem = { vendor: 1, device: 0x10000 };
  assertThrows(() => build({ subsystem }), RangeError, "The subsystem id");
});

Deno.test("COMMAND takes the bits that go with the device, and STATUS's errors are cleared by ones", () => {
  const memory = callbacks({ size: 16 });
  const ports = callbacks({ size: 16, io: true });
  const command = (spec: Partial<PciSpec>, ...bars: DeviceRegion[]) =>
    put32(build(spec, bars), 4, 0xffff) & 0xffff;
  assertEquals(command({}), 0x0144);
  assertEquals(command({ interruptPin: "A" }, memory), 0x0546);
  assertEquals(command({}, memory, ports), 0x0147);
  const config = build({ capabilities: [cap.pm()] });
  config.bytes[7] = 0xff; // what a device would set
  assertEquals(put32(config, 4, 0x8000_0000) >>> 16, 0x7f10);
});

Deno.test("BARs tell their size when ones are written, as on hardware", () => {
  const config = build({}, [
    callbacks({ size: 0x1000 }),
    callbacks({ size: 0x20, io: true }),
    callbacks({ size: 2 ** 33, is64Bit: true, prefetchable: true }),
    undefined,
    callbacks({ size: 100 }),
    callbacks({ size: 4, io: true }),
  ]);
  assertEquals([0x10, 0x14, 0x18, 0x1c, 0x20, 0x24].map((at) => get32(config, at)), [
    0,
    1,
    0xc,
    0,
    0,
    1,
  ]);
  const written = [0x10, 0x14, 0x18, 0x1c, 0x20, 0x24].map((at) => put32(config, at, 0xffff_ffff));
  assertEquals(written, [0xffff_f000, 0xffff_ffe1, 0xc, 0xffff_fffe, 0xffff_ff80, 0xffff_fffd]);
  const rom = build({}, [...Array(6).fill(undefined), callbacks({ size: 0x1000 })]);
  assertEquals(put32(rom, 0x30, 0xffff_ffff), 0xffff_f001);
});

Deno.test("declareBars() refuses registers that can't be", () => {
  const small = callbacks({ size: 16 });
  const wide = callbacks({ size: 16, is64Bit: true });
  assertThrows(() => build({}, [wide, small]), RangeError, "BAR0 is 64 bits wide");
  assertThrows(() => build({}, [...Array(5).fill(undefined), wide]), RangeError, "BAR5");
  assertThrows(() => build({}, [...Array(6).fill(undefined), small]), RangeError, "ROM");
});

Deno.test("capabilities are laid out in their order, and say what was declared", () => {
  const config = build({
    capabilities: [
      cap.pm(),
      cap.msi({ vectors: 4, masking: true }),
      cap.msix({ vectors: 65, bar: 4, table: 0x2000, pba: 0x3000 }),
      cap.express({ speed: 4, lanes: 8 }),
      cap.vendor([1, 2, 3, 4, 5]),
      cap.standard({ id: 0x03, bytes: [0, 0x80, 0, 0, 0, 0] }),
      cap.serialNumber(0x0102_0304_0506_0708n),
      cap.aer(),
      cap.extended({ id: 0x0b, bytes: [1, 0, 0x0c, 0, 7, 7, 7, 7], writable: [0, 0, 0, 0, 0xff] }),
    ],
  });
  const space = parseConfigSpace(config.bytes);
  assertEquals(space.notes, []);
  assertEquals(config.size, 4096);
  const shown = (each: { offset: number; id: number }) => [each.offset, each.id];
  assertEquals(space.capabilities.map(shown), [
    [0x40, 0x01],
    [0x48, 0x05],
    [0x60, 0x11],
    [0x6c, 0x10],
    [0xa8, 0x09],
    [0xb0, 0x03],
  ]);
  assertEquals(space.extendedCapabilities.map(shown), [[0x100, 3], [0x10c, 1], [0x138, 0x0b]]);
  const text = configSpaceText(space).join("\n");
  for (
    const line of [
      "MSI: Enable- Count=1/4 Maskable+ 64bit+",
      "MSI-X: Enable- Count=65 Masked-",
      "Vector table: BAR=4 offset=00002000",
      "PBA: BAR=4 offset=00003000",
      "Speed 16GT/s, Width x8",
      "FLReset+",
      "01-02-03-04-05-06-07-08",
    ]
  ) assertEquals(text.includes(line), true, `${line} in\n${text}`);
});

Deno.test("capabilities have the write masks of hardware", () => {
  const config = build({
    capabilities: [
      cap.msix({ vectors: 4, bar: 4, at: 0x80 }),
      cap.msi({ vectors: 8, is64Bit: true, masking: true }), // 0x40
      cap.pm(), // 0x58
      cap.express({ flr: false }), // 0x8c
      cap.msi({ is64Bit: false }), // 0x60
    ],
  });
  const all = (at: number) => put32(config, at, 0xffff_ffff) >>> 0;
  assertEquals(
    [all(0x80), all(0x84), all(0x88)],
    [0xc003_0011 | 0x40 << 8, 4, 0x804].map((each) => each >>> 0),
  );
  assertEquals([0x40, 0x44, 0x48, 0x4c, 0x50, 0x54].map(all), [
    0x01f7_5805,
    0xffff_fffc,
    0xffff_ffff,
    0x0000_ffff,
    0x0000_00ff,
    0,
  ]);
  assertEquals([all(0x58), all(0x5c)], [0x0003_8c01, 0x0000_000b]);
  assertEquals(all(0x94) & 0xffff, 0x7fff); // DevCtl
  assertEquals([all(0x60), all(0x64), all(0x68)], [0x0071_0005, 0xffff_fffc, 0x0000_ffff]);
});

Deno.test("buildConfig() refuses capabilities for which there is no room", () => {
  const refuse = (message: string, ...capabilities: ReturnType<typeof cap.pm>[]) =>
    assertThrows(() => build({ capabilities }), RangeError, message);
  refuse("no room for the capability vendor-specific of 200", cap.vendor(new Uint8Array(197)));
  refuse("no room for the capability PM at 0x42", cap.pm({ at: 0x42 }));
  refuse("no room for the capability PM at 0x30", cap.pm({ at: 0x30 }));
  refuse("no room for the capability MSI at 0x44", cap.pm({ at: 0x40 }), cap.msi({ at: 0x44 }));
  refuse("has to be at 0x100", cap.aer({ at: 0x200 }));
});

Deno.test("cap refuses what can't be", () => {
  const refuse = (message: string, make: () => unknown) => assertThrows(make, RangeError, message);
  refuse("MSI can't have 3 vectors", () => cap.msi({ vectors: 3 }));
  refuse("MSI can't have 64 vectors", () => cap.msi({ vectors: 64 }));
  refuse("MSI-X can't have 0 vectors", () => cap.msix({ vectors: 0, bar: 0 }));
  refuse("MSI-X can't have 2049 vectors", () => cap.msix({ vectors: 2049, bar: 0 }));
  refuse("MSI-X can't be in BAR6", () => cap.msix({ vectors: 1, bar: 6 }));
  refuse("multiples of 8", () => cap.msix({ vectors: 1, bar: 0, table: 4 }));
  refuse("overlap", () => cap.msix({ vectors: 4, bar: 0, table: 0, pba: 0x38 }));
});
