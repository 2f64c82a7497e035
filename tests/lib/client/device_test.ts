import {
  assert,
  assertEquals,
  assertInstanceOf,
  assertMatch,
  assertRejects,
  assertStrictEquals,
} from "@std/assert";
import fc from "fast-check";
import { EINVAL, EIO } from "../../../ffi/errno.ts";
import { EventFd } from "../../../ffi/event.ts";
import type { OwnedFd } from "../../../ffi/fd.ts";
import type { Device } from "../../../lib/client/device.ts";
import {
  ConnectionError,
  ProtocolError,
  RemoteError,
  TimeoutError,
} from "../../../lib/base/errors.ts";
import { parseConfigSpace } from "../../../lib/pci/config_space.ts";
import { RegionReadReply, RegionReadRequest } from "../../../lib/wire/access.ts";
import { Command } from "../../../lib/wire/command.ts";
import { DeviceInfoReply } from "../../../lib/wire/device.ts";
import {
  DeviceFeatureReply,
  DeviceFeatureRequest,
  DeviceState,
} from "../../../lib/wire/feature.ts";
import { IrqInfoReply } from "../../../lib/wire/irq.ts";
import {
  type RegionCapability,
  RegionFlags,
  RegionInfoReply,
  RegionInfoRequest,
} from "../../../lib/wire/region.ts";
import { encodeVersion } from "../../../lib/wire/version.ts";
import { testFds } from "../../_fds.ts";
import type { RawPeer } from "../../_raw_peer.ts";
import { connectScripted, type ScriptedRequest } from "../_scripted_server.ts";
import { PATIENCE_MS, until } from "../../_until.ts";

const { READ, WRITE, MMAP, CAPS } = RegionFlags;

/** Serves a device whose server answers one command as `answer` says, and all others well. */
async function withDevice(
  command: number,
  answer: (peer: RawPeer, request: ScriptedRequest, index: number) => boolean | void,
  body: (device: Device) => Promise<void>,
): Promise<void> {
  const [device, server] = await connectScripted((peer, request, index) =>
    request.command === command ? answer(peer, request, index) : false
  );
  try {
    await body(device);
  } finally {
    device.close();
    server.close();
  }
}

/** Asserts that it fails with a ProtocolError that ends the connection. */
async function assertBroken(device: Device, asking: () => Promise<unknown>, message: RegExp) {
  const error = await assertRejects(asking, ProtocolError);
  assertMatch(error.message, message);
  assertMatch(error.message, /^[A-Z][^\n]*[^.]$/);
  assertEquals(device.state, "CLOSED");
  assertStrictEquals(device.proxy.cause, error);
  assertStrictEquals(await assertRejects(() => device.irqInfo(4)), error);
}

// ---- info()

testFds("info() is asked once and remembered", async () => {
  const [device, server] = await connectScripted(() => false);
  const info = await device.info();
  assertEquals(info, { flags: 3, numRegions: 9, numIrqs: 5 });
  assertStrictEquals(await device.info(), info);
  assertEquals(server.count, 2);
  device.close();
  server.close();
});

for (
  const [numRegions, numIrqs, message] of [
    [0xffffffff, 5, /says that the device has 4294967295 regions; the limit is 256$/],
    [257, 5, /says that the device has 257 regions; the limit is 256$/],
    [9, 0xffffffff, /says that the device has 4294967295 IRQ indexes; the limit is 256$/],
  ] as const
) {
  testFds(`info() refuses ${numRegions} regions and ${numIrqs} IRQ indexes`, () =>
    withDevice(
      Command.DEVICE_GET_INFO,
      (peer, request) =>
        peer.reply(request, DeviceInfoReply.encode({ argsz: 16, flags: 2, numRegions, numIrqs })),
      (device) => assertBroken(device, () => device.info(), message),
    ));
}

testFds("info() refuses a short reply and takes a long one", async () => {
  const whole = DeviceInfoReply.encode({ argsz: 16, flags: 2, numRegions: 256, numIrqs: 256 });
  await withDevice(
    Command.DEVICE_GET_INFO,
    (peer, request) => peer.reply(request, whole.subarray(0, 15)),
    (device) => assertBroken(device, () => device.info(), /15 bytes came, 16 are needed$/),
  );
  await withDevice(
    Command.DEVICE_GET_INFO,
    (peer, request) => peer.reply(request, new Uint8Array([...whole, 1, 2, 3])),
    async (device) => assertEquals((await device.info()).numIrqs, 256),
  );
});

