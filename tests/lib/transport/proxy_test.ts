import {
  assert,
  assertEquals,
  assertInstanceOf,
  assertRejects,
  assertStrictEquals,
  assertStringIncludes,
  assertThrows,
} from "@std/assert";
import { EINVAL } from "../../../ffi/errno.ts";
import { EventFd } from "../../../ffi/event.ts";
import { UnixSocket } from "../../../ffi/socket.ts";
import {
  ConnectionError,
  ProtocolError,
  RemoteError,
  TimeoutError,
} from "../../../lib/base/errors.ts";
import { VfioProxy } from "../../../lib/transport/proxy.ts";
import { Command } from "../../../lib/wire/command.ts";
import { encodeMessage, MessageFlags } from "../../../lib/wire/header.ts";
import { testFds } from "../../_fds.ts";
import { RawPeer } from "../../_raw_peer.ts";
import { DENO } from "../../_deno.ts";
import { bytes, clientPair, concat, replyTo } from "./_pair.ts";
import { PATIENCE_MS } from "../../_until.ts";

const { DEVICE_RESET, DEVICE_GET_INFO, REGION_READ, REGION_WRITE, DMA_READ } = Command;

testFds(
  "requestSync() sends header and payload in one segment and returns the reply's payload",
  async () => {
    const [proxy, peer] = clientPair();
    peer.send(replyTo(1, REGION_READ, bytes(9, 8, 7)));
    const reply = proxy.requestSync(REGION_READ, bytes(1, 2), { data: bytes(3) });
    assertEquals(reply.payload.slice(), bytes(9, 8, 7));
    const request = await peer.expect(REGION_READ);
    assertEquals(request.payload, bytes(1, 2, 3));
    assertEquals([request.messageId, request.size, request.flags, request.error], [1, 19, 0, 0]);
    proxy.close();
    peer.close();
  },
);

const PATIENT_MS = 5;

testFds(
  "requestPatiently() gives a reply that is there at once, and an error reply as well",
  async () => {
    const [proxy, peer] = clientPair();
    peer.send(replyTo(1, REGION_READ, bytes(9, 8)));
    const reply = proxy.requestPatiently(REGION_READ, bytes(1), {}, PATIENT_MS);
    assert(!(reply instanceof Promise), "it did not wait");
    assertEquals(reply.payload.slice(), bytes(9, 8));
    peer.fail({ messageId: 2, command: REGION_READ }, 22);
    assertThrows(() => proxy.requestPatiently(REGION_READ, bytes(1), {}, PATIENT_MS), RemoteError);
    assertEquals(proxy.pendingCount, 0);
    await peer.expect(REGION_READ);
    await peer.expect(REGION_READ);
    proxy.close();
    peer.close();
  },
);

testFds("requestPatiently() waits without blocking for a reply that comes later", async () => {
  const [proxy, peer] = clientPair();
  const reply = proxy.requestPatiently(REGION_READ, bytes(1), {}, PATIENT_MS);
  assert(reply instanceof Promise, "it did not block for good");
  peer.reply(await peer.expect(REGION_READ), bytes(4, 5));
  assertEquals((await reply).payload, bytes(4, 5));
  assertEquals(proxy.pendingCount, 0);
  proxy.close();
  peer.close();
});

testFds(
  "requestPatiently() ends once: by its timeout, its signal, or the end of the connection",
  async () => {
    const [proxy, peer] = clientPair();
    await assertRejects(
      // On a busy machine the time is over while it still blocks, and it throws.
      async () =>
        await proxy.requestPatiently(DEVICE_RESET, bytes(), { timeoutMs: 30 }, PATIENT_MS),
      TimeoutError,
    );
    const controller = new AbortController();
    const { signal } = controller;
    const aborted = proxy.requestPatiently(DEVICE_RESET, bytes(), { signal }, PATIENT_MS);
    controller.abort(new Error("enough"));
    await assertRejects(() => Promise.resolve(aborted), Error, "enough");
    assertThrows(
      () => proxy.requestPatiently(DEVICE_RESET, bytes(), { signal }, PATIENT_MS),
      Error,
      "enough",
    );
    // Replies that come after all are dropped, and the stream stays in step.
    for (let i = 0; i < 2; i++) peer.reply(await peer.expect(DEVICE_RESET));
    const lost = proxy.requestPatiently(DEVICE_RESET, bytes(), {}, PATIENT_MS);
    await peer.expect(DEVICE_RESET);
    peer.close();
    await assertRejects(() => Promise.resolve(lost), ConnectionError);
    proxy.close();
  },
);

