import { assert, assertEquals, assertThrows } from "@std/assert";
import { IoBuffer } from "../../../ffi/buffer.ts";
import { closeAll, countOpenFds } from "../../../ffi/fd.ts";
import { EventFd } from "../../../ffi/event.ts";
import { UnixSocket } from "../../../ffi/socket.ts";
import { ConnectionError } from "../../../lib/base/errors.ts";
import { SERVE_HIGH_WATER } from "../../../lib/base/limits.ts";
import { MessageStream } from "../../../lib/transport/stream.ts";
import { Command } from "../../../lib/wire/command.ts";
import { testFds } from "../../_fds.ts";
import { ReaderThread, sumOf } from "../_reader_thread.ts";

await ReaderThread.warmUp();

const HEADER = 16;

const DATA = Uint8Array.from({ length: 1 << 20 }, (_, i) => i * 7 ^ i >> 8);

/** A stream and the other end of its socket, which holds little. */
function makeStream(): [MessageStream, UnixSocket] {
  const [socket, peer] = UnixSocket.pair();
  socket.setSendBuffer(32 << 10);
  return [new MessageStream(socket, "client", { maxMessageSize: 2 << 20, maxFds: 1 }), peer];
}

/** Sends the rest until nothing is left, for ten seconds at most. */
async function flushAll(stream: MessageStream): Promise<void> {
  const deadline = performance.now() + 10_000;
  while (!stream.sender.flush()) {
    assert(performance.now() < deadline, "the rest was not taken in 10 s");
    await new Promise((resolve) => setTimeout(resolve, 1));
  }
}

testFds("write() sends large data whole to a peer that reads meanwhile", async () => {
  const [stream, peer] = makeStream();
  using reader = await ReaderThread.start(peer, 8 * (HEADER + DATA.length));
  let largest = 0;
  for (let i = 0; i < 8; i++) {
    stream.sender.write(0, 0, 0, 0, undefined, DATA);
    largest = Math.max(largest, stream.sender.queuedBytes);
    await flushAll(stream);
  }
  const header = new Uint8Array(HEADER);
  new DataView(header.buffer).setUint32(4, HEADER + DATA.length, true);
  let sum = 0;
  for (let i = 0; i < 8; i++) {
    const at = i * (HEADER + DATA.length);
    sum += sumOf(header, at) + sumOf(DATA, at + HEADER);
  }
  assertEquals(await reader.came, { bytes: 8 * (HEADER + DATA.length), sum });
  stream.close();
});

testFds("write() keeps what a peer does not take at once, and the caller's memory is free", () => {
  const [stream, peer] = makeStream();
  const data = DATA.slice();
  stream.sender.write(0, 0, 0, 0, undefined, data);
  assert(stream.sender.isBlocked && stream.sender.queuedBytes > DATA.length / 2);
  data.fill(0); // what is sent later is not this any more
  const came = new IoBuffer(HEADER + DATA.length + 1);
  let end = 0;
  while (end < HEADER + DATA.length) {
    const count = peer.receive(came, end, came.length - end);
    assert(count > 0);
    end += count;
    stream.sender.flush();
  }
  assertEquals(end, HEADER + DATA.length);
  assertEquals(sumOf(came.bytes.subarray(HEADER, end)), sumOf(DATA));
  assertEquals([stream.sender.isBlocked, stream.sender.queuedBytes], [false, 0]);
  stream.close();
  peer.close();
});

testFds("write() fails if the peer goes in the middle of large data", async () => {
  for (const count of [1, 40_000, 700_000]) {
    const [stream, peer] = makeStream();
    using reader = await ReaderThread.start(peer, count);
    const send = async () => {
      stream.sender.write(0, 0, 0, 0, undefined, DATA);
      await flushAll(stream);
    };
    let failure: unknown;
    await send().catch((error) => failure = error);
    assert(failure instanceof ConnectionError, String(failure));
    assert(failure.message.startsWith("Lost the connection to the client"), failure.message);
    assertEquals((await reader.came).bytes, count);
    stream.close();
  }
});

testFds(
  "what is queued for a peer that does not read is bounded, however little is queued at a time",
  () => {
    const [socket, peer] = UnixSocket.pair();
    const stream = new MessageStream(socket, "client", { maxMessageSize: 4096, maxFds: 1 });
    const before = Deno.memoryUsage().rss;
    let count = 0;
    assertThrows(
      () => {
        for (; count < 1_000_000; count++) {
          stream.sender.write(1, Command.DEVICE_RESET, 1, 0);
          stream.sender.flush();
        }
      },
      ConnectionError,
      "The client does not read",
    );
    const grown = Deno.memoryUsage().rss - before;
    assert(grown < 256 << 20, `memory grew by ${grown} bytes with ${count} messages`);
    stream.close();
    peer.close();
  },
);

testFds(
  "a peer that does not read holds few descriptors of ours, and gets them later",
  async () => {
    const [stream, peer] = makeStream();
    using event = new EventFd();
    const before = countOpenFds(8192);
    let sent = 0;
    for (; stream.sender.queuedBytes <= SERVE_HIGH_WATER && sent < 8000; sent++) {
      stream.sender.write(1, Command.DEVICE_GET_REGION_INFO, 1, 0, undefined, undefined, [
        event.handle.fd,
      ]);
    }
    const held = countOpenFds(8192) - before;
    assert(held > 0 && held < 512, `${held} are held after ${sent} messages`);
    let came = 0;
    const bytes = new IoBuffer(HEADER);
    while (came < sent) {
      stream.sender.flush();
      assertEquals(peer.receive(bytes, 0, HEADER, 1000), HEADER);
      came += peer.receivedFds.length;
      closeAll(peer.receivedFds);
      peer.receivedFds = [];
    }
    await flushAll(stream);
    assertEquals([stream.sender.queuedBytes, countOpenFds(8192)], [0, before]);
    stream.close();
    peer.close();
  },
);
