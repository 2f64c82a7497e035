/** A recorder on real sockets, between peers that are driven by hand. */

import { assert, assertEquals, assertStringIncludes, assertThrows } from "@std/assert";
import { IoBuffer } from "../../../ffi/buffer.ts";
import { ETOOMANYREFS } from "../../../ffi/errno.ts";
import { EventFd } from "../../../ffi/event.ts";
import { closeAll, OwnedFd } from "../../../ffi/fd.ts";
import { createMemfd } from "../../../ffi/memory.ts";
import { MAX_FDS_PER_MESSAGE, UnixSocket } from "../../../ffi/socket.ts";
import { Command } from "../../../lib/wire/command.ts";
import { DmaMapFlags, DmaMapRequest } from "../../../lib/wire/dma.ts";
import { encodeMessage, HeaderLayout, MessageFlags } from "../../../lib/wire/header.ts";
import { IoFdType, RegionIoFdsReply } from "../../../lib/wire/io_fds.ts";
import { IrqSetFlags, SetIrqsRequest } from "../../../lib/wire/irq.ts";
import { RegionFlags, RegionInfoReply } from "../../../lib/wire/region.ts";
import { RECORD_PATIENCE_MS, RECORD_WHOLE_PATIENCE_MS } from "../../../lib/base/limits.ts";
import { Random } from "../../../lib/base/random.ts";
import { testFds } from "../../_fds.ts";
import { RawPeer } from "../../_raw_peer.ts";
import { until } from "../../_until.ts";
import type { NewEvent } from "../../../lib/record/event.ts";
import { Link, type LinkEnd } from "../../../lib/record/link.ts";
import { ConnectedServer, Recorder, type ServerSource } from "../../../lib/record/recorder.ts";
import { join } from "./_hand.ts";
import { beInTheMiddle, ofKind, shakeHands } from "./_middle.ts";

/** A DEVICE_SET_IRQS for one vector, with an eventfd. */
const SET_VECTOR = SetIrqsRequest.encode({
  argsz: 20,
  flags: IrqSetFlags.DATA_EVENTFD | IrqSetFlags.ACTION_TRIGGER,
  index: 2,
  start: 0,
  count: 1,
  data: new Uint8Array(),
});
/** Decides nothing, and drops all reports. */
const PLAIN_HOOKS = {
  isInspected: () => false,
  needsWhole: () => false,
  inspect() {},
  onMessage() {},
  onGarbage() {},
  onLostFds() {},
};

const memfdOf = (size: number) => createMemfd("memory", size);
const bytes = (size: number, seed = 1) => Uint8Array.from({ length: size }, (_, i) => i * seed);

testFds("messages pass both ways as they came, in order, and are recorded", async () => {
  await using middle = await beInTheMiddle();
  const { client, server, events } = middle;
  const all = Array.from(
    { length: 300 },
    (_, messageId) =>
      encodeMessage({ messageId, command: Command.REGION_WRITE }, bytes(messageId, 3)),
  );
  const sending = (async () => {
    for (const each of all) await sendAll(client, each);
  })();
  for (let id = 0; id < 300; id++) {
    const message = await server.receive();
    assertEquals([message!.messageId, message!.payload], [id, bytes(id, 3)]);
  }
  await sending;
  server.command(7, Command.DMA_READ, bytes(16));
  server.reply({ messageId: 299, command: Command.REGION_WRITE });
  assertEquals((await client.expect(Command.DMA_READ)).messageId, 7);
  assertEquals((await client.expect(Command.REGION_WRITE)).flags, MessageFlags.REPLY);
  const messages = ofKind(events, "message");
  assertEquals(messages.length, 302);
  assertEquals(ofKind(events, "open")[0]!.client?.endsWith(`(${Deno.pid})`), true);
  assertEquals(messages[299]!.bytes.slice(16), bytes(299, 3));
  assertEquals(messages.slice(-2).map(({ direction }) => direction), ["to-client", "to-client"]);
  assert(messages.every(({ passedOn, origin }) => passedOn === undefined && origin === "peer"));
});

testFds("descriptors pass with the message that they came with", async () => {
  await using middle = await beInTheMiddle();
  const { client, server, events } = middle;
  using memfd = memfdOf(8192);
  using event = new EventFd();
  client.command(1, Command.DMA_UNMAP, bytes(24));
  client.command(2, Command.DMA_MAP, bytes(32), [memfd, event.handle]);
  client.command(3, Command.DEVICE_RESET);
  await until(() => ofKind(events, "message").length === 3);
  const came = [];
  for (let i = 0; i < 3; i++) came.push((await server.receive())!);
  assertEquals(came.map(({ messageId }) => messageId), [1, 2, 3]);
  const [, map] = ofKind(events, "message");
  assertEquals(
    map!.descriptors.map(({ kind, size, fate }) => ({ kind, size, fate })),
    [{ kind: "memfd", size: 8192n, fate: "passed" }, {
      kind: "eventfd",
      size: null,
      fate: "passed",
    }],
  );
  const fds = came.flatMap((each) => each.fds);
  assertEquals(fds.length, 2);
  assertEquals(fds[0]!.stat().inode, memfd.stat().inode);
  for (const fd of fds) fd.close();
});

