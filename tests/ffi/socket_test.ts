import type { Race } from "./_racing_listener.ts";
import { assert, assertEquals, assertMatch, assertThrows } from "@std/assert";
import { IoBuffer } from "../../ffi/buffer.ts";
import { EAGAIN, ECONNRESET, EINTR, EPIPE, SystemError } from "../../ffi/errno.ts";
import { EventFd, POLLIN, PollSet } from "../../ffi/event.ts";
import { closeAll, OwnedFd } from "../../ffi/fd.ts";
import { libc } from "../../ffi/libc.ts";
import { UnixListener } from "../../ffi/listener.ts";
import { MAX_FDS_PER_MESSAGE, UnixSocket } from "../../ffi/socket.ts";
import { MAX_SOCKET_PATH } from "../../ffi/unix.ts";
import { IS_EMULATED } from "../_deno.ts";
import { testFds } from "../_fds.ts";
import { runJson } from "./_subprocess.ts";
import { PATIENCE_MS, until } from "../_until.ts";

const F_GETFD = 1;
const F_GETFL = 3;
const FD_CLOEXEC = 1;
const O_NONBLOCK = 0o4000;

function bytesOf(text: string): IoBuffer {
  return new IoBuffer(new TextEncoder().encode(text));
}

/**
 * Receives once; returns the text and the number of descriptors that came. A process that is
 * stopped meanwhile and goes on (Ctrl-Z) is interrupted, and waits again.
 */
function receiveText(socket: UnixSocket, timeoutMs = 0): [string | number, number] {
  const buffer = new IoBuffer(1 << 16);
  let count: number;
  do count = socket.receive(buffer, 0, buffer.length, timeoutMs); while (count === -EINTR);
  const came = socket.receivedFds.length;
  closeAll(socket.receivedFds);
  return [count < 0 ? count : new TextDecoder().decode(buffer.bytes.subarray(0, count)), came];
}

function sendText(socket: UnixSocket, text: string, fds?: number[]): void {
  const buffer = bytesOf(text);
  assertEquals(socket.send(buffer, 0, buffer.length, fds), buffer.length);
}

/** A directory of its own for the sockets of one test. */
async function inDirectory(body: (directory: string) => void | Promise<void>): Promise<void> {
  const directory = Deno.makeTempDirSync({ prefix: "vfu" });
  try {
    await body(directory);
  } finally {
    Deno.removeSync(directory, { recursive: true });
  }
}

function exists(path: string): boolean {
  try {
    return Deno.lstatSync(path) !== undefined;
  } catch {
    return false;
  }
}

function errorCode(body: () => unknown): string {
  return assertThrows(body, SystemError).code;
}

// ---- Descriptors

for (const count of [1, 2, 3, 16, 252, 253]) {
  testFds(`${count} fds pass both ways, in order, not inherited`, () => {
    const pair = UnixSocket.pair();
    for (const [from, to] of [[0, 1], [1, 0]] as const) {
      using memory = new EventFd();
      const events = Array.from(
        { length: count },
        () => new OwnedFd(libc().eventfd(0, O_NONBLOCK)),
      );
      events.forEach((event, i) => {
        memory.signal(BigInt(i + 1));
        libc().write(event.fd, eightBytes(i + 1), 8n);
      });
      sendText(pair[from], "fds", events.map((event) => event.fd));
      closeAll(events); // the kernel has its own
      const buffer = new IoBuffer(16);
      assertEquals(pair[to].receive(buffer, 0, 16), 3);
      const came = pair[to].receivedFds;
      assertEquals([came.length, pair[to].fdsLost], [count, false]);
      came.forEach((fd, i) => {
        assertEquals(libc().fcntl(fd.fd, F_GETFD, 0), FD_CLOEXEC);
        using event = new EventFd(fd);
        assertEquals(event.take(), BigInt(i + 1));
      });
    }
    pair.forEach((socket) => socket.close());
  });
}

let eight: IoBuffer | undefined;
function eightBytes(value: number): Deno.PointerObject {
  eight ??= new IoBuffer(8);
  eight.view.setBigUint64(0, BigInt(value), true);
  return eight.pointer;
}

