import { assertEquals, assertThrows } from "@std/assert";
import { type DeviceOption, option, optionValues } from "../../../lib/define/option.ts";

const OPTIONS = {
  pins: option.integer({ default: 8, min: 1, max: 32, description: "Pins" }),
  size: option.size({ default: 4096, description: "Size" }),
  disk: option.text({ description: "Disk" }),
  fast: option.boolean({ default: false, description: "Fast" }),
  mode: option.choice({ choices: ["slow", "odd"], description: "Mode" }),
};

Deno.test("optionValues() gives defaults for what is not chosen", () => {
  const values = optionValues(OPTIONS, { pins: 3, mode: "odd", disk: undefined });
  assertEquals(values, { pins: 3, size: 4096, disk: undefined, fast: false, mode: "odd" });
  // The types are those of the options.
  const [pins, disk, mode]: [number, string | undefined, "slow" | "odd"] = [
    values.pins,
    values.disk,
    values.mode,
  ];
  assertEquals([pins, disk, mode], [3, undefined, "odd"]);
});

Deno.test("optionValues() refuses names and values that there are not", () => {
  const refuse = (chosen: Record<string, unknown>, message: string) =>
    assertThrows(() => optionValues(OPTIONS, chosen), RangeError, message);
  refuse({ pinz: 1 }, 'There is no option "pinz"; did you mean "pins"?');
  refuse(
    { zzzzzzz: 1 },
    'There is no option "zzzzzzz"; there are pins, size, disk, fast, mode',
  );
  refuse({ pins: 0 }, "Option pins: 0 is not a whole number from 1 to 32");
  refuse({ pins: 1.5 }, "Option pins: 1.5 is not a whole number");
  refuse({ pins: "8" }, 'Option pins: "8" is not a whole number');
  refuse({ mode: "fast" }, 'Option mode: "fast" is not one of slow, odd');
  refuse({ fast: "yes" }, "is not true or false");
  assertThrows(() => optionValues({}, { a: 1 }), RangeError, "the device has none");
  assertThrows(() => optionValues({}, { toString: 1 }), RangeError, "There is no option");
});

Deno.test("parse() reads what a person writes", () => {
  const read = (each: DeviceOption, ...texts: string[]) => texts.map((text) => each.parse(text));
  assertEquals(read(OPTIONS.pins, "16", "0x10", "0b10"), [16, 16, 2]);
  assertEquals(read(OPTIONS.size, "4096", "64K", "2MiB", "0x10", "1G"), [
    4096,
    65536,
    2 << 20,
    16,
    2 ** 30,
  ]);
  assertEquals(read(OPTIONS.fast, "true", "No", "on", "0"), [true, false, true, false]);
  assertEquals(read(OPTIONS.mode, "slow"), ["slow"]);
  assertEquals(read(OPTIONS.disk, ""), [""]);
});

Deno.test("parse() says what a value looks like", () => {
  const refuse = (each: DeviceOption, text: string, message: string) =>
    assertThrows(() => each.parse(text), RangeError, message);
  refuse(OPTIONS.pins, "many", '"many" is not a whole number from 1 to 32');
  refuse(OPTIONS.pins, "33", '"33" is not a whole number from 1 to 32');
  refuse(OPTIONS.size, "-1", '"-1" is not a size in bytes from 0, as 4096, 64K or 2MiB');
  refuse(OPTIONS.size, "9999999999G", "is not a size");
  refuse(OPTIONS.fast, "maybe", '"maybe" is not true or false');
  refuse(OPTIONS.mode, "s", '"s" is not one of slow, odd');
});

Deno.test("option refuses a default that its own bounds do not allow", () => {
  assertThrows(
    () => option.integer({ default: 0, min: 1, description: "" }),
    RangeError,
    "The default 0 is not a whole number from 1",
  );
});
