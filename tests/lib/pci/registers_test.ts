import { assert, assertEquals } from "@std/assert";
import * as registers from "../../../lib/pci/registers.ts";
import { COMMAND, flags } from "../../../lib/pci/registers.ts";

Deno.test("flags() names the bits that are set and keeps those without a name", () => {
  assertEquals(flags(0xf406, COMMAND), {
    value: 0xf406,
    set: ["MEMORY", "MASTER", "INTX_DISABLE"],
  });
  assertEquals(flags(0, COMMAND), { value: 0, set: [] });
});

Deno.test("bit tables hold single bits, each once", () => {
  const tables = [
    registers.COMMAND,
    registers.STATUS,
    registers.SEC_STATUS,
    registers.BRIDGE_CTL,
    registers.EXP_DEVCTL,
    registers.EXP_DEVSTA,
    registers.EXP_LNKCTL,
    registers.EXP_LNKSTA,
    registers.EXP_SLTCAP,
    registers.EXP_SLTSTA,
    registers.EXP_RTCTL,
    registers.EXP_DEVCTL2,
    registers.ERR_UNC,
    registers.ERR_COR,
    registers.ACS,
    registers.SRIOV_CTRL,
    registers.L1SS,
  ];
  for (const table of tables) {
    const masks: number[] = Object.values(table);
    assert(masks.every((mask) => mask > 0 && (mask & (mask - 1)) === 0));
    assertEquals(new Set(masks).size, masks.length);
  }
});