testFds("send() refuses more fds than the kernel passes", () => {
  const [a, b] = UnixSocket.pair();
  const fds = Array.from({ length: MAX_FDS_PER_MESSAGE + 1 }, () => a.fd);
  assertThrows(() => a.send(bytesOf("x"), 0, 1, fds), RangeError, "254 file descriptors at once");
  assertEquals(receiveText(b), [-EAGAIN, 0]);
  a.close();
  b.close();
});

testFds("send() of a descriptor that is not open is EBADF, and sends nothing", () => {
  const [a, b] = UnixSocket.pair();
  assertEquals(a.send(bytesOf("x"), 0, 1, [1_000_000]), -9);
  assertEquals(receiveText(b), [-EAGAIN, 0]);
  a.close();
  b.close();
});

testFds("fds arrive with the segment they left with, behind bytes that had none", () => {
  const [a, b] = UnixSocket.pair();
  sendText(a, "aaa");
  sendText(a, "bb", [a.fd]);
  sendText(a, "c", [a.fd, b.fd]);
  sendText(a, "dddd");
  assertEquals(receiveText(b), ["aaabb", 1]);
  assertEquals(receiveText(b), ["c", 2]);
  assertEquals(receiveText(b), ["dddd", 0]);
  assertEquals(b.receivedFds.length, 0);
  a.close();
  b.close();
});

testFds("fds come with the first bytes of a long segment, and the rest without", () => {
  const [a, b] = UnixSocket.pair();
  sendText(a, "abcdef", [a.fd]);
  const buffer = new IoBuffer(4);
  assertEquals([b.receive(buffer, 0, 4), b.receivedFds.length], [4, 1]);
  closeAll(b.receivedFds);
  assertEquals([b.receive(buffer, 0, 4), b.receivedFds.length], [2, 0]);
  assertEquals([b.receive(buffer, 0, 4), b.receivedFds.length], [-EAGAIN, 0]);
  a.close();
  b.close();
});

testFds("a message without fds follows one with fds", () => {
  const [a, b] = UnixSocket.pair();
  sendText(a, "x", [a.fd, a.fd, a.fd]);
  sendText(a, "y");
  assertEquals(receiveText(b), ["x", 3]);
  assertEquals(receiveText(b), ["y", 0]);
  a.close();
  b.close();
});

testFds("what was passed and never received is closed with the socket", () => {
  const [a, b] = UnixSocket.pair();
  const [c, d] = UnixSocket.pair();
  sendText(a, "x", [c.fd]);
  c.close();
  assertEquals(receiveText(d), [-EAGAIN, 0]); // c is still open, on its way
  a.close();
  b.close();
  assertEquals(receiveText(d), ["", 0]);
  d.close();
});

Deno.test("receive() tells that fds were lost when the process has too many open", async () => {
  const result = await runJson(
    `
    import { IoBuffer } from "ffi/buffer.ts";
    import { closeAll, countOpenFds, OwnedFd } from "ffi/fd.ts";
    import { UnixSocket } from "ffi/socket.ts";
    const [a, b] = UnixSocket.pair();
    const buffer = new IoBuffer(8), result = [], files = [];
    const fill = () => { try { while (true) files.push(OwnedFd.open("/dev/null")); } catch {} };
    const exchange = async (room) => {
      a.send(buffer, 0, 8, [a.fd, a.fd, a.fd]);
      fill();
      for (let i = 0; i < room; i++) files.pop().close();
      const open = countOpenFds(80);
      result.push([b.receive(buffer, 0, 8), b.receivedFds.length, b.fdsLost]);
      closeAll(b.receivedFds); // by another thread, as they came from a peer
      while (countOpenFds(80) > open) await new Promise((resolve) => setTimeout(resolve, 1));
    };
    for (const room of [0, 1, 2, 3, 0]) await exchange(room);
    a.send(buffer, 0, 8);
    result.push([b.receive(buffer, 0, 8), b.receivedFds.length, b.fdsLost]);
    console.log(JSON.stringify(result));
  `,
    { maxFds: 80 },
  );
  assertEquals(result, [
    [8, 0, true],
    [8, 1, true],
    [8, 2, true],
    [8, 3, false],
    [8, 0, true],
    [8, 0, false],
  ]);
});

