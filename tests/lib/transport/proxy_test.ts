import {
  assert,
  assertEquals,
  assertInstanceOf,
  assertRejects,
  assertStrictEquals,
  assertStringIncludes,
  assertThrows,
} from "@std/assert";
import fc from "fast-check";
import { EINVAL, EIO } from "../../../ffi/errno.ts";
import { closeAll } from "../../../ffi/fd.ts";
import { EventFd } from "../../../ffi/event.ts";
import { UnixSocket } from "../../../ffi/socket.ts";
import {
  ConnectionError,
  ProtocolError,
  RemoteError,
  TimeoutError,
} from "../../../lib/base/errors.ts";
import type { IncomingRequest } from "../../../lib/transport/incoming.ts";
import { VfioProxy } from "../../../lib/transport/proxy.ts";
import { Command } from "../../../lib/wire/command.ts";
import { encodeMessage, MessageFlags } from "../../../lib/wire/header.ts";
import { testFds } from "../../_fds.ts";
import { RawPeer } from "../../_raw_peer.ts";
import { DENO } from "../../_deno.ts";
import { PATIENT } from "../../_until.ts";

const { DEVICE_RESET, DEVICE_GET_INFO, REGION_READ, REGION_WRITE, DMA_READ } = Command;

/** A client's proxy whose server is driven by hand. */
function clientPair(
  options: Partial<ConstructorParameters<typeof VfioProxy>[1]> = {},
): [VfioProxy, RawPeer] {
  const [peer, socket] = RawPeer.pair();
  const proxy = new VfioProxy(socket, { role: "client", ...PATIENT, ...options });
  proxy.limits = { maxFds: 16, maxMessageSize: (1 << 20) + 4096 };
  proxy.peerMaxFds = 16;
  return [proxy, peer];
}

function bytes(...values: number[]): Uint8Array {
  return new Uint8Array(values);
}

function replyTo(messageId: number, command: number, payload?: Uint8Array): Uint8Array {
  return encodeMessage({ messageId, command, flags: MessageFlags.REPLY }, payload);
}

function concat(...parts: Uint8Array[]): Uint8Array {
  return new Uint8Array(parts.flatMap((part) => [...part]));
}

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
    const late = proxy.requestPatiently(DEVICE_RESET, bytes(), { timeoutMs: 30 }, PATIENT_MS);
    await assertRejects(() => Promise.resolve(late), TimeoutError);
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