testFds("info() says so when the device is stopped for a migration", async () => {
  for (
    const [state, message] of [
      [DeviceState.STOP, /the device is stopped for a migration \(state STOP\)/],
      [DeviceState.STOP_COPY, /the device is stopped for a migration \(state STOP_COPY\)/],
      [DeviceState.RESUMING, /the device is stopped for a migration \(state RESUMING\)/],
      [DeviceState.RUNNING, /^Cannot get the device info: the server answered EINVAL [^;]*$/],
      [99, /^Cannot get the device info: the server answered EINVAL [^;]*$/],
    ] as const
  ) {
    const [device, server] = await connectScripted((peer, request) => {
      if (request.command === Command.DEVICE_GET_INFO) return peer.fail(request, EINVAL);
      if (request.command !== Command.DEVICE_FEATURE) return false;
      const { flags } = DeviceFeatureRequest.decode(request.payload);
      assertEquals(flags, 1 << 16 | 2);
      const data = new Uint8Array([state, 0, 0, 0, 0, 0, 0, 0]);
      peer.reply(request, DeviceFeatureReply.encode({ argsz: 16, flags, data }));
    });
    const error = await assertRejects(() => device.info(), RemoteError);
    assertMatch(error.message, message);
    assertEquals([error.errno, error.code], [EINVAL, "EINVAL"]);
    assertEquals(device.state, "CONNECTED");
    device.close();
    server.close();
  }
});

testFds("info() passes the refusal on when asking for its reason fails as well", async () => {
  for (const answer of ["refuse", "nonsense", "close", "silence"]) {
    const [device, server] = await connectScripted((peer, request) => {
      if (request.command === Command.DEVICE_GET_INFO) return peer.fail(request, EINVAL);
      if (request.command !== Command.DEVICE_FEATURE) return false;
      if (answer === "refuse") peer.fail(request, EINVAL);
      else if (answer === "nonsense") peer.reply(request, new Uint8Array(3));
      else if (answer === "close") peer.socket.shutdown();
    });
    const timeoutMs = answer === "silence" ? 1000 : PATIENCE_MS;
    const error = await assertRejects(() => device.info({ timeoutMs }), RemoteError);
    assertMatch(error.message, /^Cannot get the device info: the server answered EINVAL [^;]*$/);
    device.close();
    server.close();
  }
});

testFds("info() can be called off while the reason of a refusal is asked for", async () => {
  const controller = new AbortController();
  const reason = new Error("enough");
  const [device, server] = await connectScripted((peer, request) => {
    if (request.command === Command.DEVICE_GET_INFO) return peer.fail(request, EINVAL);
    if (request.command !== Command.DEVICE_FEATURE) return false;
    controller.abort(reason);
  });
  const { signal } = controller;
  assertStrictEquals(await assertRejects(() => device.info({ signal })), reason);
  device.close();
  server.close();
});

testFds("info() does not look for a reason of other errors", async () => {
  const [device, server] = await connectScripted((peer, request) =>
    request.command === Command.DEVICE_GET_INFO ? peer.fail(request, EIO) : false
  );
  assertEquals((await assertRejects(() => device.info(), RemoteError)).code, "EIO");
  assertEquals(server.count, 2);
  device.close();
  server.close();
});

testFds("info() succeeds after one that timed out, whose answer comes late", async () => {
  let late: ScriptedRequest | undefined;
  const [device, server] = await connectScripted((_, request, index) => {
    if (index !== 1) return false;
    late = request;
  });
  const error = await assertRejects(() => device.info({ timeoutMs: 20 }), TimeoutError);
  assertMatch(
    error.message,
    /^Cannot get the device info: the server did not answer within 20 ms$/,
  );
  server.peer.reply(
    late!,
    DeviceInfoReply.encode({ argsz: 16, flags: 0, numRegions: 1, numIrqs: 1 }),
  );
  assertEquals((await device.info()).numRegions, 9);
  device.close();
  server.close();
});

// ---- regionInfo()

/** A region info reply, from its parts. */
function regionInfo(
  parts: Partial<{ index: number; flags: number; size: bigint; capabilities: RegionCapability[] }>,
): Uint8Array {
  return RegionInfoReply.encode({
    argsz: 32,
    index: 0,
    flags: READ | WRITE,
    size: 0x4000n,
    offset: 0n,
    capabilities: [],
    ...parts,
  });
}

