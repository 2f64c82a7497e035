import {
  assert,
  assertEquals,
  assertInstanceOf,
  assertMatch,
  assertStrictEquals,
} from "@std/assert";
import fc from "fast-check";
import { IoBuffer } from "../../../ffi/buffer.ts";
import { EAGAIN, EINVAL, EIO, ENOTSUP } from "../../../ffi/errno.ts";
import { EventFd } from "../../../ffi/event.ts";
import { closeAll, countOpenFds, OwnedFd } from "../../../ffi/fd.ts";
import { idle } from "../../../ffi/poller.ts";
import { UnixSocket } from "../../../ffi/socket.ts";
import { ConnectionError, ProtocolError } from "../../../lib/base/errors.ts";
import { DeviceError } from "../../../lib/server/served_device.ts";
import { RegionWriteMultiRequest, type SmallWrite } from "../../../lib/wire/access.ts";
import { Command } from "../../../lib/wire/command.ts";
import { encodeMessage, MessageFlags } from "../../../lib/wire/header.ts";
import { RegionFlags, RegionInfoReply } from "../../../lib/wire/region.ts";
import { decodeVersion, encodeVersion } from "../../../lib/wire/version.ts";
import { testFds } from "../../_fds.ts";
import type { RawPeer } from "../../_raw_peer.ts";
import {
  access,
  ask,
  BytesRegion,
  negotiate,
  serve,
  serveNegotiated,
  sleep,
  TestDevice,
  words,
} from "./_client.ts";
import { until } from "../../_until.ts";

const {
  VERSION,
  DEVICE_GET_INFO,
  DEVICE_GET_REGION_INFO,
  DEVICE_GET_IRQ_INFO,
  DEVICE_RESET,
  REGION_READ,
  REGION_WRITE,
  REGION_WRITE_MULTI,
} = Command;

const OFFERED = encodeVersion({ major: 0, minor: 1, capabilities: {} });

// ---- VERSION

testFds("the VERSION reply is one that QEMU's client takes", async () => {
  const proposed = {
    migration: { pgsize: 4096, maxBitmapSize: 268435456 },
    maxMsgFds: 16,
    maxDataXferSize: 1048576,
    pgsizes: 4096n,
    maxDmaMaps: 65535,
  };
  for (const writeMultiple of [false, true]) {
    using served = serve();
    const payload = await negotiate(served.peer, { ...proposed, writeMultiple });
    assert(payload.length - 4 < 214, `${payload.length} bytes`);
    const { major, minor, capabilities } = decodeVersion(payload);
    assertEquals([major, minor], [0, 2]);
    assert(capabilities.maxMsgFds! <= 16);
    assert(capabilities.maxDataXferSize! <= 64 << 20);
    assertEquals(capabilities.writeMultiple ?? false, writeMultiple);
  }
});

testFds("the minor version is the lesser of both", async () => {
  for (const [proposed, answered] of [[0, 0], [1, 1], [2, 2], [3, 2], [65535, 2]] as const) {
    using served = serve();
    const payload = encodeVersion({ major: 0, minor: proposed, capabilities: {} });
    assertEquals(decodeVersion((await ask(served.peer, VERSION, payload)).payload).minor, answered);
  }
});

testFds("a VERSION without JSON is taken, as SPDK's client sends it", async () => {
  using served = serve();
  assertEquals((await ask(served.peer, VERSION, new Uint8Array(4))).errno, 0);
  assertEquals((await ask(served.peer, DEVICE_GET_INFO, words(16, 0, 0, 0))).errno, 0);
});

const PROPOSALS: [what: string, json: string, keys: string[]][] = [
  ["nothing", "", []],
  ["an empty object", "{}\0", []],
  ["no capabilities", '{"capabilities":{}}\0', []],
  ["unknown ones", '{"capabilities":{"colour":"red"}}\0', []],
  ["descriptors", '{"capabilities":{"max_msg_fds":1}}\0', ["maxMsgFds"]],
  ["a twin that is not wanted", '{"capabilities":{"twin_socket":{}}}\0', []],
  ["what SPDK's target says", '{"capabilities":{"max_dma_maps":0,"pgsizes":4096}}\0\0', [
    "maxDmaMaps",
    "pgsizes",
  ]],
  [
    "more than we can send",
    '{"capabilities":{"max_msg_fds":4096,"max_data_xfer_size":18446744073709551615}}\0\0\0',
    ["maxDataXferSize", "maxMsgFds"],
  ],
  [
    "REGION_WRITE_MULTI",
    '{"capabilities":{"write_multiple":true,"migration":{"pgsize":4096}}}\0',
    ["writeMultiple"],
  ],
];
for (const [what, json, keys] of PROPOSALS) {
  testFds(`a client that proposes ${what} is answered that and no more`, async () => {
    using served = serve();
    const reply = await ask(served.peer, VERSION, version(json));
    assertEquals(reply.errno, 0);
    assertEquals(Object.keys(decodeVersion(reply.payload).capabilities).sort(), keys);
    // JSON is answered with JSON, and none with none.
    assertEquals(reply.payload.length > 4, json !== "");
    assertEquals((await ask(served.peer, DEVICE_GET_INFO, words(16, 0, 0, 0))).errno, 0);
  });
}

testFds("a client that takes 253 descriptors or more is sent no more than those", async () => {
  const device = new TestDevice();
  using event = new EventFd();
  const region = new BytesRegion(4096, RegionFlags.READ | RegionFlags.MMAP);
  device.regions[0] = Object.assign(region, { fds: new Array(253).fill(event.handle) });
  for (const maxMsgFds of [253, 254, 0xffff_ffff]) {
    using served = await serveNegotiated({ device, capabilities: { maxMsgFds } });
    const reply = await ask(served.peer, DEVICE_GET_REGION_INFO, words(4096, 0, 0, 0, 0, 0, 0, 0));
    assertEquals([reply.errno, reply.fds.length], [0, 253]);
    closeAll(reply.fds);
  }
});

