import { assertEquals, assertRejects } from "@std/assert";
import { TimeoutError } from "../../../lib/base/errors.ts";
import { Queue } from "../../../lib/base/queue.ts";

Deno.test("pieces run one at a time, in their order, also behind one that fails", async () => {
  const queue = new Queue();
  const log: string[] = [];
  const piece = (name: string) => async () => {
    log.push(`${name} begins`);
    await new Promise((resolve) => setTimeout(resolve, 0));
    log.push(`${name} ends`);
    if (name === "b") throw new Error("b fails");
    return name;
  };
  const [a, b, c] = ["a", "b", "c"].map((name) => queue.run("work", {}, piece(name)));
  assertEquals(log, ["a begins"], "an idle queue begins at once");
  await assertRejects(() => b!, Error, "b fails");
  assertEquals([await a, await c], ["a", "c"]);
  assertEquals(log, ["a", "b", "c"].flatMap((name) => [`${name} begins`, `${name} ends`]));
});

Deno.test("a piece that gives up waiting is never begun, and holds up no other", async () => {
  const queue = new Queue();
  const { promise, resolve } = Promise.withResolvers<void>();
  const first = queue.run("work", {}, () => promise);
  const never = () => Promise.reject(new Error("It was begun"));
  const aborting = new AbortController();
  const reason = new Error("enough");
  const second = assertRejects(() => queue.run("work", { signal: aborting.signal }, never));
  const third = queue.run("work", { timeoutMs: Infinity }, () => Promise.resolve("done"));
  await assertRejects(
    () => queue.run("wait", { timeoutMs: 1 }, never),
    TimeoutError,
    "Cannot wait: an earlier call did not end within 1 ms",
  );
  aborting.abort(reason);
  assertEquals(await second, reason);
  assertEquals(
    await assertRejects(() => queue.run("x", { signal: aborting.signal }, never)),
    reason,
  );
  resolve();
  await first;
  assertEquals(await third, "done");
});