/** Changes 32-bit words of a reply. */
function patched(reply: Uint8Array, words: Record<number, number>): Uint8Array {
  const view = new DataView(reply.buffer);
  for (const [at, value] of Object.entries(words)) view.setUint32(Number(at), value, true);
  return reply;
}

/** A reply with one area, then a type; its argsz says that it is whole. */
function chained(): Uint8Array {
  const capabilities: RegionCapability[] = [
    { kind: "sparse_mmap", version: 1, areas: [{ offset: 0x1000n, size: 0x1000n }] },
    { kind: "type", version: 1, type: 1, subtype: 2 },
  ];
  return patched(regionInfo({ flags: READ | MMAP, capabilities }), { 0: 32 });
}

const BAD_REGIONS: [what: string, reply: () => Uint8Array, message: RegExp][] = [
  ["that is too short", () => regionInfo({}).subarray(0, 31), /31 bytes came, 32 are needed$/],
  [
    "about another index",
    () => regionInfo({ index: 1 }),
    /answered about region 1, asked about 0$/,
  ],
  [
    "about index 2^32-1",
    () => regionInfo({ index: 0xffffffff }),
    /answered about region 4294967295, asked about 0$/,
  ],
  [
    "with a capability inside the fixed part",
    () => patched(chained(), { 12: 8 }),
    /a capability is at offset 8, inside the fixed part$/,
  ],
  [
    "with a capability outside",
    () => patched(chained(), { 12: 0xfffffff8 }),
    /a capability is at offset 4294967288, the reply ends at 80$/,
  ],
  [
    "with a capability that ends outside",
    () => patched(chained(), { 12: 73 }),
    /a capability is at offset 73, the reply ends at 80$/,
  ],
  [
    "with a chain that loops",
    () => patched(chained(), { 68: 32 }),
    /the chain of capabilities loops at offset 32$/,
  ],
  [
    "with a capability that is its own next",
    () => patched(chained(), { 36: 32 }),
    /the chain of capabilities loops at offset 32$/,
  ],
  [
    "with 2^32-1 areas",
    () => patched(chained(), { 40: 0xffffffff }),
    /4294967295 sparse areas need \d+ bytes, there are \d+$/,
  ],
  [
    "with an area outside the region",
    () => patched(chained(), { 56: 0x3001 }),
    /sparse area 0 \(offset 0x1000, size 0x3001\) ends after the region \(size 0x4000\)$/,
  ],
  [
    "with an area that wraps",
    () => patched(chained(), { 48: 0xfffff000, 52: 0xffffffff, 56: 0x2000 }),
    /sparse area 0 .* ends after the region/,
  ],
  [
    "that wants 2^32-1 bytes",
    () => patched(regionInfo({}), { 0: 0xffffffff }),
    /wants 4294967295 bytes of room for the info of bar0, the limit is 65536$/,
  ],
];
for (const [what, reply, message] of BAD_REGIONS) {
  testFds(`regionInfo() refuses a reply ${what}`, () =>
    withDevice(
      Command.DEVICE_GET_REGION_INFO,
      (peer, request) => peer.reply(request, reply()),
      (device) => assertBroken(device, () => device.regionInfo(0), message),
    ));
}

testFds("regionInfo() asks again with the room that the server wants, then remembers", async () => {
  using event = new EventFd();
  const argszs: number[] = [];
  const capabilities: RegionCapability[] = [
    { kind: "sparse_mmap", version: 1, areas: [{ offset: 0n, size: 0x1000n }] },
  ];
  await withDevice(
    Command.DEVICE_GET_REGION_INFO,
    (peer, request) => {
      const { argsz } = RegionInfoRequest.decode(request.payload);
      argszs.push(argsz);
      const whole = patched(regionInfo({ flags: READ | MMAP, capabilities }), { 0: 64 });
      // The first answer has a descriptor as well, which no caller needs.
      const reply = argsz < whole.length ? patched(whole.slice(0, 32), { 4: 5, 12: 0 }) : whole;
      peer.reply(request, reply, [event.handle]);
    },
    async (device) => {
      const info = await device.regionInfo(0);
      assertEquals([info.flags, info.size, info.fds.length], [READ | MMAP | CAPS, 0x4000n, 1]);
      assertEquals(info.capabilities, capabilities);
      assert(info.fds[0]!.isOpen);
      assertStrictEquals(await device.regionInfo(0), info);
      assertEquals(argszs, [32, 64]);
      device.close();
      assert(!info.fds[0]!.isOpen);
    },
  );
});

