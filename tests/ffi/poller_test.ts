import { assert, assertEquals, assertThrows } from "@std/assert";
import { IoBuffer } from "../../ffi/buffer.ts";
import { monotonicMs } from "../../ffi/clock.ts";
import { EventFd, POLLIN, POLLOUT, PollSet } from "../../ffi/event.ts";
import { glance, idle, type Watch, watch } from "../../ffi/poller.ts";
import { UnixSocket } from "../../ffi/socket.ts";
import { testFds } from "../_fds.ts";
import { run, runJson } from "./_subprocess.ts";
import { until } from "../_until.ts";

function sleep(ms: number): Promise<void> {
  return new Promise((resolve) => setTimeout(resolve, ms));
}

testFds("watch() calls back when the descriptor is ready, and as often as it is", async () => {
  using event = new EventFd();
  const counts: bigint[] = [];
  using _watch = watch(event.fd, POLLIN, (revents) => {
    assertEquals(revents, POLLIN);
    counts.push(event.take());
  });
  await sleep(5);
  assertEquals(counts, []);
  event.signal(2n);
  await until(() => counts.length === 1);
  event.signal(3n);
  await until(() => counts.length === 2);
  await sleep(5);
  assertEquals(counts, [2n, 3n]);
});

testFds(
  "glance() calls back what is ready, or late, ahead of the poll; that sees nothing twice",
  async () => {
    using first = new EventFd();
    using second = new EventFd();
    const seen: (bigint | string)[] = [];
    using watching = watch(first.fd, POLLIN, (revents) => {
      seen.push(revents === 0 ? "late" : first.take());
    });
    glance(); // nothing is polled yet
    await sleep(5);
    first.signal(2n);
    glance();
    glance();
    assertEquals(seen, [2n]);
    using _other = watch(second.fd, POLLIN, () => seen.push(second.take()));
    second.signal(3n);
    glance();
    watching.deadline = monotonicMs() + 1;
    glance();
    for (const start = monotonicMs(); monotonicMs() < start + 2;);
    glance();
    glance();
    assertEquals(seen, [2n, 3n, "late"]);
    first.signal(4n);
    await until(() => seen.length > 3);
    await sleep(5);
    assertEquals(seen, [2n, 3n, "late", 4n]);
  },
);

testFds("watch() reports what is ready already, and the peer's close", async () => {
  const [a, b] = UnixSocket.pair();
  const seen: number[] = [];
  const writable = watch(a.fd, POLLIN | POLLOUT, (revents) => {
    seen.push(revents);
    writable.close();
  });
  await until(() => seen.length === 1);
  const gone = watch(a.fd, POLLIN, (revents) => {
    seen.push(revents);
    gone.close();
  });
  b.close();
  await until(() => seen.length === 2);
  assertEquals(seen, [POLLOUT, POLLIN | 16]);
  a.close();
});

testFds(
  "a Watch that was closed is not called, even if its descriptor was ready before",
  async () => {
    using event = new EventFd();
    event.signal();
    let calls = 0;
    watch(event.fd, POLLIN, () => calls++).close();
    const other = watch(event.fd, POLLIN, () => calls++);
    await Promise.resolve();
    await Promise.resolve(); // the poll is under way, and may have ended
    const before = calls;
    other.close();
    other.close();
    other[Symbol.dispose]();
    await idle();
    await sleep(5);
    assertEquals(calls, before);
  },
);

testFds(
  "a callback may close its own watch, close others that are ready, and add new ones",
  async () => {
    const events = Array.from({ length: 3 }, () => new EventFd());
    const calls: string[] = [];
    const watches: Watch[] = events.map((event, i) =>
      watch(event.fd, POLLIN, () => {
        calls.push(`first ${i}`);
        for (const entry of watches) entry.close();
        const again = watch(event.fd, POLLIN, () => {
          calls.push(`second ${event.take()}`);
          again.close();
        });
      })
    );
    await sleep(5);
    // All three in one poll or the next: the first closes the others
    for (const event of events) event.signal();
    await until(() => calls.length === 2);
    await idle();
    assertEquals(calls, ["first 0", "second 1"]);
    for (const event of events) event.close();
  },
);

testFds(
  "the number of a closed descriptor, given out again, is nothing to the old watch",
  async () => {
    for (let round = 0; round < 20; round++) {
      const [a, b] = UnixSocket.pair();
      let calls = 0;
      const entry = watch(a.fd, POLLIN, () => calls++);
      if (round % 2 === 1) await sleep(1); // inside poll
      const number = a.fd;
      entry.close();
      a.close();
      using event = new EventFd();
      assertEquals(event.fd, number);
      event.signal();
      let news = 0;
      using _news = watch(event.fd, POLLIN, () => news += Number(event.take()));
      await until(() => news === 1);
      assertEquals(calls, 0);
      b.close();
    }
  },
);

