import {
  assert,
  assertEquals,
  assertRejects,
  assertStringIncludes,
  assertThrows,
} from "@std/assert";
import { IoBuffer } from "../../../ffi/buffer.ts";
import { EAGAIN } from "../../../ffi/errno.ts";
import { EventFd, POLLIN } from "../../../ffi/event.ts";
import { watch } from "../../../ffi/poller.ts";
import { connect } from "../../../lib/client/connect.ts";
import { DemoDevice } from "../../../lib/devices/demo_device.ts";
import { ConnectionError } from "../../../lib/base/errors.ts";
import { VfioProxy } from "../../../lib/transport/proxy.ts";
import type { DeviceBus } from "../../../lib/server/served_device.ts";
import { Server } from "../../../lib/server/server.ts";
import { Command } from "../../../lib/wire/command.ts";
import { encodeMessage, MessageFlags } from "../../../lib/wire/header.ts";
import { testFds } from "../../_fds.ts";
import { type RawMessage, RawPeer } from "../../_raw_peer.ts";
import { pause } from "../_by_hand.ts";
import { until } from "../../_until.ts";

const HEAD = 16;

/** Ways to take a buffer away from its views. */
const WAYS: [string, (size: number) => { into: Uint8Array<ArrayBuffer>; take: () => void }][] = [
  ["detached", (size) => {
    const into = new Uint8Array(size);
    return { into, take: () => structuredClone(into.buffer, { transfer: [into.buffer] }) };
  }],
  ["shrunk", (size) => {
    const buffer = new ArrayBuffer(size, { maxByteLength: size });
    return { into: new Uint8Array(buffer), take: () => buffer.resize(1) };
  }],
  ["shrunk below a view of fixed length", (size) => {
    const buffer = new ArrayBuffer(size, { maxByteLength: size });
    return { into: new Uint8Array(buffer, 0, size), take: () => buffer.resize(size - 1) };
  }],
];

interface Ends {
  readonly peer: RawPeer;
  readonly proxy: VfioProxy;
}

async function withProxy(body: (ends: Ends) => Promise<void>): Promise<void> {
  const [peer, socket] = RawPeer.pair();
  const proxy = new VfioProxy(socket, { role: "client", timeoutMs: 2000 });
  proxy.limits = { maxFds: 8, maxMessageSize: 1 << 21 };
  try {
    await body({ peer, proxy });
  } finally {
    proxy.close();
    peer.close();
  }
}

function replyTo({ messageId, command }: RawMessage, size: number): Uint8Array {
  const payload = new Uint8Array(HEAD + size).fill(7);
  return encodeMessage({ messageId, command, flags: MessageFlags.REPLY }, payload);
}

/** Sends bytes as the other end takes them, and gives it the time to do so. */
async function sendAll({ socket }: RawPeer, bytes: Uint8Array): Promise<void> {
  if (bytes.length === 0) return;
  const buffer = new IoBuffer(bytes.slice());
  for (let at = 0; at < bytes.length;) {
    const sent = socket.send(buffer, at, bytes.length - at);
    if (sent > 0) at += sent;
    else assertEquals(sent, -EAGAIN);
    await pause(2);
  }
}