testFds("regionInfo() gives up on a server that wants ever more room", async () => {
  using event = new EventFd();
  let count = 0;
  await withDevice(
    Command.DEVICE_GET_REGION_INFO,
    (peer, request) => {
      const { argsz } = RegionInfoRequest.decode(request.payload);
      count++;
      const reply = patched(regionInfo({ flags: READ | MMAP }), { 0: argsz + 16 });
      peer.reply(request, reply, [event.handle]);
    },
    (device) =>
      assertBroken(
        device,
        () => device.regionInfo(0),
        /wants ever more room for the info of bar0$/,
      ),
  );
  assertEquals(count, 3);
});

/** The region 0 of a server that passes `fdCount` descriptors with it. */
async function withPassed(
  reply: Uint8Array,
  fdCount: number,
  body: (device: Device) => Promise<void>,
): Promise<void> {
  using event = new EventFd();
  await withDevice(
    Command.DEVICE_GET_REGION_INFO,
    (peer, request) => peer.reply(request, reply, new Array<OwnedFd>(fdCount).fill(event.handle)),
    body,
  );
}

testFds(
  "regionInfo() keeps one descriptor where the server passes one for each area",
  () =>
    withPassed(chained(), 3, async (device) => {
      const { fds } = await device.regionInfo(0);
      assertEquals(fds.map((fd) => fd.isOpen), [true]);
    }),
);

testFds("regionInfo() keeps the descriptors that areas with files of their own name", async () => {
  const areas = [
    { offset: 0n, size: 0x1000n, fdOffset: 0n, fdIndex: 1 },
    { offset: 0x1000n, size: 0x1000n, fdOffset: 0n, fdIndex: 0 },
  ];
  const capabilities = [{ kind: "sparse_mmap_fds" as const, version: 1, areas }];
  const reply = patched(regionInfo({ flags: READ | MMAP, capabilities }), { 0: 32 });
  await withPassed(reply, 3, async (device) => {
    assertEquals((await device.regionInfo(0)).fds.length, 2);
  });
  await withPassed(reply, 1, (device) =>
    assertBroken(
      device,
      () => device.regionInfo(0),
      /says that areas of bar0 are in 2 files, but passed 1 file descriptor$/,
    ));
});

testFds(
  "regionInfo() refuses descriptors of a region that can't be mapped",
  () =>
    withPassed(regionInfo({}), 2, (device) =>
      assertBroken(
        device,
        () => device.regionInfo(0),
        /passed 2 file descriptors with bar0, which can't be mapped$/,
      )),
);

testFds("regionInfo() closes descriptors of a reply that makes no sense", () =>
  withPassed(
    patched(chained(), { 68: 32 }),
    2,
    (device) => assertBroken(device, () => device.regionInfo(0), /loops at offset 32$/),
  ));

testFds(
  "regionInfo() takes a region that can be mapped without a descriptor",
  () =>
    withPassed(regionInfo({ flags: READ | MMAP }), 0, async (device) => {
      assertEquals((await device.regionInfo(0)).fds, []);
    }),
);

testFds(
  "regionInfo() asked twice at once gives the same, and keeps one descriptor",
  () =>
    withPassed(chained(), 1, async (device) => {
      const [first, second] = await Promise.all([device.regionInfo(0), device.regionInfo(0)]);
      assertStrictEquals(first, second);
      assert(first.fds[0]!.isOpen);
    }),
);

testFds("regionInfo() closes what came if the device was closed meanwhile", async () => {
  using event = new EventFd();
  const [device, server] = await connectScripted((_, { command }) => isVersion(command));
  const asking = device.regionInfo(0);
  await Promise.resolve(); // it is sent
  server.peer.reply({ messageId: 2, command: Command.DEVICE_GET_REGION_INFO }, chained(), [
    event.handle,
  ]);
  server.peer.reply({ messageId: 3, command: Command.DEVICE_RESET });
  device.proxy.requestSync(Command.DEVICE_RESET); // takes in both replies
  device.close();
  await assertRejects(() => asking, ConnectionError, "was closed");
  server.close();
});

/** For a server that answers VERSION and no more. */
function isVersion(command: number): false | undefined {
  return command === Command.VERSION ? false : undefined;
}

function nextTurn(): Promise<void> {
  return new Promise((resolve) => setTimeout(resolve, 0));
}