testFds("the peer sees the end of a descriptor that was watched and closed", async () => {
  const [a, b] = UnixSocket.pair();
  const entry = watch(a.fd, POLLIN, () => {});
  await sleep(2);
  entry.close();
  a.close();
  let ended = 0;
  using _end = watch(b.fd, POLLIN, (revents) => {
    ended = revents;
    _end.close();
  });
  await until(() => ended !== 0);
  assertEquals(ended, POLLIN | 16);
  b.close();
});

/** Counts the polls that `body` makes. */
async function countPolls(
  body: () => void | Promise<void>,
): Promise<{ outstanding: number; most: number; calls: number }> {
  const waitAsync = PollSet.prototype.waitAsync;
  let outstanding = 0, most = 0, calls = 0;
  PollSet.prototype.waitAsync = async function () {
    most = Math.max(most, ++outstanding);
    calls++;
    try {
      return await waitAsync.call(this);
    } finally {
      outstanding--;
    }
  };
  try {
    await body();
  } finally {
    PollSet.prototype.waitAsync = waitAsync;
  }
  return { outstanding, most, calls };
}

testFds("many watches share one poll", async () => {
  const { most, outstanding, calls } = await countPolls(async () => {
    const events = Array.from({ length: 100 }, () => new EventFd());
    const taken = new Set<number>();
    const watches = events.map((event, i) =>
      watch(event.fd, POLLIN, () => taken.add(Number(event.take()) * 1000 + i))
    );
    for (const event of events) event.signal();
    await until(() => taken.size === 100);
    for (const entry of watches) entry.close();
    await idle();
    for (const event of events) event.close();
  });
  assertEquals([most, outstanding], [1, 0]);
  assert(calls < 50, `${calls} polls`); // two as a rule
});

testFds(
  "watching and unwatching within one turn makes no poll and leaves nothing open",
  async () => {
    using event = new EventFd();
    const { calls } = await countPolls(async () => {
      for (let i = 0; i < 100; i++) watch(event.fd, POLLIN, () => {}).close();
      await idle();
      await idle();
    });
    assertEquals(calls, 0);
  },
);

testFds("a signal of the process does not end watching", async () => {
  using event = new EventFd();
  let calls = 0;
  let signals = 0;
  const listener = () => void signals++;
  Deno.addSignalListener("SIGUSR2", listener);
  using _watch = watch(event.fd, POLLIN, () => calls += Number(event.take()));
  await sleep(2);
  Deno.kill(Deno.pid, "SIGUSR2");
  await until(() => signals === 1);
  event.signal();
  await until(() => calls === 1);
  Deno.removeSignalListener("SIGUSR2", listener);
});

Deno.test("the process lives while something is watched, and ends when nothing is", async () => {
  const { code, stdout, stderr } = await run(`
    import { EventFd, POLLIN } from "ffi/event.ts";
    import { watch } from "ffi/poller.ts";
    const event = new EventFd();
    const entry = watch(event.fd, POLLIN, () => { console.log("called"); entry.close(); });
    Deno.unrefTimer(setTimeout(() => event.signal(), 50));
  `);
  assertEquals([code, stdout, stderr], [0, "called", ""]);
});

Deno.test("watch() throws when no descriptor is left, and works when one is again", async () => {
  const result = await runJson(
    `
    import { EventFd, POLLIN } from "ffi/event.ts";
    import { OwnedFd } from "ffi/fd.ts";
    import { watch } from "ffi/poller.ts";
    const event = new EventFd();
    const codes = [], files = [];
    const fill = () => { while (true) files.push(OwnedFd.open("/dev/null")); };
    try { fill(); } catch (error) { codes.push(error.code); }
    try { watch(event.fd, POLLIN, () => {}); } catch (error) { codes.push(error.code); }
    files.pop().close();
    event.signal(5n);
    const count = await new Promise((resolve) => {
      const entry = watch(event.fd, POLLIN, () => { entry.close(); resolve(Number(event.take())); });
    });
    console.log(JSON.stringify([...codes, count]));
  `,
    { maxFds: 100 },
  );
  assertEquals(result, ["EMFILE", "EMFILE", 5]);
});

testFds("a closed descriptor can't be watched by its owner", () => {
  const event = new EventFd();
  event.close();
  assertThrows(() => watch(event.fd, POLLIN, () => {}), Error, "closed");
});