// ---- Bytes

testFds("send() takes a part of a buffer, and a tail behind it", () => {
  const [a, b] = UnixSocket.pair();
  assertEquals(a.send(bytesOf("0123456789"), 3, 4), 4);
  assertEquals(receiveText(b), ["3456", 0]);
  assertEquals(a.send(bytesOf("0123456789"), 8, 2, [a.fd], bytesOf("tail")), 6);
  assertEquals(receiveText(b), ["89tail", 1]);
  assertEquals(a.send(bytesOf("0123456789"), 0, 1), 1); // the tail was for one send
  assertEquals(receiveText(b), ["0", 0]);
  a.close();
  b.close();
});

testFds("receive() writes where it is told, and nowhere else", () => {
  const [a, b] = UnixSocket.pair();
  sendText(a, "abcdefgh");
  const buffer = bytesOf("..........");
  assertEquals(b.receive(buffer, 2, 3), 3);
  assertEquals(new TextDecoder().decode(buffer.bytes), "..abc.....");
  assertEquals(b.receive(buffer, 9, 1), 1);
  assertEquals(new TextDecoder().decode(buffer.bytes), "..abc....d");
  a.close();
  b.close();
});

testFds("send() and receive() refuse what lies outside of the buffer, and nothing at all", () => {
  const [a, b] = UnixSocket.pair();
  sendText(b, "here");
  sendText(a, "there");
  const buffer = new IoBuffer(8);
  const ranges = [[0, 9], [8, 1], [-1, 2], [0, 0], [8, 0], [0, -1], [NaN, 1], [0, NaN], [
    2 ** 32,
    1,
  ]];
  for (const [start, length] of [...ranges, [0, Infinity], [0.5, 1]]) {
    assertThrows(() => a.send(buffer, start!, length!), RangeError);
    assertThrows(() => b.receive(buffer, start!, length!), RangeError);
  }
  assertEquals([receiveText(a), receiveText(b)], [["here", 0], ["there", 0]]);
  a.close();
  b.close();
});

testFds("send() takes what fits, then says EAGAIN, and goes on when there is room", () => {
  const [a, b] = UnixSocket.pair();
  const out = new IoBuffer(1 << 20);
  out.bytes.forEach((_, i, bytes) => bytes[i] = i * 7 + (i >> 8));
  let sent = a.send(out, 0, out.length);
  assert(sent > 0 && sent < out.length, `${sent} taken at once`);
  const received = new Uint8Array(out.length);
  const buffer = new IoBuffer(100_000);
  let blocked = 0, at = 0;
  while (at < received.length) {
    while (sent < out.length) {
      const result = a.send(out, sent, out.length - sent);
      if (result === -EAGAIN) break;
      assert(result > 0);
      sent += result;
    }
    if (sent < out.length) blocked++;
    const count = b.receive(buffer, 0, buffer.length);
    assert(count > 0);
    received.set(buffer.bytes.subarray(0, count), at);
    at += count;
  }
  assert(blocked > 0);
  assert(received.every((byte, i) => byte === out.bytes[i]));
  a.close();
  b.close();
});

// ---- Waiting

testFds("receive() waits up to its timeout, whatever that was before", () => {
  const [a, b] = UnixSocket.pair();
  const times: string[] = [];
  for (const timeoutMs of [0, 30, 30, 0, 5, 0.01, 40, 0]) {
    // A busy machine may take longer, but not each time: the shortest wait counts.
    let took = Infinity;
    for (let attempt = 0; attempt < 100 && took > timeoutMs + 25; attempt++) {
      const start = performance.now();
      assertEquals(receiveText(b, timeoutMs), [-EAGAIN, 0]);
      took = Math.min(took, performance.now() - start);
    }
    times.push(`${timeoutMs}: ${took}`);
    assert(took >= timeoutMs - 0.5 && took <= timeoutMs + 25, `${times}`);
  }
  sendText(a, "x");
  assertEquals(receiveText(b, 10_000), ["x", 0]);
  a.close();
  b.close();
});

