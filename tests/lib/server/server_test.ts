import {
  assert,
  assertEquals,
  assertInstanceOf,
  assertMatch,
  assertRejects,
  assertThrows,
} from "@std/assert";
import { EventFd } from "../../../ffi/event.ts";
import { UnixListener } from "../../../ffi/listener.ts";
import { UnixSocket } from "../../../ffi/socket.ts";
import { connect } from "../../../lib/client/connect.ts";
import { ConnectionError, ProtocolError, TimeoutError } from "../../../lib/base/errors.ts";
import { doingName } from "../../../lib/server/activity.ts";
import type { RefusedRequest } from "../../../lib/server/refusals.ts";
import { Server, type ServerOptions } from "../../../lib/server/server.ts";
import { Command } from "../../../lib/wire/command.ts";
import { encodeMessage } from "../../../lib/wire/header.ts";
import { testFds } from "../../_fds.ts";
import { RawPeer } from "../../_raw_peer.ts";
import { access, ask, negotiate, sleep, TestDevice } from "./_client.ts";
import { PATIENT, until } from "../../_until.ts";

/** A folder for sockets, for the duration of `body`. */
async function withFolder(body: (folder: string) => void | Promise<void>): Promise<void> {
  const folder = Deno.makeTempDirSync({ prefix: "vfu-test-" });
  try {
    await body(folder);
  } finally {
    Deno.removeSync(folder, { recursive: true });
  }
}

/** A server at a path, whose comings and goings are noted. */
async function withServer(
  body: (path: string, device: TestDevice, log: string[], server: Server) => Promise<void>,
  options: ServerOptions = {},
): Promise<void> {
  await withFolder(async (folder) => {
    const path = `${folder}/dev.sock`;
    const device = new TestDevice();
    const log: string[] = [];
    using server = Server.listen(path, device, {
      onConnect: () => log.push("connect"),
      onDisconnect: (cause) => log.push(cause === undefined ? "left" : cause.message),
      onError: (error, doing) => log.push(`${doing}: ${error}`),
      ...options,
    });
    await body(path, device, log, server);
  });
}

/** A client by hand at a path. */
function dial(path: string): RawPeer {
  return new RawPeer(UnixSocket.connect(path)!);
}

testFds(
  "clients are served one after another, and the device keeps its state",
  () =>
    withServer(async (path, device, log) => {
      for (let i = 0; i < 5; i++) {
        using client = dial(path);
        await negotiate(client);
        const { payload } = await ask(client, Command.REGION_READ, access(0n, 0, 1));
        assertEquals(payload[16], i);
        await ask(client, Command.REGION_WRITE, access(0n, 0, 1, [i + 1]));
      }
      await until(() => log.length === 10);
      assertEquals(log, new Array(5).fill(["connect", "left"]).flat());
      assertEquals([device.resets, device.closes], [0, 0]);
    }),
);

testFds("a second client waits until the first leaves", () =>
  withServer(async (path) => {
    const first = dial(path);
    await negotiate(first);
    const early = connect(path, { timeoutMs: 40 });
    await assertRejects(() => early, TimeoutError, "may be busy with another client");
    const waiting = connect(path, PATIENT);
    await sleep(20);
    await ask(first, Command.DEVICE_RESET); // the first is still served
    first.close();
    using device = await waiting;
    assertEquals((await device.info()).numRegions, 5);
  }));

testFds(
  "a client that is gone before it is accepted does no harm",
  () =>
    withServer(async (path, _, log) => {
      for (let i = 0; i < 10; i++) dial(path).close();
      using device = await connect(path);
      assertEquals((await device.info()).numRegions, 5);
      assertEquals(log.filter((line) => line === "connect").length, 11);
    }),
);

testFds(
  "a client that says nothing makes room for the next after the handshake timeout",
  () =>
    withServer(async (path, _, log) => {
      using silent = dial(path);
      using device = await connect(path, PATIENT);
      assertEquals(log, ["connect", "The client sent no VERSION within 300 ms", "connect"]);
      assertEquals(device.state, "CONNECTED");
      assertEquals(await silent.receive(), undefined);
    }, { handshakeTimeoutMs: 300 }),
);

testFds("onDisconnect hears why a client was cut off", () =>
  withServer(async (path, _, log) => {
    for (const sent of [encodeMessage({ messageId: 1, command: 13 }), new Uint8Array(16)]) {
      using client = dial(path);
      client.send(sent);
      while (await client.receive() !== undefined) { /* the error reply */ }
    }
    const half = dial(path);
    half.send(new Uint8Array(5));
    half.close();
    await until(() => log.length === 6);
    assertEquals(log.filter((line) => line !== "connect"), [
      "The client's first command is DEVICE_RESET, not VERSION",
      "The client sent an impossible message (command 0): its size is 0, less than a header's 16",
      "The client closed the connection in the middle of a message: 5 of a header's 16 bytes came",
    ]);
  }));

