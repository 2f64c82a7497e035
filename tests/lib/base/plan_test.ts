import { assertEquals, assertRejects, assertThrows } from "@std/assert";
import { drive, driveAsync, type Plan } from "../../../lib/base/plan.ts";

function* twoSteps(log: string[]): Plan<number, string, string> {
  try {
    const first = yield 1;
    const second = yield 2;
    return first + second;
  } finally {
    log.push("cleaned up");
  }
}

/** Asks again, once, for a step that fails. */
function* patient(): Plan<number, string, string> {
  try {
    return yield 1;
  } catch {
    return yield 2;
  }
}

const named = (step: number) => `<${step}>`;
const failing = (step: number) => {
  if (step === 1) throw new Error("no");
  return named(step);
};

Deno.test("drive() and driveAsync() give a plan what its steps came to", async () => {
  const log: string[] = [];
  assertEquals(drive(twoSteps(log), named), "<1><2>");
  assertEquals(await driveAsync(twoSteps(log), (step) => Promise.resolve(named(step))), "<1><2>");
  assertEquals(log, ["cleaned up", "cleaned up"]);
});

Deno.test("a step that fails ends the plan, which cleans up first", async () => {
  const log: string[] = [];
  assertThrows(() => drive(twoSteps(log), failing), Error, "no");
  await assertRejects(() => driveAsync(twoSteps(log), failing), Error, "no");
  await assertRejects(
    () => driveAsync(twoSteps(log), () => Promise.reject(new Error("late"))),
    Error,
    "late",
  );
  assertEquals(log, ["cleaned up", "cleaned up", "cleaned up"]);
});

Deno.test("a plan that handles the failure of a step goes on", async () => {
  assertEquals(drive(patient(), failing), "<2>");
  assertEquals(await driveAsync(patient(), failing), "<2>");
});
