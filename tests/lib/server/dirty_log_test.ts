import { assert, assertEquals, assertThrows } from "@std/assert";
import fc from "fast-check";
import { EINVAL } from "../../../ffi/errno.ts";
import { MAX_LOGGING_RANGES } from "../../../lib/base/limits.ts";
import { DeviceError } from "../../../lib/server/served_device.ts";
import { DirtyLog } from "../../../lib/server/dirty_log.ts";
import { Command } from "../../../lib/wire/command.ts";
import { DmaMapFlags } from "../../../lib/wire/dma.ts";
import {
  DmaLoggingReportData,
  DmaLoggingStartData,
  Feature,
  FeatureFlags,
} from "../../../lib/wire/feature.ts";
import { testFds } from "../../_fds.ts";
import type { RawPeer } from "../../_raw_peer.ts";
import { serveNegotiated } from "./_client.ts";
import { BASE, ClientFile, map, PAGE } from "./_memory.ts";
import { feature, MigratingDevice } from "./_migration.ts";

const { GET, SET } = FeatureFlags;
const NO_BOUND = 1 << 30;

function log(pageSize: number, ...ranges: [iova: number, length: number][]): DirtyLog {
  return new DirtyLog({
    pageSize: BigInt(pageSize),
    ranges: ranges.map(([iova, length]) => ({ iova: BigInt(iova), length: BigInt(length) })),
  });
}

/** The numbers of the pages that a bitmap has. */
function pagesOf(bitmap: Uint8Array): number[] {
  const pages: number[] = [];
  for (let i = 0; i < bitmap.length * 8; i++) if (bitmap[i >> 3]! >> (i & 7) & 1) pages.push(i);
  return pages;
}

function report(log: DirtyLog, iova: number, length: number, pageSize: number): number[] {
  const range = { iova: BigInt(iova), length: BigInt(length), pageSize: BigInt(pageSize) };
  return pagesOf(log.report(range, NO_BOUND));
}

Deno.test("DirtyLog reports each page once, from the first byte to the last", () => {
  const dirty = log(PAGE);
  dirty.mark(BigInt(2 * PAGE - 1), 2);
  dirty.mark(BigInt(5 * PAGE), PAGE);
  dirty.mark(BigInt(7 * PAGE), 0);
  assertEquals(report(dirty, 0, 64 * PAGE, PAGE), [1, 2, 5]);
  assertEquals(report(dirty, 0, 64 * PAGE, PAGE), []);
});

Deno.test("DirtyLog reports pages of another size: all that may have been written", () => {
  const dirty = log(4 * PAGE);
  dirty.mark(BigInt(5 * PAGE), 1); // the second page of the log: 4 to 7
  assertEquals(report(dirty, 6 * PAGE, PAGE, PAGE), [0]); // a part, which stays
  assertEquals(report(dirty, 0, 16 * PAGE, PAGE), [4, 5, 6, 7]);
  dirty.mark(BigInt(5 * PAGE), 1);
  assertEquals(report(dirty, 0, 16 * PAGE, 8 * PAGE), [0]);
  assertEquals(report(dirty, 0, 16 * PAGE, PAGE), []);
});

Deno.test("DirtyLog is what a list of pages is, for any accesses and reports", () => {
  const pages = 200;
  const size = fc.constantFrom(0, 1, 2, 3).map((shift) => PAGE << shift);
  const askedSize = fc.constantFrom(-4, -1, 0, 1, 2, 3).map((shift) => PAGE * 2 ** shift);
  const access = fc.record({
    at: fc.integer({ min: 0, max: pages * PAGE - 1 }),
    length: fc.integer({ min: 0, max: 20 * PAGE }),
  });
  fc.assert(
    fc.property(size, askedSize, fc.array(access, { maxLength: 12 }), (logged, asked, accesses) => {
      const dirty = log(logged);
      const written = new Set<number>();
      for (const { at, length } of accesses) {
        dirty.mark(BigInt(at), length);
        if (length === 0) continue;
        const [first, last] = [at, at + length - 1].map((byte) => Math.floor(byte / logged));
        for (let page = first!; page <= last!; page++) written.add(page);
      }
      const expected = new Set<number>();
      for (const page of written) {
        for (let at = page * logged; at < (page + 1) * logged; at += Math.min(PAGE, asked)) {
          expected.add(Math.floor(at / asked));
        }
      }
      const got = report(dirty, 0, 512 * PAGE, asked);
      assertEquals(got, [...expected].sort((a, b) => a - b));
    }),
  );
});

