import { assertEquals, assertRejects } from "@std/assert";
import { EINVAL, EIO } from "../../../ffi/errno.ts";
import { idle } from "../../../ffi/poller.ts";
import { UnixSocket } from "../../../ffi/socket.ts";
import { connect } from "../../../lib/client/connect.ts";
import type { Device } from "../../../lib/client/device.ts";
import { DirtyPages } from "../../../lib/client/dma_logging.ts";
import { ProtocolError, RemoteError } from "../../../lib/base/errors.ts";
import type { IncomingRequest } from "../../../lib/transport/incoming.ts";
import { Server } from "../../../lib/server/server.ts";
import { Command } from "../../../lib/wire/command.ts";
import {
  DeviceFeatureReply,
  DeviceFeatureRequest,
  DmaLoggingReportData,
  Feature,
} from "../../../lib/wire/feature.ts";
import { testFds } from "../../_fds.ts";
import { LibvfioUser } from "../_libvfio_user.ts";
import { connectScripted } from "../_scripted_server.ts";
import { TestDevice } from "../server/_client.ts";
import { MigratingDevice } from "../server/_migration.ts";

const PAGE = 4096;

async function serveHere(
  served: TestDevice = new MigratingDevice(),
): Promise<{ device: Device; served: TestDevice } & Disposable> {
  const [a, b] = UnixSocket.pair();
  const server = Server.serve(a.release(), served);
  const device = await connect(b.release());
  return {
    device,
    served,
    [Symbol.dispose]() {
      device.close();
      server.close();
    },
  };
}

/** Ranges as page numbers. */
function pagesOf(dirty: DirtyPages): [first: number, count: number][] {
  return [...dirty.ranges()].map(({ iova, length }) => [
    Number(iova) / dirty.pageSize,
    Number(length) / dirty.pageSize,
  ]);
}

Deno.test("DirtyPages gives ranges and counts what its bitmap has", () => {
  const bitmap = new Uint8Array(16);
  for (const page of [0, 7, 8, 9, 63, 64, 70]) bitmap[page >> 3]! |= 1 << (page & 7);
  const dirty = new DirtyPages(0n, BigInt(66 * PAGE), PAGE, bitmap); // page 70 is beyond it
  assertEquals(pagesOf(dirty), [[0, 1], [7, 3], [63, 2]]);
  assertEquals(dirty.count, 6);
  assertEquals([6, 7, 9, 10, 64, 66, 70].map((page) => dirty.has(page * PAGE + 5)), [
    false,
    true,
    true,
    false,
    true,
    false,
    false,
  ]);
  assertEquals(dirty.has(-1), false);
});

testFds("what the device writes is reported, through shared memory and by message", async () => {
  for (const share of ["memfd", "message"] as const) {
    using here = await serveHere();
    const { device, served } = here;
    await device.dma.mapAsync({ iova: 0x100000, size: 0x10000, share });
    await device.dmaLogging.start();
    await served.bus!.dma.write(0x102ffen, new Uint8Array(4));
    const range = { iova: 0x100000, length: 0x10000 };
    assertEquals(pagesOf(await device.dmaLogging.report(range)), [[0x102, 2]]);
    assertEquals((await device.dmaLogging.report(range)).count, 0);
    await served.bus!.dma.write(0x10f000n, new Uint8Array(1));
    const large = await device.dmaLogging.report(range, { pageSize: 0x8000 });
    assertEquals(pagesOf(large), [[0x21, 1]]);
    await device.dmaLogging.stop();
    await assertRejects(() => device.dmaLogging.report(range), RemoteError);
  }
});

testFds("start() logs what is mapped, or the ranges and pages that are wanted", async () => {
  using here = await serveHere();
  const { device, served } = here;
  await device.dma.mapAsync({ iova: 0x100000, size: 0x10000 });
  await device.dmaLogging.start();
  await assertRejects(
    () => device.dmaLogging.report({ iova: 0x110000, length: PAGE }),
    RemoteError,
  );
  await device.dmaLogging.stop();
  await device.dmaLogging.start({
    pageSize: 0x10000,
    ranges: [{ iova: 0x100000n, length: 0x20000 }],
  });
  await served.bus!.dma.write(0x100000n, new Uint8Array(1));
  const dirty = await device.dmaLogging.report({ iova: 0x100000, length: 0x20000 });
  assertEquals([dirty.pageSize, pagesOf(dirty)], [0x10000, [[0x10, 1]]]);
  await assertRejects(() => device.dmaLogging.start(), RemoteError, "start logging which pages");
});

