import { assertEquals } from "@std/assert";
import { harmlessReads } from "../../../cli/doctor/harmless.ts";
import { parseRegisterMap } from "../../../lib/registers/load.ts";

/** The regions that are read of a map with a register in each of these. */
async function regionsOf(...regions: string[]): Promise<number[]> {
  const registers = regions.map((region, i) =>
    `  - { name: R${i}, region: ${region}, offset: 0, width: 4 }`
  );
  const { map } = await parseRegisterMap(`name: m\nregisters:\n${registers.join("\n")}`, "m");
  return harmlessReads(map!).map(({ region }) => region);
}

Deno.test("registers are read in each region that a map can name", async () => {
  assertEquals(await regionsOf("bar0", "BAR2", "config", '"3"', "region3"), [0, 2, 7, 3, 3]);
});

Deno.test("registers of capabilities are left out: their place is the device's", async () => {
  assertEquals(await regionsOf("CAP_MSIX", "bar1"), [1]);
});
