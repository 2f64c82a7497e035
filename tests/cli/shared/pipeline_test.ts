import { assertEquals, assertRejects } from "@std/assert";
import { blocks, pipeline } from "../../../cli/shared/pipeline.ts";
import { libc } from "../../../ffi/libc.ts";

libc(); // opened once for all tests, which then leave nothing open

const sleep = (ms: number) => new Promise((resolve) => setTimeout(resolve, ms));

Deno.test("pipeline() runs a few at a time, and gives results in order", async () => {
  let running = 0;
  let most = 0;
  const work = async (item: number) => {
    most = Math.max(most, ++running);
    await sleep(item % 3);
    running--;
    return item;
  };
  const items = Array.from({ length: 20 }, (_, i) => i);
  assertEquals(await Array.fromAsync(pipeline(items, work)), items);
  assertEquals(most, 8);
  assertEquals(await Array.fromAsync(pipeline([], work)), []);
});

Deno.test("pipeline() gives what came before a failure, and begins nothing after it", async () => {
  const begun: number[] = [];
  const came: number[] = [];
  const work = (item: number) => {
    begun.push(item);
    return item < 3 ? Promise.resolve(item) : Promise.reject(new Error(`no ${item}`));
  };
  const items = Array.from({ length: 100 }, (_, i) => i);
  await assertRejects(
    async () => {
      for await (const item of pipeline(items, work)) came.push(item);
    },
    Error,
    "no 3",
  );
  assertEquals([came, begun.length], [[0, 1, 2], 11]);
});

Deno.test("pipeline() lets the event loop turn, though nothing ever waits", async () => {
  let turned = 0;
  const timer = setInterval(() => turned++, 1);
  function* endless() {
    while (turned < 2) yield 0; // which lasts until the event loop has turned
  }
  for await (const _ of pipeline(endless(), () => Promise.resolve()));
  clearInterval(timer);
});

Deno.test("blocks() covers the length without a gap", () => {
  assertEquals([...blocks(0)], []);
  assertEquals([...blocks(70_000)], [
    { at: 0, count: 32768 },
    { at: 32768, count: 32768 },
    { at: 65536, count: 4464 },
  ]);
});