testFds(
  "the next client waits until a request of the last one is done with",
  () =>
    withServer(async (path, device, log) => {
      const gate = Promise.withResolvers<void>();
      let reads = 0;
      device.bar0.read = () => reads++ === 0 ? gate.promise : undefined;
      const first = dial(path);
      await negotiate(first);
      first.command(1, Command.REGION_READ, access(0n, 0, 4));
      await until(() => reads === 1);
      first.close();
      using second = dial(path);
      const negotiating = negotiate(second);
      await sleep(20);
      assertEquals(log, ["connect"]);
      gate.resolve();
      await negotiating;
      await ask(second, Command.REGION_READ, access(0n, 0, 4));
      assertEquals([reads, log], [2, ["connect", "left", "connect"]]);
    }),
);

testFds(
  "close() ends the client's connection, removes the socket and closes the device, once",
  () =>
    withServer(async (path, device, log, server) => {
      assertEquals(server.path, path);
      using client = dial(path);
      await negotiate(client);
      server.close();
      server.close();
      await server.closed;
      assertEquals(await client.receive(), undefined);
      assertThrows(() => Deno.lstatSync(path), Deno.errors.NotFound);
      assertEquals([device.closes, log], [1, ["connect", "left"]]);
      await assertRejects(() => connect(path), ConnectionError, "there is no such file");
    }),
);

testFds(
  "close() without a client, and with one in the queue, is quiet",
  () =>
    withServer(async (path, device, log, server) => {
      using queued = dial(path);
      server.close();
      assertEquals(await queued.receive(), undefined);
      assertEquals([device.closes, log], [1, []]);
    }),
);

testFds(
  "close() while a hook is under way closes the device when that is done, and nothing else happens",
  () =>
    withServer(async (path, device, log, server) => {
      const gate = Promise.withResolvers<void>();
      let isWriting = false;
      device.bar0.write = () => {
        isWriting = true;
        return gate.promise;
      };
      using client = dial(path);
      await negotiate(client);
      client.command(1, Command.REGION_WRITE, access(0n, 0, 1, [1]));
      client.command(2, Command.DEVICE_RESET);
      await until(() => isWriting, "the hook");
      server.close();
      assertEquals(await client.receive(), undefined);
      assertThrows(() => Deno.lstatSync(path), Deno.errors.NotFound);
      assertEquals(device.closes, 0);
      gate.resolve();
      await server.closed;
      assertEquals([device.resets, device.closes, log], [0, 1, ["connect", "left"]]);
    }, { closeTimeoutMs: 3_600_000 }),
);

testFds(
  "close() does not wait for ever for a hook",
  () =>
    withServer(async (path, device, _, server) => {
      const gate = Promise.withResolvers<void>();
      let isWriting = false;
      device.bar0.write = () => {
        isWriting = true;
        return gate.promise;
      };
      using client = dial(path);
      await negotiate(client);
      client.command(1, Command.REGION_WRITE, access(0n, 0, 1, [1]));
      await until(() => isWriting, "the hook");
      server.close();
      await server.closed;
      assertEquals(device.closes, 1);
      gate.resolve();
      await sleep(5);
      assertEquals(device.closes, 1);
    }, { closeTimeoutMs: 20 }),
);

testFds("close() does not remove a socket that took its place", () =>
  withFolder((folder) => {
    const path = `${folder}/dev.sock`;
    const server = Server.listen(path, new TestDevice());
    Deno.removeSync(path);
    using _other = UnixListener.listen(path);
    server.close();
    assert(Deno.lstatSync(path).isSocket);
  }));

testFds("listen() replaces the socket that a dead server left", () =>
  withFolder(async (folder) => {
    using _listener = UnixListener.listen(`${folder}/a.sock`);
    Deno.renameSync(`${folder}/a.sock`, `${folder}/dev.sock`);
    _listener.close();
    using _server = Server.listen(`${folder}/dev.sock`, new TestDevice());
    using device = await connect(`${folder}/dev.sock`);
    assertEquals(device.state, "CONNECTED");
  }));

const UNUSABLE: [what: string, prepare: (folder: string) => string, message: RegExp][] = [
  [
    "in a folder that is not there",
    (folder) => `${folder}/none/dev.sock`,
    /none\/dev\.sock: its folder does not exist$/,
  ],
  [
    "in a file",
    (folder) => {
      Deno.writeTextFileSync(`${folder}/file`, "");
      return `${folder}/file/dev.sock`;
    },
    /file\/dev\.sock: its folder is not a folder$/,
  ],
  [
    "of a file",
    (folder) => {
      Deno.writeTextFileSync(`${folder}/file`, "");
      return `${folder}/file`;
    },
    /file: another server listens there, or the file is not a socket; stop it, or choose another/,
  ],
  [
    "of a folder",
    (folder) => folder,
    /: another server listens there, or the file is not a socket/,
  ],
  [
    "that is too long",
    (folder) => `${folder}/${"x".repeat(200)}`,
    /Socket path is too long: \d+ bytes/,
  ],
  ["that is empty", () => "", /^Cannot listen on : A socket path is not empty/],
];
for (const [what, prepare, message] of UNUSABLE) {
  testFds(`listen() says what to do about a path ${what}`, () =>
    withFolder((folder) => {
      const path = prepare(folder);
      const error = assertThrows(() => Server.listen(path, new TestDevice()), ConnectionError);
      assertMatch(error.message, message);
      assertMatch(error.message, /^Cannot listen on [^\n]*[^.]$/);
      assertEquals(error.message.match(/Cannot listen/g)?.length, 1);
    }));
}

