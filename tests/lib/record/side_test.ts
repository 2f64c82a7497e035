/** The side socket: requests of others between those of the client. */

import { assertEquals, assertRejects } from "@std/assert";
import { connect } from "../../../lib/client/connect.ts";
import { RemoteError } from "../../../lib/base/errors.ts";
import { UnixSocket } from "../../../ffi/socket.ts";
import { Command } from "../../../lib/wire/command.ts";
import { RegionReadReply, RegionReadRequest } from "../../../lib/wire/access.ts";
import { DeviceInfoReply } from "../../../lib/wire/device.ts";
import { MAX_SIDE_CLIENTS } from "../../../lib/base/limits.ts";
import { SideSocket } from "../../../lib/record/side.ts";
import { MessageFlags } from "../../../lib/wire/header.ts";
import { RegionInfoReply, RegionInfoRequest } from "../../../lib/wire/region.ts";
import { testFds } from "../../_fds.ts";
import { type RawMessage, RawPeer } from "../../_raw_peer.ts";
import { until } from "../../_until.ts";
import { beInTheMiddle, type Middle, ofKind, shakeHands } from "./_middle.ts";

const OFFSET = { offset: 8n, region: 0, count: 4 };

/** A command at the side, by hand: VERSION has been answered. */
async function atTheSide({ paths }: Middle): Promise<RawPeer> {
  const peer = new RawPeer(UnixSocket.connect(paths.side)!);
  peer.command(1, Command.VERSION, new Uint8Array(4));
  await peer.expect(Command.VERSION);
  return peer;
}

function answerRead(server: RawPeer, request: RawMessage, value: number): void {
  assertEquals(request.command, Command.REGION_READ);
  const access = RegionReadRequest.decode(request.payload);
  const data = new Uint8Array(access.count).fill(value);
  server.reply(request, RegionReadReply.encode({ ...access, data }));
}

testFds("a request at the side is let in with an id of its own, and recorded as such", async () => {
  await using middle = await beInTheMiddle({ hasSide: true });
  const { client, server, events } = middle;
  await shakeHands(middle);
  using side = await atTheSide(middle);
  side.command(1, Command.REGION_READ, RegionReadRequest.encode(OFFSET));
  const ours = (await server.receive())!;
  // A client that takes the same id gets its own reply, with its own id.
  client.command(ours.messageId, Command.REGION_READ, RegionReadRequest.encode(OFFSET));
  answerRead(server, ours, 5);
  const theirs = (await server.receive())!;
  answerRead(server, theirs, 6);
  assertEquals(RegionReadReply.decode((await side.receive())!.payload).data[0], 5);
  const reply = (await client.receive())!;
  assertEquals(reply.messageId, ours.messageId);
  assertEquals(RegionReadReply.decode(reply.payload).data[0], 6);
  const origins = ofKind(events, "message").slice(2).map(({ origin }) => origin);
  assertEquals(origins, ["side", "side", "peer", "peer"]);
});

testFds("a message that is altered twice is recorded with both alterations", async () => {
  await using middle = await beInTheMiddle({ hasSide: true, intercept: ["mmap"] });
  const { client, server, events } = middle;
  await shakeHands(middle);
  using side = await atTheSide(middle);
  side.command(1, Command.REGION_READ, RegionReadRequest.encode(OFFSET));
  const ours = (await server.receive())!;
  const payload = RegionInfoRequest.encode({ argsz: 32, index: 0 });
  client.command(ours.messageId, Command.DEVICE_GET_REGION_INFO, payload); // held for a moment
  const theirs = await server.expect(Command.DEVICE_GET_REGION_INFO);
  const info = { argsz: 32, flags: 7, index: 0, size: 4096n, offset: 0n, capabilities: [] };
  server.reply(theirs, RegionInfoReply.encode(info));
  const reply = await client.expect(Command.DEVICE_GET_REGION_INFO);
  assertEquals([reply.messageId, RegionInfoReply.decode(reply.payload).flags], [
    ours.messageId,
    3,
  ]);
  const { comment } = ofKind(events, "message").at(-1)!;
  assertEquals(
    comment,
    "id changed; mapping withheld: the client reaches the region by message",
  );
});

testFds("a request at the side waits while either side has something in flight", async () => {
  await using middle = await beInTheMiddle({ hasSide: true });
  const { client, server } = middle;
  await shakeHands(middle);
  using side = await atTheSide(middle);
  client.command(40, Command.DEVICE_RESET);
  const reset = await server.expect(Command.DEVICE_RESET);
  server.command(1, Command.DMA_READ, new Uint8Array(16));
  const dma = await client.expect(Command.DMA_READ);
  side.command(7, Command.REGION_READ, RegionReadRequest.encode(OFFSET));
  client.reply(dma, new Uint8Array(16));
  assertEquals((await server.receive())!.command, Command.DMA_READ); // not the side's
  server.reply(reset);
  await client.expect(Command.DEVICE_RESET);
  const ours = (await server.receive())!;
  // The client's next command waits for the answer, and its replies do not.
  client.command(41, Command.DEVICE_RESET);
  answerRead(server, ours, 9);
  await side.expect(Command.REGION_READ);
  assertEquals((await server.expect(Command.DEVICE_RESET)).messageId, 41);
});

