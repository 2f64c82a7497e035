/** Requests ahead of a broken message: they are served in order before the connection ends. */

import { assert, assertEquals, assertInstanceOf } from "@std/assert";
import { EINVAL } from "../../../ffi/errno.ts";
import { EventFd } from "../../../ffi/event.ts";
import { UnixSocket } from "../../../ffi/socket.ts";
import { connect } from "../../../lib/client/connect.ts";
import { ConnectionError, ProtocolError } from "../../../lib/base/errors.ts";
import { Command } from "../../../lib/wire/command.ts";
import { encodeMessage, HeaderLayout, MessageFlags } from "../../../lib/wire/header.ts";
import { encodeVersion } from "../../../lib/wire/version.ts";
import { testFds } from "../../_fds.ts";
import { type RawMessage, RawPeer } from "../../_raw_peer.ts";
import { access, ask, serve, serveNegotiated, sleep } from "./_client.ts";
import { PATIENCE_MS, until } from "../../_until.ts";

const { DEVICE_RESET, DMA_READ, REGION_READ, REGION_WRITE } = Command;
const { NO_REPLY, REPLY, ERROR } = MessageFlags;

function header(fields: Partial<{ size: number; flags: number; command: number }>): Uint8Array {
  const whole = { messageId: 99, command: REGION_READ, size: 32, flags: 0, error: 0, ...fields };
  return HeaderLayout.encode(whole);
}

/** Messages that end a connection; true marks a command, which is answered. */
const BROKEN: readonly [what: string, send: (peer: RawPeer, ahead: Uint8Array) => void, boolean][] =
  [
    ...[0, 1, 15].map((size) => breaks(`a size of ${size}`, header({ size }), true)),
    ...[0x20_0000, 0x7fff_ffff, 0xffff_ffff].map((size) =>
      breaks(`a size of ${size}`, header({ size }), true)
    ),
    ...[2, 15].map((flags) => breaks(`type ${flags}`, header({ flags }), true)),
    breaks("an impossible command", header({ size: 0, command: 4711 }), true),
    breaks("an impossible reply", header({ size: 3, flags: REPLY }), false),
    breaks(
      "a reply to nothing",
      encodeMessage({ messageId: 99, command: DMA_READ, flags: REPLY }),
      false,
    ),
    [
      "too many descriptors in segments",
      (peer, ahead) => {
        using event = new EventFd();
        const bad = encodeMessage({ messageId: 99, command: REGION_READ }, access(0n, 0, 4));
        const fds = new Array(250).fill(event.handle);
        peer.send(join(ahead, bad.subarray(0, 20)), fds);
        peer.send(bad.subarray(20), fds);
      },
      true,
    ],
  ];

function breaks(
  what: string,
  bytes: Uint8Array,
  isCommand: boolean,
): (typeof BROKEN)[number] {
  return [what, (peer, ahead) => peer.send(join(ahead, bytes)), isCommand];
}

function join(...parts: Uint8Array[]): Uint8Array {
  return new Uint8Array(parts.flatMap((part) => [...part]));
}

/** A posted write, a read of it, a reset that is posted, and a read that is refused. */
const AHEAD = join(
  encodeMessage(
    { messageId: 1, command: REGION_WRITE, flags: NO_REPLY },
    access(8n, 0, 4, [0x34, 0x12, 0, 0]),
  ),
  encodeMessage({ messageId: 2, command: REGION_READ }, access(8n, 0, 4)),
  encodeMessage({ messageId: 3, command: DEVICE_RESET, flags: NO_REPLY }),
  encodeMessage({ messageId: 4, command: REGION_READ }, access(0n, 77, 4)),
);

/** All that the server still says: ids and errnos. */
async function rest(peer: RawPeer): Promise<RawMessage[]> {
  const messages: RawMessage[] = [];
  for (let each = await peer.receive(); each !== undefined; each = await peer.receive()) {
    messages.push(each);
  }
  return messages;
}

for (const isSlow of [false, true]) {
  for (const [what, send, isCommand] of BROKEN) {
    const hooks = isSlow ? "slow" : "quick";
    testFds(`requests ahead of ${what} are served first, by ${hooks} hooks`, async () => {
      using served = await serveNegotiated();
      const { device, peer } = served;
      if (isSlow) {
        const { bar0 } = device;
        const [read, write] = [bar0.read.bind(bar0), bar0.write.bind(bar0)];
        bar0.read = async (...args) => (await sleep(3), read(...args));
        bar0.write = async (...args) => (await sleep(3), write(...args));
      }
      send(peer, AHEAD);
      const answers = await rest(peer);
      const said = answers.map(({ messageId, flags, error }) => [messageId, flags, error]);
      const last = isCommand ? [[99, REPLY | ERROR, EINVAL]] : [];
      assertEquals(said, [[2, REPLY, 0], [4, REPLY | ERROR, EINVAL], ...last]);
      assertEquals([...answers[0]!.payload.subarray(16)], [0x34, 0x12, 0, 0]);
      assertEquals([[...device.bar0.bytes.subarray(8, 12)], device.resets], [
        [0x34, 0x12, 0, 0],
        1,
      ]);
      assertInstanceOf(await served.closed, ProtocolError);
      assertEquals(device.disconnects, 1);
    });
  }
}