function version(json: string, major = 0): Uint8Array {
  return new Uint8Array([major, 0, 1, 0, ...new TextEncoder().encode(json)]);
}

const BAD_FIRST: [what: string, command: number, payload: Uint8Array, message: RegExp][] = [
  ["is not VERSION", DEVICE_GET_INFO, words(16, 0, 0, 0), /first command is DEVICE_GET_INFO, not/],
  ["is unknown", 99, new Uint8Array(), /first command is command 99, not VERSION$/],
  ["has another major", VERSION, version("", 1), /proposes version 1\.1, which we do not speak$/],
  ["is short", VERSION, new Uint8Array(3), /3 bytes came, 4 are needed$/],
  ["has no NUL", VERSION, version("{}"), /the JSON does not end with a NUL$/],
  ["has bad JSON", VERSION, version("{\0"), /the JSON is not valid/],
  ["has a wrong type", VERSION, version('{"capabilities":{"max_msg_fds":"1"}}\0'), /not a number$/],
  ["is absurd", VERSION, version('{"capabilities":{"max_msg_fds":-1e9}}\0'), /the least is 0$/],
  [
    "moves nothing",
    VERSION,
    version('{"capabilities":{"max_data_xfer_size":0}}\0'),
    /max_data_xfer_size is 0, the least is 1$/,
  ],
];
for (const [what, command, payload, message] of BAD_FIRST) {
  testFds(`a client whose first message ${what} gets EINVAL and is cut off`, async () => {
    using served = serve();
    assertEquals((await ask(served.peer, command, payload)).errno, EINVAL);
    const cause = await served.closed;
    assertInstanceOf(cause, ProtocolError);
    assertMatch(cause.message, message);
    assertEquals(await served.peer.receive(), undefined);
    assertEquals(served.errors, []);
  });
}

testFds("a second VERSION gets EINVAL, and the session lives", async () => {
  using served = await serveNegotiated();
  assertEquals((await ask(served.peer, VERSION, OFFERED)).errno, EINVAL);
  assertEquals((await ask(served.peer, DEVICE_GET_INFO, words(16, 0, 0, 0))).errno, 0);
});

testFds("a client that sends no VERSION, or half of one, is cut off", async () => {
  for (const sent of [0, 1, 16, 19]) {
    using served = serve({ handshakeTimeoutMs: 20 });
    const message = encodeMessage({ messageId: 1, command: VERSION }, OFFERED);
    if (sent > 0) served.peer.send(message.subarray(0, sent));
    const cause = await served.closed;
    assertInstanceOf(cause, ProtocolError);
    assertEquals(cause.message, "The client sent no VERSION within 20 ms");
    assertEquals(await served.peer.receive(), undefined);
  }
});

testFds("a client that has sent its VERSION may stay silent", async () => {
  using served = serve({ handshakeTimeoutMs: 500 });
  await negotiate(served.peer);
  await sleep(600);
  assertEquals((await ask(served.peer, DEVICE_GET_INFO, words(16, 0, 0, 0))).errno, 0);
});

testFds("a long read is sent from where the bytes are, if the region tells", async () => {
  using served = await serveNegotiated();
  const region = new BytesRegion(1 << 16);
  const asked: string[] = [];
  let view: (bytes: Uint8Array) => Uint8Array | undefined = (bytes) => bytes;
  served.device.regions[3] = Object.assign(region, {
    view: (offset: number, length: number) => {
      asked.push(`${offset}+${length}`);
      return view(region.bytes.subarray(offset, offset + length));
    },
  });
  const read = async (offset: number, length: number) => {
    const { payload, errno } = await ask(
      served.peer,
      REGION_READ,
      access(BigInt(offset), 3, length),
    );
    assertEquals([errno, payload.length], [0, 16 + length]);
    assertEquals(payload.slice(16), region.bytes.slice(offset, offset + length));
  };
  await read(5, 40_000);
  await read(5, 16); // not worth it
  view = () => undefined; // then the hook is called
  await read(6, 30_000);
  view = (bytes) => bytes.subarray(1); // nor is it trusted to be right
  await read(7, 30_000);
  assertEquals(asked, ["5+40000", "6+30000", "7+30000"]);
  view = () => {
    throw new DeviceError(EINVAL);
  };
  assertEquals((await ask(served.peer, REGION_READ, access(0n, 3, 30_000))).errno, EINVAL);
  assertEquals((await ask(served.peer, REGION_READ, access(60_000n, 3, 30_000))).errno, EINVAL);
  assertEquals(asked.length, 4); // what leaves the region is not asked for
});

// ---- What can't be delimited

