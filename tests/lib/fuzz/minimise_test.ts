/** Making cases shorter: waits that suit what is looked for. */

import { assertEquals } from "@std/assert";
import { libc } from "../../../ffi/libc.ts";
import { withWaits } from "../../../lib/fuzz/minimise.ts";

libc(); // opened once for all tests

const WAITS = { shortMs: 1000, wholeMs: 5000 };
const LIMITS = { plays: 10, timeMs: 60_000 };

/** Notes the waits of a work whose results are repeatable from some wait on. */
async function waitsOf(isSilence: boolean, fromMs: number, isThere: boolean) {
  const waits: (number | "look")[] = [];
  const { isRepeatable } = await withWaits(
    isSilence ? { isSilence } : {},
    WAITS,
    LIMITS,
    (waitMs) => {
      waits.push(waitMs);
      return Promise.resolve({ isRepeatable: waitMs >= fromMs });
    },
    () => {
      waits.push("look");
      return Promise.resolve(isThere);
    },
  );
  return { waits, isRepeatable };
}

Deno.test("a crash is looked for with the whole wait: a slow server shows none before", async () => {
  assertEquals(await waitsOf(false, 5000, true), { waits: [5000], isRepeatable: true });
});

Deno.test("a silence is looked for with short waits, and looked at with the whole one", async () => {
  assertEquals(await waitsOf(true, 0, true), { waits: [1000, "look"], isRepeatable: true });
});

Deno.test("a silence that was only slowness is looked for again, with the whole wait", async () => {
  assertEquals(await waitsOf(true, 0, false), {
    waits: [1000, "look", 5000],
    isRepeatable: true,
  });
  assertEquals(await waitsOf(true, 5000, true), { waits: [1000, 5000], isRepeatable: true });
});

Deno.test("both tries share the time that there is", async () => {
  const times: number[] = [];
  const work = (_waitMs: number, { timeMs }: { timeMs: number }) => {
    times.push(timeMs);
    return Promise.resolve({ isRepeatable: false });
  };
  await withWaits({ isSilence: true }, WAITS, { plays: 1, timeMs: 0 }, work, () => {
    throw new Error("nothing is to be looked at");
  });
  assertEquals(times, [0, 0]);
});
