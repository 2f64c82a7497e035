/** Clients that are hostile on purpose. Messages mutated at random are in tests/fuzz. */

import { assert, assertEquals, assertInstanceOf } from "@std/assert";
import { IoBuffer } from "../../../ffi/buffer.ts";
import { EAGAIN } from "../../../ffi/errno.ts";
import { libc } from "../../../ffi/libc.ts";
import { ConnectionError } from "../../../lib/base/errors.ts";
import { MAX_INCOMING } from "../../../lib/base/limits.ts";
import { Command } from "../../../lib/wire/command.ts";
import { encodeMessage, MessageFlags } from "../../../lib/wire/header.ts";
import { testFds } from "../../_fds.ts";
import type { RawPeer } from "../../_raw_peer.ts";
import { access, ask, commands, serveNegotiated, sleep } from "./_client.ts";

const SHUT_WR = 1;

/**
 * Ends one direction of the connection: the server is told that nothing comes any more, but could
 * still answer.
 */
function closeSendingHalf(peer: RawPeer): void {
  assertEquals(libc().shutdown(peer.socket.fd, SHUT_WR), 0);
}

/** Sends the same again and again until the socket is full. Gives how often. */
function flood(peer: RawPeer, message: Uint8Array): number {
  const buffer = new IoBuffer(message.slice());
  for (let count = 0;; count++) {
    const sent = peer.socket.send(buffer, 0, buffer.length);
    if (sent === -EAGAIN) return count;
    assertEquals(sent, buffer.length);
  }
}

testFds(
  "a client that closes its sending half gets the answers that are ready, then the end",
  async () => {
    const served = await serveNegotiated();
    using peer = served.peer;
    peer.send(commands(100, Command.REGION_READ, access(0n, 0, 4)));
    closeSendingHalf(peer);
    for (let i = 0; i < 100; i++) {
      assertEquals((await peer.expect(Command.REGION_READ)).messageId, i);
    }
    assertEquals(await peer.receive(), undefined);
    assertInstanceOf(await served.closed, ConnectionError);
  },
);

testFds(
  "a flood of posted writes waits in the socket while a hook is slow, and all are done",
  async () => {
    using served = await serveNegotiated();
    const { device, peer } = served;
    const gate = Promise.withResolvers<void>();
    let [started, done] = [0, 0];
    device.bar0.write = async () => {
      started++;
      if (started === 1) await gate.promise;
      done++;
    };
    const header = { messageId: 7, command: Command.REGION_WRITE, flags: MessageFlags.NO_REPLY };
    const posted = encodeMessage(header, access(0n, 0, 4, [1, 2, 3, 4]));
    let sent = flood(peer, posted);
    for (let quiet = 0; quiet < 20;) { // until the server takes nothing any more
      await sleep(10);
      const more = flood(peer, posted);
      quiet = more === 0 ? quiet + 1 : 0;
      sent += more;
    }
    assert(sent < 64 * MAX_INCOMING, `${sent} were taken`);
    assertEquals([started, done], [1, 0]);
    gate.resolve();
    while (done < sent) await sleep(1); // there is room again
    const { errno } = await ask(peer, Command.DEVICE_RESET);
    assertEquals([errno, done, device.resets], [0, sent, 1]);
  },
);

testFds("a client that reads nothing stops its own requests, and no more", async () => {
  using served = await serveNegotiated();
  const { device, peer } = served;
  let reads = 0;
  device.bar0.read = (_, into) => {
    reads++;
    into.fill(1);
  };
  const request = commands(1, Command.REGION_READ, access(0n, 0, 4096));
  let sent = flood(peer, request);
  for (let quiet = 0; quiet < 20;) {
    await sleep(10);
    const more = flood(peer, request);
    quiet = more === 0 ? quiet + 1 : 0;
    sent += more;
  }
  assert(reads < sent, "it went on answering");
  const before = reads;
  await sleep(20);
  assertEquals(reads, before); // it waits; another connection of this thread has its turn
  using other = await serveNegotiated();
  assertEquals((await ask(other.peer, Command.DEVICE_RESET)).errno, 0);
  for (let i = 0; i < sent; i++) await peer.expect(Command.REGION_READ);
  assertEquals(reads, sent);
});

testFds(
  "a client that stops in the middle of a message keeps the device, and harms nobody else",
  async () => {
    using served = await serveNegotiated();
    served.peer.send(new Uint8Array([1, 0, Command.REGION_WRITE, 0, 0xff, 0xff, 0, 0]));
    using other = await serveNegotiated();
    assertEquals((await ask(other.peer, Command.DEVICE_RESET)).errno, 0);
    await sleep(5);
    let isClosed = false;
    served.closed.then(() => isClosed = true);
    await sleep(5);
    assert(!isClosed);
  },
);