for (const [way, make] of WAYS) {
  for (const [size, before] of [[100, 0], [400_000, 0], [400_000, 150_000], [400_000, 400_016]]) {
    testFds(
      `a buffer of ${size} bytes that is ${way} after ${before} came fails its request alone`,
      () =>
        withProxy(async ({ peer, proxy }) => {
          using event = new EventFd();
          let news = 0;
          using _watch = watch(event.fd, POLLIN, () => news += Number(event.take()));
          const { into, take } = make(size!);
          const doing = "read what is there";
          const request = proxy.request(Command.REGION_READ, undefined, { into, doing });
          const other = proxy.request(Command.DEVICE_GET_INFO);
          other.catch(() => {});
          const why = "the buffer for the answer was detached or resized meanwhile";
          const failed = assertRejects(() => request, TypeError, `Cannot ${doing}: ${why}`);
          const asked = await peer.expect(Command.REGION_READ);
          const reply = replyTo(asked, size!);
          await sendAll(peer, reply.subarray(0, before));
          take();
          await sendAll(peer, reply.subarray(before!));
          await failed;
          peer.reply(await peer.expect(Command.DEVICE_GET_INFO), new Uint8Array([1, 2, 3]));
          assertEquals([...(await other).payload], [1, 2, 3]);
          event.signal();
          await until(() => news > 0, "the watch of another descriptor");
          assertEquals([news, proxy.state], [1, "CONNECTED"]);
        }),
    );
  }
}

testFds("a buffer that is detached already is refused", () =>
  withProxy(async ({ peer, proxy }) => {
    for (const size of [0, 8]) {
      const into = new Uint8Array(size);
      detach(into);
      const request = () => proxy.request(Command.REGION_READ, undefined, { into });
      await assertRejects(request, TypeError, "Cannot ask for REGION_READ: the buffer for it is");
    }
    const into = new Uint8Array(0);
    const request = proxy.request(Command.REGION_READ, undefined, { into });
    peer.reply(await peer.expect(Command.REGION_READ), new Uint8Array(16));
    assertEquals((await request).payload.length, 16);
  }));

testFds("a range that is read or written in pieces ends when its buffer is detached", async () => {
  const path = `${Deno.makeTempDirSync()}/demo.sock`;
  using _server = Server.listen(path, new DemoDevice());
  using device = await connect(path);
  await device.regionInfo(2);
  const bar2 = device.region("bar2");
  for (const verb of ["read", "write"] as const) {
    const bytes = new Uint8Array(0x10000);
    const onProgress = () => {
      if (bytes.length > 0) structuredClone(bytes.buffer, { transfer: [bytes.buffer] });
    };
    const options = { via: "message", chunkSize: 256, onProgress } as const;
    const access = verb === "read"
      ? bar2.readAsync(0, bytes.length, { ...options, into: bytes })
      : bar2.writeAsync(0, bytes, options);
    const error = await assertRejects(() => access, TypeError);
    assertStringIncludes(error.message, "detached or resized meanwhile");
    assertEquals((await bar2.readAsync(0, 4, { via: "message" })).length, 4);
  }
});

/** Takes memory away from its views, as a transfer to a Worker does. */
function detach({ buffer }: Uint8Array<ArrayBuffer>): ArrayBuffer {
  return structuredClone(buffer, { transfer: [buffer] });
}

/** The demo device, which keeps what its client lends. */
class KeepingDevice extends DemoDevice {
  bus: DeviceBus | undefined;

  override connected(bus: DeviceBus): void {
    this.bus = bus;
    super.connected(bus);
  }
}

const IOVA = 0x10_0000n;
const SIZE = 0x1_0000;

testFds("a view of a client's memory that a device gives away ends nothing", async () => {
  const path = `${Deno.makeTempDirSync()}/demo.sock`;
  const served = new KeepingDevice();
  const errors: unknown[] = [];
  using _server = Server.listen(path, served, { onError: (error) => errors.push(error) });
  for (const unmaps of [true, false]) {
    using device = await connect(path);
    const map = await device.dma.mapAsync({ iova: IOVA, size: SIZE });
    map.bytes[0] = 7;
    const { dma } = served.bus!;
    const moved = detach(dma.view(IOVA, 16)!);
    assertEquals([moved.byteLength, new Uint8Array(moved)[0]], [SIZE, 7]);
    assertEquals(await dma.read(IOVA, 1), new Uint8Array([7]));
    if (unmaps) await map.unmapAsync();
  }
  using next = await connect(path);
  await next.regionInfo(0);
  assertEquals([next.region("bar0").size, errors], [4096, []]);
});

