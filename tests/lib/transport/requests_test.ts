import {
  assertEquals,
  assertRejects,
  assertStrictEquals,
  assertStringIncludes,
  assertThrows,
} from "@std/assert";
import { EventFd } from "../../../ffi/event.ts";
import { UnixSocket } from "../../../ffi/socket.ts";
import { ProtocolError, RemoteError, TimeoutError } from "../../../lib/base/errors.ts";
import { VfioProxy } from "../../../lib/transport/proxy.ts";
import { makePending } from "../../../lib/transport/pending.ts";
import { Requests } from "../../../lib/transport/requests.ts";
import { MessageStream } from "../../../lib/transport/stream.ts";
import { Command } from "../../../lib/wire/command.ts";
import { encodeMessage, MessageFlags } from "../../../lib/wire/header.ts";
import { testFds } from "../../_fds.ts";
import { PATIENT } from "../../_until.ts";
import { bytes, clientPair, concat, replyTo } from "./_pair.ts";

const { DEVICE_RESET, DEVICE_GET_INFO, REGION_READ, REGION_WRITE, DMA_READ } = Command;

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
    const { payload } = await client.request(REGION_READ, bytes(i & 0xff), PATIENT);
    sum += payload[0] === (i & 0xff) ? 1 : 0;
  }));
  assertEquals(sum, 20_000);
  client.close();
  server.close();
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

testFds("an id is not used again before its late reply came, even when ids wrap around", () => {
  const [socket, peer] = UnixSocket.pair();
  const stream = new MessageStream(socket, "server", { maxMessageSize: 4096, maxFds: 0 });
  const requests = new Requests(stream, "server");
  const send = () => {
    const pending = makePending(DEVICE_RESET, {}, 1000);
    requests.send(pending, undefined, {});
    return pending;
  };
  const late = send();
  requests.abandon(late, new Error("too late"));
  const slow = send();
  const ids = new Set<number>();
  for (let i = 0; i < 0x8000 - 2; i++) {
    const pending = send();
    ids.add(pending.id!);
    requests.complete(pending, undefined, undefined);
  }
  assertEquals([ids.size, Math.max(...ids)], [0x8000 - 2, 0x7fff]);
  assertEquals([ids.has(late.id!), ids.has(slow.id!)], [false, false]);
  assertEquals([requests.count, requests.inFlight], [1, 1]);
  requests.endAll(new Error("over"));
  assertEquals([requests.count, slow.isDone], [0, true]);
  stream.close();
  peer.close();
});
