import { assert, assertEquals, assertRejects } from "@std/assert";
import fc from "fast-check";
import { IoBuffer } from "../../../ffi/buffer.ts";
import { closeAll } from "../../../ffi/fd.ts";
import { EventFd } from "../../../ffi/event.ts";
import { UnixSocket } from "../../../ffi/socket.ts";
import { ProtocolError } from "../../../lib/base/errors.ts";
import { VfioProxy } from "../../../lib/transport/proxy.ts";
import { MessageStream } from "../../../lib/transport/stream.ts";
import { Command } from "../../../lib/wire/command.ts";
import { encodeMessage } from "../../../lib/wire/header.ts";
import { testFds } from "../../_fds.ts";
import { bytes, clientPair, concat, replyTo } from "./_pair.ts";
import { sumOf } from "../_reader_thread.ts";

const { DEVICE_RESET, DEVICE_GET_INFO, REGION_READ, DMA_READ } = Command;

const HEADER = 16;

const DATA = Uint8Array.from({ length: 1 << 20 }, (_, i) => i * 7 ^ i >> 8);

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

testFds("a large message is received in pieces, each as it comes, with what follows it", () => {
  const [socket, peer] = UnixSocket.pair();
  peer.setSendBuffer(4 << 20);
  const into = new Uint8Array(DATA.length);
  const stream = new MessageStream(socket, "server", { maxMessageSize: 2 << 20, maxFds: 1 });
  stream.receiver.destination = (messageId) => messageId === 3 ? into : undefined;
  const message = new IoBuffer(2 * HEADER + DATA.length);
  message.view.setUint16(0, 3, true);
  message.view.setUint32(4, HEADER + DATA.length, true);
  message.view.setUint32(8, 1, true);
  message.bytes.set(DATA, HEADER);
  message.view.setUint16(HEADER + DATA.length, 4, true); // and another one
  message.view.setUint32(HEADER + DATA.length + 4, HEADER, true);
  for (const cut of [HEADER, HEADER + 1, 65536, 65537, 300_000, HEADER + DATA.length - 1]) {
    into.fill(0);
    assertEquals(peer.send(message, 0, cut), cut);
    const isThere = () => {
      while (stream.receiver.receive()) {
        const next = stream.receiver.next();
        if (next !== undefined) return next;
      }
    };
    assertEquals(isThere(), undefined);
    assertEquals(peer.send(message, cut, message.length - cut), message.length - cut);
    const first = isThere();
    assertEquals([first?.messageId, first?.isPlaced, first?.payloadSize], [3, true, 0]);
    assertEquals(sumOf(into), sumOf(DATA));
    const second = stream.receiver.next() ?? isThere();
    assertEquals([second?.messageId, second?.isPlaced, second?.payloadSize], [4, false, 0]);
    assertEquals(stream.receiver.next(), undefined);
  }
  stream.close();
  peer.close();
});

testFds("place() puts the data at the end of a message where they are wanted", () => {
  const [socket, peer] = UnixSocket.pair();
  const stream = new MessageStream(socket, "server", { maxMessageSize: 4096, maxFds: 1 });
  const message = new IoBuffer(HEADER + 8);
  message.bytes.set([9, 0, 11, 0, HEADER + 8, 0, 0, 0, 1], 0);
  message.bytes.set([1, 2, 3, 4, 5, 6, 7, 8], HEADER);
  for (const size of [0, 3, 8, 9]) {
    const into = new Uint8Array(size);
    peer.send(message, 0, message.length);
    assert(stream.receiver.receive());
    const came = stream.receiver.next()!.place(into);
    message.bytes.fill(0xff, HEADER);
    peer.send(message, 0, message.length); // comes to where the first one was
    assert(stream.receiver.receive());
    stream.receiver.next();
    message.bytes.set([1, 2, 3, 4, 5, 6, 7, 8], HEADER);
    const placed = size <= 8 ? size : 0;
    assertEquals([came.isPlaced, came.isOwned, came.messageId], [size <= 8, true, 9]);
    assertEquals(came.payload, Uint8Array.from({ length: 8 - placed }, (_, i) => i + 1));
    assertEquals([...into.subarray(0, placed)], [1, 2, 3, 4, 5, 6, 7, 8].slice(8 - placed));
  }
  stream.close();
  peer.close();
});