testFds("a message of many pieces, and one larger than any buffer, pass whole", async () => {
  await using middle = await beInTheMiddle();
  const { client, server, events } = middle;
  const small = encodeMessage({ messageId: 5, command: Command.REGION_WRITE }, bytes(1000));
  for (let at = 0; at < small.length; at += 100) client.send(small.subarray(at, at + 100));
  assertEquals((await server.receive())!.payload, bytes(1000));
  for (const [from, to] of [[client, server], [server, client]] as const) {
    const large = encodeMessage({ messageId: 6, command: Command.REGION_READ }, bytes(3 << 20, 7));
    const done = to.receive();
    await sendAll(from, large);
    assertEquals((await done)!.payload, bytes(3 << 20, 7));
  }
  await until(() => ofKind(events, "message").length === 3);
  assertEquals(ofKind(events, "message")[2]!.bytes.length, (3 << 20) + 16);
});

testFds("a header that promises what never comes is passed on all the same", async () => {
  await using middle = await beInTheMiddle();
  const { client, server, events } = middle;
  for (const size of [1000, 2 << 20]) {
    const lie = encodeMessage({ messageId: 9, command: Command.REGION_WRITE }, bytes(8));
    HeaderLayout.write({ ...HeaderLayout.decode(lie), size }, lie);
    client.send(lie);
    assertEquals(await receiveRaw(server, lie.length), lie);
    const rest = size - lie.length;
    await Promise.all([sendAll(client, new Uint8Array(rest)), receiveRaw(server, rest)]);
  }
  await until(() => ofKind(events, "message").length === 2);
});

testFds("a lie about a message that is to be altered is passed on later", async () => {
  await using middle = await beInTheMiddle({ intercept: ["irq"] });
  const { client, server, events } = middle;
  using memfd = memfdOf(4096);
  const lie = encodeMessage({ messageId: 9, command: Command.DEVICE_SET_IRQS }, bytes(8));
  HeaderLayout.write({ ...HeaderLayout.decode(lie), size: 80 }, lie);
  client.send(lie, [memfd]);
  assertEquals(await receiveRaw(server, lie.length), lie);
  assertEquals(server.socket.receivedFds.length, 0);
  client.send(bytes(56));
  assertEquals(await receiveRaw(server, 56), bytes(56));
  await until(() => ofKind(events, "message").length === 1);
  assertEquals(ofKind(events, "message")[0]!.descriptors.map(({ fate }) => fate), ["withheld"]);
});

testFds("garbage is passed on as it came, and recorded as such", async () => {
  await using middle = await beInTheMiddle();
  const { client, server, events } = middle;
  client.command(1, Command.DEVICE_RESET);
  await server.expect(Command.DEVICE_RESET);
  const garbage = new Uint8Array(40).fill(0xff);
  client.send(garbage);
  assertEquals(await receiveRaw(server, 40), garbage);
  server.send(new Uint8Array(20)); // a size of 0
  assertEquals(await receiveRaw(client, 20), new Uint8Array(20));
  client.command(2, Command.DEVICE_RESET); // in step again
  assertEquals((await server.expect(Command.DEVICE_RESET)).messageId, 2);
  assertEquals(ofKind(events, "garbage").map((each) => each.bytes.length), [40, 20]);
});

testFds("ends are passed on, with what came before, and recorded with their reason", async () => {
  await using middle = await beInTheMiddle();
  const { client, server, events, recorder } = middle;
  client.command(1, Command.DEVICE_RESET);
  client.send(bytes(10));
  client.close();
  await server.expect(Command.DEVICE_RESET);
  assertEquals(await server.receive(), undefined);
  assertEquals(server.untaken, bytes(10));
  assertEquals(ofKind(events, "garbage").map((each) => each.bytes), [bytes(10)]);
  await until(() => ofKind(events, "end").length === 1);
  const [end] = ofKind(events, "end");
  assertEquals([end!.side, end!.reason], ["client", "cut"]);
  // The next client is served, and its server ends first.
  const next = middle.connect();
  const nextServer = await middle.accept();
  nextServer.command(3, Command.DMA_WRITE);
  nextServer.close();
  await next.expect(Command.DMA_WRITE);
  assertEquals(await next.receive(), undefined);
  next.close();
  await until(() => ofKind(events, "end").length === 2);
  assertEquals(ofKind(events, "end").map(({ side, reason }) => [side, reason])[1], [
    "server",
    "left",
  ]);
  assertEquals(recorder.connections, 2);
});

testFds("a side that ended one direction still hears the other one", async () => {
  await using middle = await beInTheMiddle();
  const { client, server, events } = middle;
  client.command(1, Command.DEVICE_RESET);
  client.socket.shutdownSending();
  const request = await server.expect(Command.DEVICE_RESET);
  assertEquals(await server.receive(), undefined);
  server.reply(request);
  await client.expect(Command.DEVICE_RESET);
  server.close();
  assertEquals(await client.receive(), undefined);
  await until(() => ofKind(events, "end").length === 1);
});

