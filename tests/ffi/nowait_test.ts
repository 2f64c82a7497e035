import { assert, assertEquals } from "@std/assert";
import { IoBuffer } from "../../ffi/buffer.ts";
import { EAGAIN, EBADF, EINVAL, EPIPE } from "../../ffi/errno.ts";
import { EventFd } from "../../ffi/event.ts";
import { libc } from "../../ffi/libc.ts";
import { addNow, isEventFd, readNow, writeNow } from "../../ffi/nowait.ts";
import { IS_EMULATED } from "../_deno.ts";
import { testFds } from "../_fds.ts";
import { blockingEventFd, blockingPipe, fifo, fillPipe, ODD_FDS, semaphore } from "../_odd_fds.ts";
import { runJson } from "./_subprocess.ts";

const MAX_COUNT = 2n ** 64n - 2n;

function add(fd: number, count: bigint): void {
  const buffer = new IoBuffer(8);
  buffer.view.setBigUint64(0, count, true);
  libc().write(fd, buffer.pointer, 8n);
}

testFds("a blocking eventfd is read, and added to, without waiting", () => {
  using event = blockingEventFd();
  const buffer = new IoBuffer(8);
  const take = () => [readNow(event.fd, buffer), buffer.view.getBigUint64(0, true)];
  assertEquals(readNow(event.fd, buffer), -EAGAIN);
  assertEquals(addNow(event.fd, 1), 0);
  assertEquals(take(), [8, 1n]);
  // More than the kernel's ring of completions holds.
  for (let i = 0; i < 1000; i++) assertEquals(addNow(event.fd, 1), 0);
  assertEquals(addNow(event.fd, 1000), 0);
  assertEquals(take(), [8, 2000n]);
  add(event.fd, MAX_COUNT);
  for (let i = 0; i < 1000; i++) assertEquals(addNow(event.fd, 1), 0);
  assert(take()[1]! >= MAX_COUNT);
  assertEquals(readNow(event.fd, buffer), -EAGAIN);
});

testFds("isEventFd() knows eventfds from all else, and leaves their counters", () => {
  using event = new EventFd();
  event.signal(7n);
  using many = semaphore();
  assertEquals([isEventFd(event.fd), isEventFd(many.fd)], [true, true]);
  assertEquals(event.take(), 7n);
  const [end, other] = blockingPipe();
  using named = fifo();
  for (const fd of [end, other, named]) {
    assertEquals(isEventFd(fd.fd), false);
    assertEquals(addNow(fd.fd, 1), -EINVAL);
  }
  end.close();
  other.close();
  for (const [name, make] of Object.entries(ODD_FDS)) {
    using fd = make();
    assertEquals(isEventFd(fd.fd), false, name);
    const added = addNow(fd.fd, 1);
    assert(added === -EINVAL || added === -EBADF, `${name}: ${added}`);
  }
});

testFds("a pipe, and a named one, are read and written without waiting", () => {
  const eight = new IoBuffer(8);
  using named = fifo();
  const [end, other] = blockingPipe();
  for (const [read, write] of [[end, other], [named, named]] as const) {
    assertEquals(readNow(read.fd, eight), -EAGAIN);
    assertEquals(writeNow(write.fd, eight), 8);
    assertEquals(readNow(read.fd, new IoBuffer(100)), 8);
    fillPipe(write);
    assertEquals(writeNow(write.fd, eight), -EAGAIN);
  }
  end.close();
  assertEquals(writeNow(other.fd, eight), -EPIPE);
  other.close();
});

testFds("readNow() meets the end of a pipe", () => {
  const [end, other] = blockingPipe();
  other.close();
  assertEquals(readNow(end.fd, new IoBuffer(8)), 0);
  end.close();
});

/** Makes system calls fail from here on, as a sandbox does. */
const DENY = `
  function deny(numbers, errno) {
    const { symbols } = Deno.dlopen("libc.so.6", {
      prctl: { parameters: ["i32", "usize", "usize", "usize", "usize"], result: "i32" },
    });
    // Load the number. Equal to a denied one? Return the errno. At the end: allow.
    const code = [[0x20, 0, 0, 0]];
    for (const number of numbers) code.push([0x15, 0, 1, number], [6, 0, 0, 0x50000 | errno]);
    code.push([6, 0, 0, 0x7fff0000]);
    const program = new DataView(new ArrayBuffer(8 * code.length));
    code.forEach(([op, yes, no, k], i) => {
      program.setUint16(8 * i, op, true);
      program.setUint8(8 * i + 2, yes);
      program.setUint8(8 * i + 3, no);
      program.setUint32(8 * i + 4, k, true);
    });
    const header = new DataView(new ArrayBuffer(16));
    header.setUint16(0, code.length, true);
    const address = (view) => Deno.UnsafePointer.value(Deno.UnsafePointer.of(view));
    header.setBigUint64(8, address(program), true);
    if (symbols.prctl(38, 1n, 0n, 0n, 0n) !== 0) throw new Error("no_new_privs");
    if (symbols.prctl(22, 2n, address(header), 0n, 0n) !== 0) throw new Error("seccomp");
  }
`;