testFds("a VERSION ahead of a broken header is answered", async () => {
  using served = serve();
  const { peer } = served;
  const version = encodeMessage({ messageId: 1, command: 1 }, new Uint8Array([0, 0, 1, 0]));
  peer.send(join(version, AHEAD, header({ size: 3 })));
  assertEquals((await rest(peer)).map(({ messageId }) => messageId), [1, 2, 4, 99]);
});

testFds("answers that the client is slow to read arrive before the end", async () => {
  using served = await serveNegotiated();
  const { peer } = served;
  const count = 1 << 20;
  const reads = Array.from(
    { length: 6 },
    (_, messageId) => encodeMessage({ messageId, command: REGION_READ }, access(0n, 3, count)),
  );
  peer.send(join(...reads, header({ size: 3 })));
  await sleep(100);
  const answers = await rest(peer);
  assertEquals(answers.map(({ messageId }) => messageId), [0, 1, 2, 3, 4, 5, 99]);
  assert(answers.slice(0, -1).every(({ payload }) => payload.length === 16 + count));
  assertInstanceOf(await served.closed, ProtocolError);
});

testFds("a client that reads no answers, or leaves, ends it all the same", async () => {
  for (const leaves of [false, true]) {
    using served = await serveNegotiated();
    const { device, peer } = served;
    const reads = Array.from(
      { length: 12 },
      (_, messageId) => encodeMessage({ messageId, command: REGION_READ }, access(0n, 3, 1 << 20)),
    );
    const posted = encodeMessage(
      { messageId: 1, command: REGION_WRITE, flags: NO_REPLY },
      access(8n, 0, 1, [9]),
    );
    peer.send(join(posted, ...reads, header({ size: 3 })));
    await sleep(20);
    if (leaves) peer.close();
    assertInstanceOf(await served.closed, ProtocolError);
    assertEquals([device.bar0.bytes[8], device.disconnects], [9, 1]);
  }
});

testFds("a hook that waits for the client's memory fails, and the rest is served", async () => {
  for (const isSync of [false, true]) {
    using served = await serveNegotiated();
    const { device, peer } = served;
    const failures: unknown[] = [];
    device.bar0.write = (_, data) => {
      if (data[0] !== 1) return void (device.bar0.bytes[8] = data[0]!);
      const access = () => device.bus!.dma.readSync(0x1000n, 4);
      if (!isSync) {
        return device.bus!.dma.read(0x1000n, 4).then(() => {}, (e) => void failures.push(e));
      }
      try {
        access();
      } catch (error) {
        failures.push(error);
      }
    };
    const map = new Uint8Array(32);
    const view = new DataView(map.buffer);
    view.setUint32(0, 32, true);
    view.setUint32(4, 3, true);
    view.setUint32(16, 0x1000, true);
    view.setUint32(24, 0x1000, true);
    peer.send(join(
      encodeMessage({ messageId: 1, command: Command.DMA_MAP }, map),
      encodeMessage({ messageId: 2, command: REGION_WRITE }, access(0n, 0, 1, [1])),
      encodeMessage({ messageId: 3, command: REGION_WRITE }, access(0n, 0, 1, [7])),
      header({ size: 3 }),
    ));
    const said = (await rest(peer)).filter(({ flags }) => (flags & REPLY) !== 0);
    assertEquals(said.map(({ messageId }) => messageId), [1, 2, 3, 99]);
    assertEquals([failures.length, device.bar0.bytes[8]], [1, 7]);
    assert(failures[0] instanceof ProtocolError || failures[0] instanceof ConnectionError);
  }
});