testFds("more descriptors than a message carries are closed, wherever its bytes end", async () => {
  using event = new EventFd();
  const many = Array(MAX_FDS_PER_MESSAGE).fill(event.handle);
  // The message has room in the receive buffer, streams, or is held back until it is whole.
  for (const [command, size] of [[8, 24], [8, 100_000], [2, 100_000]] as const) {
    await using middle = await beInTheMiddle({ intercept: ["dma"] });
    const { client, server, events } = middle;
    const message = encodeMessage({ messageId: 3, command }, bytes(size));
    for (let at = 0; at < 8; at++) client.send(message.subarray(at, at + 1), many);
    const sending = sendAll(client, message.subarray(8), [event.fd]);
    const { payload, fds } = await server.expect(command);
    await sending;
    assertEquals(payload.subarray(16), bytes(size).subarray(16)); // the rest may be altered
    assert(fds.length <= MAX_FDS_PER_MESSAGE);
    closeAll(fds);
    assertEquals(ofKind(events, "message")[0]!.descriptors.length, MAX_FDS_PER_MESSAGE);
    assertEquals(ofKind(events, "note").length, 1);
    assert(ofKind(events, "note")[0]!.text.includes("a message carries 253 at most"));
    // What follows has its own.
    server.reply({ messageId: 3, command });
    client.command(4, command, bytes(32), [event.handle]);
    const next = await server.expect(command);
    closeAll(next.fds);
    const second = ofKind(events, "message").filter((e) => e.direction === "to-server")[1]!;
    assertEquals(second.descriptors.length, 1);
  }
});

testFds("the patience with one message is not used up by those before it", async () => {
  await using middle = await beInTheMiddle({ intercept: ["irq"] });
  const { client, server, events } = middle;
  using event = new EventFd();
  const read = encodeMessage({ messageId: 1, command: Command.REGION_READ }, bytes(16));
  const set = encodeMessage({ messageId: 2, command: Command.DEVICE_SET_IRQS }, SET_VECTOR);
  // From here on a message has always come in part: first one that is passed on soon.
  client.send(read.subarray(0, 8));
  await new Promise((resolve) => setTimeout(resolve, 20)); // too short or long: all is well, too
  let rest = read.subarray(8);
  // Messages that took so long that they may have been passed on in part, by their numbers.
  const slow = new Set<number>();
  let last = performance.now();
  const end = performance.now() + 2 * RECORD_PATIENCE_MS;
  let sent = 0;
  for (; performance.now() < end || sent < 10; sent++) {
    client.send(new Uint8Array([...rest, ...set.subarray(0, 24)]), [event.handle]);
    rest = set.subarray(24);
    // Each is there in part before the next one begins.
    await until(() => ofKind(events, "message").length === sent + 1);
    await new Promise((resolve) => setTimeout(resolve, 1));
    if (performance.now() - last > RECORD_WHOLE_PATIENCE_MS / 2) slow.add(sent).add(sent - 1);
    last = performance.now();
  }
  client.send(rest);
  await until(() => ofKind(events, "message").length === sent + 1);
  for (let i = 0; i <= sent; i++) closeAll((await server.receive())!.fds);
  if (performance.now() - last > RECORD_WHOLE_PATIENCE_MS / 2) slow.add(sent - 1);
  const sets = ofKind(events, "message").slice(1);
  const passed = sets.map((set) => set.descriptors[0]?.fate !== "replaced");
  assertEquals(passed.flatMap((isPassed, i) => isPassed && !slow.has(i) ? [i] : []), []);
});

testFds("a client that leaves a server that does not read is not waited for", async () => {
  const [mine, client] = RawPeer.pair();
  const [theirs, server] = RawPeer.pair();
  const ends: LinkEnd[] = [];
  const hooks = { toServer: PLAIN_HOOKS, toClient: PLAIN_HOOKS };
  new Link(client, server, { ...hooks, onEnd: (end) => ends.push(end) }, 200);
  const message = encodeMessage({ messageId: 1, command: Command.REGION_WRITE }, bytes(60_000));
  const buffer = new IoBuffer(message.slice());
  const fill = async ({ socket }: RawPeer) => {
    for (let refusals = 0; refusals < 20;) {
      if (socket.send(buffer, 0, message.length) > 0) refusals = 0;
      else refusals++;
      await new Promise((resolve) => setTimeout(resolve, 1));
    }
  };
  // Neither reads.
  await fill(mine);
  await fill(theirs);
  mine.close();
  await until(() => ends.length === 1);
  theirs.close();
});

Deno.test("a client that leaves before its server is there does not keep the next one", async () => {
  const folder = Deno.makeTempDirSync();
  const errors: string[] = [];
  let asked = 0;
  const server: ServerSource = {
    name: "slow",
    connect(signal) {
      asked++;
      return new Promise((_, reject) =>
        signal.addEventListener("abort", () => reject(signal.reason))
      );
    },
  };
  const listen = `${folder}/listen.sock`;
  const onError = ({ message }: Error) => errors.push(message);
  using _recorder = Recorder.start({ listen, server, sink() {}, onError });
  using first = new RawPeer(UnixSocket.connect(listen)!);
  await until(() => asked === 1);
  first.close();
  using second = new RawPeer(UnixSocket.connect(listen)!);
  await until(() => asked === 2);
  assertEquals(errors, ["The client left before the server was there"]);
  second.close();
  Deno.removeSync(folder, { recursive: true });
});

testFds("a vector that can't be is passed on, and not seen", async () => {
  await using middle = await beInTheMiddle({ intercept: ["irq"] });
  const { client, server, events } = middle;
  using event = new EventFd();
  const request = { argsz: 20, flags: IrqSetFlags.DATA_EVENTFD | IrqSetFlags.ACTION_TRIGGER };
  const vectors = { index: 2, start: 0xffff_ffff, count: 2, data: new Uint8Array() };
  const payload = SetIrqsRequest.encode({ ...request, ...vectors });
  client.command(1, Command.DEVICE_SET_IRQS, payload, [event.handle, event.handle]);
  const { fds } = await server.expect(Command.DEVICE_SET_IRQS);
  assertEquals(fds.length, 2);
  const { comment, descriptors } = ofKind(events, "message")[0]!;
  assertStringIncludes(comment!, "vector 4294967296 is not seen: there is none");
  assertEquals(descriptors.map(({ fate }) => fate), ["replaced", "passed"]);
  closeAll(fds);
});