testFds("receive() with a timeout of more than a second sets whole seconds", () => {
  const [a, b] = UnixSocket.pair();
  for (const [timeoutMs, seconds, micros] of [[1500.25, 1n, 500250n], [2000, 2n, 0n]] as const) {
    sendText(a, "x");
    assertEquals(receiveText(b, timeoutMs), ["x", 0]);
    const value = new BigInt64Array(2);
    const length = new Uint32Array([16]);
    libc().getsockopt(b.fd, 1, 20, value, length);
    // QEMU's user-mode emulation sets the option, and returns no bytes of it.
    if (IS_EMULATED && length[0] === 0) continue;
    assertEquals(value[0], seconds);
    // The kernel counts in ticks of up to 10 ms, and we never pass an exact 0.
    assert(value[1]! >= micros && value[1]! <= micros + 10_000n, `${value[1]}`);
  }
  a.close();
  b.close();
});

testFds("receive() that blocks returns as soon as another process sends, or is gone", async () => {
  await inDirectory(async (directory) => {
    using listener = UnixListener.listen(`${directory}/s`);
    const peer = runJson(`
      import { IoBuffer } from "ffi/buffer.ts";
      import { UnixSocket } from "ffi/socket.ts";
      const socket = UnixSocket.connect(${JSON.stringify(`${directory}/s`)});
      const buffer = new IoBuffer(4);
      while (socket.receive(buffer, 0, 4, ${PATIENCE_MS}) === -${EINTR}); // the go
      await new Promise((resolve) => setTimeout(resolve, 20));
      socket.send(buffer, 0, 4);
      await new Promise((resolve) => setTimeout(resolve, 20));
      socket.close();
      console.log("true");
    `);
    let socket: UnixSocket | undefined;
    await until(() => (socket = listener.accept()) !== undefined, "the client");
    sendText(socket!, "go!!");
    const start = performance.now();
    const results = [receiveText(socket!, PATIENCE_MS), receiveText(socket!, PATIENCE_MS)];
    const took = performance.now() - start;
    assertEquals(results, [["go!!", 0], ["", 0]]);
    assert(took < PATIENCE_MS, `${took} ms`);
    socket!.close();
    assertEquals(await peer, true);
  });
});

testFds("shutdown() ends the stream for both ends, and leaves the descriptor to close()", () => {
  for (const end of [0, 1] as const) {
    const pair = UnixSocket.pair();
    sendText(pair[0], "last");
    pair[end].shutdown();
    pair[end].shutdown();
    assertEquals(receiveText(pair[1], 1000), ["last", 0]);
    assertEquals(receiveText(pair[1], 1000), ["", 0]);
    assertEquals(receiveText(pair[0], 1000), ["", 0]);
    assertEquals(pair[0].send(bytesOf("x"), 0, 1), -EPIPE);
    assertEquals([pair[0].isOpen, pair[1].isOpen], [true, true]);
    pair.forEach((socket) => socket.close());
  }
});

testFds("shutdown() after the peer went does not throw", () => {
  const [a, b] = UnixSocket.pair();
  b.close();
  a.shutdown();
  a.close();
});

testFds("the end of the stream is 0, again and again; sending is EPIPE without a signal", () => {
  const [a, b] = UnixSocket.pair();
  sendText(b, "bye");
  b.close();
  assertEquals(a.send(bytesOf("x"), 0, 1), -EPIPE);
  assertEquals(receiveText(a), ["bye", 0]);
  assertEquals([receiveText(a), receiveText(a)], [["", 0], ["", 0]]);
  a.close();
});

testFds("a peer that closes with data unread resets the connection, once", () => {
  const [a, b] = UnixSocket.pair();
  sendText(a, "unread", [a.fd]);
  b.close();
  assertEquals(receiveText(a), [-ECONNRESET, 0]);
  assertEquals(receiveText(a), ["", 0]);
  a.close();
});