const IMPOSSIBLE: [what: string, size: number, flags: number, message: RegExp][] = [
  ["a size of 0", 0, 0, /its size is 0, less than a header's 16$/],
  ["a size of 15", 15, 0, /its size is 15, less than a header's 16$/],
  ["a size beyond the limit", 16 + 4096 + (1 << 20) + 1, 0, /its size is 1052689, at most 1052688/],
  ["a size of 2^32-1", 0xffffffff, 0, /its size is 4294967295, at most 1052688 are allowed$/],
  ["type 2", 16, 2, /its type is 2, neither command nor reply$/],
  ["type 15", 16, 15, /its type is 15, neither command nor reply$/],
];
for (const [what, size, flags, message] of IMPOSSIBLE) {
  testFds(`a message with ${what} gets EINVAL and ends the connection`, async () => {
    using served = await serveNegotiated();
    const bytes = encodeMessage({ messageId: 7, command: REGION_READ, flags });
    new DataView(bytes.buffer).setUint32(4, size, true);
    served.peer.send(bytes);
    const reply = await served.peer.expect(REGION_READ);
    assertEquals([reply.messageId, reply.flags, reply.error], [7, 0x21, EINVAL]);
    assertMatch((await served.closed)!.message, message);
    assertEquals(await served.peer.receive(), undefined);
  });
}

testFds("a reply to nothing ends the connection", async () => {
  using served = await serveNegotiated();
  served.peer.send(encodeMessage({ messageId: 7, command: 11, flags: MessageFlags.REPLY }));
  assertMatch((await served.closed)!.message, /DMA_READ reply with message id 7, which no request/);
  assertEquals(await served.peer.receive(), undefined);
});

// ---- What is refused, and the connection goes on

const BIG = (1n << 64n) - 1n;
const LIMIT = 1 << 20;
const REFUSED: [what: string, command: number, payload: Uint8Array, errno?: number][] = [
  ["DEVICE_GET_INFO without a payload", DEVICE_GET_INFO, new Uint8Array()],
  ["DEVICE_GET_INFO of 15 bytes", DEVICE_GET_INFO, words(16, 0, 0, 0).subarray(0, 15)],
  ["DEVICE_GET_INFO with argsz 15", DEVICE_GET_INFO, words(15, 0, 0, 0)],
  ["DEVICE_GET_REGION_INFO of 31 bytes", DEVICE_GET_REGION_INFO, new Uint8Array(31).fill(32, 0, 1)],
  ["DEVICE_GET_REGION_INFO with argsz 31", DEVICE_GET_REGION_INFO, words(31, 0, 0, 0, 0, 0, 0, 0)],
  ["DEVICE_GET_REGION_INFO of region 5", DEVICE_GET_REGION_INFO, words(32, 0, 5, 0, 0, 0, 0, 0)],
  [
    "DEVICE_GET_REGION_INFO of region 2^32-1",
    DEVICE_GET_REGION_INFO,
    words(32, 0, 0xffffffff, 0, 0, 0, 0, 0),
  ],
  ["DEVICE_GET_IRQ_INFO of 12 bytes", DEVICE_GET_IRQ_INFO, words(16, 0, 0)],
  ["DEVICE_GET_IRQ_INFO with argsz 0", DEVICE_GET_IRQ_INFO, words(0, 0, 0, 0)],
  ["DEVICE_GET_IRQ_INFO of index 2", DEVICE_GET_IRQ_INFO, words(16, 0, 2, 0)],
  ["DEVICE_GET_IRQ_INFO of index 2^32-1", DEVICE_GET_IRQ_INFO, words(16, 0, 0xffffffff, 0)],
  ["DEVICE_RESET with a payload", DEVICE_RESET, new Uint8Array(1)],
  ["REGION_READ of 15 bytes", REGION_READ, new Uint8Array(15)],
  ["REGION_READ with data", REGION_READ, access(0n, 0, 4, [1, 2, 3, 4])],
  ["REGION_READ of an absent region", REGION_READ, access(0n, 4, 4)],
  ["REGION_READ of no bytes of an absent region", REGION_READ, access(0n, 4, 0)],
  ["REGION_READ of region 2^32-1", REGION_READ, access(0n, 0xffffffff, 4)],
  ["REGION_READ that ends outside", REGION_READ, access(4093n, 0, 4)],
  ["REGION_READ that begins at the end", REGION_READ, access(4096n, 0, 1)],
  ["REGION_READ that wraps", REGION_READ, access(BIG, 0, 4)],
  ["REGION_READ that wraps to 0", REGION_READ, access(BIG - 3n, 0, 4)],
  ["REGION_READ of no bytes outside", REGION_READ, access(4097n, 0, 0)],
  ["REGION_READ beyond the limit", REGION_READ, access(0n, 3, LIMIT + 1)],
  ["REGION_READ of 2^32-1 bytes", REGION_READ, access(0n, 3, 0xffffffff)],
  ["REGION_READ of a region without READ", REGION_READ, access(0n, 2, 4)],
  ["REGION_WRITE of 15 bytes", REGION_WRITE, new Uint8Array(15)],
  ["REGION_WRITE with too few data", REGION_WRITE, access(0n, 0, 4, [1, 2, 3])],
  ["REGION_WRITE with too many data", REGION_WRITE, access(0n, 0, 4, [1, 2, 3, 4, 5])],
  ["REGION_WRITE with a count of 2^32-1", REGION_WRITE, access(0n, 0, 0xffffffff, [1])],
  ["REGION_WRITE of an absent region", REGION_WRITE, access(0n, 4, 1, [1])],
  ["REGION_WRITE that ends outside", REGION_WRITE, access(4095n, 0, 2, [1, 2])],
  ["REGION_WRITE that wraps", REGION_WRITE, access(BIG, 0, 1, [1])],
  ["REGION_WRITE of a region without WRITE", REGION_WRITE, access(0n, 1, 1, [1])],
  ["REGION_WRITE_MULTI that was not agreed on", REGION_WRITE_MULTI, new Uint8Array(8)],
  ["DIRTY_PAGES", Command.DIRTY_PAGES, new Uint8Array(8), ENOTSUP],
  ["command 0", 0, new Uint8Array()],
  ["command 19", 19, new Uint8Array()],
  ["command 65535", 65535, new Uint8Array(100)],
  ["DMA_READ, which is the server's", Command.DMA_READ, new Uint8Array(16)],
];
for (const [what, command, payload, errno = EINVAL] of REFUSED) {
  testFds(`${what} gets ${errno === EINVAL ? "EINVAL" : "ENOTSUP"}`, async () => {
    using served = await serveNegotiated();
    assertEquals((await ask(served.peer, command, payload)).errno, errno);
    // The same without a reply: nothing comes, and the next answer is the next request's.
    served.peer.command(1, command, payload, [], MessageFlags.NO_REPLY);
    assertEquals((await ask(served.peer, DEVICE_GET_INFO, words(16, 0, 0, 0))).errno, 0);
    assertEquals(served.device.bar0.bytes, new BytesRegion(4096).bytes);
    assertEquals(served.errors, []);
  });
}

/** Requests that are right, with which the specification lists no descriptors. */
const WITHOUT_FDS: [what: string, command: number, payload: Uint8Array][] = [
  ["VERSION", VERSION, OFFERED],
  ["DMA_UNMAP", Command.DMA_UNMAP, words(24, 0, 0x1000, 0, 0x1000, 0)],
  ["DEVICE_GET_INFO", DEVICE_GET_INFO, words(16, 0, 0, 0)],
  ["DEVICE_GET_REGION_INFO", DEVICE_GET_REGION_INFO, words(32, 0, 0, 0, 0, 0, 0, 0)],
  ["DEVICE_GET_REGION_IO_FDS", Command.DEVICE_GET_REGION_IO_FDS, words(16, 0, 0, 0)],
  ["DEVICE_GET_IRQ_INFO", DEVICE_GET_IRQ_INFO, words(16, 0, 0, 0)],
  ["DEVICE_SET_IRQS without eventfds", Command.DEVICE_SET_IRQS, words(20, 0x21, 1, 0, 1)],
  ["a teardown of interrupts", Command.DEVICE_SET_IRQS, words(20, 0x21, 0, 0, 0)],
  ["REGION_READ", REGION_READ, access(0n, 0, 4)],
  ["REGION_WRITE", REGION_WRITE, access(0n, 0, 4, [1, 2, 3, 4])],
  ["DEVICE_RESET", DEVICE_RESET, new Uint8Array()],
  ["REGION_WRITE_MULTI", REGION_WRITE_MULTI, RegionWriteMultiRequest.encode({ writes: [] })],
];
for (const [what, command, payload] of WITHOUT_FDS) {
  testFds(`descriptors that come with ${what} are closed, and it is answered`, async () => {
    using event = new EventFd();
    const [a, b] = UnixSocket.pair();
    using socket = new OwnedFd(a.release());
    b.close();
    for (const count of [1, 3, 40]) {
      using served = serve();
      if (command !== VERSION) await negotiate(served.peer, { writeMultiple: true });
      if (command === Command.DMA_UNMAP) {
        const map = words(32, 3, 0, 0, 0x1000, 0, 0x1000, 0);
        assertEquals((await ask(served.peer, Command.DMA_MAP, map)).errno, 0);
      }
      const before = countOpenFds();
      const fds = Array.from({ length: count }, (_, i) => i % 2 ? socket : event.handle);
      assertEquals((await ask(served.peer, command, payload, fds)).errno, 0);
      // Another thread closes sockets.
      await until(() => countOpenFds() === before, "the descriptors to be closed");
      assertEquals((await ask(served.peer, DEVICE_GET_INFO, words(16, 0, 0, 0))).errno, 0);
    }
  });
}

testFds("descriptors change nothing about a request that is wrong", async () => {
  using event = new EventFd();
  using served = await serveNegotiated();
  const before = countOpenFds();
  const wrong: [number, Uint8Array][] = [
    [REGION_READ, access(0x1000n, 0, 4)],
    [DEVICE_RESET, new Uint8Array(1)],
    [Command.DMA_READ, new Uint8Array(16)],
    [99, new Uint8Array()],
  ];
  for (const [command, payload] of wrong) {
    assertEquals((await ask(served.peer, command, payload, [event.handle])).errno, EINVAL);
    assertEquals(countOpenFds(), before);
  }
  assertEquals(served.device.resets, 0);
});

testFds("flags and count of a request for I/O descriptors have to be 0", async () => {
  using served = await serveNegotiated();
  const { DEVICE_GET_REGION_IO_FDS } = Command;
  for (const payload of [words(16, 1, 0, 0), words(16, 0, 0, 1)]) {
    assertEquals((await ask(served.peer, DEVICE_GET_REGION_IO_FDS, payload)).errno, EINVAL);
  }
  const absent = await ask(served.peer, DEVICE_GET_REGION_IO_FDS, words(16, 0, 4, 0));
  assertEquals([absent.errno, absent.payload], [0, words(16, 0, 4, 0)]);
});

// ---- What is served

testFds("device, regions and IRQ indexes are described", async () => {
  using served = await serveNegotiated();
  const { peer } = served;
  assertEquals((await ask(peer, DEVICE_GET_INFO, words(16, 0, 0, 0))).payload, words(16, 3, 5, 2));
  // A later version of the protocol may have longer requests.
  assertEquals(
    (await ask(peer, DEVICE_GET_INFO, words(24, 0, 0, 0, 1, 1))).payload,
    words(16, 3, 5, 2),
  );
  for (const [index, flags, size] of [[0, 3, 4096], [1, 1, 64], [2, 2, 64], [4, 0, 0]] as const) {
    const { payload } = await ask(peer, DEVICE_GET_REGION_INFO, words(32, 0, index, 0, 0, 0, 0, 0));
    assertEquals(payload, words(32, flags, index, 0, size, 0, 0, 0));
  }
  const { payload } = await ask(peer, DEVICE_GET_IRQ_INFO, words(16, 0, 1, 0));
  assertEquals(payload, words(16, 9, 1, 4));
});

/** A device whose region 0 can be mapped in one area. */
function mappable(event: EventFd, fdCount = 1): TestDevice {
  const device = new TestDevice();
  const areas = [{ offset: 0n, size: 0x1000n }];
  device.regions[0] = Object.assign(new BytesRegion(0x2000, 7), {
    fds: new Array<OwnedFd>(fdCount).fill(event.handle),
    fdOffset: 0x5000,
    capabilities: [{ kind: "sparse_mmap" as const, version: 1, areas }],
  });
  return device;
}

testFds(
  "region info says how much room the capabilities need, and passes no descriptor until they fit",
  async () => {
    using event = new EventFd();
    using served = await serveNegotiated({ device: mappable(event) });
    const request = (argsz: number) => words(argsz, 0, 0, 0, 0, 0, 0, 0);
    for (const argsz of [32, 63]) {
      const short = await ask(served.peer, DEVICE_GET_REGION_INFO, request(argsz));
      assertEquals([short.payload.length, short.fds.length], [32, 0]);
      assertEquals(short.payload, words(64, 7, 0, 0, 0x2000, 0, 0x5000, 0)); // MMAP, not CAPS
    }
    for (const argsz of [64, 4096, 0xffffffff]) {
      const whole = await ask(served.peer, DEVICE_GET_REGION_INFO, request(argsz));
      const info = RegionInfoReply.decode(whole.payload);
      assertEquals([info.argsz, info.flags, info.offset], [64, 15, 0x5000n]);
      assertEquals(info.capabilities.length, 1);
      assertEquals(whole.fds.length, 1);
      for (const fd of whole.fds) fd.close();
    }
  },
);

testFds("region info passes no more descriptors than the client takes", async () => {
  using event = new EventFd();
  for (const [maxMsgFds, fdCount, passed] of [[0, 1, 0], [1, 2, 0], [2, 2, 2]] as const) {
    const device = mappable(event, fdCount);
    using served = await serveNegotiated({ device, capabilities: { maxMsgFds } });
    const reply = await ask(served.peer, DEVICE_GET_REGION_INFO, words(64, 0, 0, 0, 0, 0, 0, 0));
    const { flags } = RegionInfoReply.decode(reply.payload);
    assertEquals([reply.fds.length, (flags & RegionFlags.MMAP) !== 0], [passed, passed > 0]);
    for (const fd of reply.fds) fd.close();
  }
});

testFds("region info whose descriptor is closed gets EIO, not silence", async () => {
  const event = new EventFd();
  using served = await serveNegotiated({ device: mappable(event) });
  event.close();
  const request = words(64, 0, 0, 0, 0, 0, 0, 0);
  assertEquals((await ask(served.peer, DEVICE_GET_REGION_INFO, request)).errno, EIO);
  assertEquals(served.errors.map(([, doing]) => doing), ["DEVICE_GET_REGION_INFO"]);
  assertEquals((await ask(served.peer, DEVICE_GET_INFO, words(16, 0, 0, 0))).errno, 0);
});

testFds("regions are read and written at any width and place inside", async () => {
  using served = await serveNegotiated();
  const { peer, device } = served;
  for (const count of [1, 2, 3, 4, 7, 8, 63, 64, 65, 255, 256, 4096]) {
    for (const offset of [0, 1, 4096 - count].filter((at) => at + count <= 4096)) {
      const { payload } = await ask(peer, REGION_READ, access(BigInt(offset), 0, count));
      const data = [...device.bar0.bytes.subarray(offset, offset + count)];
      assertEquals(payload, access(BigInt(offset), 0, count, data));
    }
  }
  const written = await ask(peer, REGION_WRITE, access(4093n, 0, 3, [9, 8, 7]));
  assertEquals(written.payload, access(4093n, 0, 3));
  assertEquals([...device.bar0.bytes.subarray(4092)], [0xfc, 9, 8, 7]);
});

testFds("no bytes are read and written with success, and no hook is called", async () => {
  using served = await serveNegotiated();
  served.device.bar0.read = served.device.bar0.write = () => {
    throw new Error("not to be called");
  };
  for (const command of [REGION_READ, REGION_WRITE]) {
    for (const offset of [0n, 4096n]) {
      const reply = await ask(served.peer, command, access(offset, 0, 0));
      assertEquals([reply.errno, reply.payload], [0, access(offset, 0, 0)]);
    }
  }
});

testFds("1 MiB is read and written with one message", async () => {
  using served = await serveNegotiated();
  const { peer, device } = served;
  peer.command(1, REGION_READ, access(5n, 3, LIMIT));
  // A large reply comes in pieces: the peer puts them together.
  const reply = await peer.expect(REGION_READ);
  const { bytes } = device.regions[3] as BytesRegion;
  assertEquals(reply.payload.length, 16 + LIMIT);
  assert(reply.payload.subarray(16).every((value, i) => value === bytes[5 + i]));
});

testFds("a hook that fills less leaves no bytes of earlier answers", async () => {
  using served = await serveNegotiated();
  const { peer, device } = served;
  await ask(peer, REGION_READ, access(1n, 0, 64));
  device.bar0.read = (_, into) => into.set([5]);
  for (const count of [64, 100]) {
    const { payload } = await ask(peer, REGION_READ, access(0n, 0, count));
    assertEquals(payload.subarray(16), new Uint8Array(count).fill(5, 0, 1));
  }
});

testFds("DEVICE_RESET calls the hook, which may take its time", async () => {
  using served = await serveNegotiated();
  assertEquals((await ask(served.peer, DEVICE_RESET)).payload.length, 0);
  assertEquals(served.device.resets, 1);
  let isDone = false;
  served.device.reset = () => sleep(5).then(() => void (isDone = true));
  assertEquals((await ask(served.peer, DEVICE_RESET)).errno, 0);
  assert(isDone);
});

testFds("no_reply is honoured by all commands, whose effect is the same", async () => {
  using served = await serveNegotiated({ capabilities: { writeMultiple: true } });
  const { peer, device } = served;
  const requests: [number, Uint8Array | undefined][] = [
    [DEVICE_GET_INFO, words(16, 0, 0, 0)],
    [DEVICE_GET_REGION_INFO, words(32, 0, 0, 0, 0, 0, 0, 0)],
    [DEVICE_GET_IRQ_INFO, words(16, 0, 0, 0)],
    [REGION_READ, access(0n, 0, 4)],
    [REGION_WRITE, access(0n, 0, 2, [7, 8])],
    [REGION_WRITE_MULTI, multi({ offset: 2n, region: 0, data: new Uint8Array([9]) })],
    [DEVICE_RESET, undefined],
  ];
  for (const [command, payload] of requests) {
    peer.command(1, command, payload, [], MessageFlags.NO_REPLY);
  }
  assertEquals(
    (await ask(peer, REGION_READ, access(0n, 0, 4))).payload.subarray(16),
    words(0x03090807),
  );
  assertEquals(device.resets, 1);
});

// ---- REGION_WRITE_MULTI

function multi(...writes: SmallWrite[]): Uint8Array {
  return RegionWriteMultiRequest.encode({ writes });
}

function small(offset: number, ...data: number[]): SmallWrite {
  return { offset: BigInt(offset), region: 0, data: new Uint8Array(data) };
}

testFds(
  "REGION_WRITE_MULTI does its writes in order, synchronous and asynchronous ones",
  async () => {
    using served = await serveNegotiated({ capabilities: { writeMultiple: true } });
    const { peer, device } = served;
    const writes = Array.from({ length: 200 }, (_, i) => small(i % 50, i, i + 1));
    const reply = await ask(peer, REGION_WRITE_MULTI, multi(...writes));
    assertEquals(reply.payload, words(200, 0));
    assertEquals([...device.bar0.bytes.subarray(0, 2)], [150, 151]);
    const order: number[] = [];
    device.bar0.write = async (offset, data) => {
      if (offset % 2 === 0) await sleep(1);
      order.push(offset, ...data); // the data hold until the hook is done
    };
    await ask(peer, REGION_WRITE_MULTI, multi(small(4, 1), small(5, 2), small(6, 3)));
    assertEquals(order, [4, 1, 5, 2, 6, 3]);
  },
);

testFds(
  "REGION_WRITE_MULTI says how many were done when one fails, or fails if none was",
  async () => {
    using served = await serveNegotiated({ capabilities: { writeMultiple: true } });
    const { peer, device, errors } = served;
    const middle = await ask(
      peer,
      REGION_WRITE_MULTI,
      multi(small(0, 9), small(4096, 1), small(1, 9)),
    );
    assertEquals([middle.errno, middle.payload], [0, words(1, 0)]);
    assertEquals([...device.bar0.bytes.subarray(0, 2)], [9, 1]);
    assertEquals((await ask(peer, REGION_WRITE_MULTI, multi(small(4096, 1)))).errno, EINVAL);
    assertEquals((await ask(peer, REGION_WRITE_MULTI, multi())).payload, words(0, 0));
    assertEquals(errors, []);
    const failure = new Error("bug");
    device.bar0.write = (offset) => {
      if (offset === 1) throw failure;
    };
    const failed = await ask(
      peer,
      REGION_WRITE_MULTI,
      multi(small(0, 1), small(1, 1), small(2, 1)),
    );
    assertEquals(failed.payload, words(1, 0));
    assertEquals(errors, [[failure, "REGION_WRITE_MULTI"]]);
    assertEquals((await ask(peer, REGION_WRITE_MULTI, multi(small(1, 1)))).errno, EIO);
    assertEquals(errors.length, 2);
  },
);

testFds(
  "REGION_WRITE_MULTI with counts that don't fit gets EINVAL, and nothing is written",
  async () => {
    using served = await serveNegotiated({ capabilities: { writeMultiple: true } });
    const { peer, device } = served;
    const good = multi(small(0, 9), small(1, 9));
    const patch = (at: number, value: number) => {
      const bytes = good.slice();
      new DataView(bytes.buffer).setUint32(at, value, true);
      return bytes;
    };
    for (
      const payload of [
        new Uint8Array(7),
        patch(0, 3),
        patch(0, 1),
        patch(4, 0xffffffff),
        patch(8 + 12, 0), // count of the first
        patch(8 + 24 + 12, 9), // of the second
        good.subarray(0, good.length - 1),
      ]
    ) {
      assertEquals((await ask(peer, REGION_WRITE_MULTI, payload)).errno, EINVAL);
    }
    assertEquals(device.bar0.bytes[0], 0);
  },
);

// ---- Hooks

for (const isAsync of [false, true]) {
  const kind = isAsync ? "an asynchronous hook" : "a hook";
  const failing = (error: unknown) =>
    isAsync ? () => sleep(1).then(() => Promise.reject(error)) : () => {
      throw error;
    };

  testFds(
    `${kind} that throws a DeviceError answers with its errno, and nobody is told`,
    async () => {
      using served = await serveNegotiated();
      const { device, peer, errors } = served;
      device.bar0.read = device.bar0.write = device.reset = failing(new DeviceError(ENOTSUP));
      assertEquals((await ask(peer, REGION_READ, access(0n, 0, 4))).errno, ENOTSUP);
      assertEquals((await ask(peer, REGION_WRITE, access(0n, 0, 1, [1]))).errno, ENOTSUP);
      assertEquals((await ask(peer, DEVICE_RESET)).errno, ENOTSUP);
      assertEquals(errors, []);
    },
  );

  testFds(`${kind} that throws anything else answers EIO, and onError hears of it`, async () => {
    for (const failure of [new TypeError("bug"), "a string", undefined]) {
      using served = await serveNegotiated();
      const { device, peer, errors } = served;
      device.bar0.read = device.bar0.write = device.reset = failing(failure);
      assertEquals((await ask(peer, REGION_READ, access(0n, 0, 4))).errno, EIO);
      assertEquals((await ask(peer, REGION_WRITE, access(0n, 0, 1, [1]))).errno, EIO);
      assertEquals((await ask(peer, DEVICE_RESET)).errno, EIO);
      peer.command(1, DEVICE_RESET, undefined, [], MessageFlags.NO_REPLY);
      assertEquals((await ask(peer, DEVICE_GET_INFO, words(16, 0, 0, 0))).errno, 0);
      const doing = ["REGION_READ", "REGION_WRITE", "DEVICE_RESET", "DEVICE_RESET"];
      assertEquals(errors.map(([, what]) => what), doing);
      for (const [error] of errors) assertStrictEquals(error, failure);
    }
  });
}

testFds("asynchronous hooks are called one at a time, in order, and their views hold", async () => {
  using served = await serveNegotiated();
  const { device, peer } = served;
  const done: [number, number[]][] = [];
  let running = 0;
  device.bar0.write = async (offset, data) => {
    assertEquals(++running, 1);
    await sleep(offset % 3);
    done.push([offset, [...data]]);
    running--;
  };
  device.bar0.read = async (offset, into) => {
    assertEquals(++running, 1);
    await sleep(1);
    into.fill(offset);
    running--;
  };
  for (let i = 0; i < 20; i++) {
    peer.command(i, REGION_WRITE, access(BigInt(i), 0, 3, [i, i + 1, i + 2]));
    if (i % 5 === 0) await sleep(1); // some arrive while a hook is under way
  }
  peer.command(50, REGION_READ, access(77n, 0, 4));
  peer.command(51, REGION_READ, access(78n, 0, 4));
  for (let i = 0; i < 20; i++) assertEquals((await peer.expect(REGION_WRITE)).messageId, i);
  assertEquals((await peer.expect(REGION_READ)).payload.subarray(16), new Uint8Array(4).fill(77));
  assertEquals((await peer.expect(REGION_READ)).payload.subarray(16), new Uint8Array(4).fill(78));
  assertEquals(done, Array.from({ length: 20 }, (_, i) => [i, [i, i + 1, i + 2]]));
});

testFds("a connection that ends during a hook is over when the hook is", async () => {
  for (const end of ["client", "server"] as const) {
    using served = await serveNegotiated();
    const { device, peer, connection, errors } = served;
    const gate = Promise.withResolvers<void>();
    let isReading = false;
    device.bar0.read = () => {
      isReading = true;
      return gate.promise;
    };
    peer.command(1, REGION_READ, access(0n, 0, 4));
    peer.command(2, DEVICE_RESET);
    await until(() => isReading, "the hook");
    let isClosed = false;
    served.closed.then(() => isClosed = true);
    if (end === "client") peer.close();
    else connection.close();
    await sleep(5);
    assert(!isClosed);
    gate.resolve();
    await served.closed;
    // What a client asked before it left is done; nothing of one that was cut off is.
    assertEquals([device.resets, errors.length], [end === "client" ? 1 : 0, 0]);
  }
});

for (const hasTwin of [false, true]) {
  testFds(
    `what a client posted before it left is done${hasTwin ? ", with a twin too" : ""}`,
    async () => {
      const capabilities = { maxMsgFds: 1, twinSocket: { supported: hasTwin } };
      using served = serve();
      const { device, peer } = served;
      const reply = await ask(peer, VERSION, encodeVersion({ major: 0, minor: 2, capabilities }));
      assertEquals(reply.fds.length, hasTwin ? 1 : 0);
      const done: number[] = [];
      device.bar0.write = async (offset) => {
        if (offset === 0) await sleep(5); // then all has come
        assertEquals(device.disconnects, 0);
        done.push(offset);
      };
      const flags = MessageFlags.NO_REPLY;
      const posted = Array.from({ length: 300 }, (_, i) => { // more than are read ahead
        const header = { messageId: i, command: REGION_WRITE, flags };
        return [...encodeMessage(header, access(BigInt(i), 0, 1, [i & 0xff]))];
      });
      peer.send(new Uint8Array(posted.flat()));
      closeAll(reply.fds); // the twin's end is seen first
      peer.close();
      await served.closed;
      assertEquals(done, Array.from({ length: 300 }, (_, i) => i));
      assertEquals(device.disconnects, 1);
    },
  );
}

testFds("close() ends at once what is done for a client that has left", async () => {
  using served = await serveNegotiated();
  const { device, peer, connection } = served;
  const gate = Promise.withResolvers<void>();
  let writes = 0;
  device.bar0.write = () => {
    writes++;
    return gate.promise;
  };
  for (let i = 0; i < 5; i++) peer.command(i, REGION_WRITE, access(0n, 0, 1, [1]));
  while (writes === 0) await sleep(1);
  peer.close();
  await sleep(5); // it has seen that
  connection.close();
  gate.resolve();
  await served.closed;
  assertEquals(writes, 1);
});

testFds("a client that breaks the protocol has done what came before, and no more", async () => {
  using served = await serveNegotiated();
  const { device, peer } = served;
  const gate = Promise.withResolvers<void>();
  device.bar0.write = () => gate.promise;
  peer.command(1, REGION_WRITE, access(0n, 0, 1, [1]));
  peer.command(2, DEVICE_RESET);
  peer.send(new Uint8Array(16));
  peer.command(3, DEVICE_RESET);
  await sleep(5);
  gate.resolve();
  assertInstanceOf(await served.closed, ProtocolError);
  assertEquals(device.resets, 1);
});

testFds(
  "close() ends the connection once, and the client is told by the end of the stream",
  async () => {
    using served = await serveNegotiated();
    served.connection.close();
    served.connection.close();
    assertEquals(await served.closed, undefined);
    assertEquals(await served.peer.receive(), undefined);
  },
);

// ---- Many, slow, and broken clients

/** Drains replies without looking at them, until `count` bytes came or the connection ends. */
async function drain(peer: RawPeer, count: number): Promise<number> {
  const buffer = new IoBuffer(1 << 20);
  let total = 0;
  while (total < count) {
    const came = peer.socket.receive(buffer, 0, buffer.length);
    if (came > 0) total += came;
    else if (came === -EAGAIN) await sleep();
    else break;
  }
  return total;
}

testFds("20000 pipelined requests are answered in order", async () => {
  using served = await serveNegotiated();
  const { peer } = served;
  const batch = new Uint8Array(200 * 32);
  for (let at = 0; at < 20_000; at += 200) {
    for (let i = 0; i < 200; i++) {
      const payload = access(BigInt((at + i) % 4000), 0, 4);
      batch.set(
        encodeMessage({ messageId: (at + i) & 0xffff, command: REGION_READ }, payload),
        i * 32,
      );
    }
    peer.send(batch);
    for (let i = 0; i < 200; i++) {
      const reply = await peer.receive();
      assertEquals(reply?.messageId, at + i);
      assertEquals(reply!.payload[16], (at + i) % 4000 & 0xff);
    }
  }
});

testFds("a slow reader gets all of its answers", async () => {
  using served = await serveNegotiated();
  const { peer } = served;
  for (let i = 0; i < 70; i++) peer.command(i, REGION_READ, access(0n, 3, LIMIT));
  await sleep(20);
  const size = 70 * (32 + LIMIT); // more than is ever queued
  assertEquals(await drain(peer, size), size);
});

testFds("a client may go at any byte of a request", async () => {
  const request = encodeMessage(
    { messageId: 5, command: REGION_WRITE },
    access(0n, 0, 4, [1, 2, 3, 4]),
  );
  for (let sent = 1; sent < request.length; sent++) {
    using served = await serveNegotiated();
    served.peer.send(request.subarray(0, sent));
    served.peer.close();
    const cause = await served.closed;
    assertInstanceOf(cause, ConnectionError);
    assertMatch(cause.message, /^The client closed the connection in the middle of a message/);
    assertEquals(served.device.bar0.bytes[0], 0);
  }
});

testFds("a request one byte at a time is served", async () => {
  using served = await serveNegotiated();
  for (const byte of encodeMessage({ messageId: 5, command: REGION_READ }, access(2n, 0, 2))) {
    served.peer.send(new Uint8Array([byte]));
    await sleep();
  }
  assertEquals((await served.peer.expect(REGION_READ)).payload, access(2n, 0, 2, [2, 3]));
});

/** Valid requests of every kind, to be broken. */
const VALID: [number, Uint8Array][] = [
  [VERSION, OFFERED],
  [DEVICE_GET_INFO, words(16, 0, 0, 0)],
  [DEVICE_GET_REGION_INFO, words(64, 0, 0, 0, 0, 0, 0, 0)],
  [DEVICE_GET_IRQ_INFO, words(16, 0, 0, 0)],
  [REGION_READ, access(4n, 0, 8)],
  [REGION_READ, access(4n, 3, 600)],
  [REGION_WRITE, access(4n, 0, 4, [1, 2, 3, 4])],
  [REGION_WRITE_MULTI, multi(small(0, 1), small(8, 1, 2, 3, 4, 5, 6, 7, 8))],
  [DEVICE_RESET, new Uint8Array()],
  [Command.DEVICE_SET_IRQS, words(20, 0x24, 0, 0, 1)],
  [Command.DMA_MAP, words(32, 3, 0, 0, 0, 0, 4096, 0)],
  [Command.DEVICE_FEATURE, words(16, 1 << 16 | 2, 0, 0)],
];

testFds("5000 broken requests on one connection after another leave nothing behind", async () => {
  using event = new EventFd();
  const device = mappable(event);
  const broken = fc.record({
    which: fc.nat(VALID.length - 1),
    flips: fc.array(fc.record({ at: fc.nat(100), bits: fc.integer({ min: 1, max: 255 }) }), {
      minLength: 1,
      maxLength: 3,
    }),
    // Those in the header mostly end the connection: most are in the payload.
    inHeader: fc.integer({ min: 0, max: 9 }).map((value) => value === 0),
    fdCount: fc.oneof({ weight: 5, arbitrary: fc.constant(0) }, fc.integer({ min: 1, max: 3 })),
  });
  const errors: unknown[] = [];
  await fc.assert(
    fc.asyncProperty(
      fc.array(broken, { minLength: 20, maxLength: 20 }),
      fc.boolean(),
      async (requests, negotiates) => {
        const served = serve({ device });
        const { peer } = served;
        if (negotiates) await negotiate(peer, { writeMultiple: true, maxMsgFds: 8 });
        for (const { which, flips, inHeader, fdCount } of requests) {
          const [command, payload] = VALID[which]!;
          const message = encodeMessage({ messageId: 1, command }, payload);
          for (const { at, bits } of flips) {
            const index = inHeader ? at % 16 : 16 + at % Math.max(1, message.length - 16);
            if (index < message.length) message[index]! ^= bits;
          }
          try {
            peer.send(message, new Array<OwnedFd>(fdCount).fill(event.handle));
          } catch {
            break; // the server has cut it off
          }
        }
        await sleep();
        peer.close();
        await served.closed;
        errors.push(...served.errors);
      },
    ),
    { numRuns: 250 },
  );
  assertEquals(errors, [], "what hooks threw");
  await idle();
  const before = countOpenFds();
  using served = await serveNegotiated({ device });
  assertEquals((await ask(served.peer, DEVICE_GET_INFO, words(16, 0, 0, 0))).errno, 0);
  assert(countOpenFds() <= before + 3);
});