testFds(
  "descriptors that the kernel does not pass yet are sent again, without a spin",
  async () => {
    const [mine, client] = RawPeer.pair();
    const [theirs, server] = RawPeer.pair();
    using event = new EventFd();
    const events: string[] = [];
    const hooks = {
      ...PLAIN_HOOKS,
      onMessage: () => events.push("message"),
      onGarbage: () => events.push("garbage"),
      onLostFds: () => events.push("lost"),
    };
    // As it is without privileges, with more descriptors under way than this process may open.
    let tries = 0;
    let isCrowded = true;
    const send = server.send.bind(server);
    server.send = (...args) => {
      tries++;
      return isCrowded ? -ETOOMANYREFS : send(...args);
    };
    const onEnd = () => events.push("end");
    const link = new Link(client, server, { toServer: hooks, toClient: hooks, onEnd });
    const start = performance.now();
    mine.command(1, Command.DEVICE_SET_IRQS, bytes(20), [event.handle]);
    await until(() => tries > 10);
    assert(tries <= 2 + (performance.now() - start) / 5, `${tries} tries`);
    // The other way is open all the while.
    theirs.command(2, Command.DMA_READ);
    await mine.expect(Command.DMA_READ);
    isCrowded = false;
    const { fds } = await theirs.expect(Command.DEVICE_SET_IRQS);
    assertEquals(fds.length, 1);
    closeAll(fds);
    mine.close();
    theirs.close();
    await until(() => !link.isOpen);
    assertEquals(events.filter((each) => each !== "message"), ["end"]);
  },
);

testFds("a receiver that does not read stops the sender, and gets all of it later", async () => {
  await using middle = await beInTheMiddle();
  const { client, server, events } = middle;
  const message = encodeMessage({ messageId: 1, command: Command.REGION_WRITE }, bytes(60_000));
  using memfd = memfdOf(4096);
  let sent = 0;
  const sending = (async () => {
    for (; sent < 200; sent++) await sendAll(client, message, [memfd.fd]);
  })();
  // What the sockets hold has been sent; nothing more is read.
  await until(() => ofKind(events, "message").length > 2);
  for (let last = -1; last !== sent;) {
    last = sent;
    for (let i = 0; i < 20; i++) await new Promise((resolve) => setTimeout(resolve, 1));
  }
  assert(sent < 150 && ofKind(events, "message").length < 50, `${sent} messages were taken`);
  let fds = 0;
  for (let i = 0; i < 200; i++) {
    const { payload, fds: came } = (await server.receive())!;
    assertEquals(payload.length, 60_000);
    fds += came.length;
    for (const fd of came) fd.close();
  }
  assertEquals(fds, 200);
  await sending;
});

testFds(
  "a client that comes meanwhile waits, and a server that is missing is reported",
  async () => {
    const errors: Error[] = [];
    await using middle = await beInTheMiddle({ onError: (error) => errors.push(error) });
    const { client, events } = middle;
    const second = middle.connect();
    second.command(4, Command.DEVICE_RESET);
    client.close();
    const server = await middle.accept();
    assertEquals((await server.expect(Command.DEVICE_RESET)).messageId, 4);
    assertEquals(ofKind(events, "open").map(({ connection }) => connection), [0, 1]);
    second.close();
  },
);

testFds("the twin socket passes through the recorder", async () => {
  await using middle = await beInTheMiddle();
  const { events } = middle;
  const [ours, theirs] = UnixSocket.pair();
  using serverTwin = new RawPeer(ours);
  using end = new OwnedFd(theirs.release());
  const reply = await shakeHands(middle, { twinSocket: { supported: true, fdIndex: 0 } }, [end]);
  end.close();
  const fd = reply.fds.shift()!;
  using clientTwin = new RawPeer(UnixSocket.adopt(fd.release()));
  serverTwin.command(1, Command.DMA_READ, bytes(16));
  clientTwin.reply(await clientTwin.expect(Command.DMA_READ), bytes(20));
  assertEquals((await serverTwin.expect(Command.DMA_READ)).payload, bytes(20));
  const twin = ofKind(events, "message").filter(({ socket }) => socket === "twin");
  assertEquals(twin.map(({ direction }) => direction), ["to-client", "to-server"]);
  const version = ofKind(events, "message")[1]!;
  assertEquals(version.descriptors.map(({ kind, fate }) => [kind, fate]), [["socket", "replaced"]]);
  assertEquals(version.passedOn, undefined);
  // Who ends the twin ends the connection, though the server then closes the main socket first.
  clientTwin.close();
  assertEquals(await serverTwin.receive(), undefined);
  middle.server.close();
  await until(() => ofKind(events, "end").length === 2);
  const ends = ofKind(events, "end").map((each) => [each.socket, each.side]);
  assertEquals(ends, [["twin", "client"], ["main", "client"]]);
});