testFds("a closed socket is refused", () => {
  const [a, b] = UnixSocket.pair();
  a.close();
  assert(!a.isOpen && b.isOpen);
  for (
    const use of [
      () => a.fd,
      () => a.send(bytesOf("x"), 0, 1),
      () => a.receive(new IoBuffer(1), 0, 1),
      () => a.shutdown(),
      () => a.close(),
      () => a.release(),
    ]
  ) assertThrows(use, Error, "File descriptor is closed");
  a[Symbol.dispose]();
  b[Symbol.dispose]();
  assert(!b.isOpen);
});

// ---- adopt

testFds("adopt() takes over a connected socket, which is not inherited then", () => {
  const [a, b] = UnixSocket.pair();
  const number = b.release();
  libc().fcntl(number, 2, 0); // inheritable, as one that was handed over
  const adopted = UnixSocket.adopt(number);
  assertEquals(adopted.fd, number);
  assertEquals(libc().fcntl(number, F_GETFD, 0), FD_CLOEXEC);
  sendText(a, "x");
  assertEquals(receiveText(adopted), ["x", 0]);
  a.close();
  adopted.close();
});

testFds("adopt() refuses what is no UNIX stream socket, and leaves it open", () => {
  const c = libc();
  using file = OwnedFd.open("/dev/null");
  assertEquals(errorCode(() => UnixSocket.adopt(file.fd)), "ENOTSOCK");
  for (const [domain, type] of [[1, 2], [1, 5], [2, 1], [2, 2]] as const) {
    using other = new OwnedFd(c.socket(domain, type, 0));
    assertThrows(() => UnixSocket.adopt(other.fd), TypeError, "is not a UNIX stream socket");
    assertEquals(c.fcntl(other.fd, F_GETFD, 0), 0);
  }
});

testFds("adopt() refuses what is not open, by number", () => {
  const closed = OwnedFd.open("/dev/null");
  const number = closed.fd;
  closed.close();
  for (const fd of [number, -1, 1_000_000]) {
    const error = assertThrows(() => UnixSocket.adopt(fd), SystemError);
    assertEquals([error.code, error.syscall], ["EBADF", "getsockopt"]);
    assert(error.message.startsWith(`Cannot use file descriptor ${fd}: `));
  }
});

// ---- connect and listen

testFds("connect() and accept() make a connection that blocks only when told", async () => {
  await inDirectory((directory) => {
    const path = `${directory}/s`;
    const listener = UnixListener.listen(path);
    assertEquals([listener.path, listener.isOpen], [path, true]);
    assertEquals(listener.accept(), undefined);
    const client = UnixSocket.connect(path)!;
    const set = new PollSet();
    set.add(listener.fd, POLLIN);
    assertEquals(set.wait(1000), 1);
    const server = listener.accept()!;
    assertEquals(listener.accept(), undefined);
    for (const socket of [client, server]) {
      assertEquals(libc().fcntl(socket.fd, F_GETFD, 0), FD_CLOEXEC);
      assertEquals(libc().fcntl(socket.fd, F_GETFL, 0) & O_NONBLOCK, 0);
    }
    sendText(client, "ping", [client.fd]);
    assertEquals(receiveText(server), ["ping", 1]);
    sendText(server, "pong");
    assertEquals(receiveText(client), ["pong", 0]);
    client.close();
    server.close();
    listener.close();
    assert(!exists(path));
  });
});

testFds("connect() says why it can't", async () => {
  await inDirectory((directory) => {
    const stale = `${directory}/stale`;
    makeStale(stale);
    Deno.writeTextFileSync(`${directory}/file`, "");
    const table: [string, string][] = [
      [`${directory}/none`, "ENOENT"],
      [`${directory}/none/s`, "ENOENT"],
      [`${directory}/file/s`, "ENOTDIR"],
      [`${directory}/file`, "ECONNREFUSED"],
      [stale, "ECONNREFUSED"],
      [directory, "ECONNREFUSED"],
    ];
    for (const [path, code] of table) {
      const error = assertThrows(() => UnixSocket.connect(path), SystemError);
      assertEquals([error.code, error.syscall], [code, "connect"], path);
      assert(error.message.startsWith(`Cannot connect to ${path}: `));
    }
  });
});

