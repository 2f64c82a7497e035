import { assertEquals, assertRejects } from "@std/assert";
import { UnixSocket } from "../../ffi/socket.ts";
import { connect } from "../../lib/client.ts";
import type { Device } from "../../lib/device.ts";
import { DirtyPages } from "../../lib/dma_logging.ts";
import { ProtocolError, RemoteError } from "../../lib/errors.ts";
import { Server } from "../../lib/server/server.ts";
import { Command } from "../../lib/wire/command.ts";
import { DeviceFeatureRequest, DmaLoggingReportData } from "../../lib/wire/feature.ts";
import { testFds } from "../_fds.ts";
import { connectScripted } from "./_scripted_server.ts";
import { TestDevice } from "./server/_client.ts";
import { MigratingDevice } from "./server/_migration.ts";

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
  for (const pageSize of [0, 2048, 4097, 3 * PAGE, NaN, -PAGE]) {
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