testFds("--intercept mmap: flags, capabilities and descriptor of a region", async () => {
  await using middle = await beInTheMiddle({ intercept: ["mmap"] });
  const { client, server, events } = middle;
  using memfd = memfdOf(0x4000);
  client.command(1, Command.DEVICE_GET_REGION_INFO, bytes(32));
  const request = await server.expect(Command.DEVICE_GET_REGION_INFO);
  const areas = [{ offset: 0x1000n, size: 0x1000n }];
  const type = { kind: "type" as const, version: 1, type: 5, subtype: 6 };
  const info = { argsz: 88, flags: 7, index: 0, size: 0x4000n, offset: 0n };
  const sparse = { kind: "sparse_mmap" as const, version: 1, areas };
  const original = RegionInfoReply.encode({ ...info, capabilities: [sparse, type] });
  server.reply(request, original, [memfd]);
  const reply = await client.expect(Command.DEVICE_GET_REGION_INFO);
  assertEquals(reply.fds.length, 0);
  const seen = RegionInfoReply.decode(reply.payload);
  assertEquals(seen.flags, RegionFlags.READ | RegionFlags.WRITE | RegionFlags.CAPS);
  assertEquals(seen.capabilities, [type]);
  assertEquals(reply.size, 16 + seen.argsz);
  const message = ofKind(events, "message").at(-1)!;
  assertEquals(message.bytes.slice(16), original);
  assertEquals(message.passedOn!.slice(16), reply.payload);
  assertEquals(message.descriptors.map(({ fate }) => fate), ["withheld"]);
});

testFds("--intercept dma: the memory of a DMA_MAP is withheld", async () => {
  await using middle = await beInTheMiddle({ intercept: ["dma"] });
  const { client, server, events } = middle;
  using memfd = memfdOf(0x4000);
  const map = {
    argsz: 32,
    flags: DmaMapFlags.READ | DmaMapFlags.WRITE,
    offset: 0x1000n,
    address: 0x10000n,
    size: 0x1000n,
  };
  client.command(1, Command.DMA_MAP, DmaMapRequest.encode(map), [memfd]);
  const request = await server.expect(Command.DMA_MAP);
  assertEquals(request.fds.length, 0);
  assertEquals(DmaMapRequest.decode(request.payload), { ...map, offset: 0n });
  server.reply(request);
  client.command(2, Command.DMA_MAP, DmaMapRequest.encode(map));
  assertEquals(DmaMapRequest.decode((await server.expect(Command.DMA_MAP)).payload), map);
  const [first, second] = ofKind(events, "message").filter((e) => e.direction === "to-server");
  assertEquals(first!.descriptors[0]!.fate, "withheld");
  assertEquals(second!.passedOn, undefined);
});

testFds("--intercept irq: signals are seen and passed on, of old and new descriptors", async () => {
  await using middle = await beInTheMiddle({ intercept: ["irq"] });
  const { client, server, events } = middle;
  using first = new EventFd();
  using second = new EventFd();
  using mask = new EventFd();
  const set = (id: number, action: number, fds: OwnedFd[], start = 0) =>
    client.command(
      id,
      Command.DEVICE_SET_IRQS,
      SetIrqsRequest.encode({
        argsz: 20,
        flags: IrqSetFlags.DATA_EVENTFD | action,
        index: 2,
        start,
        count: 1,
        data: new Uint8Array(),
      }),
      fds,
    );
  set(1, IrqSetFlags.ACTION_TRIGGER, [first.handle], 3);
  const request = await server.expect(Command.DEVICE_SET_IRQS);
  using given = new EventFd(request.fds.shift()!);
  given.signal(2n);
  await until(() => first.take() === 2n);
  server.reply(request);
  await client.expect(Command.DEVICE_SET_IRQS);
  // Refused: the first descriptor stays in force.
  set(2, IrqSetFlags.ACTION_TRIGGER, [second.handle], 3);
  const refused = await server.expect(Command.DEVICE_SET_IRQS);
  refused.fds.shift()!.close();
  server.fail(refused, 22);
  await client.expect(Command.DEVICE_SET_IRQS);
  given.signal();
  await until(() => first.take() === 1n);
  // The client masks.
  set(3, IrqSetFlags.ACTION_MASK, [mask.handle]);
  const masking = await server.expect(Command.DEVICE_SET_IRQS);
  using heard = new EventFd(masking.fds.shift()!);
  mask.signal();
  await until(() => heard.take() === 1n);
  const seen = ofKind(events, "interrupt");
  assertEquals(
    seen.map(({ irq, vector, count, action }) => [irq, vector, count, action]),
    [[2, 3, 2n, "trigger"], [2, 3, 1n, "trigger"], [2, 0, 1n, "mask"]],
  );
});

testFds("--intercept ioeventfd: signals of regions are seen and passed on", async () => {
  await using middle = await beInTheMiddle({ intercept: ["ioeventfd"] });
  const { client, server, events } = middle;
  using kicked = new EventFd();
  client.command(1, Command.DEVICE_GET_REGION_IO_FDS, bytes(16));
  const request = await server.expect(Command.DEVICE_GET_REGION_IO_FDS);
  const part = { size: 4n, fdIndex: 0, flags: 0, shadowFdIndex: 0, data: 0n, shadowOffset: 0n };
  const subRegions = [{ ...part, offset: 0x1000n, type: IoFdType.IOEVENTFD }];
  const payload = RegionIoFdsReply.encode({ argsz: 56, flags: 0, index: 1, count: 1, subRegions });
  server.reply(request, payload, [kicked.handle]);
  const reply = await client.expect(Command.DEVICE_GET_REGION_IO_FDS);
  assertEquals(reply.payload, payload);
  using given = new EventFd(reply.fds.shift()!);
  given.signal();
  await until(() => kicked.take() === 1n);
  assertEquals(
    ofKind(events, "ioeventfd").map((
      { region, offset, size, count },
    ) => [region, offset, size, count]),
    [[1, 0x1000n, 4, 1n]],
  );
});

