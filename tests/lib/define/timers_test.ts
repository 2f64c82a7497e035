import { MACHINE_CLOCK } from "../../../lib/define/device_clock.ts";
import { assert, assertEquals, assertThrows } from "@std/assert";
import { DeviceTasks } from "../../../lib/define/tasks.ts";
import { Timers } from "../../../lib/define/timers.ts";
import { ConnectionError } from "../../../lib/base/errors.ts";
import { EventFd, POLLIN } from "../../../ffi/event.ts";
import { watch } from "../../../ffi/poller.ts";
import { testFds } from "../../_fds.ts"; // opens libc
import { until } from "../../_until.ts";

function make() {
  const errors: [unknown, string][] = [];
  const tasks = new DeviceTasks();
  tasks.report = (error, doing) => void errors.push([error, doing]);
  return { tasks, timers: new Timers(tasks, MACHINE_CLOCK), errors };
}

Deno.test("after() calls once, every() again and again, and clear() ends them", async () => {
  const { timers } = make();
  let [once, often] = [0, 0];
  const first = timers.after(1, () => void once++);
  const second = timers.every(1, () => void often++);
  assertEquals([first.isActive, second.isActive], [true, true]);
  await until(() => often > 3 && once > 0, "timers");
  assertEquals([once, first.isActive, first.leftMs], [1, false, 0]);
  timers.clear();
  const before = often;
  await new Promise((resolve) => setTimeout(resolve, 10));
  assertEquals([often, second.isActive], [before, false]);
});

testFds("a timer that is always late has descriptors heard in between", async () => {
  const { timers } = make();
  using event = new EventFd();
  let [calls, signalled, most, heard] = [0, -1, 0, 0];
  using _watch = watch(event.fd, POLLIN, () => {
    event.take();
    most = Math.max(most, calls - signalled);
    signalled = -1;
    heard++;
  });
  await new Promise((resolve) => setTimeout(resolve, 5)); // the poll is under way
  timers.every(1, () => {
    for (const start = performance.now(); performance.now() - start < 2;);
    if (++calls % 20 !== 0 || signalled >= 0) return;
    signalled = calls;
    event.signal();
  });
  await until(() => heard >= 20, "signals");
  timers.clear();
  assert(most <= 2, `${most} calls before the signal was heard`);
});

Deno.test("every() keeps its beat, though each timer of the runtime is late", () => {
  const LATE_MS = 2;
  let now = 0;
  const due = new Set<{ readonly at: number; readonly call: () => unknown }>();
  const after = (ms: number, call: () => unknown) => {
    const each = { at: now + ms, call };
    due.add(each);
    return () => due.delete(each);
  };
  const timers = new Timers(new DeviceTasks(), {
    now: () => now,
    after: (ms, call) => after(ms + LATE_MS, call),
    soon: (call) => after(0, call),
  });
  let calls = 0;
  timers.every(1, () => void calls++);
  for (; now < 1000; now += 0.25) {
    for (const each of [...due]) if (each.at <= now && due.delete(each)) each.call();
    assert(calls <= now && calls >= now - LATE_MS - 2, `${calls} calls after ${now} ms`);
  }
  timers.close();
});

Deno.test("a timer that was cancelled does not call", async () => {
  const { timers } = make();
  const calls: string[] = [];
  const timer = timers.after(5, () => void calls.push("cancelled"));
  timers.after(5, () => void calls.push("other"));
  timer.cancel();
  timer.cancel();
  await until(() => calls.length > 0, "the other");
  assertEquals(calls, ["other"]);
});

Deno.test("timers stand still between stop() and start(), and keep the time they had left", async () => {
  const { timers } = make();
  let calls = 0;
  const timer = timers.after(50, () => void calls++);
  timers.stop();
  const left = timer.leftMs;
  const later = timers.after(1, () => void calls++);
  await new Promise((resolve) => setTimeout(resolve, 80));
  assertEquals([calls, timer.leftMs, later.leftMs], [0, left, 1]);
  assert(left <= 50);
  timers.start();
  await until(() => calls === 2, "both");
});

Deno.test("every() waits for what it called, and reports what that throws", async () => {
  const { timers, errors } = make();
  let [running, most, calls] = [0, 0, 0];
  timers.every(1, async () => {
    most = Math.max(most, ++running);
    await new Promise((resolve) => setTimeout(resolve, 5));
    running--;
    if (calls++ < 2) throw new Error(`call ${calls}`);
  });
  await until(() => calls > 3, "calls");
  timers.close();
  assertEquals([most, errors.map(([error]) => (error as Error).message)], [1, [
    "call 1",
    "call 2",
  ]]);
  assertEquals(errors[0]![1], "timer");
  await until(() => running === 0, "the last");
});

Deno.test("timers refuse times that there are not, and do nothing after close()", () => {
  const { timers } = make();
  for (const ms of [-1, NaN, 2 ** 31]) {
    assertThrows(() => timers.after(ms, () => {}), RangeError, "Cannot set a timer");
  }
  assertThrows(() => timers.every(0, () => {}), RangeError, "from 1");
  timers.close();
  timers.after(0, () => {
    throw new Error("never");
  });
});

Deno.test("tasks are waited for by stop(), and begin again with start()", async () => {
  const { tasks, errors } = make();
  const log: string[] = [];
  const gate = Promise.withResolvers<void>();
  tasks.run("first", async () => {
    await gate.promise;
    log.push("first");
    tasks.run("second", async () => {
      await Promise.resolve();
      log.push("second");
    });
  });
  const idle = tasks.idle();
  const stopped = tasks.stop().then(() => log.push("stopped"));
  tasks.run("held", () => void log.push("held"));
  gate.resolve();
  await stopped;
  await idle;
  // What the first began came after stop(): it is held too.
  assertEquals(log, ["first", "stopped"]);
  tasks.start();
  await until(() => log.length === 4, "what was held");
  assertEquals([log, tasks.idle()], [["first", "stopped", "held", "second"], undefined]);
  assertEquals(errors, []);
});

Deno.test("tasks report what they throw, but not that the client is gone", async () => {
  const { tasks, errors } = make();
  const failure = new Error("no");
  tasks.run("sync", () => {
    throw failure;
  });
  await tasks.run("async", () => Promise.reject(failure));
  await tasks.run("gone", () => Promise.reject(new ConnectionError("gone")));
  assertEquals(errors, [[failure, "sync"], [failure, "async"]]);
  tasks.close();
  assertEquals(tasks.run("closed", () => Promise.reject(failure)), undefined);
});