testFds("regionInfo() passes a refusal on, and the connection goes on", () =>
  withDevice(
    Command.DEVICE_GET_REGION_INFO,
    (peer, request) => peer.fail(request, EINVAL),
    async (device) => {
      const error = await assertRejects(() => device.regionInfo(12), RemoteError);
      assertMatch(error.message, /^Cannot get the info of region 12: the server answered EINVAL/);
      assertEquals((await device.info()).numRegions, 9);
    },
  ));

testFds("regionInfo() refuses an index that no message holds, before it is sent", async () => {
  const [device, server] = await connectScripted(() => false);
  for (const index of [-1, 0.5, 2 ** 32]) {
    await assertRejects(() => device.regionInfo(index), RangeError);
    await assertRejects(() => device.irqInfo(index), RangeError);
    await assertRejects(() => device.readRegion(index, 0n, 4), RangeError);
  }
  assertEquals([server.count, device.state], [1, "CONNECTED"]);
  device.close();
  server.close();
});

testFds("regionInfo() takes capabilities beyond a small max_data_xfer_size", async () => {
  const areas = Array.from({ length: 1000 }, (_, i) => ({ offset: BigInt(i), size: 1n }));
  const capabilities = [{ kind: "sparse_mmap" as const, version: 1, areas }];
  const [device, server] = await connectScripted(
    (peer, request) => {
      if (request.command !== Command.DEVICE_GET_REGION_INFO) return false;
      peer.reply(request, patched(regionInfo({ flags: READ | MMAP, capabilities }), { 0: 32 }));
    },
    { capabilities: { maxDataXferSize: 4096 } },
  );
  assertEquals((await device.regionInfo(0)).capabilities, capabilities);
  device.close();
  server.close();
});

// ---- irqInfo()

testFds("irqInfo() is asked once for each index and remembered", async () => {
  const [device, server] = await connectScripted(() => false);
  const irq = await device.irqInfo(2);
  assertEquals(irq, { index: 2, flags: 1, count: 1 });
  assertStrictEquals(await device.irqInfo(2), irq);
  assertEquals((await device.irqInfo(1)).index, 1);
  assertEquals(server.count, 3);
  device.close();
  server.close();
});

testFds("irqInfo() refuses a reply about another index, and a short one", async () => {
  const reply = IrqInfoReply.encode({ argsz: 16, flags: 1, index: 3, count: 0xffffffff });
  await withDevice(
    Command.DEVICE_GET_IRQ_INFO,
    (peer, request) => peer.reply(request, reply),
    (device) => assertBroken(device, () => device.irqInfo(2), /about IRQ 3, asked about 2$/),
  );
  await withDevice(
    Command.DEVICE_GET_IRQ_INFO,
    (peer, request) => peer.reply(request, reply.subarray(0, 12)),
    (device) => assertBroken(device, () => device.irqInfo(3), /12 bytes came, 16 are needed$/),
  );
});

// ---- readRegion()

for (
  const [what, sent, message] of [
    ["fewer bytes", 3, /answered 3 bytes to a request to read 4 bytes of bar0 at 0x10$/],
    ["no bytes", 0, /answered 0 bytes to a request to read 4 bytes of bar0 at 0x10$/],
    ["more bytes", 5, /answered 5 bytes to a request to read 4 bytes of bar0 at 0x10$/],
  ] as const
) {
  testFds(`readRegion() refuses ${what} than were asked for`, () =>
    withDevice(
      Command.REGION_READ,
      (peer, request) => {
        const { region, offset } = RegionReadRequest.decode(request.payload);
        peer.reply(request, RegionReadReply.encode({ region, offset, data: new Uint8Array(sent) }));
      },
      (device) => assertBroken(device, () => device.readRegion(0, 0x10n, 4), message),
    ));
}

testFds("readRegion() refuses a reply whose count is not what came", () =>
  withDevice(
    Command.REGION_READ,
    (peer, request) => peer.reply(request, new Uint8Array([...request.payload, 1, 2, 3])),
    (device) =>
      assertBroken(
        device,
        () => device.readRegion(0, 0n, 4),
        /count is 4, 3 bytes of data came$/,
      ),
  ));