testFds("request() returns payloads that outlive the next receive", async () => {
  const [proxy, peer] = clientPair();
  const first = proxy.request(DEVICE_GET_INFO);
  peer.reply(await peer.expect(DEVICE_GET_INFO), bytes(1, 1, 1, 1));
  const reply = await first;
  const second = proxy.request(DEVICE_GET_INFO);
  peer.reply(await peer.expect(DEVICE_GET_INFO), bytes(2, 2, 2, 2));
  await second;
  assertEquals(reply.payload, bytes(1, 1, 1, 1));
  proxy.close();
  peer.close();
});

testFds("request() sends what one turn of the event loop asks for in one segment", async () => {
  const [proxy, peer] = clientPair();
  const pending = [
    proxy.request(DEVICE_RESET),
    proxy.request(DEVICE_RESET),
    proxy.request(DEVICE_RESET),
  ];
  await Promise.resolve();
  const { IoBuffer } = await import("../../../ffi/buffer.ts");
  assertEquals(peer.socket.receive(new IoBuffer(1000), 0, 1000), 48);
  peer.send(concat(replyTo(1, DEVICE_RESET), replyTo(2, DEVICE_RESET), replyTo(3, DEVICE_RESET)));
  await Promise.all(pending);
  proxy.close();
  peer.close();
});

testFds(
  "requestSync() completes asynchronous requests and serves commands while it waits",
  async () => {
    const served: number[] = [];
    const [proxy, peer] = clientPair({
      handler: (request) => {
        served.push(request.command);
        request.reply(bytes(5));
      },
    });
    const earlier = proxy.request(DEVICE_GET_INFO);
    peer.send(concat(
      encodeMessage({ messageId: 77, command: DMA_READ }, bytes(1)),
      replyTo(1, DEVICE_GET_INFO, bytes(4)),
      replyTo(2, DEVICE_RESET, bytes(6)),
    ));
    assertEquals(proxy.requestSync(DEVICE_RESET).payload.slice(), bytes(6));
    assertEquals(served, [DMA_READ]);
    assertEquals((await earlier).payload, bytes(4));
    await peer.expect(DEVICE_GET_INFO);
    await peer.expect(DEVICE_RESET);
    const answer = await peer.expect(DMA_READ);
    assertEquals([answer.messageId, answer.flags, answer.payload[0]], [77, MessageFlags.REPLY, 5]);
    proxy.close();
    peer.close();
  },
);

testFds("messages of 1 MiB go both ways through sockets that take less at once", async () => {
  const [a, b] = UnixSocket.pair();
  const limits = { maxFds: 1, maxMessageSize: (1 << 20) + 4096 };
  const server = new VfioProxy(b, {
    role: "server",
    handler: (request) => request.reply(bytes(), request.payload),
  });
  server.limits = limits;
  server.serving = true;
  const client = new VfioProxy(a, { role: "client" });
  client.limits = limits;
  const data = new Uint8Array(1 << 20).map((_, i) => (i * 31) >> 5);
  const replies = await Promise.all(
    Array.from({ length: 8 }, () => client.request(REGION_WRITE, bytes(), { data })),
  );
  for (const { payload } of replies) assert(payload.every((value, i) => value === data[i]));
  client.close();
  server.close();
});

