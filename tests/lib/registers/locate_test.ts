import { assertEquals } from "@std/assert";
import { loadRegisterMap } from "../../../lib/registers/load.ts";
import { RegisterLocator } from "../../../lib/registers/locate.ts";

Deno.test("RegisterLocator finds no register where a capability has its table", async () => {
  const locator = new RegisterLocator([await loadRegisterMap("nvme")]);
  const names = () => [0x1ffc, 0x2000, 0x200c, 0x2010].map((at) => locator.at(0, at, 4)?.name);
  assertEquals(names(), ["CQHDBL[511]", "SQTDBL[512]", "CQHDBL[513]", "SQTDBL[514]"]);
  const lists = { capabilities: [], extendedCapabilities: [] };
  locator.placeCapabilities({ ...lists, tables: [{ region: 0, offset: 0x2000, size: 0x10 }] });
  assertEquals(names(), ["CQHDBL[511]", undefined, undefined, "SQTDBL[514]"]);
  locator.placeCapabilities({ ...lists, tables: [{ region: 4, offset: 0x2000, size: 0x10 }] });
  assertEquals(names()[1], "SQTDBL[512]");
});