testFds("a server that never answers the side keeps no one waiting", async () => {
  await using middle = await beInTheMiddle({ hasSide: true });
  const { client, server } = middle;
  await shakeHands(middle);
  using side = await atTheSide(middle);
  side.command(7, Command.REGION_READ, RegionReadRequest.encode(OFFSET));
  await server.expect(Command.REGION_READ);
  client.command(41, Command.DEVICE_RESET); // waits for a moment, then goes
  const reset = await server.expect(Command.DEVICE_RESET);
  server.reply(reset);
  await client.expect(Command.DEVICE_RESET);
});

testFds("what changes the device is refused unless it is allowed", async () => {
  for (const sideWrites of [false, true]) {
    const refused: string[] = [];
    const onRefuse = (text: string) => refused.push(text);
    await using middle = await beInTheMiddle({ hasSide: true, sideWrites, onRefuse });
    const { server, client } = middle;
    await shakeHands(middle);
    using side = await atTheSide(middle);
    side.command(2, Command.DEVICE_RESET);
    if (sideWrites) server.reply(await server.expect(Command.DEVICE_RESET));
    const reply = (await side.receive())!;
    assertEquals(reply.error, sideWrites ? 0 : 1);
    side.command(3, Command.DMA_MAP, new Uint8Array(32));
    const map = (await side.receive())!;
    assertEquals([map.flags, map.error], [MessageFlags.REPLY | MessageFlags.ERROR, 95]);
    assertEquals(refused.length, sideWrites ? 1 : 2);
    client.close();
    assertEquals(await side.receive(), undefined); // its device's client has left
  }
});

testFds("a client of this library reads registers at the side", async () => {
  await using middle = await beInTheMiddle({ hasSide: true });
  const { server, recorder } = middle;
  await shakeHands(middle);
  const serving = (async () => {
    for (let request; (request = await server.receive().catch(() => undefined));) {
      if (request.command === Command.DEVICE_GET_INFO) {
        const info = { argsz: 16, flags: 2, numRegions: 9, numIrqs: 5 };
        server.reply(request, DeviceInfoReply.encode(info));
      } else if (request.command === Command.DEVICE_GET_REGION_INFO) {
        const { index } = RegionInfoRequest.decode(request.payload);
        const info = { argsz: 32, flags: 7, index, size: 0x1000n, offset: 0n, capabilities: [] };
        server.reply(request, RegionInfoReply.encode(info));
      } else answerRead(server, request, 0x11);
    }
  })();
  {
    using device = await connect(middle.paths.side);
    assertEquals((await device.info()).numRegions, 9);
    await device.regionInfo(0);
    const region = device.region("bar0");
    assertEquals(await region.read32Async(8), 0x11111111);
    await assertRejects(() => device.reset(), RemoteError);
  }
  recorder.close();
  await serving;
});

testFds("clients that say nothing leave the side to others", async () => {
  const folder = Deno.makeTempDirSync();
  const path = `${folder}/side.sock`;
  const options = { allowsWrites: false, current: () => undefined, onRefuse() {} };
  const side = SideSocket.listen(path, { ...options, handshakeTimeoutMs: 20 });
  const silent = Array.from(
    { length: MAX_SIDE_CLIENTS },
    () => new RawPeer(UnixSocket.connect(path)!),
  );
  // Each is closed, and one that speaks is answered.
  for (const peer of silent) assertEquals(await peer.receive(), undefined);
  using peer = new RawPeer(UnixSocket.connect(path)!);
  peer.command(1, Command.VERSION, new Uint8Array(4));
  const { flags } = await peer.expect(Command.VERSION);
  assertEquals(flags, MessageFlags.REPLY | MessageFlags.ERROR);
  for (const each of silent) each.close();
  side[Symbol.dispose]();
  Deno.removeSync(folder, { recursive: true });
});

testFds("garbage, floods and deaths at the side are the side's alone", async () => {
  await using middle = await beInTheMiddle({ hasSide: true });
  const { client, server, events } = middle;
  await assertRejects(() => connect(middle.paths.side)); // no client has agreed on a version
  await shakeHands(middle);
  const peers: RawPeer[] = [];
  for (let i = 0; i < 12; i++) { // more than are served at once
    const peer = new RawPeer(UnixSocket.connect(middle.paths.side)!);
    peer.send(new Uint8Array(64).fill(i));
    peers.push(peer);
  }
  using side = await (async () => {
    for (const peer of peers) peer.close();
    return await atTheSide(middle);
  })();
  side.command(7, Command.REGION_READ, RegionReadRequest.encode(OFFSET));
  const request = await server.expect(Command.REGION_READ);
  side.close(); // dies with a request in flight
  answerRead(server, request, 1);
  client.command(5, Command.DEVICE_RESET);
  const reset = await server.expect(Command.DEVICE_RESET);
  assertEquals(reset.messageId, 5);
  server.reply(reset);
  await client.expect(Command.DEVICE_RESET);
  await until(() => ofKind(events, "message").length === 6);
  assertEquals(ofKind(events, "garbage"), []);
});