testFds("a client's map whose bytes were given away is refused, unmapped and closed", async () => {
  const path = `${Deno.makeTempDirSync()}/demo.sock`;
  const served = new KeepingDevice();
  using _server = Server.listen(path, served);
  using device = await connect(path);
  for (const share of ["memfd", "message"] as const) {
    const map = await device.dma.mapAsync({ iova: IOVA, size: SIZE, share });
    const other = await device.dma.mapAsync({ iova: 2n * IOVA, size: SIZE, share });
    detach(map.bytes);
    const why = "Cannot use the map of 0x10000 bytes at IOVA 0x100000: its bytes were detached";
    assertThrows(() => device.dma.read(IOVA, 4), TypeError, why);
    assertThrows(() => device.dma.view(IOVA, 4), TypeError, why);
    other.bytes[0] = 5;
    assertEquals(await served.bus!.dma.read(2n * IOVA, 1), new Uint8Array([5]));
    if (share === "message") {
      await assertRejects(() => served.bus!.dma.read(IOVA, 4), Error, "EFAULT");
    }
    await map.unmapAsync();
    if (share === "memfd") await other.unmapAsync();
  }
  await device.regionInfo(0);
});

testFds("a device's buffer that is given away fails its DMA request alone", async () => {
  const path = `${Deno.makeTempDirSync()}/demo.sock`;
  const served = new KeepingDevice();
  using _server = Server.listen(path, served);
  using device = await connect(path);
  const size = 1 << 20;
  const map = await device.dma.mapAsync({ iova: IOVA, size, share: "message" });
  map.bytes.fill(9);
  const { dma } = served.bus!;
  for (const length of [16, size]) {
    const into = new Uint8Array(length);
    const reading = dma.readInto(IOVA, into);
    detach(into);
    await assertRejects(() => reading, TypeError, "was detached or resized meanwhile");
    const data = new Uint8Array(length);
    const writing = dma.write(IOVA, data);
    detach(data);
    // What was sent by then is written.
    await writing.catch((error) => assertStringIncludes(`${error}`, "was detached or resized"));
    assertEquals((await dma.read(IOVA + BigInt(size - 1), 1)).length, 1);
  }
});

for (const [what, pause] of [["at once", undefined], ["later", Promise.resolve()]] as const) {
  testFds(
    `a trace that throws at an answer which is given ${what} ends the connection`,
    async () => {
      const [peer, socket] = RawPeer.pair();
      const closed = Promise.withResolvers<Error | undefined>();
      const proxy = new VfioProxy(socket, {
        role: "server",
        handler: (request) =>
          pause === undefined ? request.reply() : pause.then(() => request.reply()),
        trace: (direction) => {
          if (direction === "sent") throw new RangeError("no room for the trace");
        },
        onClose: closed.resolve,
      });
      proxy.serving = true;
      peer.command(1, Command.DEVICE_RESET);
      const cause = await closed.promise;
      assert(cause instanceof ConnectionError && cause.cause instanceof RangeError);
      peer.close();
    },
  );
}

testFds("a trace that throws ends its connection, and no other wait", async () => {
  const [peer, socket] = RawPeer.pair();
  let isOn = false;
  const proxy = new VfioProxy(socket, {
    role: "client",
    trace: () => {
      if (isOn) throw new RangeError("no room for the trace");
    },
  });
  await withProxy(async (healthy) => {
    const request = proxy.request(Command.DEVICE_RESET);
    const asked = await peer.expect(Command.DEVICE_RESET);
    isOn = true;
    peer.reply(asked);
    await assertRejects(() => request, ConnectionError, "no room for the trace");
    assert(proxy.cause?.cause instanceof RangeError);
    const other = healthy.proxy.request(Command.DEVICE_RESET);
    healthy.peer.reply(await healthy.peer.expect(Command.DEVICE_RESET));
    await other;
  });
  peer.close();
});
