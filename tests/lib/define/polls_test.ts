import { assert, assertEquals, assertThrows } from "@std/assert";
import { type DevicePoll, Polls } from "../../../lib/define/polls.ts";
import { DeviceTasks } from "../../../lib/define/tasks.ts";
import { EventFd, POLLIN } from "../../../ffi/event.ts";
import { watch } from "../../../ffi/poller.ts";
import { nextTurn } from "../../../lib/base/turn.ts";
import { testFds } from "../../_fds.ts"; // opens libc
import { PATIENCE_MS, until } from "../../_until.ts";

const sleep = (ms: number) => new Promise((resolve) => setTimeout(resolve, ms));

function make() {
  const errors: [unknown, string][] = [];
  const tasks = new DeviceTasks();
  tasks.report = (error, doing) => void errors.push([error, doing]);
  const polls = new Polls(tasks);
  polls.isConnected = true;
  return { tasks, polls, errors };
}

Deno.test("a poll does all pieces of work, and others have their turn in between", async () => {
  const { polls, tasks } = make();
  let [left, turns] = [2000, 0];
  const poll = polls.make(() => {
    if (left === 0) return false;
    left--;
    for (const start = performance.now(); performance.now() - start < 0.01;);
    return left % 2 === 0 ? true : Promise.resolve(true);
  });
  const tick = () => {
    turns++;
    if (left > 0) setImmediate(tick);
  };
  poll.start();
  tick();
  await until(() => left === 0, "all pieces");
  poll.stop();
  assert(turns > 10, `${turns}`); // 20 ms of work
  assertEquals(tasks.idle(), undefined);
});

Deno.test("a poll that finds nothing looks ever more rarely; work that comes has it look busily", async () => {
  const { polls } = make();
  let looks = 0;
  const poll = polls.make(() => {
    looks++;
    return false;
  }, { spinMs: 5 });
  poll.start();
  poll.start();
  const begin = performance.now();
  await until(() => looks > 2, "looks");
  await sleep(400);
  const most = 10 + (performance.now() - begin) / 100;
  assert(looks < most, `${looks} of ${most}`);
  poll.stop();
  let isThere = true;
  const busy = polls.make(() => {
    looks++;
    return isThere && !(isThere = false);
  }, { spinMs: 10 * PATIENCE_MS });
  looks = 0;
  busy.start();
  // With pauses in between so many take minutes.
  await until(() => looks > 1000, "looks without a pause");
  busy.stop();
  looks = 0;
  await sleep(40);
  assertEquals([looks, poll.isActive, busy.isActive], [0, false, false]);
});

Deno.test("a poll that found work looks on in the same turn; with a spin of 0 it does not", async () => {
  /** Looks in the turn of the event loop in which a poll finds one piece of work. */
  const looksInOneTurn = async (spinMs: number) => {
    const { polls } = make();
    let [looks, hasWork] = [0, true];
    const poll = polls.make(() => {
      looks++;
      return hasWork && !(hasWork = false);
    }, { spinMs, idleMs: Infinity });
    poll.start();
    poll.wake(); // looks at once
    const result = looks;
    poll.stop();
    await nextTurn();
    return result;
  };
  for (let i = 0; i < 5; i++) assert(await looksInOneTurn(0) <= 2);
  let most = 0; // a busy machine may take the CPU away after the first look
  for (const end = performance.now() + PATIENCE_MS; most < 10 && performance.now() < end;) {
    most = Math.max(most, await looksInOneTurn(1));
  }
  assert(most >= 10, `${most}`);
});

testFds("polls that spin have descriptors heard in between, however many they are", async () => {
  const { polls } = make();
  using event = new EventFd();
  let [looks, signalled, most, heard] = [0, -1, 0, 0];
  using _watch = watch(event.fd, POLLIN, () => {
    event.take();
    most = Math.max(most, looks - signalled);
    signalled = -1;
    heard++;
  });
  await sleep(5); // the poll of descriptors is under way
  const all = Array.from({ length: 20 }, () => {
    let hasWork = true;
    return polls.make(() => {
      for (const start = performance.now(); performance.now() - start < 0.2;);
      if (++looks % 50 === 0 && signalled < 0) {
        signalled = looks;
        event.signal();
      }
      return hasWork && !(hasWork = false);
    }, { spinMs: PATIENCE_MS });
  });
  for (const poll of all) poll.start();
  await until(() => heard >= 20, "signals");
  for (const poll of all) poll.stop();
  assert(most <= 40, `${most} looks before the signal was heard`); // of two turns
});