testFds("pages and ranges that make no sense are refused before anything is sent", async () => {
  using here = await serveHere(new TestDevice());
  const { dmaLogging } = here.device;
  for (const pageSize of [0, 4097, 3 * PAGE, NaN, -PAGE, 0.5]) {
    await assertRejects(() => dmaLogging.start({ pageSize }), RangeError, "power of two");
    const range = { iova: 0, length: PAGE };
    await assertRejects(() => dmaLogging.report(range, { pageSize }), RangeError);
  }
  for (const [iova, length] of [[1, PAGE], [0, 0], [0, 100], [-PAGE, PAGE]] as const) {
    await assertRejects(() => dmaLogging.report({ iova, length }), RangeError, "whole pages");
  }
  const huge = { iova: 0, length: 1n << 50n };
  await assertRejects(() => dmaLogging.report(huge), RangeError, "take larger pages, or parts");
  await assertRejects(() => dmaLogging.start(), RemoteError); // the device does not migrate
});

testFds("start() hints at a page size, and returns what the server has chosen", async () => {
  for (const [hint, chosen] of [[512, PAGE], [1, PAGE], [PAGE, PAGE], [0x10000, 0x10000]]) {
    using here = await serveHere();
    const { device, served } = here;
    await device.dma.mapAsync({ iova: 0, size: 0x20000 });
    assertEquals(await device.dmaLogging.start({ pageSize: hint! }), chosen);
    assertEquals(device.dmaLogging.pageSize, chosen);
    await served.bus!.dma.write(0x11000n, new Uint8Array(1));
    const range = { iova: 0, length: 0x20000 };
    const dirty = await device.dmaLogging.report(range);
    assertEquals([dirty.pageSize, pagesOf(dirty)], [chosen, [[0x11000 / chosen! | 0, 1]]]);
    await served.bus!.dma.write(0x11000n, new Uint8Array(1));
    const small = await device.dmaLogging.report({ iova: 0x10000, length: 0x10000 }, {
      pageSize: 1024,
    });
    const pages = chosen === PAGE ? [[0x44, 4]] : [[0x40, 64]];
    assertEquals(pagesOf(small), pages as [number, number][]);
  }
});

testFds("a page size that the server can't have chosen closes the connection", async () => {
  for (const chosen of [0n, 3n, 4097n, 1n << 53n]) {
    const [device, server] = await connectScripted((peer, request) => {
      if (request.command !== Command.DEVICE_FEATURE) return false;
      const payload = request.payload.slice();
      new DataView(payload.buffer).setBigUint64(8, chosen, true);
      peer.reply(request, payload);
    });
    using _device = device;
    using _server = server;
    await assertRejects(() => device.dmaLogging.start(), ProtocolError, "no power of two");
    assertEquals(device.state, "CLOSED");
  }
});

testFds("reports go over maps, shared and by message, and what is between them", async () => {
  for (const kinds of [["memfd", "memfd"], ["memfd", "message"], ["message", "message"]] as const) {
    using here = await serveHere();
    const { device, served } = here;
    await device.dma.mapAsync({ iova: 0x10000, size: 0x4000, share: kinds[0] });
    await device.dma.mapAsync({ iova: 0x14000, size: 0x4000, share: kinds[1] });
    await device.dma.mapAsync({ iova: 0x20000, size: 0x4000, share: kinds[0] });
    await device.dmaLogging.start({ ranges: [{ iova: 0, length: 0x30000 }] });
    const { dma } = served.bus!;
    for (const at of [0x13fff, 0x20000, 0x22000]) await dma.write(BigInt(at), new Uint8Array(2));
    const all = { iova: 0, length: 0x30000 };
    assertEquals(pagesOf(await device.dmaLogging.report(all)), [[0x13, 2], [0x20, 1], [0x22, 1]]);
    assertEquals((await device.dmaLogging.report(all)).count, 0);
    await dma.write(0x13fffn, new Uint8Array(2));
    const inside = { iova: 0x13000, length: 0x2000 };
    assertEquals(pagesOf(await device.dmaLogging.report(inside)), [[0x13, 2]]);
    await dma.write(0x20000n, new Uint8Array(1));
    // What was written before is told all the same, if the server logs it.
    await device.dma.maps[2]!.unmapAsync();
    assertEquals((await device.dmaLogging.report(all)).has(0x20000), true);
  }
});