testFds(
  "listen() refuses a path where another server listens, which goes on",
  () =>
    withServer(async (path) => {
      const error = assertThrows(() => Server.listen(path, new TestDevice()), ConnectionError);
      assertMatch(error.message, /: another server listens there/);
      using device = await connect(path);
      assertEquals(device.state, "CONNECTED");
    }),
);

testFds("serve() serves one client, and closes the device when it goes", async () => {
  const [a, b] = UnixSocket.pair();
  const device = new TestDevice();
  const log: string[] = [];
  const server = Server.serve(a.release(), device, {
    onConnect: () => log.push("connect"),
    onDisconnect: () => log.push("left"),
  });
  assertEquals(server.path, undefined);
  const client = new RawPeer(b);
  await negotiate(client);
  client.close();
  await server.closed;
  assertEquals([device.closes, log], [1, ["connect", "left"]]);
});

testFds("serve() refuses a descriptor that is no connected UNIX stream socket", async () => {
  using event = new EventFd();
  const device = new TestDevice();
  for (const fd of [event.fd, 1023, -1]) {
    const error = assertThrows(() => Server.serve(fd, device), ConnectionError);
    assertMatch(error.message, /^Cannot use file descriptor -?\d+: /);
  }
  assertEquals(device.closes, 0);
  assert(event.isOpen);
  // One whose other end is closed
  const [a, b] = UnixSocket.pair();
  b.close();
  const server = Server.serve(a.release(), device);
  await server.closed;
  assertEquals(device.closes, 1);
});

testFds("a bad VERSION in serve() ends the server with the reason", async () => {
  const [a, b] = UnixSocket.pair();
  const cause = Promise.withResolvers<Error | undefined>();
  const server = Server.serve(a.release(), new TestDevice(), { onDisconnect: cause.resolve });
  using client = new RawPeer(b);
  await ask(client, Command.VERSION, new Uint8Array([1, 0, 0, 0]));
  assertInstanceOf(await cause.promise, ProtocolError);
  await server.closed;
});

testFds("stopListening() removes the socket, and serves the client that is there", async () => {
  const folder = Deno.makeTempDirSync();
  const path = `${folder}/s`;
  const server = Server.listen(path, new TestDevice());
  assertEquals(server.socketFile?.path, path);
  const peer = new RawPeer(UnixSocket.connect(path)!);
  await negotiate(peer);
  server.stopListening();
  server.stopListening();
  assertEquals([...Deno.readDirSync(folder)], []);
  assertEquals(server.socketFile, undefined);
  assertEquals((await ask(peer, Command.DEVICE_RESET)).errno, 0);
  peer[Symbol.dispose]();
  await server.closed;
  Deno.removeSync(folder);
});

testFds("activity hears when the thread enters and leaves the device's code", async () => {
  const heard: string[] = [];
  const stack: number[] = [0];
  const [ours, theirs] = UnixSocket.pair();
  const server = Server.serve(ours.release(), new TestDevice(), {
    activity: {
      enter(doing) {
        heard.push(doingName(doing));
        stack.push(doing);
        return stack.at(-2)!;
      },
      leave(before) {
        stack.pop();
        assertEquals(stack.at(-1), before);
      },
    },
  });
  {
    using peer = new RawPeer(theirs);
    await negotiate(peer);
    await ask(peer, Command.DEVICE_RESET);
    await ask(peer, Command.REGION_READ, access(0n, 99, 4)); // refused
  }
  await server.closed;
  assertEquals(heard, ["VERSION", "DEVICE_RESET", "REGION_READ", "disconnect", "close"]);
  assertEquals(stack, [0]);
});

testFds("onRefuse hears the reason of each refusal", async () => {
  const refusals: RefusedRequest[] = [];
  const [ours, theirs] = UnixSocket.pair();
  const server = Server.serve(ours.release(), new TestDevice(), {
    onRefuse: (refusal) => refusals.push(refusal),
  });
  {
    using peer = new RawPeer(theirs);
    await negotiate(peer);
    assertEquals((await ask(peer, Command.REGION_READ, access(0n, 99, 4))).errno, 22);
  }
  await server.closed;
  assertEquals(refusals.map(({ command, errno }) => [command, errno]), [[Command.REGION_READ, 22]]);
  assertMatch((refusals[0]!.error as Error).message, /no region 99/);
});
