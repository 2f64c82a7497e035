import { assertEquals } from "@std/assert";
import { classNames } from "../../../lib/pci/class.ts";

Deno.test("classNames() names base class, subclass and programming interface", () => {
  assertEquals(classNames(0x010802), {
    base: "Mass storage controller",
    sub: "Non-Volatile memory controller",
    progIf: "NVM Express",
  });
});

Deno.test("classNames() leaves out what it does not know", () => {
  assertEquals(classNames(0x020000), { base: "Network controller", sub: "Ethernet controller" });
  assertEquals(classNames(0x02ee00), { base: "Network controller" });
  assertEquals(classNames(0x770000), {});
});

Deno.test("classNames() names programming interfaces of IDE, modems and timers", () => {
  assertEquals(classNames(0x010180).progIf, "ISA compatibility mode only, bus master");
  assertEquals(classNames(0x070302).progIf, "Hayes 16550");
  assertEquals(classNames(0x089901), {
    base: "Generic system peripheral",
    sub: "Timing card",
    progIf: "TAP timing card",
  });
});