Deno.test("DirtyLog takes the size of a page as a hint, and says which it has chosen", () => {
  const CASES = [
    [0n, 4096n],
    [1n, 4096n],
    [512n, 4096n],
    [4095n, 4096n],
    [4096n, 4096n],
    [8191n, 4096n],
    [12288n, 8192n],
    [1n << 30n, 1n << 30n],
    [(1n << 64n) - 1n, 1n << 63n],
  ] as const;
  for (const [hint, chosen] of CASES) {
    const dirty = new DirtyLog({ pageSize: hint, ranges: [] });
    assertEquals(dirty.pageSize, chosen);
    assertEquals(dirty.isSame({ pageSize: chosen, ranges: [] }), true);
    dirty.mark(5n, 1);
    assertEquals(report(dirty, 0, PAGE, PAGE), [0]);
  }
});

Deno.test("DirtyLog reports pages smaller than those that it can log", () => {
  const dirty = log(PAGE);
  dirty.mark(BigInt(PAGE), 1);
  assertEquals(report(dirty, PAGE - 512, 1024, 512), [1]); // a part of the page, which stays
  assertEquals(report(dirty, PAGE, PAGE, 1024), [0, 1, 2, 3]);
  assertEquals(report(dirty, 0, 4 * PAGE, 1), []);
});

Deno.test("DirtyLog holds to the end of 64 bits", () => {
  const dirty = log(PAGE);
  const last = (1n << 64n) - 4096n;
  dirty.mark(last, PAGE);
  const pageSize = 4096n;
  assertEquals(pagesOf(dirty.report({ iova: last, length: 4096n, pageSize }, 8)), [0]);
  dirty.mark(last, PAGE);
  const huge = { iova: 0n, length: 1n << 64n, pageSize: 1n << 63n };
  assertEquals(pagesOf(dirty.report(huge, 8)), [1]);
});

Deno.test("DirtyLog takes ranges as whole pages, in any order, and refuses reports beyond them", () => {
  const dirty = log(2 * PAGE, [8 * PAGE, PAGE], [0, 4 * PAGE], [3 * PAGE, 2 * PAGE]);
  dirty.mark(BigInt(5 * PAGE), 1);
  assertEquals(report(dirty, 0, 6 * PAGE, PAGE), [4, 5]);
  assertEquals(report(dirty, 8 * PAGE, 2 * PAGE, PAGE), []);
  for (const [iova, length] of [[0, 7], [0, 10], [7, 1], [10, 1], [100, 1]] as const) {
    refuses(() => report(dirty, iova * PAGE, length * PAGE, PAGE), "not logged");
  }
});

function refuses(body: () => unknown, reason: string): void {
  const error = assertThrows(body, DeviceError, reason);
  assertEquals(error.errno, EINVAL);
}