Deno.test("a poll with idleMs Infinity looks when it is woken, and once more if that comes meanwhile", async () => {
  const { polls } = make();
  const gates: PromiseWithResolvers<boolean>[] = [];
  const poll = polls.make(() => {
    const gate = Promise.withResolvers<boolean>();
    gates.push(gate);
    return gate.promise;
  }, { idleMs: Infinity, spinMs: 0 });
  poll.wake();
  assertEquals(gates.length, 0); // it is not started
  poll.start();
  await until(() => gates.length === 1, "the first look");
  poll.wake();
  poll.wake();
  gates[0]!.resolve(false);
  await until(() => gates.length === 2, "the look that it was woken for");
  gates[1]!.resolve(false);
  await sleep(30);
  assertEquals(gates.length, 2);
  poll.wake();
  assertEquals(gates.length, 3); // at once
  poll.stop();
  gates[2]!.resolve(true);
  await sleep(5);
  assertEquals(gates.length, 3);
});

Deno.test("a poll looks while a client is connected and the device works", async () => {
  const { polls, tasks } = make();
  let looks = 0;
  const poll = polls.make(() => {
    looks++;
    return true;
  });
  poll.start();
  const standsStill = async () => {
    await tasks.idle();
    await nextTurn();
    looks = 0;
    poll.wake();
    await sleep(5);
    return looks === 0 && poll.isActive;
  };
  await until(() => looks > 3, "looks");
  polls.isConnected = false;
  assert(await standsStill());
  polls.isConnected = true;
  await until(() => looks > 3, "looks of the next client");
  polls.stop();
  await tasks.stop();
  assert(await standsStill());
  tasks.start();
  polls.start();
  await until(() => looks > 3, "looks after standing still");
  polls.clear();
  await tasks.idle();
  assertEquals(poll.isActive, false);
  poll.start();
  polls.close();
  poll.start();
  assertEquals(await standsStill(), true);
});

Deno.test("what a look throws is reported once, and stops the poll", async () => {
  const { polls, errors } = make();
  const failure = new Error("no");
  const looks = [
    () => {
      throw failure;
    },
    () => Promise.reject(failure),
    (() => {
      let isFirst = true;
      return () => isFirst ? !(isFirst = false) : Promise.reject(failure);
    })(),
  ];
  for (const look of looks) {
    const poll: DevicePoll = polls.make(look);
    poll.start();
    await until(() => !poll.isActive, "the end");
    await nextTurn();
    assertEquals(errors.splice(0), [[failure, "poll"]]);
  }
});

Deno.test("polls refuse times that there are not", () => {
  const { polls } = make();
  for (const options of [{ spinMs: -1 }, { idleMs: NaN }]) {
    assertThrows(() => polls.make(() => false, options), RangeError, "Cannot make a poll");
  }
});

Deno.test("a poll is known only while it is started: a device may make one for each command", () => {
  const { polls } = make();
  let stops = 0;
  /** Makes a poll, and counts what stops it from then on. */
  const makeOne = (use: (poll: DevicePoll) => void) => {
    const poll = polls.make(() => false);
    use(poll);
    const stop = () => {
      stops++;
      Object.getPrototypeOf(poll).stop.call(poll);
    };
    Object.defineProperty(poll, "stop", { value: stop });
  };
  makeOne(() => {});
  makeOne((poll) => {
    poll.start();
    poll.stop();
  });
  polls.clear();
  assertEquals(stops, 0);
  makeOne((poll) => poll.start());
  polls.clear();
  polls.clear();
  assertEquals(stops, 1);
});