/** A device of libvfio-user with two maps of 64 KiB that adjoin, and a client whose log is on. */
async function withLibvfioUser(
  share: "memfd" | "message",
  body: (model: LibvfioUser, device: Device) => Promise<void>,
): Promise<void> {
  const folder = Deno.makeTempDirSync({ prefix: "vfu-test-" });
  try {
    using model = new LibvfioUser(`${folder}/device.sock`);
    using device = await connect(model.path);
    await device.dma.mapAsync({ iova: 0x10000, size: 0x10000, share });
    await device.dma.mapAsync({ iova: 0x20000, size: 0x10000, share });
    await device.dmaLogging.start();
    await body(model, device);
  } finally {
    await idle();
    Deno.removeSync(folder, { recursive: true });
  }
}

testFds(
  "what libvfio-user writes by message into shared memory is the client's to count",
  () =>
    withLibvfioUser("memfd", async (model, device) => {
      await model.writeByMessage(0x13ffen, [1, 2, 3, 4]);
      model.dirty.add(0x18000n).add(0x2f000n);
      const range = { iova: 0x10000, length: 0x20000 };
      const dirty = await device.dmaLogging.report(range);
      assertEquals(pagesOf(dirty), [[0x13, 2], [0x18, 1], [0x2f, 1]]);
      assertEquals(device.dma.read(0x13ffe, 4), new Uint8Array([1, 2, 3, 4]));
      assertEquals((await device.dmaLogging.report(range)).count, 0);
      await device.dmaLogging.stop();
      await model.writeByMessage(0x10000n, [1]);
      await device.dmaLogging.start(); // a new log is empty
      assertEquals((await device.dmaLogging.report(range)).count, 0);
    }),
);

testFds(
  "a part of a map is reported, which libvfio-user knows by its beginning only",
  () =>
    withLibvfioUser("memfd", async (model, device) => {
      model.dirty.add(0x11000n).add(0x15000n).add(0x22000n);
      const part = await device.dmaLogging.report({ iova: 0x14000, length: 0x10000 });
      assertEquals(pagesOf(part), [[0x15, 1], [0x22, 1]]);
      // Pages that the server has reported by then are not lost.
      const rest = await device.dmaLogging.report({ iova: 0x10000, length: 0x10000 });
      assertEquals(pagesOf(rest), [[0x11, 1]]);
    }),
);

testFds(
  "memory by message is reported, of which libvfio-user logs nothing",
  () =>
    withLibvfioUser("message", async (model, device) => {
      model.refuses = Command.DEVICE_FEATURE; // it would have no answer
      await model.writeByMessage(0x1fffen, [1, 2, 3]);
      const dirty = await device.dmaLogging.report({ iova: 0x10000, length: 0x20000 });
      assertEquals(pagesOf(dirty), [[0x1f, 2]]);
      assertEquals(await device.dmaLogging.report({ iova: 0, length: 0x40000 }).then(pagesOf), []);
    }),
);

testFds(
  "what was told of one map is told again when another one fails",
  () =>
    withLibvfioUser("memfd", async (model, device) => {
      model.dirty.add(0x11000n).add(0x22000n);
      model.failReport = (iova) => iova === 0x20000n ? EIO : undefined;
      const range = { iova: 0x10000, length: 0x20000 };
      await assertRejects(() => device.dmaLogging.report(range), RemoteError, "EIO");
      model.failReport = () => undefined;
      assertEquals(pagesOf(await device.dmaLogging.report(range)), [[0x11, 1], [0x22, 1]]);
    }),
);

testFds("a bitmap of another size, or of another range, closes the connection", async () => {
  const BAD: Partial<DmaLoggingReportData>[] = [
    { bitmap: new Uint8Array() }, // as libvfio-user answers about two maps
    { bitmap: new Uint8Array(4) },
    { iova: 1n },
    { length: 1n },
    { pageSize: 8192n },
  ];
  for (const bad of BAD) {
    const [device, server] = await connectScripted((peer, request) => {
      if (request.command !== Command.DEVICE_FEATURE) return false;
      const { flags, data } = DeviceFeatureRequest.decode(request.payload);
      const asked = DmaLoggingReportData.decode(data);
      const answer = { ...asked, bitmap: new Uint8Array(8), ...bad };
      const bytes = DmaLoggingReportData.encode(answer);
      peer.reply(
        request,
        DeviceFeatureRequest.encode({ argsz: 8 + bytes.length, flags, data: bytes }),
      );
    });
    using _device = device;
    using _server = server;
    const range = { iova: 0, length: PAGE };
    await assertRejects(() => device.dmaLogging.report(range), ProtocolError, "bitmap");
    assertEquals(device.state, "CLOSED");
  }
});