Deno.test("DirtyLog refuses sizes and ranges that make no sense", () => {
  refuses(() => log(PAGE, [0, 0]), "empty");
  const end = (1n << 64n) - 1n;
  refuses(
    () => new DirtyLog({ pageSize: 4096n, ranges: [{ iova: end, length: 2n }] }),
    "beyond 64 bits",
  );
  const many = Array.from({ length: MAX_LOGGING_RANGES + 1 }, () => ({ iova: 0n, length: 1n }));
  refuses(() => new DirtyLog({ pageSize: 4096n, ranges: many }), "are possible");
  const dirty = log(PAGE);
  refuses(() => report(dirty, 0, 0, PAGE), "whole pages");
  refuses(() => report(dirty, 1, PAGE, PAGE), "whole pages");
  refuses(() => report(dirty, 0, PAGE + 1, PAGE), "whole pages");
  refuses(() => report(dirty, 0, PAGE, 2 * PAGE), "whole pages");
  refuses(() => report(dirty, 0, PAGE, 1000), "power of two");
  const range = { iova: 0n, length: 1n << 63n, pageSize: 4096n };
  refuses(() => dirty.report(range, 4096), "bitmap");
});

Deno.test("DirtyLog beyond its bound says that all was written, rather than forget", () => {
  // Room for two chunks of 16 MiB
  const dirty = new DirtyLog({ pageSize: 4096n, ranges: [] }, 1024);
  for (const at of [0, 1, 2]) dirty.mark(BigInt(at << 24), 1);
  const all = Array.from({ length: 100 }, (_, i) => i);
  for (let i = 0; i < 2; i++) assertEquals(report(dirty, 1 << 30, 100 * PAGE, PAGE), all);
});

// ---- On the wire

function start(
  peer: RawPeer,
  pageSize: bigint,
  ranges: DmaLoggingStartData["ranges"] = [],
): Promise<number> {
  const data = DmaLoggingStartData.encode({ pageSize, ranges });
  return feature(peer, SET | Feature.DMA_LOGGING_START, data).then(({ errno }) => errno);
}

testFds("the answer to DMA_LOGGING_START says which pages are logged", async () => {
  for (
    const [hint, chosen] of [[512n, 4096n], [0n, 4096n], [4096n, 4096n], [1n << 16n, 1n << 16n]]
  ) {
    using served = await serveNegotiated({ device: new MigratingDevice() });
    const ranges = [{ iova: BASE, length: 4096n }];
    const data = DmaLoggingStartData.encode({ pageSize: hint!, ranges });
    const { errno, payload } = await feature(served.peer, SET | Feature.DMA_LOGGING_START, data);
    assertEquals([errno, payload.length], [0, 8 + data.length]);
    assertEquals(DmaLoggingStartData.decode(payload.subarray(8)), { pageSize: chosen!, ranges });
    assertEquals(await start(served.peer, hint!, ranges), 0);
    assertEquals(await start(served.peer, chosen!, ranges), 0);
  }
});

async function reported(
  peer: RawPeer,
  iova: bigint,
  length: bigint,
  pageSize = 4096n,
): Promise<number[] | number> {
  const asked = { iova, length, pageSize };
  const data = DmaLoggingReportData.encode({ ...asked, bitmap: new Uint8Array() });
  const { errno, payload } = await feature(peer, GET | Feature.DMA_LOGGING_REPORT, data);
  if (errno !== 0) return errno;
  const { bitmap, ...rest } = DmaLoggingReportData.decode(payload.subarray(8));
  assertEquals(rest, asked);
  assertEquals(bitmap.length, Math.ceil(Number(length / pageSize) / 64) * 8);
  return pagesOf(bitmap);
}

testFds("all that a device writes is logged, and nothing that it reads", async () => {
  const device = new MigratingDevice();
  using served = await serveNegotiated({ device });
  using file = new ClientFile(64 * PAGE);
  const { peer } = served;
  const size = BigInt(64 * PAGE);
  await map(peer, { address: BASE, size }, [file.fd]);
  const { dma } = device.bus!;
  const at = (page: number) => BASE + BigInt(page * PAGE);
  await dma.write(at(0), new Uint8Array(1)); // before the log is on
  assertEquals(await start(peer, 4096n, [{ iova: BASE, length: size }]), 0);
  await dma.write(at(1), new Uint8Array(2 * PAGE));
  dma.writeSync(at(5) - 1n, new Uint8Array(2));
  await dma.read(at(10), PAGE);
  dma.view(at(12), PAGE);
  dma.view(at(20), PAGE + 1, DmaMapFlags.WRITE)!.fill(1);
  assertEquals(await reported(peer, BASE, size), [1, 2, 4, 5, 20, 21]);
  assertEquals(await reported(peer, BASE, size), []);
  dma.writeSync(at(3), new Uint8Array(1));
  assertEquals((await feature(peer, SET | Feature.DMA_LOGGING_STOP)).errno, 0);
  assertEquals(await reported(peer, BASE, size), EINVAL);
  assertEquals(await start(peer, 8192n), 0);
  assertEquals(await reported(peer, BASE, size), []); // a new log is empty
});