testFds(
  "readRegion() refuses counts beyond what was agreed on, and offsets that don't fit",
  async () => {
    const [device, server] = await connectScripted(() => false);
    for (const count of [-1, 1.5, (1 << 20) + 1, NaN]) {
      const error = await assertRejects(() => device.readRegion(0, 0n, count), RangeError);
      assertMatch(error.message, /at most 1048576 were agreed on$/);
    }
    for (const offset of [-1n, 1n << 64n]) {
      await assertRejects(() => device.readRegion(0, offset, 4), RangeError);
    }
    assertEquals(await device.readRegion(0, (1n << 64n) - 1n, 0), new Uint8Array());
    assertEquals(server.count, 2);
    device.close();
    server.close();
  },
);

// ---- readConfigSpace()

/**
 * Serves a configuration space of `size` bytes, each the low byte of its offset; notes the
 * accesses.
 */
async function readConfig(
  size: bigint,
  maxDataXferSize?: number,
): Promise<[config: Uint8Array, accesses: [offset: number, count: number][]]> {
  const accesses: [number, number][] = [];
  const [device, server] = await connectScripted((peer, request) => {
    switch (request.command) {
      case Command.VERSION: {
        const capabilities = maxDataXferSize === undefined ? {} : { maxDataXferSize };
        return peer.reply(request, encodeVersion({ major: 0, minor: 0, capabilities }));
      }
      case Command.DEVICE_GET_REGION_INFO:
        return peer.reply(request, regionInfo({ index: 7, size }));
      case Command.REGION_READ: {
        const { region, offset, count } = RegionReadRequest.decode(request.payload);
        accesses.push([Number(offset), count]);
        const data = Uint8Array.from({ length: count }, (_, i) => (Number(offset) + i) & 0xff);
        return peer.reply(request, RegionReadReply.encode({ region, offset, data }));
      }
      default:
        return false;
    }
  });
  const config = await device.readConfigSpace();
  device.close();
  server.close();
  return [config, accesses];
}

for (
  const [size, length] of [
    [0n, 0],
    [1n, 1],
    [64n, 64],
    [255n, 255],
    [256n, 256],
    [4095n, 4095],
    [4096n, 4096],
    [4097n, 4096],
    [1n << 63n, 4096],
    [(1n << 64n) - 1n, 4096],
  ] as const
) {
  testFds(`readConfigSpace() reads ${length} bytes of a region of ${size}`, async () => {
    const [config, accesses] = await readConfig(size);
    assertEquals(config, Uint8Array.from({ length }, (_, i) => i & 0xff));
    // Peers abort on 3 bytes, and on what is not aligned.
    for (const [offset, count] of accesses) {
      assert([1, 2, 4, 8].includes(count) && offset % count === 0, `${count} bytes at ${offset}`);
    }
    assertEquals(accesses.length, (length >> 3) + [0, 1, 1, 2, 1, 2, 2, 3][length & 7]!);
  });
}

testFds("readConfigSpace() keeps to a max_data_xfer_size below 8", async () => {
  for (const [max, count] of [[1, 1], [2, 2], [3, 2], [4, 4], [7, 4]] as const) {
    const [config, accesses] = await readConfig(16n, max);
    assertEquals(config, Uint8Array.from({ length: 16 }, (_, i) => i));
    assert(accesses.every((access) => access[1] === count));
  }
});

/**
 * A server of the configuration space `config`. What was read of it is noted in `touched`, a flag
 * for each byte.
 */
function connectConfig(config: Uint8Array, touched: Uint8Array, minor = 0) {
  return connectScripted((peer, request) => {
    switch (request.command) {
      case Command.VERSION:
        return peer.reply(request, encodeVersion({ major: 0, minor, capabilities: {} }));
      case Command.DEVICE_GET_REGION_INFO:
        return peer.reply(request, regionInfo({ index: 7, size: BigInt(config.length) }));
      case Command.REGION_READ: {
        const { region, offset, count } = RegionReadRequest.decode(request.payload);
        const [start, end] = [Number(offset), Number(offset) + count];
        touched.fill(1, start, end);
        const data = config.slice(start, end);
        return peer.reply(request, RegionReadReply.encode({ region, offset, data }));
      }
      default:
        return false;
    }
  });
}

testFds("readConfigSpace() leaves out what no capability reaches when it is sparse", async () => {
  const config = new Uint8Array(4096).fill(0xab);
  const view = new DataView(config.buffer);
  // From 0x100 to the end of block 5, which is in reach of block 6; then back to where it was.
  view.setUint32(0x100, 0x5e010001, true);
  view.setUint32(0x5e0, 0x10010002, true);
  const touched = new Uint8Array(4096);
  const [device, server] = await connectConfig(config, touched);
  const read = await device.readConfigSpace({ sparse: true });
  const blocks = Array.from({ length: 16 }, (_, block) => touched[block * 256]);
  assertEquals(blocks, [1, 1, 0, 0, 0, 1, 1, 0, 0, 0, 0, 0, 0, 0, 0, 0]);
  assertEquals(read, config.map((byte, at) => touched[at] ? byte : 0));
  device.close();
  server.close();
});