Deno.test("a poll that outlives its worker writes to memory that is still its own", async () => {
  const result = await runJson(`
    import { IoBuffer } from "ffi/buffer.ts";
    import { UnixSocket } from "ffi/socket.ts";
    const source = \`
      import { watch } from "ffi/poller.ts";
      const of = Deno.UnsafePointer.of, addresses = [];
      Deno.UnsafePointer.of = (value) => {
        const pointer = of(value);
        if (value.byteLength === 64) addresses.push(Deno.UnsafePointer.value(pointer));
        return pointer;
      };
      self.onmessage = ({ data }) => {
        watch(data, 1, () => {});
        const tell = () => addresses.length > 0 ? self.postMessage(addresses) : setTimeout(tell, 30);
        tell();
      };
    \`;
    const [watched, peer] = UnixSocket.pair();
    const file = Deno.makeTempFileSync({ suffix: ".ts" });
    Deno.writeTextFileSync(file, source);
    const worker = new Worker("file://" + file, { type: "module" });
    worker.postMessage(watched.fd);
    const addresses = await new Promise((resolve) => worker.onmessage = (event) => resolve(event.data));
    const pollfds = new Int32Array(Deno.UnsafePointerView.getArrayBuffer(Deno.UnsafePointer.create(addresses[0]), 16));
    worker.terminate();
    Deno.removeSync(file);
    const sleep = () => new Promise((resolve) => setTimeout(resolve, 100));
    await sleep();
    const before = [pollfds[2] === watched.fd, pollfds[3]];
    peer.send(new IoBuffer(1), 0, 1);
    for (let i = 0; i < 600 && pollfds[3] === before[1]; i++) await sleep();
    console.log(JSON.stringify([addresses.length, ...before, pollfds[2] === watched.fd, pollfds[3]]));
    Deno.exit(0); // nothing reads what came: the worker's poll is over
  `);
  assertEquals(result, [1, true, POLLIN, true, POLLIN | POLLIN << 16]); // events, then revents
});

testFds("a Watch is told once when its deadline has passed, ready or not", async () => {
  using quiet = new EventFd();
  using busy = new EventFd();
  busy.signal(); // and never taken
  const told: string[] = [];
  const start = monotonicMs();
  const watches = [
    watch(quiet.fd, POLLIN, (revents) => told.push(`quiet ${revents}`)),
    watch(busy.fd, POLLIN, (revents) => void (revents === 0 && told.push("busy 0"))),
  ];
  await new Promise((resolve) => setTimeout(resolve, 5)); // it polls
  for (const each of watches) each.deadline = start + 20;
  await until(() => told.length >= 2);
  await sleep(40); // and only once
  for (const each of watches) each.close();
  assertEquals(told.sort(), ["busy 0", "quiet 0"]);
  await idle();
});

testFds("a Watch for no events waits for its deadline alone, whatever the peer does", async () => {
  const [a, b] = UnixSocket.pair();
  const told: number[] = [];
  const waiting = watch(a.fd, 0, (revents) => told.push(revents));
  waiting.deadline = monotonicMs() + 20;
  b.close();
  await until(() => told.length > 0);
  await sleep(20);
  assertEquals(told, [0]);
  waiting.close();
  a.close();
  await idle();
});

/** A socket that is watched as a server's, and what its peer has sent and it has taken. */
function watchLingering(socket: UnixSocket, onTaken: (byte: number) => void) {
  const buffer = new IoBuffer(1);
  const calls = { told: 0, guessed: 0, wrong: 0 };
  const take = () => {
    const hasCome = socket.receive(buffer, 0, 1) === 1;
    if (hasCome) onTaken(buffer.bytes[0]!);
    return hasCome;
  };
  const watched = watch(
    socket.fd,
    POLLIN,
    () => {
      calls.told++;
      take();
    },
    true,
  );
  watched.guess = () => {
    calls.guessed++;
    const isRight = take();
    if (!isRight) calls.wrong++;
    return isRight;
  };
  return { watched, calls };
}

testFds("a peer that is back at once is guessed to be, and each byte comes once", async () => {
  const [a, b] = UnixSocket.pair();
  const one = new IoBuffer(1);
  const taken: number[] = [];
  const { watched, calls } = watchLingering(a, (byte) => {
    taken.push(byte);
    one.bytes[0] = byte + 1;
    if (taken.length < 200) b.send(one, 0, 1);
  });
  b.send(one, 0, 1);
  await until(() => taken.length === 200);
  watched.close();
  assertEquals(taken, Array.from({ length: 200 }, (_, i) => i));
  assert(calls.guessed > 0 && calls.wrong <= 1, JSON.stringify(calls));
  a.close();
  b.close();
});

