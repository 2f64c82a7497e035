import { assert, assertEquals, assertThrows } from "@std/assert";
import { IoBuffer, lastingBytes } from "../../ffi/buffer.ts";
import { SystemError } from "../../ffi/errno.ts";
import { EventFd, POLLERR, POLLHUP, POLLIN, POLLNVAL, POLLOUT, PollSet } from "../../ffi/event.ts";
import { OwnedFd } from "../../ffi/fd.ts";
import { libc } from "../../ffi/libc.ts";
import { UnixSocket } from "../../ffi/socket.ts";
import { testFds } from "../_fds.ts";
import { runJson } from "./_subprocess.ts";

const MAX_COUNT = 2n ** 64n - 2n;
const O_NONBLOCK = 0o4000;

/** Returns the events that poll reports for one descriptor now. */
function poll(fd: number, events: number): number {
  const set = new PollSet();
  set.add(fd, events);
  set.wait(0);
  return set.revents(0);
}

/** Fills a counter. */
function fill(fd: number): void {
  const count = new IoBuffer(8);
  count.view.setBigUint64(0, MAX_COUNT, true);
  libc().write(fd, count.pointer, 8n);
}

testFds("EventFd counts what was signalled, and take() clears it", () => {
  using event = new EventFd();
  assertEquals(event.take(), 0n);
  event.signal();
  event.signal(41n);
  assertEquals(event.take(), 42n);
  assertEquals(event.take(), 0n);
  event.signal(0n);
  assertEquals([event.take(), poll(event.fd, POLLIN)], [0n, 0]);
});

testFds("an EventFd is not inherited and does not block", () => {
  using event = new EventFd();
  assertEquals(libc().fcntl(event.fd, 1, 0), 1);
  assertEquals(libc().fcntl(event.fd, 3, 0) & O_NONBLOCK, O_NONBLOCK);
});

testFds("signal() of a full counter leaves it full", () => {
  using event = new EventFd();
  event.signal(MAX_COUNT);
  assertEquals(poll(event.fd, POLLIN | POLLOUT), POLLIN);
  event.signal();
  event.signal(MAX_COUNT);
  assertEquals(event.take(), MAX_COUNT);
});

testFds("signal() refuses a count that no eventfd holds", () => {
  using event = new EventFd();
  for (const count of [-1n, MAX_COUNT + 1n, 2n ** 64n, 2n ** 65n]) {
    assertThrows(() => event.signal(count), RangeError, `Not an eventfd count: ${count}`);
  }
  assertEquals(event.take(), 0n);
});

testFds("an eventfd from elsewhere is taken over, and a blocking one never blocks", () => {
  const c = libc();
  using event = new EventFd(new OwnedFd(c.eventfd(0, 0)));
  assertEquals(c.fcntl(event.fd, 3, 0) & O_NONBLOCK, 0);
  assertEquals(event.take(), 0n);
  event.signal(5n);
  assertEquals(event.take(), 5n);
  assertThrows(() => event.signal(1025n), RangeError, "Not an eventfd count: 1025");
  fill(event.fd);
  event.signal();
  assert(event.take() >= MAX_COUNT);
  assertEquals(c.fcntl(event.fd, 3, 0) & O_NONBLOCK, 0); // its other holders see no change
});

testFds(
  "an eventfd that was handed out is not trusted: its other holders may make it block",
  () => {
    const c = libc();
    using event = new EventFd();
    using other = event.handle.duplicate();
    c.fcntl(other.fd, 4, 0); // F_SETFL without O_NONBLOCK
    assertEquals(event.take(), 0n);
    fill(other.fd);
    event.signal();
    assert(event.take() >= MAX_COUNT);
    assertEquals(event.take(), 0n);
  },
);

testFds("what is passed off as an eventfd gives an error, not an old count", () => {
  using genuine = new EventFd();
  genuine.signal(77n);
  assertEquals(genuine.take(), 77n);
  using nothing = new EventFd(OwnedFd.open("/dev/null"));
  assertThrows(() => nothing.take(), TypeError, "0 bytes came");
  assertThrows(() => nothing.signal(), SystemError, "Cannot signal what is no eventfd: EINVAL");
  const [a, b] = UnixSocket.pair();
  a.send(new IoBuffer(3), 0, 3);
  using socket = new EventFd(new OwnedFd(b.release()));
  assertThrows(() => socket.take(), TypeError, "3 bytes came");
  a.close();
  assertEquals(assertThrows(() => socket.signal(), SystemError).code, "EINVAL"); // and no SIGPIPE
});

testFds("a closed EventFd is refused", () => {
  const event = new EventFd();
  event.close();
  assert(!event.isOpen);
  assertThrows(() => event.signal(), Error, "closed");
  assertThrows(() => event.take(), Error, "closed");
  assertThrows(() => event.fd, Error, "closed");
  assertThrows(() => event.close(), Error, "closed");
  event[Symbol.dispose]();
});