testFds("readConfigSpace() reads all that is decoded when it is sparse", async () => {
  const regionSizes = () => undefined;
  const offset = fc.integer({ min: 0x40, max: 0x3ff }).map((dword) => dword * 4);
  const capability = fc.record({ id: fc.integer({ min: 0, max: 0x30 }), next: offset });
  await fc.assert(
    fc.asyncProperty(
      fc.array(capability, { maxLength: 12 }),
      fc.uint8Array({ minLength: 16, maxLength: 16 }),
      fc.constantFrom(64, 256, 260, 300, 1000, 4096),
      fc.constantFrom(0, 1),
      async (capabilities, filling, length, minor) => {
        const config = Uint8Array.from({ length: 4096 }, (_, i) => filling[i & 15]!);
        const view = new DataView(config.buffer);
        let at = 0x100;
        for (const { id, next } of capabilities) {
          view.setUint32(at, (next << 20 | 1 << 16 | id) >>> 0, true);
          at = next;
        }
        const bytes = config.slice(0, length);
        const [device, server] = await connectConfig(bytes, new Uint8Array(length), minor);
        const read = await device.readConfigSpace({ sparse: true });
        assertEquals(
          parseConfigSpace(read, { regionSizes }),
          parseConfigSpace(bytes, { regionSizes }),
        );
        device.close();
        server.close();
      },
    ),
    { numRuns: 60 },
  );
});

/**
 * Serves a configuration space of 4096 bytes, each the low byte of its offset, as `answer` has it:
 * bytes to answer, or undefined to refuse. Notes the accesses.
 */
async function readConfigOf(
  options: { minor: number; size?: bigint; maxDataXferSize?: number },
  answer: (count: number) => number | undefined = (count) => count,
) {
  const { minor, size = 4096n, maxDataXferSize } = options;
  const capabilities = maxDataXferSize === undefined ? {} : { maxDataXferSize };
  const counts: number[] = [];
  const [device, server] = await connectScripted((peer, request) => {
    switch (request.command) {
      case Command.VERSION:
        return peer.reply(request, encodeVersion({ major: 0, minor, capabilities }));
      case Command.DEVICE_GET_REGION_INFO:
        return peer.reply(request, regionInfo({ index: 7, size }));
      case Command.REGION_READ: {
        const { region, offset, count } = RegionReadRequest.decode(request.payload);
        counts.push(count);
        const length = answer(count);
        if (length === undefined) return peer.fail(request, EINVAL);
        const data = Uint8Array.from({ length }, (_, i) => (Number(offset) + i) & 0xff);
        return peer.reply(request, RegionReadReply.encode({ region, offset, data }));
      }
      default:
        return false;
    }
  });
  const read = async () => {
    counts.length = 0;
    const config = await device.readConfigSpace();
    assertEquals(config, Uint8Array.from({ length: Number(size) }, (_, i) => i & 0xff));
    return [...counts];
  };
  return { read, device, server };
}

testFds("readConfigSpace() takes one message of a server of version 0.1 or later", async () => {
  for (const minor of [1, 2]) {
    for (const size of [64n, 256n, 4096n]) {
      const { read, device, server } = await readConfigOf({ minor, size });
      assertEquals(await read(), [Number(size)]);
      device.close();
      server.close();
    }
  }
});

testFds("readConfigSpace() has no read of 3 modulo 4 bytes, and keeps to the limit", async () => {
  for (
    const [size, maxDataXferSize, counts] of [
      [255n, 4096, [252, 2, 1]],
      [254n, 4096, [252, 2]],
      [256n, 103, [100, 100, 56]],
      [256n, 256, [256]],
    ] as const
  ) {
    const { read, device, server } = await readConfigOf({ minor: 1, size, maxDataXferSize });
    assertEquals(await read(), [...counts]);
    device.close();
    server.close();
  }
});