testFds("what is written by message is logged when it has arrived", async () => {
  const device = new MigratingDevice();
  using served = await serveNegotiated({ device });
  const { peer } = served;
  const size = BigInt(4 * PAGE);
  await map(peer, { address: BASE, size });
  assertEquals(await start(peer, 4096n), 0);
  const writing = device.bus!.dma.write(BASE + 4096n, new Uint8Array([7]));
  const request = await peer.expect(Command.DMA_WRITE);
  assertEquals(await reported(peer, BASE, size), [1]);
  peer.reply(request, request.payload.subarray(0, 16));
  await writing;
  assertEquals(await reported(peer, BASE, size), [1]);
  assertEquals(await reported(peer, BASE, size), []);
});

testFds("a log may be started again with the same, and with nothing else", async () => {
  const device = new MigratingDevice();
  using served = await serveNegotiated({ device });
  const { peer } = served;
  const range = { iova: BASE, length: 4096n };
  await map(peer, { address: BASE });
  assertEquals(await start(peer, 4096n, [range]), 0);
  const writing = device.bus!.dma.write(BASE, new Uint8Array(1));
  peer.reply(await peer.expect(Command.DMA_WRITE), wordsOf(BASE, 1n));
  await writing;
  assertEquals(await start(peer, 4096n, [range]), 0);
  assertEquals(await start(peer, 8192n, [range]), EINVAL);
  assertEquals(await start(peer, 4096n), EINVAL);
  assertEquals(await reported(peer, BASE, 4096n), [0]);
});

function wordsOf(...values: bigint[]): Uint8Array {
  return new Uint8Array(new BigUint64Array(values).buffer);
}

testFds("a report of which the bitmap has no room gets EINVAL", async () => {
  using served = await serveNegotiated({ device: new MigratingDevice() });
  const { peer } = served;
  assertEquals(await start(peer, 4096n), 0);
  assertEquals(await reported(peer, 0n, 1n << 62n), EINVAL);
  assertEquals(await reported(peer, 0n, 1n << 40n), EINVAL); // 32 MiB
  assertEquals(await reported(peer, 0n, (65536n - 32n) * 8n * 4096n), []);
  assertEquals(await reported(peer, 0n, (65536n - 24n) * 8n * 4096n), EINVAL); // argsz is 64 KiB
  assertEquals(await reported(peer, 0n, 1n << 62n, 1n << 40n), EINVAL);
  assertEquals(await reported(peer, 0n, 1n << 62n, 1n << 50n), []);
});

testFds("a log ends with its client", async () => {
  const device = new MigratingDevice();
  {
    using served = await serveNegotiated({ device });
    assertEquals(await start(served.peer, 4096n), 0);
    served.connection.close();
    await served.closed;
  }
  using served = await serveNegotiated({ device });
  assertEquals(await reported(served.peer, BASE, 4096n), EINVAL);
});

Deno.test("a hostile number of marks takes bounded time and memory", () => {
  const dirty = new DirtyLog({ pageSize: 4096n, ranges: [] }, 1 << 20);
  for (let i = 0; i < 100_000; i++) dirty.mark(BigInt(i) << 40n, 1);
  dirty.mark(0n, 1 << 30);
  assert(report(dirty, 0, 64 * PAGE, PAGE).length === 64);
});