testFds("request() matches replies in any order by message id", async () => {
  const [proxy, peer] = clientPair();
  const replies = Array.from(
    { length: 200 },
    (_, i) => proxy.request(REGION_READ, bytes(i & 0xff, i >> 8)),
  );
  const requests = [];
  for (let i = 0; i < 200; i++) requests.push(await peer.expect(REGION_READ));
  for (const request of requests.reverse()) peer.reply(request, request.payload);
  for (const [i, reply] of replies.entries()) {
    assertEquals((await reply).payload, bytes(i & 0xff, i >> 8));
  }
  assertEquals(proxy.pendingCount, 0);
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

testFds(
  "a command of the peer has the same message id as a request of ours without harm",
  async () => {
    const [proxy, peer] = clientPair({ handler: (request) => request.reply(bytes(1)) });
    const pending = proxy.request(DEVICE_GET_INFO);
    const request = await peer.expect(DEVICE_GET_INFO);
    peer.command(request.messageId, DMA_READ, bytes(0));
    await peer.expect(DMA_READ);
    peer.reply(request, bytes(2));
    assertEquals((await pending).payload, bytes(2));
    proxy.close();
    peer.close();
  },
);

testFds("any split of the byte stream gives the same messages", async () => {
  const messages = concat(
    replyTo(1, REGION_READ, bytes(1, 2, 3)),
    encodeMessage({ messageId: 9, command: DMA_READ }, bytes(4)),
    replyTo(2, DEVICE_RESET),
  );
  await fc.assert(
    fc.asyncProperty(
      fc.array(fc.integer({ min: 1, max: messages.length - 1 }), { maxLength: 6 }),
      async (cuts) => {
        const [proxy, peer] = clientPair({ handler: (request) => request.reply() });
        const replies = [proxy.request(REGION_READ), proxy.request(DEVICE_RESET)];
        const edges = [0, ...[...new Set(cuts)].sort((a, b) => a - b), messages.length];
        for (let i = 0; i + 1 < edges.length; i++) {
          peer.send(messages.subarray(edges[i], edges[i + 1]));
          await new Promise((resolve) => setTimeout(resolve, 0));
        }
        assertEquals((await replies[0]!).payload, bytes(1, 2, 3));
        assertEquals((await replies[1]!).payload, bytes());
        proxy.close();
        peer.close();
      },
    ),
    { numRuns: 30 },
  );
});

testFds("bytes one at a time arrive as well, synchronously", () => {
  const [proxy, peer] = clientPair();
  for (const byte of replyTo(1, REGION_READ, bytes(1, 2, 3))) peer.send(bytes(byte));
  assertEquals(proxy.requestSync(REGION_READ).payload.slice(), bytes(1, 2, 3));
  proxy.close();
  peer.close();
});

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

testFds("fds go with requests and replies, each with its own message", async () => {
  using event = new EventFd();
  const [a, b] = UnixSocket.pair();
  const server = new VfioProxy(b, {
    role: "server",
    handler: (request) => {
      const fds = request.takeFds();
      request.reply(bytes(fds.length), undefined, fds);
      closeAll(fds);
    },
  });
  server.serving = true;
  server.peerMaxFds = 16;
  const client = new VfioProxy(a, { role: "client" });
  client.peerMaxFds = 16;
  const fd = event.handle;
  const replies = await Promise.all(
    [0, 2, 0, 0, 1, 3].map((count) =>
      client.request(DEVICE_GET_INFO, bytes(7), { fds: new Array(count).fill(fd), maxReplyFds: 16 })
    ),
  );
  assertEquals(replies.map((reply) => [reply.payload[0], reply.fdCount]), [
    [0, 0],
    [2, 2],
    [0, 0],
    [0, 0],
    [1, 1],
    [3, 3],
  ]);
  const received = new EventFd(replies[4]!.takeFds()[0]!);
  received.signal(5n);
  assertEquals(event.take(), 5n);
  received.close();
  for (const reply of replies) reply.discardFds();
  client.close();
  server.close();
});

testFds(
  "fds behind fd-less bytes in one receive belong to the message with the last byte",
  async () => {
    using event = new EventFd();
    const fd = event.handle;
    const [proxy, peer] = clientPair();
    peer.send(replyTo(1, REGION_READ, bytes(1)));
    peer.send(replyTo(2, DEVICE_GET_INFO, bytes(2)), [fd]);
    const first = proxy.request(REGION_READ);
    const reply = proxy.requestSync(DEVICE_GET_INFO, undefined, { maxReplyFds: 1 });
    assertEquals(reply.fdCount, 1);
    assertEquals((await first).fdCount, 0);
    reply.discardFds();
    proxy.close();
    peer.close();
  },
);

testFds("surplus fds of a reply are closed, the first ones kept", () => {
  using event = new EventFd();
  const fd = event.handle;
  const [proxy, peer] = clientPair();
  peer.send(replyTo(1, DEVICE_GET_INFO), [fd, fd, fd]);
  const reply = proxy.requestSync(DEVICE_GET_INFO, undefined, { maxReplyFds: 1 });
  assertEquals(reply.fdCount, 1);
  reply.discardFds();
  proxy.close();
  peer.close();
});

for (
  const [what, message, part] of [
    [
      "fds where none belong",
      () => replyTo(1, DEVICE_RESET),
      "passed 1 file descriptor with a DEVICE_RESET reply",
    ],
    [
      "fds with an error reply",
      () => encodeMessage({ messageId: 1, command: DEVICE_RESET, flags: 0x21, error: 5 }),
      "where none belong",
    ],
  ] as const
) {
  testFds(`${what} end the connection and are closed`, async () => {
    using event = new EventFd();
    const fd = event.handle;
    const [proxy, peer] = clientPair();
    const pending = proxy.request(DEVICE_RESET);
    peer.send(message(), [fd]);
    await assertRejects(() => pending, ProtocolError, part);
    assertEquals(proxy.state, "CLOSED");
    peer.close();
  });
}

testFds(
  "more fds than allowed with one message end the connection, in one segment or in many",
  async () => {
    using event = new EventFd();
    const fd = event.handle;
    for (const segments of [1, 20]) {
      const [proxy, peer] = clientPair();
      const pending = proxy.request(DEVICE_RESET, undefined, { maxReplyFds: 16 });
      const message = replyTo(1, DEVICE_RESET, new Uint8Array(64));
      if (segments === 1) peer.send(message, new Array(20).fill(fd));
      else for (let i = 0; i < segments; i++) peer.send(message.subarray(i, i + 1), [fd]);
      await assertRejects(
        () => pending,
        ProtocolError,
        "file descriptors with a message, 16 are allowed",
      );
      peer.close();
    }
  },
);

testFds(
  "an error reply is a RemoteError with errno and name, and the connection goes on",
  async () => {
    const [proxy, peer] = clientPair();
    for (
      const [errno, part] of [[22, "EINVAL (Invalid argument)"], [4242, "errno 4242"], [
        0,
        "gave no errno",
      ]] as const
    ) {
      const pending = proxy.request(DEVICE_RESET, undefined, { doing: "reset the device" });
      peer.fail(await peer.expect(DEVICE_RESET), errno);
      const error = await assertRejects(
        () => pending,
        RemoteError,
        `Cannot reset the device: the server answered`,
      );
      assertStringIncludes(error.message, part);
      assertEquals(error.errno, errno);
    }
    assertEquals(proxy.state, "CONNECTED");
    proxy.close();
    peer.close();
  },
);

testFds("an error reply with a payload, and one typed as a command, are understood", async () => {
  const [proxy, peer] = clientPair();
  const first = proxy.request(DEVICE_RESET);
  peer.send(
    encodeMessage({ messageId: 1, command: DEVICE_RESET, flags: 0x21, error: 5 }, bytes(1, 2, 3)),
  );
  await assertRejects(() => first, RemoteError, "EIO");
  const second = proxy.request(DEVICE_RESET);
  peer.send(encodeMessage({ messageId: 2, command: DEVICE_RESET, flags: 0x20, error: 22 }));
  await assertRejects(() => second, RemoteError, "EINVAL");
  proxy.close();
  peer.close();
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

testFds(
  "a timeout ends one request; its late reply is dropped, and the stream stays in step",
  async () => {
    const [proxy, peer] = clientPair();
    const late = proxy.request(REGION_READ, bytes(1), {
      timeoutMs: 30,
      doing: "read 4 bytes of bar0",
    });
    await assertRejects(
      () => late,
      TimeoutError,
      "Cannot read 4 bytes of bar0: the server did not answer",
    );
    assertThrows(
      () => proxy.requestSync(REGION_READ, bytes(2), { timeoutMs: 20 }),
      TimeoutError,
      "within 20 ms",
    );
    const first = await peer.expect(REGION_READ);
    const second = await peer.expect(REGION_READ);
    const third = proxy.request(REGION_READ, bytes(3));
    peer.reply(first, bytes(1));
    peer.reply(second, bytes(2));
    peer.reply(await peer.expect(REGION_READ), bytes(3));
    assertEquals((await third).payload, bytes(3));
    assertEquals(proxy.state, "CONNECTED");
    proxy.close();
    peer.close();
  },
);

testFds("a late reply with fds has them closed", async () => {
  using event = new EventFd();
  const fd = event.handle;
  const [proxy, peer] = clientPair();
  assertThrows(
    () => proxy.requestSync(DEVICE_GET_INFO, undefined, { timeoutMs: 10, maxReplyFds: 1 }),
    TimeoutError,
  );
  peer.reply(await peer.expect(DEVICE_GET_INFO), bytes(1), [fd]);
  const next = proxy.request(DEVICE_RESET);
  peer.reply(await peer.expect(DEVICE_RESET));
  await next;
  proxy.close();
  peer.close();
});

testFds("a signal calls a request off with its reason", async () => {
  const [proxy, peer] = clientPair();
  const controller = new AbortController();
  const pending = proxy.request(DEVICE_RESET, undefined, { signal: controller.signal });
  const reason = new Error("enough");
  controller.abort(reason);
  assertStrictEquals(await assertRejects(() => pending), reason);
  assertStrictEquals(
    await assertRejects(() =>
      proxy.request(DEVICE_RESET, undefined, { signal: controller.signal })
    ),
    reason,
  );
  assertEquals(proxy.pendingCount, 0);
  peer.reply(await peer.expect(DEVICE_RESET));
  proxy.close();
  peer.close();
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

testFds(
  "post() asks for no reply, leaves before a following request, and a reply to it is dropped",
  async () => {
    const [proxy, peer] = clientPair();
    proxy.post(REGION_WRITE, bytes(1));
    const pending = proxy.request(REGION_READ);
    const posted = await peer.expect(REGION_WRITE);
    assertEquals(posted.flags, MessageFlags.NO_REPLY);
    peer.reply(posted);
    peer.reply(await peer.expect(REGION_READ));
    await pending;
    proxy.close();
    peer.close();
  },
);

testFds("window limits what is in flight; the others follow in order", async () => {
  const [proxy, peer] = clientPair();
  proxy.window = 1;
  const replies = [1, 2, 3].map((value) => proxy.request(REGION_READ, bytes(value)));
  for (const value of [1, 2, 3]) {
    const request = await peer.expect(REGION_READ);
    assertEquals(request.payload, bytes(value));
    await new Promise((resolve) => setTimeout(resolve, 5));
    const { IoBuffer } = await import("../../../ffi/buffer.ts");
    assertEquals(
      peer.socket.receive(new IoBuffer(16), 0, 16),
      -11,
      "a second request is in flight",
    );
    peer.reply(request);
  }
  await Promise.all(replies);
  proxy.close();
  peer.close();
});

testFds("window holds for requestSync() as well, which waits for its turn", async () => {
  const [proxy, peer] = clientPair({
    // Served while requestSync() waits for its turn: only then does the second reply come.
    handler: () => peer.send(replyTo(2, REGION_READ, bytes(2))),
  });
  proxy.window = 1;
  const first = proxy.request(REGION_READ);
  peer.send(
    concat(replyTo(1, REGION_READ, bytes(1)), encodeMessage({ messageId: 1, command: DMA_READ })),
  );
  assertEquals(proxy.requestSync(REGION_READ).payload.slice(), bytes(2));
  assertEquals((await first).payload, bytes(1));
  proxy.close();
  peer.close();
});

testFds("more requests than may be pending wait for their turn", async () => {
  const [a, b] = UnixSocket.pair();
  const server = new VfioProxy(b, {
    role: "server",
    handler: (request) => request.reply(request.payload),
  });
  server.serving = true;
  const client = new VfioProxy(a, { role: "client" });
  let sum = 0;
  await Promise.all(Array.from({ length: 20_000 }, async (_, i) => {
    const { payload } = await client.request(REGION_READ, bytes(i & 0xff));
    sum += payload[0] === (i & 0xff) ? 1 : 0;
  }));
  assertEquals(sum, 20_000);
  client.close();
  server.close();
});

testFds(
  "a server answers in the order of arrival, an asynchronous handler holds up those behind it",
  async () => {
    const order: number[] = [];
    const [peer, socket] = RawPeer.pair();
    const proxy = new VfioProxy(socket, {
      role: "server",
      handler: async (request: IncomingRequest) => {
        const { payload } = request;
        await new Promise((resolve) => setTimeout(resolve, payload[0]!));
        order.push(payload[0]!);
        request.reply(payload);
      },
    });
    proxy.serving = true;
    peer.send(
      concat(
        ...[15, 5, 1].map((delay, i) =>
          encodeMessage({ messageId: i, command: REGION_READ }, bytes(delay))
        ),
      ),
    );
    peer.command(3, REGION_READ, bytes(0)); // arrives while the first is being handled: the views must hold
    for (const [i, delay] of [15, 5, 1, 0].entries()) {
      const reply = await peer.expect(REGION_READ);
      assertEquals([reply.messageId, reply.payload[0]], [i, delay]);
    }
    assertEquals(order, [15, 5, 1, 0]);
    proxy.close();
    peer.close();
  },
);

testFds("a handler may ask the peer synchronously, and its payload stays as it is", async () => {
  const [peer, socket] = RawPeer.pair();
  const proxy = new VfioProxy(socket, {
    role: "server",
    handler: (request) => {
      const { payload } = request;
      peer.send(replyTo(1, DMA_READ, bytes(3)));
      const answer = proxy.requestSync(DMA_READ);
      request.reply(concat(payload, answer.payload));
    },
  });
  proxy.serving = true;
  peer.command(4, REGION_WRITE, bytes(1, 2));
  await peer.expect(DMA_READ);
  assertEquals((await peer.expect(REGION_WRITE)).payload, bytes(1, 2, 3));
  proxy.close();
  peer.close();
});

testFds(
  "a server drops no request of a burst, and stops reading while its handler is busy",
  async () => {
    const [peer, socket] = RawPeer.pair();
    const gate = Promise.withResolvers<void>();
    let count = 0;
    const proxy = new VfioProxy(socket, {
      role: "server",
      handler: async (request) => {
        if (count++ === 0) await gate.promise;
        request.reply();
      },
    });
    proxy.serving = true;
    const burst = concat(
      ...Array.from(
        { length: 2000 },
        (_, i) => encodeMessage({ messageId: i, command: DEVICE_RESET }),
      ),
    );
    peer.send(burst);
    await new Promise((resolve) => setTimeout(resolve, 20));
    gate.resolve();
    for (let i = 0; i < 2000; i++) assertEquals((await peer.expect(DEVICE_RESET)).messageId, i);
    proxy.close();
    peer.close();
  },
);

testFds("no_reply of a command is honoured, and a handler can't answer twice", async () => {
  const [peer, socket] = RawPeer.pair();
  const errors: unknown[] = [];
  const proxy = new VfioProxy(socket, {
    role: "server",
    handler: (request) => {
      request.fail(EIO);
      try {
        request.reply();
      } catch (error) {
        errors.push(error);
      }
    },
  });
  proxy.serving = true;
  peer.command(1, DEVICE_RESET, undefined, [], MessageFlags.NO_REPLY);
  peer.command(2, DEVICE_RESET);
  const reply = await peer.expect(DEVICE_RESET);
  assertEquals([reply.messageId, reply.flags, reply.error], [2, 0x21, EIO]);
  assertEquals(errors.length, 2);
  proxy.close();
  peer.close();
});

testFds("fds of a request that nobody takes are closed", async () => {
  using event = new EventFd();
  const fd = event.handle;
  const [peer, socket] = RawPeer.pair();
  const proxy = new VfioProxy(socket, {
    role: "server",
    handler: (request) => request.reply(bytes(request.fdCount)),
  });
  proxy.serving = true;
  peer.command(1, DEVICE_RESET, undefined, [fd, fd]);
  assertEquals((await peer.expect(DEVICE_RESET)).payload, bytes(2));
  proxy.close();
  peer.close();
});

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
  "a peer that floods requests and reads no replies is cut off with memory bounded",
  async () => {
    const [peer, socket] = RawPeer.pair();
    const closed = Promise.withResolvers<Error | undefined>();
    const big = new Uint8Array(1 << 20);
    const proxy = new VfioProxy(socket, {
      role: "client",
      handler: (request) => request.reply(undefined, big),
      onClose: closed.resolve,
    });
    proxy.serving = true;
    const { IoBuffer } = await import("../../../ffi/buffer.ts");
    const request = new IoBuffer(encodeMessage({ messageId: 1, command: DMA_READ }).slice());
    let sent = 0;
    while (proxy.state === "CONNECTED" && sent < 1000) {
      if (peer.socket.send(request, 0, 16) === 16) sent++;
      await new Promise((resolve) => setTimeout(resolve, 0));
    }
    const cause = await closed.promise;
    assertInstanceOf(cause, ConnectionError);
    assertStringIncludes(cause.message, "does not read");
    assert(sent <= 80, `${sent} requests were taken`);
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
    signal: AbortSignal.timeout(5000),
  }).output();
  assertEquals(exit, 0);
});

testFds("request() on a connection that turns out to be lost leaves no timer behind", async () => {
  using event = new EventFd();
  const [proxy, peer] = clientPair();
  peer.close();
  // With descriptors it is sent at once, and the failure ends the connection before request() returns.
  const pending = proxy.request(DEVICE_RESET, undefined, { fds: [event.handle] });
  await assertRejects(
    () => pending,
    ConnectionError,
    "Cannot complete DEVICE_RESET: lost the connection",
  );
});

testFds("a handler that throws answers EIO, and the next command is served", async () => {
  const errors: unknown[] = [];
  const onError = (event: ErrorEvent) => {
    event.preventDefault();
    errors.push(event.error);
  };
  addEventListener("error", onError);
  const [peer, socket] = RawPeer.pair();
  const proxy = new VfioProxy(socket, {
    role: "server",
    handler: (request) => {
      if (request.command === DEVICE_RESET) throw new Error("sync");
      return Promise.reject(new Error("async"));
    },
  });
  proxy.serving = true;
  for (const command of [DEVICE_RESET, DEVICE_GET_INFO, DEVICE_RESET]) {
    peer.command(1, command);
    const reply = await peer.expect(command);
    assertEquals([reply.flags, reply.error], [0x21, EIO]);
  }
  removeEventListener("error", onError);
  assertEquals(errors.map((error) => (error as Error).message), ["sync", "async", "sync"]);
  proxy.close();
  peer.close();
});

testFds(
  "a request that waited for its turn has its own timeout, also if another's timeout sent it",
  async () => {
    const [proxy, peer] = clientPair();
    proxy.window = 1;
    const first = proxy.request(DEVICE_RESET, undefined, { timeoutMs: 30 });
    const second = proxy.request(DEVICE_RESET, undefined, { timeoutMs: 90 });
    await Promise.all([first, second].map((each) => assertRejects(() => each, TimeoutError)));
    proxy.close();
    peer.close();
  },
);

testFds("what a handler was given stays as it is while it flushes", () => {
  let seen: number[] = [];
  const [proxy, peer] = clientPair({
    handler: (request) => {
      if (request.payload[0] !== 1) return request.reply();
      const data = new Uint8Array(30_000);
      for (let i = 0; i < 20; i++) proxy.post(REGION_WRITE, undefined, { data });
      peer.command(78, DMA_READ, bytes(9, 9, 9, 9));
      assertThrows(() => proxy.flushSync(30), TimeoutError); // nobody reads
      seen = [...request.payload];
      request.reply();
    },
  });
  peer.command(77, DMA_READ, bytes(1, 1, 1, 1));
  proxy.serveSync(10);
  assertEquals(seen, [1, 1, 1, 1]);
  proxy.close();
  peer.close();
});

testFds("the fds of a message that came in parts are not those of the one behind it", () => {
  using event = new EventFd();
  const got: number[][] = [];
  const [proxy, peer] = clientPair({
    handler: (request) => {
      got.push([request.payload[0]!, request.fdCount]);
      request.reply();
    },
  });
  const [a, b] = [1, 2].map((value) =>
    encodeMessage({ messageId: value, command: DMA_READ }, bytes(value, value, value, value))
  );
  peer.send(a!.subarray(0, 8), [event.handle]);
  proxy.serveSync(10);
  peer.send(a!.subarray(8));
  peer.send(b!, [event.handle, event.handle]);
  proxy.serveSync(10);
  assertEquals(got, [[1, 1], [2, 2]]);
  proxy.close();
  peer.close();
});

testFds("a reply stays as it is if it came while a handler asked something else", () => {
  const [proxy, peer] = clientPair({
    handler: (request) => {
      request.reply();
      peer.send(replyTo(1, DEVICE_GET_INFO, bytes(1, 1, 1, 1))); // to the one who waits outside
      proxy.serveSync(10); // is taken in here
      peer.send(replyTo(2, DEVICE_RESET, bytes(9, 9, 9, 9)));
      proxy.requestSync(DEVICE_RESET);
    },
  });
  peer.command(77, DMA_READ, bytes(0));
  assertEquals(proxy.requestSync(DEVICE_GET_INFO).payload.slice(), bytes(1, 1, 1, 1));
  proxy.close();
  peer.close();
});

testFds("post() does not overtake requests that wait for their turn", async () => {
  const [proxy, peer] = clientPair();
  proxy.window = 2;
  const replies = [1, 2, 3].map((value) => proxy.request(REGION_READ, bytes(value)));
  proxy.post(REGION_WRITE, bytes(4));
  const order: number[] = [];
  for (let i = 0; i < 4; i++) {
    const request = await peer.receive();
    order.push(request!.payload[0]!);
    peer.reply(request!);
  }
  await Promise.all(replies);
  assertEquals(order, [1, 2, 3, 4]);
  proxy.close();
  peer.close();
});

testFds("a timeout of NaN is refused, and leaves nothing pending", async () => {
  const [proxy, peer] = clientPair();
  assertThrows(() => proxy.requestSync(DEVICE_RESET, undefined, { timeoutMs: NaN }), RangeError);
  await assertRejects(() => proxy.request(DEVICE_RESET, undefined, { timeoutMs: NaN }), RangeError);
  assertEquals(proxy.pendingCount, 0);
  proxy.close();
  peer.close();
});
