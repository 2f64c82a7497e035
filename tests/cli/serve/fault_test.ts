import { assertEquals, assertThrows } from "@std/assert";
import {
  faultText,
  FAULTY_COMMANDS,
  isRandom,
  parseFault,
  ruleText,
} from "../../../cli/serve/fault.ts";
import type { FaultRule } from "../../../lib/server/faults.ts";
import { Command } from "../../../lib/wire/command.ts";

const READ = { command: Command.REGION_READ };

const GOOD: [text: string, rule: FaultRule][] = [
  ["REGION_READ:drop", { ...READ, fault: { kind: "drop" } }],
  ["region_read:drop@3", { ...READ, fault: { kind: "drop" }, when: { nth: 3 } }],
  ["9:drop/2", { ...READ, fault: { kind: "drop" }, when: { every: 2 } }],
  ["*:delay=50ms%10", { fault: { kind: "delay", ms: 50 }, when: { probability: 0.1 } }],
  ["*:delay=1.5s", { fault: { kind: "delay", ms: 1500 } }],
  ["VERSION:error", { command: Command.VERSION, fault: { kind: "error", errno: 5 } }],
  ["*:error=ENOSPC", { fault: { kind: "error", errno: 28 } }],
  ["*:error=4095", { fault: { kind: "error", errno: 4095 } }],
  ["*:garbage", { fault: { kind: "garbage" } }],
  ["*:garbage=0x10@1", { fault: { kind: "garbage", size: 16 }, when: { nth: 1 } }],
  ["*:truncate=0", { fault: { kind: "truncate", size: 0 } }],
  ["*:close=20%0.5", { fault: { kind: "close", size: 20 }, when: { probability: 0.005 } }],
];
for (const [text, rule] of GOOD) {
  Deno.test(`parseFault() reads ${text}, and ruleText() writes what it reads the same`, () => {
    assertEquals(parseFault(text), rule);
    assertEquals(parseFault(ruleText(rule)), rule);
  });
}

const BAD: [text: string, message: string][] = [
  ["drop", '"drop" is no fault; write COMMAND:FAULT'],
  ["", '"" is no fault'],
  ["*:", '"*:" is no fault'],
  ["*:drop@", '"*:drop@" is no fault'],
  ["REGIN_READ:drop", 'There is no command "REGIN_READ"; did you mean "REGION_READ"?'],
  ["DMA_READ:drop", "A fault of DMA_READ can't be: that is what a server sends"],
  ["12:drop", "A fault of DMA_WRITE can't be"],
  ["70000:drop", "The number of a command is an integer from 0 to 65535, not 70000"],
  ["*:garbage=2000000", "The size of garbage is an integer from 0 to 1048576, not 2000000"],
  ["*:delay=25h", "24h at most"],
  ["*:explode", 'There is no fault "explode"; There are delay, drop'],
  ["*:constructor", "There is no fault"],
  ["*:wrong-id", 'There is no fault "wrong-id"; There are delay, drop'],
  ["help", "faults are delay, drop, error, garbage, truncate, close"],
  ["*:delay", "A delay says how long, as delay=50ms"],
  ["*:delay=soon", "Write a number and a unit"],
  ["*:drop=1", "A drop takes no value"],
  ["*:error=EFOO", '"EFOO" is no errno; write its name or number, as EIO or 5'],
  ["*:error=0", '"0" is no errno'],
  ["*:error=4096", '"4096" is no errno'],
  ["*:garbage=much", '"much" is no value'],
  ["*:drop@0", '"0" is no count; requests are counted from 1'],
  ["*:drop@x", '"x" is no count'],
  ["*:drop%0", '"0" is no percentage; it takes more than 0 and 100 at most'],
  ["*:drop%101", '"101" is no percentage'],
];
for (const [text, message] of BAD) {
  Deno.test(`parseFault() says what is wrong with "${text}"`, () => {
    assertThrows(() => parseFault(text), Error, message);
  });
}

Deno.test("isRandom() tells which faults a seed is for", () => {
  const random = GOOD.filter(([, rule]) => isRandom(rule)).map(([text]) => text);
  assertEquals(random, ["*:delay=50ms%10", "*:garbage", "*:garbage=0x10@1", "*:close=20%0.5"]);
});

Deno.test("the commands that are offered for a fault are those that can have one", () => {
  for (const command of FAULTY_COMMANDS) parseFault(`${command}:drop`);
  const left = Object.keys(Command).filter((name) => !FAULTY_COMMANDS.includes(name));
  assertEquals(left, ["DMA_READ", "DMA_WRITE"]);
  for (const command of left) assertThrows(() => parseFault(`${command}:drop`), RangeError);
});

Deno.test("faultText() names an errno", () => {
  assertEquals(faultText({ kind: "error", errno: 22 }), "error=EINVAL");
});
