import { assertEquals } from "@std/assert";
import { callAfter } from "../../../lib/base/timer.ts";

/** The parts in which a timer waits, by a clock that is always as late as it has to be. */
function partsOf(ms: number, most = 5): { parts: number[]; calls: number } {
  const { setTimeout } = globalThis;
  const parts: number[] = [];
  let due: (() => void) | undefined;
  let calls = 0;
  try {
    globalThis.setTimeout = ((call: () => void, part: number) => {
      parts.push(part);
      due = call;
      return 0;
    }) as never;
    callAfter(ms, () => calls++);
    while (calls === 0 && parts.length < most) due!();
  } finally {
    globalThis.setTimeout = setTimeout;
  }
  return { parts, calls };
}

Deno.test("a timer waits as long as it is to, also for years", () => {
  const most = 2 ** 31 - 1;
  assertEquals(partsOf(20), { parts: [20], calls: 1 });
  assertEquals(partsOf(-3), { parts: [0], calls: 1 });
  assertEquals(partsOf(most), { parts: [most], calls: 1 });
  assertEquals(partsOf(2 * most + 7), { parts: [most, most, 7], calls: 1 });
  assertEquals(partsOf(Infinity), { parts: [most, most, most, most, most], calls: 0 });
});

Deno.test("a timer that is cancelled does not call", async () => {
  let calls = 0;
  callAfter(0, () => calls++)();
  await new Promise((resolve) => setTimeout(resolve, 5));
  assertEquals(calls, 0);
});