testFds("readConfigSpace() asks a server that takes less for less, once and for all", async () => {
  const eights = Array<number>(512).fill(8);
  const fours = Array<number>(1024).fill(4);
  const upTo = (most: number) => (count: number) => count <= most ? count : undefined;
  for (
    const [name, answer, first, second] of [
      ["refuses more than 8", upTo(8), [4096, ...eights], eights],
      ["answers less", (count: number) => Math.min(count, 8), [4096, ...eights], eights],
      ["answers nothing", (count: number) => count > 8 ? 0 : count, [4096, ...eights], eights],
      ["refuses more than 4", upTo(4), [4096, ...eights.slice(0, 64), ...fours], fours],
    ] as const
  ) {
    const { read, device, server } = await readConfigOf({ minor: 1 }, answer);
    assertEquals(await read(), [...first], name);
    assertEquals(await read(), [...second], name);
    device.close();
    server.close();
  }
});

testFds("readConfigSpace() never asks a server of version 0.0 for more than 8 bytes", async () => {
  const { read, device, server } = await readConfigOf({ minor: 0 });
  assertEquals(await read(), Array<number>(512).fill(8));
  device.close();
  server.close();
});

testFds("readConfigSpace() ends the connection at more bytes than it asked for", async () => {
  const { read, device, server } = await readConfigOf({ minor: 1 }, (count) => count + 4);
  await assertRejects(read, ProtocolError, "answered 4100 bytes to a request to read 4096");
  assertEquals(device.state, "CLOSED");
  device.close();
  server.close();
});

testFds("readConfigSpace() fails once when the server refuses or ends in the middle", async () => {
  for (
    const [end, errorClass] of [
      ["refuse", RemoteError],
      ["close", ConnectionError],
      ["silence", TimeoutError],
    ] as const
  ) {
    let reads = 0;
    const [device, server] = await connectScripted((peer, request) => {
      if (request.command === Command.VERSION) {
        return peer.reply(request, encodeVersion({ major: 0, minor: 0, capabilities: {} }));
      }
      if (request.command !== Command.REGION_READ || reads++ < 3) return false;
      if (end === "refuse") peer.fail(request, EINVAL);
      else if (end === "close") peer.socket.shutdown();
    });
    const timeoutMs = end === "silence" ? 50 : PATIENCE_MS;
    await assertRejects<Error>(() => device.readConfigSpace({ timeoutMs }), errorClass);
    if (end !== "close") assertEquals((await device.info()).numRegions, 9);
    device.close();
    server.close();
  }
});

// ---- reset(), close()

testFds("reset() waits as long as it takes, unless it is told otherwise", async () => {
  let answers = 0;
  const [device, server] = await connectScripted(
    (peer, request) => {
      if (request.command !== Command.DEVICE_RESET) return false;
      setTimeout(() => {
        peer.reply(request);
        answers++;
      }, 1100);
    },
    { timeoutMs: 1000 },
  );
  await device.reset();
  const error = await assertRejects(() => device.reset({ timeoutMs: 5 }), TimeoutError);
  assertMatch(error.message, /^Cannot reset the device: the server did not answer within 5 ms$/);
  await until(() => answers === 2, "the late answer");
  device.close();
  server.close();
});

testFds("close() fails what is pending, and the device says so from then on", async () => {
  const [device, server] = await connectScripted((_, { command }) => isVersion(command));
  const pending = Promise.allSettled([device.info(), device.regionInfo(0), device.reset()]);
  device.close();
  device.close();
  for (const result of await pending) {
    assertInstanceOf((result as PromiseRejectedResult).reason, ConnectionError);
  }
  assertEquals(device.state, "CLOSED");
  await assertRejects(() => device.info(), ConnectionError, "closed");
  server.close();
});

testFds("a server that ends fails each pending request once", async () => {
  const [device, server] = await connectScripted((_, { command }) => isVersion(command));
  const pending = Promise.allSettled([device.info(), device.regionInfo(0), device.reset()]);
  await nextTurn();
  server.close();
  const errors = (await pending).map((result) => (result as PromiseRejectedResult).reason);
  for (const [i, doing] of ["get the device info", "get the info of bar0", "reset"].entries()) {
    assertInstanceOf(errors[i], ConnectionError);
    assert(errors[i].message.startsWith(`Cannot ${doing}`));
    assertMatch(errors[i].message, /: (the server closed|lost) the connection/);
    assertEquals(errors[i].oldest?.doing, "get the device info");
    assertStrictEquals(errors[i].cause, device.proxy.cause);
  }
  device[Symbol.dispose]();
});