/** A socket file whose listener is gone. */
function makeStale(path: string): void {
  const listener = UnixListener.listen(path);
  Deno.linkSync(path, `${path}.kept`);
  listener.close();
  Deno.renameSync(`${path}.kept`, path);
}

Deno.test("connect() and listen() without the right to are EACCES", async () => {
  await inDirectory(async (directory) => {
    const result = await runJson(`
      import { libc } from "ffi/libc.ts";
      import { UnixListener } from "ffi/listener.ts";
      import { UnixSocket } from "ffi/socket.ts";
      const directory = ${JSON.stringify(directory)};
      Deno.chmodSync(directory, 0o755);
      const listener = UnixListener.listen(directory + "/s");
      Deno.chmodSync(directory + "/s", 0);
      Deno.chmodSync(directory, 0o555);
      // Root is asked for nothing: so be someone else. Who is no root already fails here, and may
      // go on.
      libc();
      Deno.dlopen(null ?? "libc.so.6", { setresuid: { parameters: ["u32", "u32", "u32"], result: "i32" } })
        .symbols.setresuid(65534, 65534, 65534);
      const codes = [() => UnixSocket.connect(directory + "/s"), () => UnixListener.listen(directory + "/t"),
        () => UnixListener.listen(directory + "/s")].map((attempt) => {
        try { attempt(); } catch (error) { return error.code + " " + error.syscall; }
      });
      console.log(JSON.stringify(codes));
    `);
    Deno.chmodSync(directory, 0o755);
    assertEquals(result, ["EACCES connect", "EACCES bind", "EADDRINUSE bind"]);
  });
});

testFds("a path holds 107 bytes, and is counted in bytes", async () => {
  await inDirectory((directory) => {
    const room = MAX_SOCKET_PATH - directory.length - 1;
    assertEquals(MAX_SOCKET_PATH, 107);
    const longest = `${directory}/${"é".repeat(room >> 1)}${"x".repeat(room & 1)}`;
    const listener = UnixListener.listen(longest);
    assert(exists(longest));
    UnixSocket.connect(longest)!.close();
    listener.close();
    for (const use of [UnixSocket.connect, UnixListener.listen]) {
      assertThrows(() => use(`${longest}x`), RangeError, "108 bytes, an address holds 107");
      assertThrows(() => use(""), RangeError, "not empty");
      assertThrows(() => use(`${directory}/a\0b`), RangeError, "holds no NUL");
      assertThrows(() => use("\0abstract"), RangeError, "holds no NUL");
    }
  });
});

testFds(
  "connect() gives undefined when the listener's queue is full, and succeeds later",
  async () => {
    await inDirectory((directory) => {
      const listener = UnixListener.listen(`${directory}/s`, 1);
      const clients: UnixSocket[] = [];
      for (let i = 0; i < 5; i++) {
        const client = UnixSocket.connect(`${directory}/s`);
        if (client === undefined) break;
        clients.push(client);
      }
      assertEquals(clients.length, 2); // Linux takes one more than it is told
      assertEquals(UnixSocket.connect(`${directory}/s`), undefined);
      listener.accept()!.close();
      UnixSocket.connect(`${directory}/s`)!.close();
      clients.forEach((client) => client.close());
      listener.close();
    });
  },
);

testFds("listen() replaces a stale socket", async () => {
  await inDirectory((directory) => {
    makeStale(`${directory}/s`);
    const listener = UnixListener.listen(`${directory}/s`);
    UnixSocket.connect(`${directory}/s`)!.close();
    listener.close();
    assert(!exists(`${directory}/s`));
  });
});

