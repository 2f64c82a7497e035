import { assertEquals, assertInstanceOf, assertRejects, assertThrows } from "@std/assert";
import { after, type Late } from "../../../lib/base/after.ts";

const broken = () => {
  throw new Error("broken");
};

Deno.test("after() goes on at once without a promise, and later with one", async () => {
  const twice = (value: Late<number>) => after(() => value, (number) => number * 2);
  assertEquals(twice(2), 4);
  const late = twice(Promise.resolve(2));
  assertInstanceOf(late, Promise);
  assertEquals(await late, 4);
});

Deno.test("after() passes what failed to its handler, or on", async () => {
  const fails: (() => Late<number>)[] = [broken, () => Promise.reject(new Error("broken"))];
  for (const act of fails) {
    assertEquals(await after(act, () => "no", (error) => (error as Error).message), "broken");
  }
  assertThrows(() => after(broken, () => 0), Error, "broken");
  await assertRejects(async () => await after(fails[1]!, () => 0), Error, "broken");
});

Deno.test("what comes after has its own failures", async () => {
  for (const value of [1, Promise.resolve(1)]) {
    await assertRejects(async () => await after(() => value, broken, () => 2), Error, "broken");
  }
});
