import { assertEquals } from "@std/assert";
import { libc } from "../../../ffi/libc.ts";
import { defineDevice, overlay, registers } from "../../../mod.ts";
import { exportedMap } from "../../../lib/define/exported_map.ts";

libc(); // opened once for all tests, which then leave nothing open

const pci = { vendor: 0x1234, device: 1 };

Deno.test("exportedMap() has the registers of all regions, each at its place", () => {
  const device = defineDevice({
    name: "two-regions",
    pci,
    create({ memory }) {
      const one = { registers: [{ name: "CTRL", offset: 0, width: 4 }] } as const;
      const many = {
        registers: [
          { name: "CTRL", offset: 0, width: 4 },
          { name: "RING", offset: 8, width: 8, count: 4 },
        ],
      } as const;
      const below = memory({ size: 0x1000, mappable: [] });
      return {
        regions: {
          bar0: registers(one),
          bar2: overlay(below, [{ offset: 0x100, region: registers(many) }]),
        },
      };
    },
  });
  const made = device.create();
  try {
    const { name, title, registers } = exportedMap(made, device.name, "Two")!;
    assertEquals([name, title], ["two_regions", "Two"]);
    assertEquals(
      registers.map(({ name, region, offset, array }) => [name, region, offset, array?.count]),
      [
        ["BAR0_CTRL", "bar0", 0, undefined],
        ["BAR2_CTRL", "bar2", 0x100, undefined],
        ["RING", "bar2", 0x108, 4],
      ],
    );
  } finally {
    made.close?.();
  }
});

Deno.test("exportedMap() leaves out registers that no access reaches", () => {
  const map = {
    registers: [{ name: "A", offset: 0, width: 4 }, { name: "B", offset: 0x20, width: 4 }],
  } as const;
  const device = defineDevice({
    name: "9small",
    pci,
    create: () => ({ regions: { bar0: registers(map, { size: 16 }) } }),
  }).create();
  try {
    const exported = exportedMap(device, "9small")!;
    assertEquals([exported.name, exported.registers.map(({ name }) => name)], ["_9small", ["A"]]);
  } finally {
    device.close?.();
  }
});

Deno.test("exportedMap() has nothing to say of a device without registers", () => {
  const device = defineDevice({
    name: "m",
    pci,
    create: ({ memory }) => ({ regions: { bar0: memory({ size: 4096 }) } }),
  }).create();
  try {
    assertEquals(exportedMap(device, "m"), undefined);
  } finally {
    device.close?.();
  }
});

Deno.test("exportedMap() has no name twice, and none that a map can't have", () => {
  const long = "L".repeat(64);
  const parts = (names: string[], size = 16) => {
    const all = names.map((name, i) => ({ name, offset: 4 * i, width: 4 as const }));
    return registers({ registers: all }, { size });
  };
  const device = defineDevice({
    name: "banks",
    pci,
    create() {
      const banks = [0x100, 0x200].map((offset) => ({ offset, region: parts(["X", long]) }));
      const either = ["A", "B"].map((name) => ({
        offset: 0x300,
        region: parts([name, "SAME"]),
        when: () => name === "A",
      }));
      const below = parts(["X", "BAR0_X_100"], 0x400);
      return { regions: { bar0: overlay(below, [...banks, ...either]), bar2: parts([long]) } };
    },
  }).create();
  try {
    const names = exportedMap(device, "banks")!.registers.map(({ name }) => name);
    const cut = (end: string) => `BAR0_${long}`.slice(0, 64 - end.length) + end;
    assertEquals(names, [
      ...["BAR0_X_0", "BAR0_X_100"],
      ...["BAR0_X_100_2", cut(""), "BAR0_X_200", cut("_2")],
      ...["A", "BAR0_SAME_304", "B", "BAR0_SAME_304_2"],
      `BAR2_${long}`.slice(0, 64),
    ]);
  } finally {
    device.close?.();
  }
});