testFds("start() has the server stop a log when the wait for its reply is called off", async () => {
  const reason = new Error("enough");
  const aborting = new AbortController();
  const asked: number[] = [];
  const [device, server] = await connectScripted((peer, request) => {
    if (request.command !== Command.DEVICE_FEATURE) return false;
    const { flags } = DeviceFeatureRequest.decode(request.payload);
    asked.push(flags & 0xffff);
    if (asked.length === 1) return aborting.abort(reason); // it is never answered
    peer.reply(request, DeviceFeatureReply.encode({ argsz: 8, flags, data: new Uint8Array() }));
  });
  const error = await assertRejects(() => device.dmaLogging.start({ signal: aborting.signal }));
  assertEquals(error, reason);
  assertEquals(asked, [Feature.DMA_LOGGING_START, Feature.DMA_LOGGING_STOP]);
  device.close();
  server.close();
});

/** A server with a log of its own, on or off. */
async function logByHand(): Promise<{ device: Device; isOn: () => boolean } & Disposable> {
  let isOn = false;
  const [device, server] = await connectScripted((peer, request) => {
    const { command, payload } = request;
    if (command !== Command.DEVICE_FEATURE) return false;
    const { flags, data } = DeviceFeatureRequest.decode(payload);
    const feature = flags & 0xffff;
    if (feature === Feature.DMA_LOGGING_START && isOn) return peer.fail(request, EINVAL);
    isOn = feature === Feature.DMA_LOGGING_START;
    peer.reply(request, DeviceFeatureReply.encode({ argsz: 8 + data.length, flags, data }));
  });
  return {
    device,
    isOn: () => isOn,
    [Symbol.dispose]() {
      device.close();
      server.close();
    },
  };
}

/** Lets promises that are settled go on. */
async function microtasks(count: number): Promise<void> {
  for (let i = 0; i < count; i++) await Promise.resolve();
}

for (
  const [what, run] of Object.entries({
    "stop() and start() at once": async ({ dmaLogging }: Device) => {
      await dmaLogging.start();
      await Promise.all([dmaLogging.stop(), dmaLogging.start()]);
    },
    "two start() at once, of which the server refuses one": async ({ dmaLogging }: Device) => {
      const first = dmaLogging.start();
      await assertRejects(() => dmaLogging.start(), RemoteError);
      await first;
    },
    "start() when an earlier one is called off": async ({ dmaLogging }: Device) => {
      const aborting = new AbortController();
      const first = assertRejects(() => dmaLogging.start({ signal: aborting.signal }));
      aborting.abort(new Error("enough"));
      const second = dmaLogging.start();
      await first;
      await second;
    },
    "start() while an earlier one is taken back": async ({ dmaLogging }: Device) => {
      const aborting = new AbortController();
      const first = assertRejects(() => dmaLogging.start({ signal: aborting.signal }));
      aborting.abort(new Error("enough"));
      await microtasks(20);
      const second = dmaLogging.start();
      await first;
      await second;
    },
  })
) {
  testFds(`writes by message are reported after ${what}`, async () => {
    using log = await logByHand();
    const { device } = log;
    await device.dma.mapAsync({ iova: 0, size: 4 * PAGE, share: "message" });
    await run(device);
    assertEquals(log.isOn(), true);
    const head = new Uint8Array(20);
    new DataView(head.buffer).setBigUint64(0, BigInt(2 * PAGE), true);
    new DataView(head.buffer).setBigUint64(8, 4n, true);
    device.dma.serve(writeOf(head));
    const dirty = await device.dmaLogging.report({ iova: 0, length: 4 * PAGE });
    assertEquals(pagesOf(dirty), [[2, 1]]);
  });
}

/** A DMA_WRITE of the server. */
function writeOf(payload: Uint8Array): IncomingRequest {
  return {
    command: Command.DMA_WRITE,
    noReply: false,
    payload,
    payloadSize: payload.length,
    payloadFrom: (offset) => payload.subarray(offset),
    uint32: (offset) => new DataView(payload.buffer).getUint32(offset, true),
    fdCount: 0,
    isAnswered: false,
    takeFds: () => [],
    reply() {},
    fail(errno) {
      throw new Error(`Failed with ${errno}`);
    },
    replyInPart() {},
  };
}