const IMPOSSIBLE: [string, Uint8Array, string][] = [
  [
    "a size below 16",
    concat(
      replyTo(1, DEVICE_RESET).subarray(0, 4),
      bytes(15, 0, 0, 0),
      replyTo(1, DEVICE_RESET).subarray(8),
    ),
    "its size is 15",
  ],
  [
    "a size of 0",
    concat(bytes(1, 0, 13, 0, 0, 0, 0, 0, 1, 0, 0, 0), bytes(0, 0, 0, 0)),
    "its size is 0",
  ],
  [
    "a size above the limit",
    concat(bytes(1, 0, 13, 0, 255, 255, 255, 255, 1, 0, 0, 0), bytes(0, 0, 0, 0)),
    "its size is 4294967295",
  ],
  [
    "an unknown type",
    concat(bytes(1, 0, 13, 0, 16, 0, 0, 0, 2, 0, 0, 0), bytes(0, 0, 0, 0)),
    "its type is 2",
  ],
  ["an unknown message id", replyTo(5, DEVICE_RESET), "message id 5, which no request has"],
  [
    "a wrong command",
    replyTo(1, REGION_READ),
    "REGION_READ reply to request 1, which is DEVICE_RESET",
  ],
];

for (const [what, message, part] of IMPOSSIBLE) {
  testFds(`a reply with ${what} fails every pending request at once and closes`, async () => {
    const [proxy, peer] = clientPair();
    const pending = [
      proxy.request(DEVICE_RESET),
      proxy.request(DEVICE_RESET),
      proxy.request(REGION_READ),
    ];
    const results = Promise.allSettled(pending);
    peer.send(message);
    const errors = (await results).map((result) =>
      (result as PromiseRejectedResult).reason as Error
    );
    for (const error of errors) assertStrictEquals(error, errors[0]);
    assertInstanceOf(errors[0], ProtocolError);
    assertStringIncludes(errors[0].message, part);
    assertEquals(proxy.state, "CLOSED");
    assertStrictEquals(proxy.cause, errors[0]);
    assertThrows(() => proxy.requestSync(DEVICE_RESET), ProtocolError, part);
    peer.close();
  });
  testFds(`a reply with ${what} is thrown by requestSync()`, () => {
    const [proxy, peer] = clientPair();
    peer.send(message);
    assertThrows(() => proxy.requestSync(DEVICE_RESET), ProtocolError, part);
    peer.close();
  });
}

testFds("a peer that closes fails pending requests and tells where it was", async () => {
  const reply = replyTo(1, REGION_READ, new Uint8Array(100));
  for (
    const [sent, part] of [
      [0, "the server closed the connection"],
      [7, "in the middle of a message: 7 of a header's 16 bytes came"],
      [16, "in the middle of a message: 16 of 116 bytes came"],
      [115, "in the middle of a message: 115 of 116 bytes came"],
    ] as const
  ) {
    const [proxy, peer] = clientPair();
    const pending = [proxy.request(REGION_READ), proxy.request(DEVICE_RESET)];
    const settled = Promise.allSettled(pending);
    await peer.expect(REGION_READ);
    await peer.expect(DEVICE_RESET);
    if (sent > 0) peer.send(reply.subarray(0, sent));
    peer.close();
    for (const [i, result] of (await settled).entries()) {
      const { reason } = result as PromiseRejectedResult;
      assertInstanceOf(reason, ConnectionError);
      assertStringIncludes(reason.message, part);
      const own = ["REGION_READ", "DEVICE_RESET"][i];
      assertStringIncludes(reason.message, `Cannot complete ${own}: `);
      const oldest = "; the oldest request in flight was to complete REGION_READ";
      assertEquals(reason.message.endsWith(oldest), i === 1);
      assertEquals(reason.oldest, { command: REGION_READ, doing: "complete REGION_READ" });
    }
    const late = await assertRejects(() => proxy.request(DEVICE_RESET), ConnectionError);
    assertStringIncludes(late.message, "Cannot complete DEVICE_RESET: the server closed");
  }
});

testFds("a peer that answers and then closes has answered", async () => {
  const [proxy, peer] = clientPair();
  const first = proxy.request(DEVICE_RESET);
  const second = proxy.request(DEVICE_RESET);
  const settled = Promise.allSettled([first, second]);
  peer.fail(await peer.expect(DEVICE_RESET), EINVAL);
  peer.close();
  const [a, b] = await settled;
  assertInstanceOf((a as PromiseRejectedResult).reason, RemoteError);
  assertInstanceOf((b as PromiseRejectedResult).reason, ConnectionError);
});