/** Tries the calls in a process of its own, where some system calls fail. */
const ATTEMPT = `
  import { IoBuffer } from "ffi/buffer.ts";
  import { libc } from "ffi/libc.ts";
  import { SYSTEM_CALLS } from "ffi/system_calls.ts";
  import { addNow, isEventFd, readNow, writeNow } from "ffi/nowait.ts";
  ${DENY}
  function attempt() {
    const c = libc();
    const event = c.eventfd(0, 0);
    const eight = new IoBuffer(8);
    const results = [readNow(event, eight), addNow(event, 3), isEventFd(event), isEventFd(0)];
    const O_PATH = 0o10000000;
    const path = new TextEncoder().encode("/proc/self/fd/" + event + "\\0");
    results.push(isEventFd(c.open(path, O_PATH, 0)));
    results.push(readNow(event, eight), Number(eight.view.getBigUint64(0, true)));
    results.push(readNow(event, eight), addNow(0, 1));
    eight.view.setBigUint64(0, 2n ** 64n - 2n, true);
    c.write(event, eight.pointer, 8n);
    results.push(addNow(event, 1));
    const { symbols } = Deno.dlopen("libc.so.6", {
      pipe2: { parameters: ["buffer", "i32"], result: "i32" },
    });
    const ends = new Int32Array(2);
    symbols.pipe2(ends, 0);
    results.push(readNow(ends[0], eight), writeNow(ends[1], eight), readNow(ends[0], eight));
    let writes = 0;
    while (writeNow(ends[1], eight) === 8) writes++;
    results.push(writes);
    return results;
  }
`;

const EXPECTED = [-11, 0, true, false, false, 8, 3, -11, -22, 0, -11, 8, 8, 8192];

const DENIED_ATTEMPT = (errno: number) =>
  `${ATTEMPT}
  const { io_setup, preadv2, pwritev2 } = SYSTEM_CALLS[Deno.build.arch];
  deny([io_setup, preadv2, pwritev2].map(Number), ${errno});
`;

// Filters of seccomp deny the calls here, which an emulator does not have.
for (const errno of IS_EMULATED ? [] : [1, 38, 95]) {
  testFds(`without the calls that do not wait (errno ${errno}), nothing waits`, async () => {
    const code = `${DENIED_ATTEMPT(errno)} console.log(JSON.stringify(attempt()));`;
    assertEquals(await runJson(code), EXPECTED);
  });
}

const testUnderFilter: typeof testFds = IS_EMULATED ? () => {} : testFds;

testUnderFilter("in a Worker it is that thread which is not kept waiting", async () => {
  const worker = `${DENIED_ATTEMPT(38)} postMessage(attempt());`;
  const code = `
    const source = new Blob([${JSON.stringify(worker)}], { type: "application/typescript" });
    const worker = new Worker(URL.createObjectURL(source), { type: "module" });
    worker.onmessage = ({ data }) => {
      console.log(JSON.stringify(data));
      worker.terminate();
    };`;
  assertEquals(await runJson(code), EXPECTED);
});

testFds("a thread that toggles counter and O_NONBLOCK keeps no call waiting", async () => {
  const worker = new URL("./_attacker.ts", import.meta.url).href;
  const code = `
    import { EventFd } from "ffi/event.ts";
    import { PeerEvent } from "ffi/peer_event.ts";
    const event = new EventFd();
    const fd = event.handle.duplicate();
    const worker = new Worker(${JSON.stringify(worker)}, { type: "module" });
    await new Promise((resolve) => {
      worker.onmessage = resolve;
      worker.postMessage(fd.fd);
    });
    const peer = PeerEvent.adopt(event.handle.duplicate(), "signal");
    let signals = 0;
    let looks = 0;
    for (let i = 0; i < 20_000; i++) {
      event.signal();
      if (peer.signal()) signals++;
      if (event.take() >= 0n && peer.take() !== "ended") looks++;
    }
    console.log(JSON.stringify([signals, looks]));
    Deno.exit();`;
  assertEquals(await runJson(code), [20_000, 20_000]);
});