testFds("both sides die at once, and so may the recorder", async () => {
  const middle = await beInTheMiddle({ intercept: ["mmap", "dma", "irq", "ioeventfd"] });
  await shakeHands(middle);
  middle.client.close();
  middle.server.close();
  await until(() => ofKind(middle.events, "end").length === 1);
  const next = middle.connect();
  await middle.accept();
  middle.recorder.close();
  assertEquals(await next.receive(), undefined);
  assertEquals(ofKind(middle.events, "end")[1]!.reason, "stopped");
  await middle[Symbol.asyncDispose]();
});

/** Sends all of it, as the receiver makes room; descriptors go with the first byte. */
async function sendAll(peer: RawPeer, data: Uint8Array, fds: number[] = []): Promise<void> {
  const buffer = new IoBuffer(data.slice());
  let sent = 0;
  await until(() => {
    const count = peer.socket.send(buffer, sent, data.length - sent, sent === 0 ? fds : []);
    if (count > 0) sent += count;
    return sent === data.length;
  });
}

/** Receives so many bytes, whatever they are. */
async function receiveRaw(peer: RawPeer, size: number): Promise<Uint8Array> {
  const buffer = new IoBuffer(size);
  let count = 0;
  await until(() => {
    const came = peer.socket.receive(buffer, count, size - count);
    if (came === 0) throw new Error("The connection ended");
    if (came > 0) count += came;
    return count === size;
  }, `${size} bytes`);
  return buffer.bytes;
}

testFds("whatever the bytes and their pieces are, they come out as they went in", async () => {
  for (let seed = 1; seed <= 12; seed++) {
    const random = new Random(seed);
    const hasSide = seed % 2 === 0;
    await using middle = await beInTheMiddle({ hasSide });
    const { client, server, events } = middle;
    for (const [from, to] of [[client, server], [server, client]] as const) {
      const stream = new Uint8Array(40_000);
      let size = 0;
      while (size < 30_000) {
        const payload = Uint8Array.from({ length: random.below(3000) }, () => random.below(256));
        const command = random.below(20);
        const message = encodeMessage(
          { messageId: random.below(65536), command, flags: random.below(3) },
          payload,
        );
        // Its size
        if (random.below(12) === 0) message[4 + random.below(4)]! ^= 1 << random.below(8);
        stream.set(message, size);
        size += message.length;
      }
      const sent = stream.subarray(0, size);
      const sending = (async () => {
        for (let at = 0; at < size;) {
          const piece = Math.min(size - at, 1 + random.below(9000));
          await sendAll(from, sent.subarray(at, at + piece));
          at += piece;
        }
      })();
      assertEquals(await receiveRaw(to, size), sent, `seed ${seed}`);
      await sending;
    }
    client.close();
    await until(() => ofKind(events, "end").length === 1);
    // All of it is in the recording, as messages or as garbage.
    const recorded = events.reduce((sum, event) => {
      const isOut = (event.kind === "message" || event.kind === "garbage") &&
        event.direction === "to-server";
      return isOut ? sum + event.bytes.length : sum;
    }, 0);
    assert(recorded >= 30_000, `seed ${seed}: ${recorded}`);
  }
});

testFds("as many descriptors as Linux passes, and of every kind, pass on", async () => {
  await using middle = await beInTheMiddle({ intercept: ["mmap", "irq", "ioeventfd"] });
  const { client, server, events } = middle;
  const [socket, other] = UnixSocket.pair();
  using own = new OwnedFd(socket.release());
  using memfd = memfdOf(4096);
  const fds = [own, ...Array.from({ length: 252 }, () => memfd)];
  client.command(1, Command.DMA_UNMAP, bytes(24), fds);
  const message = await server.expect(Command.DMA_UNMAP);
  assertEquals(message.fds.length, 253);
  for (const fd of message.fds) fd.close();
  const kinds = ofKind(events, "message")[0]!.descriptors.map(({ kind }) => kind);
  assertEquals([kinds.length, kinds[0], kinds[1]], [253, "socket", "memfd"]);
  // An interrupt by what is no eventfd passes as it came, with the reason in the recording.
  client.command(
    2,
    Command.DEVICE_SET_IRQS,
    SetIrqsRequest.encode({
      argsz: 20,
      flags: IrqSetFlags.DATA_EVENTFD | IrqSetFlags.ACTION_TRIGGER,
      index: 2,
      start: 0,
      count: 1,
      data: new Uint8Array(),
    }),
    [memfd],
  );
  const set = await server.expect(Command.DEVICE_SET_IRQS);
  assertEquals(set.fds[0]!.stat().inode, memfd.stat().inode);
  set.fds.shift()!.close();
  await until(() => ofKind(events, "message").length === 2);
  assertEquals(ofKind(events, "message")[1]!.comment?.includes("vector 0 is not seen"), true);
  other.close();
});