testFds("a wrong guess is not made again and again", async () => {
  const [a, b] = UnixSocket.pair();
  const one = new IoBuffer(1);
  let taken = 0;
  const { watched, calls } = watchLingering(a, () => taken++);
  for (let i = 1; i <= 60; i++) {
    b.send(one, 0, 1); // from the event loop: never there when it is guessed
    await until(() => taken === i);
  }
  assert(calls.wrong >= 1 && calls.wrong <= 3, `${calls.wrong} wrong guesses`);
  watched.close();
  a.close();
  b.close();
});

testFds("guesses keep nobody else waiting: descriptors, timers, deadlines", async () => {
  const [a, b] = UnixSocket.pair();
  using event = new EventFd();
  const one = new IoBuffer(1);
  let [taken, signalledAt, heardAt, isOver] = [0, -1, -1, false];
  const { watched, calls } = watchLingering(a, () => {
    taken++;
    if (taken === 50) {
      event.signal();
      signalledAt = taken;
    }
    if (!isOver) b.send(one, 0, 1); // without end
  });
  using other = watch(event.fd, POLLIN, () => {
    event.take();
    heardAt = taken;
  });
  b.send(one, 0, 1);
  await until(() => heardAt >= 0);
  assertEquals(signalledAt, 50);
  assert(heardAt - signalledAt <= 17, `heard of it ${heardAt - signalledAt} bytes later`);
  other.close();
  let isExpired = false;
  using late = watch(event.fd, 0, () => isExpired = true);
  late.deadline = monotonicMs() + 5;
  await until(() => isExpired); // and `until` itself has its timers
  isOver = true;
  assert(calls.guessed > 0);
  watched.close();
  a.close();
  b.close();
});

testFds("a watch that a guess has closed is left alone", async () => {
  const [a, b] = UnixSocket.pair();
  const one = new IoBuffer(1);
  using event = new EventFd();
  using _other = watch(event.fd, POLLIN, () => event.take()); // so that the poll goes on
  let taken = 0;
  const { watched, calls } = watchLingering(a, () => {
    if (++taken === 10) watched.close();
    b.send(one, 0, 1);
  });
  b.send(one, 0, 1);
  await until(() => taken === 10);
  const before = calls.told + calls.guessed;
  await sleep(5);
  assertEquals([taken, calls.told + calls.guessed], [10, before]);
  a.close();
  b.close();
});

testFds(
  "a callback that throws is reported and ended; everything else is watched as before",
  async () => {
    const reported: unknown[] = [];
    const onError = (event: ErrorEvent) => {
      event.preventDefault();
      reported.push(event.error);
    };
    addEventListener("error", onError);
    try {
      using good = new EventFd();
      using bad = new EventFd();
      using late = new EventFd();
      let news = 0;
      using _good = watch(good.fd, POLLIN, () => news += Number(good.take()));
      watch(bad.fd, POLLIN, () => {
        throw new RangeError("of a descriptor");
      });
      watch(late.fd, 0, () => {
        throw new RangeError("of a deadline");
      }).deadline = monotonicMs() + 1;
      bad.signal();
      good.signal();
      await until(() => news === 1 && reported.length === 2);
      await sleep(5);
      good.signal();
      await until(() => news === 2);
      const messages = reported.map((error) => (error as Error).message);
      assertEquals(messages.sort(), ["of a deadline", "of a descriptor"]);
    } finally {
      removeEventListener("error", onError);
    }
  },
);

testFds("a guess that throws is reported and ended, too", async () => {
  const reported: unknown[] = [];
  const onError = (event: ErrorEvent) => {
    event.preventDefault();
    reported.push(event.error);
  };
  addEventListener("error", onError);
  const [a, b] = UnixSocket.pair();
  const one = new IoBuffer(1);
  using event = new EventFd();
  let news = 0;
  using _other = watch(event.fd, POLLIN, () => news += Number(event.take()));
  try {
    let guesses = 0;
    const { calls } = watchLingering(a, () => {
      b.send(one, 0, 1);
      if (calls.guessed > 0 && ++guesses === 3) throw new RangeError("of a guess");
    });
    b.send(one, 0, 1);
    await until(() => reported.length === 1);
    event.signal();
    await until(() => news === 1);
    assertEquals((reported[0] as Error).message, "of a guess");
  } finally {
    removeEventListener("error", onError);
    a.close();
    b.close();
  }
});
