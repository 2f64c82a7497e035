/** Waits while a case is made shorter: a slow peer is not taken for one that is silent. */

import { assertEquals } from "@std/assert";
import { libc } from "../../../ffi/libc.ts";
import type { Observation } from "../../../lib/fuzz/finding.ts";
import { Waits } from "../../../lib/fuzz/waits.ts";

libc(); // opened once for all tests

const CRASH: Observation = { kind: "crash", text: "it ended" };
const HANG: Observation = { kind: "hang", text: "it answers no more", isSilence: true };
const LIMITS = { plays: 10, timeMs: 60_000 };

/** Plays to a peer whose answer, a crash, takes so long, one time after the other. */
async function waitsOf(waits: Waits, answersMs: readonly number[]): Promise<readonly number[]> {
  const played: number[] = [];
  for (const answerMs of answersMs) {
    await waits.play((waitMs) => {
      played.push(waitMs);
      return Promise.resolve({ observations: [waitMs < answerMs ? HANG : CRASH] });
    });
  }
  return played;
}

Deno.test("a slow peer is waited for as long as the user said, from then on", async () => {
  assertEquals(await waitsOf(new Waits(1000, 5000), [10, 2000, 10]), [1000, 1000, 5000, 5000]);
});

Deno.test("a silent peer is waited for once", async () => {
  const answersMs = [Infinity, Infinity, 10];
  assertEquals(await waitsOf(new Waits(1000, 5000), answersMs), [1000, 5000, 1000, 1000]);
});

Deno.test("no wait is longer than the user said", async () => {
  assertEquals(await waitsOf(new Waits(1000, 300), [Infinity, 10]), [300, 300]);
});

/** The number of times that a case is made shorter, and that the result is played. */
async function worksOf(observation: Observation, isThere: boolean) {
  const waits = new Waits(1000, 5000);
  let works = 0;
  let looks = 0;
  await waits.shorten(
    observation,
    LIMITS,
    () => Promise.resolve({ isRepeatable: ++works > 0 }),
    () => Promise.resolve(++looks > 0 && isThere),
  );
  return [works, looks];
}

Deno.test("a silence has to last for the whole wait in the end", async () => {
  assertEquals(await worksOf(CRASH, true), [1, 0]);
  assertEquals(await worksOf(HANG, true), [1, 1]);
  assertEquals(await worksOf(HANG, false), [2, 1]);
});