/** Receives from a server that takes whatever comes next for the reply to its own command. */
async function askInTheMiddle(server: RawPeer, messageId: number): Promise<void> {
  server.command(messageId, Command.DMA_READ, bytes(16));
  const reply = await server.receive();
  assertEquals([reply?.command, reply?.messageId], [Command.DMA_READ, messageId]);
  assertEquals(reply!.flags & MessageFlags.TYPE_MASK, MessageFlags.REPLY);
}

testFds("replies to the server's DMA overtake commands that a client pipelines", async () => {
  await using middle = await beInTheMiddle({ intercept: ["dma"] });
  const { client, server, events } = middle;
  using event = new EventFd();
  const count = 20;
  const large = bytes(200_000, 3);
  const replies: number[] = [];
  const answering = (async () => {
    for (let dma = 0; dma < count;) {
      const message = (await client.receive())!;
      if (message.command !== Command.DMA_READ) replies.push(message.messageId);
      else {
        client.reply(message, bytes(16));
        dma++;
      }
    }
  })();
  await Promise.all([
    answering,
    (async () => {
      for (let i = 0; i < count; i++) {
        const payload = i === 5 ? large : bytes(i * 10, 7);
        const message = encodeMessage(
          { messageId: i, command: Command.REGION_WRITE, flags: i % 3 === 1 ? 0x10 : 0 },
          payload,
        );
        await sendAll(client, message, i === 7 ? [event.fd] : []);
      }
    })(),
    (async () => {
      for (let i = 0; i < count; i++) {
        const request = (await server.receive())!;
        assertEquals([request.command, request.messageId], [Command.REGION_WRITE, i]);
        assertEquals(request.payload, i === 5 ? large : bytes(i * 10, 7));
        assertEquals(request.flags, 0); // an answer shows that the command is done
        assertEquals(request.fds.length, i === 7 ? 1 : 0);
        closeAll(request.fds);
        await askInTheMiddle(server, 1000 + i);
        server.reply(request);
      }
    })(),
  ]);
  await until(() => ofKind(events, "message").length === count * 4);
  // The client gets no reply that it did not ask for.
  client.command(99, Command.DEVICE_RESET);
  server.reply(await server.expect(Command.DEVICE_RESET));
  for (let reply; (reply = (await client.receive())!).messageId !== 99;) {
    replies.push(reply.messageId);
  }
  const asked = Array.from({ length: count }, (_, i) => i).filter((i) => i % 3 !== 1);
  assertEquals(replies, asked);
  const kept = ofKind(events, "message").filter(({ passedOn }) => passedOn === null);
  assertEquals(kept.length, count - asked.length);
  assertEquals(ofKind(events, "note"), []);
});

testFds("a reply that nobody asked for keeps its place among commands held back", async () => {
  await using middle = await beInTheMiddle({ intercept: ["dma"] });
  const { client, server } = middle;
  const reply = encodeMessage({
    messageId: 9,
    command: Command.DMA_READ,
    flags: MessageFlags.REPLY,
  });
  const commands = [1, 2, 3].map((messageId) =>
    encodeMessage({ messageId, command: Command.DEVICE_RESET })
  );
  client.send(new Uint8Array([...commands.flatMap((each) => [...each]), ...reply]));
  for (const id of [1, 2, 3]) {
    const request = (await server.receive())!;
    assertEquals([request.command, request.messageId], [Command.DEVICE_RESET, id]);
    server.reply(request);
  }
  assertEquals((await server.receive())!.messageId, 9);
});

testFds("the beginning of a message goes on when commands ahead of it are answered", async () => {
  for (const size of [64, 1_200_000]) { // small and large messages take different ways
    await using middle = await beInTheMiddle({ intercept: ["dma"] });
    const { client, server } = middle;
    client.command(1, Command.DEVICE_RESET);
    const begun = encodeMessage({ messageId: 2, command: Command.REGION_WRITE }, bytes(16));
    new DataView(begun.buffer, begun.byteOffset).setUint32(4, size, true);
    client.send(begun);
    server.reply((await server.receive())!);
    // A server that refuses the header answers that, and waits for no more.
    const rest = server.receive();
    await until(() => server.untaken.length === begun.length);
    assertEquals(server.untaken, begun);
    client.close();
    assertEquals(await rest, undefined);
  }
});

testFds("a command that is never answered, or the end, lets the others go on", async () => {
  await using middle = await beInTheMiddle({ intercept: ["dma"] });
  const { client, server, events } = middle;
  for (const id of [1, 2]) client.command(id, Command.DEVICE_RESET);
  assertEquals((await server.receive())!.messageId, 1);
  assertEquals((await server.receive())!.messageId, 2); // after two seconds
  const notes = () => ofKind(events, "note").map(({ text }) => text);
  assertStringIncludes(notes()[0]!, "passed on after 2 s, although an earlier one");
  // More than are held back: they go on in order.
  const size = 1 << 20;
  const sending = (async () => {
    for (let id = 10; id < 20; id++) {
      const message = encodeMessage({ messageId: id, command: Command.REGION_WRITE }, bytes(size));
      await sendAll(client, message);
    }
  })();
  for (let id = 10; id < 20; id++) assertEquals((await server.receive())!.messageId, id);
  await sending;
  assert(notes().some((text) => text.includes("more commands wait for the server")));
  for (const id of [30, 31]) client.command(id, Command.DEVICE_RESET);
  client.close();
  assertEquals((await server.receive())!.messageId, 30);
  assertEquals((await server.receive())!.messageId, 31);
  assertEquals(await server.receive(), undefined);
});