testFds("PollSet tells which of many entries are ready", () => {
  const events = Array.from({ length: 100 }, () => new EventFd());
  const set = new PollSet();
  for (const event of events) set.add(event.fd, POLLIN);
  assertEquals([set.count, set.wait(0)], [100, 0]);
  for (const i of [0, 7, 8, 9, 99]) events[i]!.signal();
  assertEquals(set.wait(0), 5);
  const ready = events.flatMap((_, i) => set.revents(i) === POLLIN ? [i] : []);
  assertEquals(ready, [0, 7, 8, 9, 99]);
  set.clear();
  assertEquals([set.count, set.wait(0)], [0, 0]);
  set.add(events[1]!.fd, POLLIN | POLLOUT);
  assertEquals([set.wait(0), set.revents(0)], [1, POLLOUT]);
  for (const event of events) event.close();
});

testFds("PollSet reports hang-ups and descriptors that are not open, asked or not", () => {
  const [a, b] = UnixSocket.pair();
  assertEquals(poll(a.fd, POLLIN), 0);
  b.close();
  assertEquals(poll(a.fd, POLLIN), POLLIN | POLLHUP);
  assertEquals(poll(a.fd, 0), POLLHUP);
  const number = a.fd;
  a.close();
  assertEquals(poll(number, POLLIN), POLLNVAL);
  assertEquals([POLLIN, POLLOUT, POLLERR, POLLHUP, POLLNVAL], [1, 4, 8, 16, 32]);
});

testFds("PollSet.wait() waits as long as it is told, and fractions are rounded up", () => {
  using event = new EventFd();
  const set = new PollSet();
  set.add(event.fd, POLLIN);
  // A busy machine may take longer, but not each time: the shortest wait counts.
  const times = [[0, 10], [0.1, 15], [20, 60]].map(([timeoutMs, most]) => {
    let took = Infinity;
    for (let attempt = 0; attempt < 100 && took >= most!; attempt++) {
      const start = performance.now();
      assertEquals(set.wait(timeoutMs!), 0);
      took = Math.min(took, performance.now() - start);
    }
    return took;
  });
  assert(times[0]! < 10, `${times}`);
  assert(times[1]! >= 0.9 && times[1]! < 15, `${times}`);
  assert(times[2]! >= 19.9 && times[2]! < 60, `${times}`);
});

testFds("PollSet.wait() of a deadline that passed does not wait", () => {
  using event = new EventFd();
  const set = new PollSet();
  set.add(event.fd, POLLIN);
  for (const timeoutMs of [-0.3, -1, -1000, -Infinity]) assertEquals(set.wait(timeoutMs), 0);
  event.signal();
  assertEquals(set.wait(Infinity), 1);
});

testFds(
  "PollSet.waitAsync() leaves the event loop running, and shutdown() on either end ends it",
  async () => {
    for (const end of [0, 1] as const) {
      const pair = UnixSocket.pair();
      const set = new PollSet(lastingBytes);
      set.add(pair[0].fd, POLLIN);
      let turns = 0;
      const timer = setInterval(() => ++turns === 3 && pair[end].shutdown(), 2);
      assertEquals(await set.waitAsync(), 1);
      clearInterval(timer);
      assert(turns >= 3);
      assertEquals(set.revents(0), POLLIN | POLLHUP);
      pair[0].close();
      pair[1].close();
    }
  },
);

Deno.test("PollSet.waitAsync() refuses memory that may be collected meanwhile", () => {
  assertThrows(() => new PollSet().waitAsync(0), TypeError, "may be collected");
});

Deno.test("a signal ends PollSet.wait() and UnixSocket.receive() early", async () => {
  const [ready, pollMs, errno, receiveMs] = await runJson(`
    import { IoBuffer } from "ffi/buffer.ts";
    import { POLLIN, PollSet } from "ffi/event.ts";
    import { UnixSocket } from "ffi/socket.ts";
    let signals = 0;
    const listener = () => signals++;
    Deno.addSignalListener("SIGUSR2", listener);
    const [a, b] = UnixSocket.pair();
    const set = new PollSet();
    set.add(a.fd, POLLIN);
    const signalled = async (wait) => {
      const heard = signals;
      // Again and again: the first may come before the wait.
      const script = "while sleep 0.1; do kill -USR2 $PPID; done";
      const child = new Deno.Command("sh", { args: ["-c", script] }).spawn();
      const start = performance.now();
      const result = wait();
      const ms = performance.now() - start;
      while (signals === heard) await new Promise((resolve) => setTimeout(resolve, 5));
      child.kill("SIGKILL");
      await child.status;
      return [result, ms];
    };
    const polled = await signalled(() => set.wait(60_000));
    const received = await signalled(() => a.receive(new IoBuffer(8), 0, 8, 60_000));
    Deno.removeSignalListener("SIGUSR2", listener);
    console.log(JSON.stringify([...polled, ...received]));
  `) as number[];
  assertEquals([ready, errno], [0, -4]);
  assert(pollMs! < 59_000 && receiveMs! < 59_000, `${pollMs} ${receiveMs}`);
});