testFds("requests ahead of descriptors that are lost on the way are served first", async () => {
  // A process with no descriptor to spare loses those that come.
  const code = `
    import { serveNegotiated, access } from "${import.meta.resolve("./_client.ts")}";
    import { encodeMessage } from "${import.meta.resolve("../../../lib/wire/header.ts")}";
    import { EventFd } from "${import.meta.resolve("../../../ffi/event.ts")}";
    const served = await serveNegotiated();
    const { device, peer } = served;
    const event = new EventFd();
    const full = [];
    try { while (true) full.push(event.handle.duplicate()); } catch { /* EMFILE */ }
    const posted = encodeMessage({ messageId: 1, command: 10, flags: 16 }, access(8n, 0, 1, [9]));
    const read = encodeMessage({ messageId: 2, command: 9 }, access(8n, 0, 1));
    const map = encodeMessage({ messageId: 3, command: 2 }, new Uint8Array(32));
    peer.send(new Uint8Array([...posted, ...read]));
    peer.send(map, [event.handle]);
    const said = [];
    for (let each = await peer.receive(); each; each = await peer.receive()) {
      said.push([each.messageId, each.error, each.payload.length]);
    }
    const { message } = await served.closed;
    for (const fd of full) fd.close();
    console.log(JSON.stringify([said, device.bar0.bytes[8], message]));
    event.close();
  `;
  const { stdout, stderr } = await new Deno.Command("sh", {
    args: ["-c", 'ulimit -n 64 && exec "$0" eval "$1"', Deno.execPath(), code],
    signal: AbortSignal.timeout(PATIENCE_MS),
  }).output();
  const text = new TextDecoder().decode(stdout);
  assert(text.startsWith("["), text + new TextDecoder().decode(stderr));
  const [said, byte, message] = JSON.parse(text);
  assertEquals([said, byte], [[[2, 0, 17], [3, EINVAL, 0]], 9]);
  assert(message.includes("MSG_CTRUNC"), message);
});

testFds("what was asked before the twin is broken is served", async () => {
  using served = serve();
  const { device, peer } = served;
  const capabilities = { maxMsgFds: 8, twinSocket: { supported: true } };
  const version = encodeVersion({ major: 0, minor: 2, capabilities });
  const { fds } = await ask(peer, Command.VERSION, version);
  using twin = new RawPeer(new UnixSocket(fds[0]!));
  const { bar0 } = device;
  const write = bar0.write.bind(bar0);
  const gate = Promise.withResolvers<void>();
  let isWriting = false;
  bar0.write = async (...args) => {
    isWriting = true;
    await gate.promise;
    return write(...args);
  };
  peer.send(AHEAD);
  await until(() => isWriting, "the hook");
  await sleep(5);
  twin.send(header({ size: 3 }));
  await sleep(5);
  gate.resolve();
  assertEquals((await rest(peer)).map(({ messageId }) => messageId), [2, 4]);
  assertEquals([bar0.bytes[8], device.resets], [0x34, 1]);
  assertInstanceOf(await served.closed, ProtocolError);
});

testFds("a client takes the replies ahead of a broken header", async () => {
  const [peer, socket] = RawPeer.pair();
  const connecting = connect(socket.release());
  await peer.acceptVersion();
  using device = await connecting;
  const outcomes = [0, 4, 8].map((at) =>
    device.readRegion(0, BigInt(at), 4).then(() => "read", (error) => error.name)
  );
  const requests = [];
  for (let i = 0; i < 3; i++) requests.push(await peer.expect(REGION_READ));
  const replies = requests.slice(0, 2).map(({ messageId, payload }) =>
    encodeMessage(
      { messageId, command: REGION_READ, flags: REPLY },
      new Uint8Array([...payload, 1, 2, 3, 4]),
    )
  );
  peer.send(join(...replies, header({ size: 3, flags: REPLY })));
  assertEquals(await Promise.all(outcomes), ["read", "read", "ProtocolError"]);
  assertEquals(device.state, "CLOSED");
  peer.close();
});

testFds("a client serves the commands ahead of a broken header", async () => {
  const [peer, socket] = RawPeer.pair();
  const connecting = connect(socket.release(), { twinSocket: false });
  await peer.acceptVersion();
  using device = await connecting;
  const mapping = device.dma.mapAsync({ iova: 0x1000, size: 0x1000 });
  const map = await peer.expect(Command.DMA_MAP);
  peer.reply(map);
  map.fds.forEach((fd) => fd.close());
  const memory = await mapping;
  const head = new Uint8Array(16);
  head[1] = 0x10; // address 0x1000
  head[8] = 4; // count
  const pending = device.readRegion(0, 0n, 4).catch((error) => error);
  await peer.expect(REGION_READ);
  peer.send(join(
    encodeMessage(
      { messageId: 7, command: Command.DMA_WRITE, flags: NO_REPLY },
      new Uint8Array([...head, 1, 2, 3, 4]),
    ),
    encodeMessage({ messageId: 8, command: DMA_READ }, head),
    header({ size: 3, flags: 7 }),
  ));
  assertInstanceOf(await pending, ProtocolError);
  assertEquals([...memory.bytes.subarray(0, 4)], [1, 2, 3, 4]);
  const answers = await rest(peer);
  assertEquals(answers.map(({ messageId, flags }) => [messageId, flags]), [[8, REPLY]]);
  peer.close();
});
