/** Connections of checks: what a peer sends is taken within bounds. */

import { assert, assertEquals, assertRejects, assertThrows } from "@std/assert";
import { keptDescriptors } from "../../../ffi/budget.ts";
import { IoBuffer } from "../../../ffi/buffer.ts";
import { EventFd, POLLIN } from "../../../ffi/event.ts";
import { countOpenFds } from "../../../ffi/fd.ts";
import { UnixSocket } from "../../../ffi/socket.ts";
import { Deviation } from "../../../lib/conformance/deviation.ts";
import { NO_FACTS } from "../../../lib/conformance/facts.ts";
import { RawPeer } from "../../../lib/conformance/raw_peer.ts";
import { whenReady } from "../../../lib/conformance/ready.ts";
import { deviceInfo } from "../../../lib/conformance/requests.ts";
import { Trial } from "../../../lib/conformance/trial.ts";
import { Command } from "../../../lib/wire/command.ts";
import { encodeMessage } from "../../../lib/wire/header.ts";
import { testFds } from "../../_fds.ts";
import { PATIENCE_MS } from "../../_until.ts";

testFds("descriptors that a peer sends are kept within the limit of the process", async () => {
  const limit = keptDescriptors.limit >> 1;
  const before = countOpenFds();
  const [ours, theirs] = UnixSocket.pair();
  using _theirs = theirs;
  using event = new EventFd();
  const { signal } = new AbortController();
  using peer = new RawPeer(ours, { timeoutMs: () => PATIENCE_MS, signal, notes: [] });
  const bytes = encodeMessage({ messageId: 1, command: 4 });
  const message = new IoBuffer(Uint8Array.from(bytes));
  const next = async () => {
    theirs.send(message, 0, message.length, Array(253).fill(event.fd));
    return (await peer.receive())!;
  };
  // Those that are closed do not count.
  for (let i = 0; i < limit; i += 253) {
    for (const fd of (await next()).fds) fd[Symbol.dispose]();
  }
  await assertRejects(
    async () => {
      for (let i = 0; i <= limit; i += 253) await next();
    },
    Deviation,
    "open descriptors of the server",
  );
  assert(countOpenFds() <= before + limit + 3);
});

testFds("a client that sets up more vectors than this process keeps is taken on", async () => {
  const [ours, theirs] = UnixSocket.pair();
  using _theirs = theirs;
  using event = new EventFd();
  const { signal } = new AbortController();
  using peer = new RawPeer(ours, {
    ...{ timeoutMs: () => PATIENCE_MS, signal, notes: [] },
    from: "client",
  });
  const bytes = encodeMessage({ messageId: 1, command: 8 });
  const message = new IoBuffer(Uint8Array.from(bytes));
  const limit = keptDescriptors.limit >> 1;
  let kept = 0;
  for (let i = 0; i <= limit; i += 253) {
    theirs.send(message, 0, message.length, Array(253).fill(event.fd));
    kept += (await peer.receive())!.fds.length;
  }
  assert(kept > limit - 253 && kept <= limit, `${kept} of ${limit}`);
});

/** Sends a message again and again, each time that something came, until the peer leaves. */
async function repeat(socket: UnixSocket, bytes: Uint8Array, signal: AbortSignal) {
  using _socket = socket;
  const message = new IoBuffer(Uint8Array.from(bytes));
  const came = new IoBuffer(1 << 16);
  while (true) {
    await whenReady(socket.fd, POLLIN, Infinity, signal);
    if (socket.receive(came, 0, came.length) <= 0) return;
    socket.send(message, 0, message.length, []);
  }
}

testFds("a server that asks for ever, and does not answer, is no answer", async () => {
  const [ours, theirs] = UnixSocket.pair();
  const { signal } = new AbortController();
  const ask = encodeMessage({ messageId: 1, command: Command.DMA_READ }, new Uint8Array(16));
  const asking = repeat(theirs, ask, signal);
  {
    await using trial = new Trial({
      connect: () => Promise.resolve(ours),
      tryConnect: () => undefined,
      wasSpent: () => Promise.resolve(false),
      facts: NO_FACTS,
      timeoutMs: PATIENCE_MS,
      signal,
      process: undefined,
    });
    await trial.connect();
    const text = "a reply to DEVICE_GET_INFO";
    const error = await assertRejects(() => trial.ask(deviceInfo()), Deviation, text);
    assertEquals((error as Deviation).came, "4096 requests of the server in place of the reply");
  }
  await asking;
});

testFds("a peer that sends for ever comes to an end", () => {
  const [ours, theirs] = UnixSocket.pair();
  const { signal } = new AbortController();
  const reply = encodeMessage({ messageId: 1, command: 4, flags: 1 });
  const many = new Uint8Array(reply.length * 1024);
  for (let at = 0; at < many.length; at += reply.length) many.set(reply, at);
  {
    using _theirs = theirs;
    const message = new IoBuffer(many);
    using peer = new RawPeer(ours, { timeoutMs: () => PATIENCE_MS, signal, notes: [] });
    assertThrows(
      () => {
        for (let at = 0;;) {
          const sent = theirs.send(message, at, many.length - at, []);
          if (sent > 0) at = (at + sent) % many.length;
          while (peer.receiveNow() !== undefined);
        }
      },
      Deviation,
      "an end of the messages",
    );
  }
});
