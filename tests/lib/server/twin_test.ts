import { assert, assertEquals, assertInstanceOf, assertRejects } from "@std/assert";
import { EINVAL } from "../../../ffi/errno.ts";
import { countOpenFds } from "../../../ffi/fd.ts";
import { UnixSocket } from "../../../ffi/socket.ts";
import { ConnectionError, ProtocolError } from "../../../lib/base/errors.ts";
import {
  DmaReadReply,
  DmaReadRequest,
  DmaWriteReply,
  DmaWriteRequest,
} from "../../../lib/wire/access.ts";
import { Command } from "../../../lib/wire/command.ts";
import { encodeMessage, MessageFlags } from "../../../lib/wire/header.ts";
import { type Capabilities, decodeVersion, encodeVersion } from "../../../lib/wire/version.ts";
import { testFds } from "../../_fds.ts";
import { RawPeer } from "../../_raw_peer.ts";
import { access, ask, commands, serve, type Served, TestDevice } from "./_client.ts";
import { BASE, map } from "./_memory.ts";
import { until } from "../../_until.ts";

const OFFER: Capabilities = { maxMsgFds: 8, twinSocket: { supported: true } };

/**
 * Agrees on a version. Gives the server's capabilities, and the client's end of the twin if there
 * is one.
 */
async function negotiate(
  peer: RawPeer,
  capabilities: Capabilities,
): Promise<{ server: Capabilities; size: number; twin: RawPeer | undefined }> {
  const proposal = encodeVersion({ major: 0, minor: 2, capabilities });
  const { payload, fds } = await ask(peer, Command.VERSION, proposal);
  const server = decodeVersion(payload).capabilities;
  const index = server.twinSocket?.fdIndex;
  assertEquals(fds.length, index === undefined ? 0 : 1);
  const twin = index === undefined
    ? undefined
    : new RawPeer(UnixSocket.adopt(fds[index]!.release()));
  return { server, size: payload.length, twin };
}

/** A server whose client has a twin, and memory that is to be asked for at BASE. */
async function serveTwin(device = new TestDevice()): Promise<Served & { twin: RawPeer }> {
  const served = serve({ device });
  const { twin } = await negotiate(served.peer, OFFER);
  await map(served.peer, { address: BASE });
  const dispose = served[Symbol.dispose];
  return Object.assign(served, {
    twin: twin!,
    [Symbol.dispose]() {
      dispose();
      twin!.close();
    },
  });
}

testFds("a client that offers a twin socket gets one, and others don't", async () => {
  for (
    const [capabilities, wanted] of [
      [OFFER, true],
      [{ twinSocket: { supported: true } }, true], // one descriptor is the default
      [{ ...OFFER, writeMultiple: true }, true],
      [{}, false],
      [{ maxMsgFds: 8, twinSocket: { supported: false } }, false],
      [{ maxMsgFds: 0, twinSocket: { supported: true } }, false],
    ] as [Capabilities, boolean][]
  ) {
    using served = serve();
    const { server, size, twin } = await negotiate(served.peer, capabilities);
    assertEquals(server.twinSocket, wanted ? { supported: true, fdIndex: 0 } : undefined);
    assert(size - 4 < 214, `${size} bytes`);
    twin?.close();
  }
});

testFds("the server's commands go over the twin, and only there", async () => {
  using served = await serveTwin();
  const { dma } = served.device.bus!;
  const reading = dma.read(BASE, 3);
  const read = await served.twin.expect(Command.DMA_READ);
  assertEquals(DmaReadRequest.decode(read.payload), { address: BASE, count: 3n });
  const data = new Uint8Array([1, 2, 3]);
  served.twin.reply(read, DmaReadReply.encode({ address: BASE, data }));
  assertEquals(await reading, data);
  const writing = dma.write(BASE, data);
  const write = await served.twin.expect(Command.DMA_WRITE);
  assertEquals(DmaWriteRequest.decode(write.payload).data, data);
  served.twin.reply(write, DmaWriteReply.encode({ address: BASE, count: 3n }));
  await writing;
  // The other socket has no message but the answer to this one.
  assertEquals((await ask(served.peer, Command.REGION_READ, access(0n, 0, 4))).errno, 0);
});

testFds("a hook may ask over the twin while the client's requests pile up", async () => {
  using served = await serveTwin();
  const { device, peer, twin } = served;
  device.bar0.read = async (_offset, into) => into.set(await device.bus!.dma.read(BASE, 4));
  const count = 300; // more than are taken in while a hook is under way
  peer.send(commands(count, Command.REGION_READ, access(0n, 0, 4)));
  const data = new Uint8Array([9, 8, 7, 6]);
  for (let i = 0; i < count; i++) {
    const request = await twin.expect(Command.DMA_READ);
    twin.reply(request, DmaReadReply.encode({ address: BASE, data }));
    const reply = await peer.expect(Command.REGION_READ);
    assertEquals([reply.messageId, ...reply.payload.slice(16)], [i, ...data]);
  }
});

testFds("a client has nothing to ask over the twin", async () => {
  using served = await serveTwin();
  served.twin.command(5, Command.DEVICE_RESET);
  const reply = await served.twin.expect(Command.DEVICE_RESET);
  assertEquals([reply.flags, reply.error], [MessageFlags.REPLY | MessageFlags.ERROR, EINVAL]);
  assertEquals(served.device.resets, 0);
});

for (const which of ["twin", "peer"] as const) {
  testFds(`the end of the ${which} is the end of both`, async () => {
    using served = await serveTwin();
    const reading = assertRejects(() => served.device.bus!.dma.read(BASE, 4), ConnectionError);
    await served.twin.expect(Command.DMA_READ);
    served[which].close();
    await reading;
    const cause = await served.closed;
    assertInstanceOf(cause, ConnectionError);
    const other = which === "twin" ? served.peer : served.twin;
    assertEquals(await other.receive(), undefined);
    assertEquals(served.device.disconnects, 1);
  });

  testFds(`rubbish on the ${which} ends both`, async () => {
    using served = await serveTwin();
    served[which].send(new Uint8Array(16));
    assertInstanceOf(await served.closed, ProtocolError);
    const other = which === "twin" ? served.peer : served.twin;
    assertEquals(await other.receive(), undefined);
  });
}

testFds("rubbish in answer to a request over the twin ends both", async () => {
  using served = await serveTwin();
  const reading = assertRejects(() => served.device.bus!.dma.read(BASE, 4), ProtocolError);
  const { messageId } = await served.twin.expect(Command.DMA_READ);
  served.twin.send(
    encodeMessage({ messageId, command: Command.DMA_WRITE, flags: MessageFlags.REPLY }),
  );
  await reading;
  assertInstanceOf(await served.closed, ProtocolError);
});

testFds("a server that closes closes both sockets", async () => {
  const before = countOpenFds();
  const served = await serveTwin();
  served.connection.close();
  assertEquals(await served.closed, undefined);
  assertEquals([await served.peer.receive(), await served.twin.receive()], [undefined, undefined]);
  served[Symbol.dispose]();
  // The poll's own may be open yet.
  await until(() => countOpenFds() <= before + 1, "the descriptors to be closed");
});