testFds("listen() refuses where somebody listens, who does not notice", async () => {
  await inDirectory((directory) => {
    const path = `${directory}/s`;
    const first = UnixListener.listen(path);
    const error = assertThrows(() => UnixListener.listen(path), SystemError);
    assertEquals([error.code, error.syscall], ["EADDRINUSE", "bind"]);
    assert(error.message.startsWith(`Cannot listen on ${path}: EADDRINUSE`));
    assertEquals(first.accept(), undefined);
    assert(exists(path));
    UnixSocket.connect(path)!.close();
    first.close();
  });
});

testFds("listen() leaves a socket alone that is bound and does not listen yet", async () => {
  await inDirectory((directory) => {
    const path = `${directory}/s`;
    for (const type of [1, 2, 5]) { // stream, datagram, seqpacket
      using other = new OwnedFd(libc().socket(1, type, 0));
      const address = new Uint8Array(110);
      address[0] = 1;
      address.set(new TextEncoder().encode(path), 2);
      assertEquals(libc().bind(other.fd, address, 110), 0);
      assertEquals(errorCode(() => UnixListener.listen(path)), "EADDRINUSE", `type ${type}`);
      assert(exists(path));
      Deno.removeSync(path);
    }
  });
});

testFds("listen() refuses a file that is no socket, and leaves it alone", async () => {
  await inDirectory((directory) => {
    makeStale(`${directory}/stale`);
    Deno.writeTextFileSync(`${directory}/file`, "precious");
    Deno.symlinkSync("stale", `${directory}/link`);
    Deno.mkdirSync(`${directory}/directory`);
    for (const name of ["file", "link", "directory"]) {
      assertEquals(
        errorCode(() => UnixListener.listen(`${directory}/${name}`)),
        "EADDRINUSE",
        name,
      );
      assert(exists(`${directory}/${name}`));
    }
    assert(exists(`${directory}/stale`));
    assertEquals(Deno.readTextFileSync(`${directory}/file`), "precious");
    assertEquals(errorCode(() => UnixListener.listen(`${directory}/none/s`)), "ENOENT");
    assertEquals(errorCode(() => UnixListener.listen(`${directory}/file/s`)), "ENOTDIR");
  });
});

testFds("close() of a listener leaves a file alone that took its place", async () => {
  await inDirectory((directory) => {
    const path = `${directory}/s`;
    const first = UnixListener.listen(path);
    Deno.removeSync(path);
    const second = UnixListener.listen(path);
    first.close();
    assert(exists(path));
    UnixSocket.connect(path)!.close();
    assertThrows(() => first.close(), Error, "File descriptor is closed");
    assert(exists(path)); // also then: the inode number may be someone else's by now
    Deno.removeSync(path);
    Deno.writeTextFileSync(path, "precious");
    second.close();
    assertEquals(Deno.readTextFileSync(path), "precious");
  });
});

testFds("close() of a listener whose file is gone closes it all the same", async () => {
  await inDirectory((directory) => {
    const listener = UnixListener.listen(`${directory}/s`);
    Deno.removeSync(`${directory}/s`);
    listener.close();
    assert(!listener.isOpen);
    listener[Symbol.dispose]();
    {
      using _second = UnixListener.listen(`${directory}/s`);
    }
    assert(!exists(`${directory}/s`));
  });
});

testFds("close() of a listener refuses those who wait", async () => {
  await inDirectory((directory) => {
    const listener = UnixListener.listen(`${directory}/s`);
    const client = UnixSocket.connect(`${directory}/s`)!;
    listener.close();
    assertEquals(receiveText(client, 1000), [-ECONNRESET, 0]);
    client.close();
    assertThrows(() => listener.accept(), Error, "closed");
  });
});

Deno.test("accept() throws when the process has too many open, and the connection waits", async () => {
  await inDirectory(async (directory) => {
    const [message, accepted] = await runJson(
      `
      import { OwnedFd } from "ffi/fd.ts";
      import { UnixListener } from "ffi/listener.ts";
      import { UnixSocket } from "ffi/socket.ts";
      const path = ${JSON.stringify(`${directory}/s`)};
      using listener = UnixListener.listen(path);
      using client = UnixSocket.connect(path);
      const files = [];
      try { while (true) files.push(OwnedFd.open("/dev/null")); } catch {}
      let message;
      try { listener.accept(); } catch (error) { message = error.message; }
      files.pop().close();
      using socket = listener.accept();
      console.log(JSON.stringify([message, socket !== undefined]));
    `,
      { maxFds: 80 },
    ) as [string, boolean];
    assertMatch(message, /^Cannot accept a connection on .*: EMFILE \(Too many open files\)$/);
    assertEquals(accepted, true);
  });
});