testFds("few commands are held back, and few descriptors", async () => {
  const reset = (messageId: number) => encodeMessage({ messageId, command: Command.DEVICE_RESET });
  const overrun = "more commands wait for the server than are held back: all go on";
  for (const [fds, most] of [[0, 16_384], [64, 512 / 64]] as const) {
    await using middle = await beInTheMiddle({ intercept: ["dma"] });
    const { client, server, events } = middle;
    using event = new EventFd();
    const all = Array.from({ length: most + 50 }, (_, id) => reset(id));
    const sending = (async () => {
      if (fds === 0) return await sendAll(client, join(...all));
      for (const each of all) await sendAll(client, each, Array(fds).fill(event.fd));
    })();
    await until(() => ofKind(events, "note").some(({ text }) => text === overrun));
    for (let id = 0; id < most; id++) {
      const message = (await server.receive())!;
      assertEquals([message.messageId, message.fds.length], [id, fds]);
      closeAll(message.fds);
    }
    await sending; // those behind wait again
  }
});

testFds("an id whose posted command was never answered is the client's own again", async () => {
  await using middle = await beInTheMiddle({ intercept: ["dma"] });
  const { client, server } = middle;
  client.command(7, Command.DEVICE_RESET, undefined, [], 0x10);
  assertEquals((await server.receive())!.flags, 0);
  client.command(7, Command.DEVICE_RESET);
  server.reply((await server.receive())!); // after two seconds
  assertEquals((await client.expect(Command.DEVICE_RESET)).messageId, 7);
});

testFds("with a twin socket, or without --intercept dma, no command waits", async () => {
  for (const intercept of [["dma"], ["mmap"]] as const) {
    await using middle = await beInTheMiddle({ intercept });
    const { client, server } = middle;
    const [a, b] = UnixSocket.pair();
    using fd = new OwnedFd(a.release());
    const version = await shakeHands(
      middle,
      intercept[0] === "dma" ? { twinSocket: { supported: true, fdIndex: 0 } } : {},
      intercept[0] === "dma" ? [fd] : [],
    );
    closeAll(version.fds);
    for (const id of [1, 2, 3]) client.command(id, Command.DEVICE_RESET, undefined, [], 0x10);
    for (const id of [1, 2, 3]) {
      const { messageId, flags } = (await server.receive())!;
      assertEquals([messageId, flags], [id, 0x10]);
    }
    b.close();
  }
});

testFds("a client and a server that are connected already", async () => {
  const [client, clientEnd] = RawPeer.pair();
  const [server, serverEnd] = RawPeer.pair();
  const events: NewEvent[] = [];
  using recorder = Recorder.start({
    listen: clientEnd.release(),
    server: new ConnectedServer(serverEnd.release()),
    sink: (event) => events.push(event),
  });
  client.command(1, Command.DEVICE_RESET);
  await server.expect(Command.DEVICE_RESET);
  server.close();
  assertEquals(await client.receive(), undefined);
  client.close();
  await recorder.closed;
  assertEquals(ofKind(events, "end").map(({ side }) => side), ["server"]);
  assertThrows(() => Recorder.start({ listen: 0, server: new ConnectedServer(1), sink() {} }));
});

testFds("messages at random under all interceptions leave nothing behind", async () => {
  for (let seed = 1; seed <= 10; seed++) {
    const random = new Random(seed);
    await using middle = await beInTheMiddle({
      intercept: ["mmap", "dma", "irq", "ioeventfd"],
      hasSide: true,
      sideWrites: true,
    });
    const { client, server, events } = middle;
    await shakeHands(middle);
    using side = new RawPeer(UnixSocket.connect(middle.paths.side)!);
    using event = new EventFd();
    using memfd = memfdOf(4096);
    const [socket, other] = UnixSocket.pair();
    using third = new OwnedFd(socket.release());
    const kinds = [event.handle, memfd, third];
    const send = async (from: RawPeer) => {
      const payload = new Uint8Array(random.below(120));
      for (let at = 0; at < payload.length; at += 4) {
        if (random.below(2) === 0) payload[at] = random.below(random.below(2) === 0 ? 5 : 64);
      }
      const fields = {
        messageId: random.below(4),
        command: 1 + random.below(18),
        flags: [0, 0x10, 1, 1, 0x21][random.below(5)]!,
        error: 0,
      };
      const fds = Array.from({ length: random.below(4) }, () => kinds[random.below(3)]!.fd);
      await sendAll(from, encodeMessage(fields, payload), fds);
    };
    const drain = async (peer: RawPeer) => {
      while (true) {
        // A peer that hears nothing for long goes on listening: the end comes for sure.
        const message = await peer.receive().catch(() => "nothing" as const);
        if (message === "nothing") continue;
        if (message === undefined) return;
        for (const fd of message.fds) fd.close();
        if ((message.flags & 0x1f) !== 0) continue;
        try {
          peer.reply(message);
        } catch { /* the recorder is closed, or the other side does not read */ }
      }
    };
    const draining = [drain(client), drain(server)];
    for (let i = 0; i < 150; i++) {
      await send(random.below(2) === 0 ? client : server);
      if (i % 20 === 0) side.command(i, 1 + random.below(18), new Uint8Array(32));
      if (i % 10 === 0) event.signal();
    }
    other.close();
    await until(() => ofKind(events, "message").filter((e) => e.origin === "peer").length >= 152);
    middle.recorder.close();
    await Promise.all(draining);
    await drain(side);
  }
});