testFds("requestSync() takes an answer that came before the peer closed", () => {
  const [proxy, peer] = clientPair();
  peer.send(encodeMessage({ messageId: 1, command: DEVICE_RESET, flags: 0x21, error: EINVAL }));
  peer.close(); // the send meets EPIPE, the answer is there all the same
  assertThrows(() => proxy.requestSync(DEVICE_RESET), RemoteError, "EINVAL");
  assertThrows(() => proxy.requestSync(DEVICE_RESET), ConnectionError);
});

testFds("close() fails what is pending with the cause, once, and closes the socket", async () => {
  const closes: (Error | undefined)[] = [];
  const [proxy, peer] = clientPair({ onClose: (cause) => closes.push(cause) });
  const pending = proxy.request(DEVICE_RESET);
  const cause = new Error("the user left");
  proxy.close(cause);
  assertStrictEquals(await assertRejects(() => pending), cause);
  proxy.close();
  assertEquals(closes, [cause]);
  assertEquals(proxy.state, "CLOSED");
  assertThrows(() => proxy.post(DEVICE_RESET), Error, "the user left");
  assertEquals((await peer.receive())?.command, DEVICE_RESET);
  assertEquals(await peer.receive(), undefined);
  peer.close();
});

testFds(
  "close() without a cause tells pending requests that the connection was closed",
  async () => {
    const [proxy, peer] = clientPair();
    const pending = proxy.request(DEVICE_RESET);
    proxy.close();
    await assertRejects(() => pending, ConnectionError, "was closed");
    peer.close();
  },
);

testFds("a server tells the client of an impossible header, then closes", async () => {
  const [peer, socket] = RawPeer.pair();
  const closed = Promise.withResolvers<Error | undefined>();
  const proxy = new VfioProxy(socket, {
    role: "server",
    handler: (request) => request.reply(),
    onClose: closed.resolve,
  });
  proxy.serving = true;
  peer.send(bytes(7, 0, 13, 0, 3, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0));
  const reply = await peer.expect(DEVICE_RESET);
  assertEquals([reply.messageId, reply.flags, reply.error], [7, 0x21, EINVAL]);
  assertInstanceOf(await closed.promise, ProtocolError);
  assertEquals(await peer.receive(), undefined);
  peer.close();
});

testFds(
  "a server says nothing to an impossible header that wants no reply, and closes",
  async () => {
    const [peer, socket] = RawPeer.pair();
    const closed = Promise.withResolvers<Error | undefined>();
    const proxy = new VfioProxy(socket, { role: "server", onClose: closed.resolve });
    proxy.serving = true;
    peer.send(bytes(7, 0, 13, 0, 3, 0, 0, 0, 0x10, 0, 0, 0, 0, 0, 0, 0));
    assertInstanceOf(await closed.promise, ProtocolError);
    assertEquals(await peer.receive(), undefined);
    peer.close();
  },
);

testFds("an orphaned proxy without pending requests does not keep the process alive", async () => {
  const code = `
    import { UnixSocket } from "${import.meta.resolve("../../../ffi/socket.ts")}";
    import { VfioProxy } from "${import.meta.resolve("../../../lib/transport/proxy.ts")}";
    const [a, b] = UnixSocket.pair();
    globalThis.keep = [new VfioProxy(a, { role: "client" }), b];
  `;
  const { code: exit } = await new Deno.Command(DENO, {
    args: ["eval", code],
    signal: AbortSignal.timeout(PATIENCE_MS),
  }).output();
  assertEquals(exit, 0);
});

testFds("request() on a connection that turns out to be lost leaves no timer behind", async () => {
  using event = new EventFd();
  const [proxy, peer] = clientPair();
  peer.close();
  // With descriptors it is sent at once, and the failure ends the connection before request()
  // returns.
  const pending = proxy.request(DEVICE_RESET, undefined, { fds: [event.handle] });
  await assertRejects(
    () => pending,
    ConnectionError,
    "Cannot complete DEVICE_RESET: lost the connection",
  );
});