Deno.test("listening and connecting need no permission but --allow-ffi", async () => {
  await inDirectory(async (directory) => {
    const result = await runJson(
      `
      import { UnixListener } from "ffi/listener.ts";
      import { UnixSocket } from "ffi/socket.ts";
      const path = ${JSON.stringify(`${directory}/s`)};
      const listener = UnixListener.listen(path);
      using client = UnixSocket.connect(path);
      using server = listener.accept();
      listener.close();
      console.log(JSON.stringify(server.isOpen));
    `,
      { flags: ["--allow-ffi"] },
    );
    assertEquals(result, true);
    assert(!exists(`${directory}/s`));
  });
});

testFds("setSendBuffer() makes room for more that the peer has not read", () => {
  const held = (size?: number) => {
    const [a, b] = UnixSocket.pair();
    using _a = a;
    using _b = b;
    if (size !== undefined) a.setSendBuffer(size);
    const buffer = new IoBuffer(8 << 20);
    return a.send(buffer, 0, buffer.length);
  };
  assert(held(1 << 20) > held(), "more than without");
  assert(held(1) < held(), "less than without");
});

Deno.test("of several threads that listen on a stale socket at once one succeeds", async () => {
  const folder = Deno.makeTempDirSync({ prefix: "vfu-race-" });
  const [threads, rounds] = [4, 300];
  const words = new Int32Array(new SharedArrayBuffer(4 * (2 + rounds)));
  const url = new URL("./_racing_listener.ts", import.meta.url);
  const said = await Promise.all(
    Array.from({ length: threads }, (_, i) => {
      const worker = new Worker(url, { type: "module" });
      const race: Race = { words, threads, rounds, path: `${folder}/s`, isFirst: i === 0 };
      worker.postMessage(race);
      return new Promise<string[]>((resolve) => {
        worker.onmessage = ({ data }) => {
          worker.terminate();
          resolve(data);
        };
      });
    }),
  );
  assertEquals([...words.subarray(2)], Array(rounds).fill(1));
  assertEquals([...new Set(said.flat())], [
    `Cannot listen on ${folder}/s: EADDRINUSE (Address already in use)`,
  ]);
  assertEquals([...Deno.readDirSync(folder)], []);
  Deno.removeSync(folder);
});

Deno.test("a stale socket is left alone while its folder is locked, and replaced after that", async () => {
  const folder = Deno.makeTempDirSync({ prefix: "vfu-lock-" });
  const path = `${folder}/s`;
  const listener = UnixListener.listen(`${path}.stale`);
  Deno.renameSync(`${path}.stale`, path);
  listener.close();
  {
    const held = await Deno.open(folder);
    await held.lock(true);
    const error = assertThrows(() => UnixListener.listen(path), SystemError);
    assertEquals(error.code, "EBUSY");
    held.close();
  }
  UnixListener.listen(path).close();
  assertEquals([...Deno.readDirSync(folder)], []);
  Deno.removeSync(folder);
});

testFds("a socket knows whether its peer has received all that was sent, or is gone", () => {
  const [ours, theirs] = UnixSocket.pair();
  using _ours = ours;
  assert(ours.isDrained());
  sendText(ours, "abc");
  sendText(ours, "def");
  assert(!ours.isDrained());
  const one = new IoBuffer(1);
  assertEquals(theirs.receive(one, 0, 1), 1);
  assert(!ours.isDrained(), "a part of a segment");
  assertEquals(receiveText(theirs), ["bcdef", 0]);
  assert(ours.isDrained());
  sendText(ours, "lost");
  theirs.close();
  assert(ours.isDrained());
});
