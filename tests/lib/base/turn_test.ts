import { assert, assertEquals } from "@std/assert";
import { EventFd, POLLIN } from "../../../ffi/event.ts";
import { watch } from "../../../ffi/poller.ts";
import { nextTurn, turn } from "../../../lib/base/turn.ts";
import { testFds } from "../../_fds.ts";
import { until } from "../../_until.ts";

/** Waits for the clock, without giving up the turn. */
function work(ms: number): void {
  for (const start = performance.now(); performance.now() - start < ms;);
}

/** Begins a turn in which the time lasts, unless the process is kept from running all the time. */
async function anew(): Promise<void> {
  await until(async () => {
    await nextTurn();
    return turn() === undefined && turn() === undefined;
  }, "a turn that has just begun");
}

Deno.test("turn() returns nothing while the time lasts, and then waits for all that is ready", async () => {
  await anew();
  work(2);
  const log: string[] = [];
  setImmediate(() => log.push("another"));
  const over = turn();
  assert(over instanceof Promise);
  assertEquals(turn(), over); // all loops wait for the same turn
  await over;
  assertEquals([log, turn()], [["another"], undefined]);
});

testFds("in each turn of a thread that is always busy, descriptors are heard", async () => {
  using event = new EventFd();
  const heard: bigint[] = [];
  using _watch = watch(event.fd, POLLIN, () => heard.push(event.take()));
  await new Promise((resolve) => setTimeout(resolve, 5)); // the poll is under way
  for (let i = 1; i <= 20; i++) {
    event.signal();
    work(1);
    await nextTurn();
    assertEquals(heard.length, i);
  }
});

Deno.test("a turn that ends by itself begins the time anew", async () => {
  await until(async () => {
    turn();
    work(2);
    await new Promise((resolve) => setTimeout(resolve, 5));
    const over = turn(); // if the process is not kept from running just here
    await over;
    return over === undefined;
  }, "a turn that ended by itself");
});

Deno.test("loops that never wait share one turn with others, however many they are", async () => {
  const ticks = { immediates: 0, timers: 0 };
  let isOver = false;
  const tick = () => {
    ticks.immediates++;
    if (!isOver) setImmediate(tick);
  };
  tick();
  const timer = setInterval(() => ticks.timers++, 1);
  const loop = async () => {
    for (let i = 0; i < 40; i++) {
      work(0.3);
      await turn();
    }
  };
  await Promise.all(Array.from({ length: 8 }, loop));
  isOver = true;
  clearInterval(timer);
  await nextTurn();
  // 96 ms of work, a turn after each millisecond or two; a busy machine makes it more, not fewer.
  assert(ticks.immediates > 20, `${ticks.immediates}`);
  assert(ticks.timers > 1, `${ticks.timers}`);
});

Deno.test("a thread that is always busy hears signals within some turns", async () => {
  let isHeard = false;
  const hear = () => {
    isHeard = true;
  };
  const turns: number[] = [];
  Deno.addSignalListener("SIGUSR2", hear);
  try {
    for (let i = 0; i < 4; i++) {
      for (let each = 0; each < 8; each++) {
        work(10);
        await nextTurn();
      }
      isHeard = false;
      Deno.kill(Deno.pid, "SIGUSR2");
      turns.push(0);
      for (; !isHeard; turns[i]!++) {
        work(10);
        await nextTurn();
      }
    }
  } finally {
    Deno.removeSignalListener("SIGUSR2", hear);
  }
  // A rest comes after each 50 ms, here 5 turns or fewer. Without any it was 20, and up to 61.
  assert(Math.max(...turns) <= 15, `${turns}`);
});
