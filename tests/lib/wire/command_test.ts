import { assertEquals } from "@std/assert";
import { Command, commandName } from "../../../lib/wire/mod.ts";

Deno.test("Command has the numbers of the specification", () => {
  assertEquals(Object.entries(Command), [
    ["VERSION", 1],
    ["DMA_MAP", 2],
    ["DMA_UNMAP", 3],
    ["DEVICE_GET_INFO", 4],
    ["DEVICE_GET_REGION_INFO", 5],
    ["DEVICE_GET_REGION_IO_FDS", 6],
    ["DEVICE_GET_IRQ_INFO", 7],
    ["DEVICE_SET_IRQS", 8],
    ["REGION_READ", 9],
    ["REGION_WRITE", 10],
    ["DMA_READ", 11],
    ["DMA_WRITE", 12],
    ["DEVICE_RESET", 13],
    ["DIRTY_PAGES", 14],
    ["REGION_WRITE_MULTI", 15],
    ["DEVICE_FEATURE", 16],
    ["MIG_DATA_READ", 17],
    ["MIG_DATA_WRITE", 18],
  ]);
});

Deno.test("commandName() names what is known and numbers what is not", () => {
  for (const [name, code] of Object.entries(Command)) assertEquals(commandName(code), name);
  assertEquals(commandName(0), "command 0");
  assertEquals(commandName(19), "command 19");
  assertEquals(commandName(65535), "command 65535");
});
