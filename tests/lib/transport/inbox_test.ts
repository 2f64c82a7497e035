import {
  assert,
  assertEquals,
  assertInstanceOf,
  assertStringIncludes,
  assertThrows,
} from "@std/assert";
import { EIO } from "../../../ffi/errno.ts";
import { EventFd } from "../../../ffi/event.ts";
import { ConnectionError, TimeoutError } from "../../../lib/base/errors.ts";
import type { IncomingRequest } from "../../../lib/transport/incoming.ts";
import { VfioProxy } from "../../../lib/transport/proxy.ts";
import { Command } from "../../../lib/wire/command.ts";
import { encodeMessage, MessageFlags } from "../../../lib/wire/header.ts";
import { testFds } from "../../_fds.ts";
import { RawPeer } from "../../_raw_peer.ts";
import { FloodThread } from "./_flood_thread.ts";
import { MAX_INCOMING_BLOCKED } from "../../../lib/base/limits.ts";
import { bytes, clientPair, concat, replyTo } from "./_pair.ts";

const { DEVICE_RESET, DEVICE_GET_INFO, REGION_READ, REGION_WRITE, DMA_READ } = Command;

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
    // Arrives while the first is being handled: the views must hold
    peer.command(3, REGION_READ, bytes(0));
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

testFds("an answer leaves before the promise of its handler is settled", async () => {
  const [peer, socket] = RawPeer.pair();
  const gate = Promise.withResolvers<void>();
  const proxy = new VfioProxy(socket, {
    role: "server",
    handler: (request) => {
      request.reply(bytes(1));
      return gate.promise;
    },
  });
  proxy.serving = true;
  peer.command(4, REGION_READ);
  assertEquals((await peer.expect(REGION_READ)).payload, bytes(1));
  gate.resolve();
  proxy.close();
  peer.close();
});

testFds("an answer without room leaves after the blocking request that it came in", async () => {
  const data = new Uint8Array(1 << 20).fill(7);
  const [proxy, peer] = clientPair({ handler: (request) => request.reply(bytes(1), data) });
  peer.command(4, DMA_READ);
  peer.send(replyTo(1, REGION_READ, bytes(3)));
  assertEquals(proxy.requestSync(REGION_READ).payload, bytes(3));
  await peer.expect(REGION_READ);
  assertEquals((await peer.expect(DMA_READ)).payload, concat(bytes(1), data));
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

Deno.test("a peer that reads no more and sends on and on is left, with memory bounded", async () => {
  let received = 0;
  const closed = Promise.withResolvers<Error | undefined>();
  const [proxy, peer] = clientPair({
    trace: (direction) => void (direction === "received" && received++),
    onClose: closed.resolve,
  });
  const first = proxy.request(DEVICE_RESET).catch((error) => error);
  await peer.expect(DEVICE_RESET);
  await using _flood = await FloodThread.start(peer.socket.fd);
  const second = proxy.request(DEVICE_GET_INFO, new Uint8Array(16)).catch((error) => error);
  for (const error of [await first, await second]) assertInstanceOf(error, ConnectionError);
  assertInstanceOf(await closed.promise, ConnectionError);
  assert(received <= 2 * MAX_INCOMING_BLOCKED, `${received} commands were taken`);
  peer.close();
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

testFds("what a handler was given stays as it is while it flushes", () => {
  let seen: number[] = [];
  const [proxy, peer] = clientPair({
    handler: (request) => {
      if (request.payload[0] !== 1) return request.reply();
      const data = new Uint8Array(30_000);
      for (let i = 0; i < 20; i++) proxy.post(REGION_WRITE, undefined, { data });
      peer.command(78, DMA_READ, bytes(9, 9, 9, 9));
      assertThrows(() => proxy.flushSync(30), TimeoutError); // the peer does not read
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
