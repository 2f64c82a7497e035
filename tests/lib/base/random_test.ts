import { assert, assertEquals } from "@std/assert";
import { Random } from "../../../lib/base/random.ts";

Deno.test("Random gives the same after the same seed, and else something else", () => {
  const sequence = (seed: number) => {
    const random = new Random(seed);
    return Array.from({ length: 20 }, () => random.below(1 << 30));
  };
  assertEquals(sequence(1), sequence(1));
  assert(sequence(1).join() !== sequence(2).join());
  assertEquals(sequence(2 ** 32 - 1), sequence(-1));
});

Deno.test("Random is spread over its range", () => {
  const random = new Random(20210301);
  const counts = new Array(10).fill(0);
  for (let i = 0; i < 10_000; i++) {
    const value = random.next();
    assert(value >= 0 && value < 1);
    counts[random.below(10)]++;
  }
  assert(counts.every((count) => count > 800 && count < 1200), counts.join());
  assertEquals(new Set(random.bytes(20_000)).size, 256);
});
