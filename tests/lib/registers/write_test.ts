import { assert, assertEquals } from "@std/assert";
import {
  loadRegisterMap,
  parseRegisterMap,
  type RegisterMap,
  registerMapText,
  SHIPPED_MAPS,
} from "../../../lib/registers/mod.ts";

async function again(map: RegisterMap): Promise<RegisterMap> {
  const text = registerMapText(map);
  const { map: read, problems } = await parseRegisterMap(text, "again.yaml");
  assertEquals(problems, undefined, text);
  return read!;
}

async function mapOf(text: string): Promise<RegisterMap> {
  const { map, problems } = await parseRegisterMap(text, "m.yaml");
  assertEquals(problems, undefined);
  return map!;
}

for (const name of SHIPPED_MAPS) {
  Deno.test(`registerMapText() writes ${name} so that it reads as the same map`, async () => {
    const map = await loadRegisterMap(name);
    assertEquals(await again(map), map);
  });
}

Deno.test("registerMapText() quotes what YAML would take for something else", async () => {
  const odd = ["null", "On", "a: b", "# c", "1", "- d", '"q"', "\u001b[2J\u0085", "e\nf", " g "];
  const map: RegisterMap = {
    name: "null",
    title: "yes",
    registers: odd.map((description, i) => ({
      name: ["true", "y", "NULL"][i] ?? `R${i}`,
      description,
      region: i === 3 ? "9" : "bar2",
      offset: i * 4,
      width: 4,
      access: "rw",
      fields: [{
        name: i === 0 ? "66MHZ" : `no`,
        description,
        low: 0,
        high: 2,
        access: "w1c",
        enum: new Map(odd.slice(0, 3).map((each, at) => [BigInt(at), each])),
      }],
    })),
  };
  assertEquals(await again(map), map);
  assertEquals(registerMapText(map).match(/[^\n\x20-\x7e]/g), null);
});

Deno.test("registerMapText() lets registers overlap that do, over others as well", async () => {
  const map = await mapOf(`
name: m
registers:
  - { name: LONG, offset: 0, width: 8 }
  - { name: LOW, offset: 0, width: 4, overlaps: LONG }
  - { name: BYTE, offset: 1, width: 1, overlaps: LONG }
  - { name: APART, offset: 8, width: 4 }
  - { name: ELSEWHERE, region: bar1, offset: 0, width: 4 }
  - { name: EVEN, offset: 16, width: 4, count: 4, stride: 8 }
  - { name: ODD, offset: 20, width: 4, count: 4, stride: 8 }
`);
  const text = registerMapText(map);
  assertEquals(text.match(/overlaps: \w+/g), ["overlaps: LONG", "overlaps: LONG"]);
  assertEquals(await again(map), map);
});

Deno.test("registerMapText() keeps to lines of 100 columns but for long descriptions", async () => {
  const text = registerMapText(await loadRegisterMap("nvme"));
  assert(text.split("\n").every((line) => line.length <= 100 || line.includes("description")));
});

Deno.test("registerMapText() writes a map without registers, and a remark", async () => {
  const map: RegisterMap = { name: "m", registers: [] };
  assertEquals(await again(map), map);
  assertEquals(registerMapText(map, "by\nname: x").split("\n")[0], "# by\\u000aname: x");
});
