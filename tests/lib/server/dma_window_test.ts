/** Windows: synchronous access to shared memory, against a model, and after all that ends them. */

import {
  assert,
  assertEquals,
  assertInstanceOf,
  assertStringIncludes,
  assertThrows,
} from "@std/assert";
import fc from "fast-check";
import { EACCES, EFAULT, EIO } from "../../../ffi/errno.ts";
import { libc } from "../../../ffi/libc.ts";
import { DmaMapFlags } from "../../../lib/wire/dma.ts";
import {
  DmaLoggingReportData,
  DmaLoggingStartData,
  Feature,
  FeatureFlags,
} from "../../../lib/wire/feature.ts";
import type { DmaWindow } from "../../../lib/server/device_dma.ts";
import { DeviceError, DmaError } from "../../../lib/server/served_device.ts";
import { testFds } from "../../_fds.ts";
import { until } from "../../_until.ts";
import { type Served, serveNegotiated } from "./_client.ts";
import { BASE, ClientFile, map, PAGE, TestFile, unmap } from "./_memory.ts";
import { feature, MigratingDevice } from "./_migration.ts";

const { READ, WRITE, FILE_IO } = DmaMapFlags;
const { GET, SET } = FeatureFlags;
const START = Number(BASE);

const dmaOf = (served: Served) => served.device.bus!.dma;

/** Each way to access a window. */
const READS: readonly ((window: DmaWindow, iova: number | bigint) => unknown)[] = [
  (window, iova) => window.getUint8(iova),
  (window, iova) => window.getUint16(iova),
  (window, iova) => window.getUint32(iova),
  (window, iova) => window.getUint64(iova),
  (window, iova) => window.copyTo(iova, new Uint8Array(8)),
  (window, iova) => window.copyTo(iova, new Uint8Array(PAGE)),
  (window, iova) => window.copyTo(iova, new Uint32Array(2)),
  (window, iova) => window.copyTo(iova, new Uint32Array(40)),
];
const WRITES: typeof READS = [
  (window, iova) => window.setUint8(iova, 1),
  (window, iova) => window.setUint16(iova, 1),
  (window, iova) => window.setUint32(iova, 1),
  (window, iova) => window.setUint64(iova, 1n),
  (window, iova) => window.copyFrom(iova, new Uint8Array(8)),
  (window, iova) => window.copyFrom(iova, new Uint8Array(PAGE)),
  (window, iova) => window.copyFrom(iova, new Uint32Array(2)),
  (window, iova) => window.copyFrom(iova, new Uint32Array(40)),
];

function assertDead(window: DmaWindow, iova: number | bigint): void {
  for (const access of [...READS, ...WRITES]) {
    assertEquals(assertThrows(() => access(window, iova), DmaError).errno, EFAULT);
  }
  assertEquals(window.length, 0);
}

/** A step of a device: an access at an offset, or the client unmaps a map and maps it again. */
const STEP = fc.record({
  kind: fc.constantFrom("8", "16", "32", "64", "bytes", "words", "page", "remap"),
  isWrite: fc.boolean(),
  isBig: fc.boolean(),
  at: fc.oneof(
    fc.integer({ min: -PAGE, max: 5 * PAGE }),
    fc.integer({ min: 0, max: 1000 }).map((n) => n * 8),
    fc.constantFrom(0, PAGE, 2 * PAGE, 3 * PAGE),
  ),
  length: fc.integer({ min: 0, max: 200 }),
  value: fc.bigInt({ min: 0n, max: (1n << 64n) - 1n }),
});

/** An access by a window; what it read. */
function act(
  window: DmaWindow,
  iova: number | bigint,
  { kind, isWrite, value, length }: {
    kind: string;
    isWrite: boolean;
    value: bigint;
    length: number;
  },
): Uint8Array {
  const size = sizeOf(kind, length);
  const bytes = new Uint8Array(size);
  const view = new DataView(bytes.buffer);
  const low = Number(value & 0xffff_ffffn);
  if (kind === "64") {
    if (isWrite) window.setUint64(iova, value);
    else view.setBigUint64(0, window.getUint64(iova), true);
  } else if (kind === "32") {
    if (isWrite) window.setUint32(iova, low);
    else view.setUint32(0, window.getUint32(iova), true);
  } else if (kind === "16") {
    if (isWrite) window.setUint16(iova, low);
    else view.setUint16(0, window.getUint16(iova), true);
  } else if (kind === "8") {
    if (isWrite) window.setUint8(iova, low);
    else view.setUint8(0, window.getUint8(iova));
  } else {
    const array = kind === "words" ? new Uint32Array(bytes.buffer) : bytes;
    if (isWrite) window.copyFrom(iova, pattern(array, value));
    else window.copyTo(iova, array);
  }
  return bytes;
}

function sizeOf(kind: string, length: number): number {
  if (kind === "page") return PAGE;
  return kind === "bytes" ? length : kind === "words" ? length * 4 : Number(kind) / 8;
}

function pattern<A extends Uint8Array | Uint32Array>(array: A, value: bigint): A {
  for (let i = 0; i < array.length; i++) array[i] = Number(value & 0xffn) + i * 37;
  return array;
}

/** The bytes that the access writes, by the model. */
function written(
  { kind, value, length }: { kind: string; value: bigint; length: number },
): Uint8Array {
  const size = sizeOf(kind, length);
  const bytes = new Uint8Array(Math.max(size, 8));
  if (/^\d/.test(kind)) new DataView(bytes.buffer).setBigUint64(0, value, true);
  else if (kind === "words") pattern(new Uint32Array(bytes.buffer, 0, length), value);
  else pattern(bytes.subarray(0, size), value);
  return bytes.subarray(0, size);
}

testFds("windows do what a plain array does, whatever is unmapped in between", async () => {
  // Two maps that adjoin, each of two pages; the model is their bytes, and how far each goes.
  await fc.assert(
    fc.asyncProperty(fc.array(STEP, { maxLength: 60 }), async (steps) => {
      using served = await serveNegotiated();
      using file = new ClientFile(4 * PAGE);
      const model = new Uint8Array(4 * PAGE);
      const size = BigInt(2 * PAGE);
      const mapPart = (part: number) =>
        map(
          served.peer,
          { address: BASE + BigInt(part) * size, offset: BigInt(part) * size, size },
          [
            file.fd,
          ],
        );
      await mapPart(0);
      await mapPart(1);
      const dma = dmaOf(served);
      for (const step of steps) {
        const iova = step.isBig ? BASE + BigInt(step.at) : START + step.at;
        const part = step.at >= 2 * PAGE ? 1 : 0;
        if (step.kind === "remap") {
          const before = dma.window(BASE + BigInt(part) * size, 1)!;
          assertEquals(await unmap(served.peer, BASE + BigInt(part) * size, size), 0);
          assertDead(before, BASE + BigInt(part) * size);
          assertEquals(dma.window(BASE + BigInt(part) * size, 1), undefined);
          assertEquals(await mapPart(part), 0);
          continue;
        }
        const length = sizeOf(step.kind, step.length);
        const isInside = step.at >= 0 && step.at < 4 * PAGE &&
          step.at + length <= (part + 1) * 2 * PAGE;
        const window = dma.window(iova, length);
        assertEquals(window !== undefined, isInside, `${step.kind} ${step.at}+${length}`);
        if (window === undefined) {
          const near = dma.window(BASE + BigInt(part) * size, 1)!;
          if (length > 0) {
            assertEquals(assertThrows(() => act(near, iova, step), DmaError).errno, EFAULT);
          }
          continue;
        }
        const bytes = act(window, iova, step);
        if (step.isWrite) model.set(written(step), step.at);
        else assertEquals(bytes, model.slice(step.at, step.at + length));
      }
      assertEquals(file.bytes.slice(), model);
    }),
    { numRuns: 60 },
  );
});

testFds("a window dies with its map and with the connection; nothing crashes", async () => {
  using served = await serveNegotiated();
  using file = new ClientFile(2 * PAGE);
  const { peer } = served;
  await map(peer, { address: BASE }, [file.fd]);
  const dma = dmaOf(served);
  const first = dma.window(BASE, PAGE)!;
  first.setUint32(START, 7);
  first.copyFrom(START, new Uint8Array(PAGE).fill(3)); // its page has a view now
  assertEquals([first.iova, first.length, dma.window(START, 1) === first], [BASE, PAGE, true]);
  assertEquals(await unmap(peer, BASE, 4096n), 0);
  assertDead(first, START);
  assertDead(first, BASE);
  assertEquals(
    assertThrows(() => first.getUint32(START), DmaError).message,
    "Cannot read 4 bytes of the client's memory at 0x100000: the client has unmapped 0x100000 to " +
      "0x100fff",
  );
  // Other memory at the same place: neither the window nor the view of its page is that.
  await map(peer, { address: BASE, offset: 4096n }, [file.fd]);
  assertDead(first, START);
  const second = dma.window(START, PAGE)!;
  const page = new Uint8Array(PAGE);
  second.copyTo(START, page);
  assertEquals([first === second, page.some((byte) => byte !== 0)], [false, false]);
  second.copyFrom(START, page.fill(5));
  assertEquals([file.bytes[0], file.bytes[PAGE], file.bytes[2 * PAGE - 1]], [3, 5, 5]);
  peer.close();
  await until(() => second.length === 0, "the end of the connection");
  assertDead(second, START);
  assertEquals(dma.window(START, 1), undefined);
});

testFds("a window keeps the rights of its map", async () => {
  using served = await serveNegotiated();
  using file = new ClientFile(2 * PAGE);
  await map(served.peer, { address: 0n, flags: READ }, [file.fd]);
  await map(served.peer, { address: 4096n, offset: 4096n, flags: WRITE }, [file.fd]);
  const dma = dmaOf(served);
  const [readable, writable] = [dma.window(0, PAGE)!, dma.window(PAGE, PAGE)!];
  for (const access of WRITES) {
    assertEquals(assertThrows(() => access(readable, 0), DmaError).errno, EACCES);
  }
  for (const access of READS) {
    const error = assertThrows(() => access(writable, PAGE), DmaError);
    assertInstanceOf(error, DeviceError);
    assertEquals([error.errno, error.name], [EACCES, "DmaError"]);
  }
  for (const access of READS) access(readable, 0);
  for (const access of WRITES) access(writable, PAGE);
  assertEquals([file.bytes[0], file.bytes[PAGE + 1]], [0, 0]);
  assertEquals(dma.window(4095, 2), undefined, "a window is of one map");
});

testFds("a window refuses whatever is no address of it", async () => {
  using served = await serveNegotiated();
  using file = new ClientFile(PAGE);
  const top = (1n << 64n) - 4096n;
  await map(served.peer, { address: BASE }, [file.fd]);
  await map(served.peer, { address: top }, [file.fd]);
  const dma = dmaOf(served);
  const [window, high] = [dma.window(START, PAGE)!, dma.window(top, PAGE)!];
  high.setUint64(top + 4088n, 0x1122334455667788n);
  assertEquals([high.getUint8(top + 4095n), window.getUint64(START + 4088)], [
    0x11,
    0x1122334455667788n,
  ]);
  for (
    const iova of [
      -1,
      START - 1,
      START + 4093,
      START + 0.5,
      NaN,
      Infinity,
      -Infinity,
      2 ** 60,
      -0.5,
    ]
  ) {
    assertEquals(assertThrows(() => window.getUint32(iova), DmaError).errno, EFAULT, `${iova}`);
    assertThrows(() => window.setUint32(iova, 1), DmaError);
    assertThrows(() => high.getUint32(iova), DmaError);
  }
  for (const iova of [-1n, BASE - 1n, BASE + 4093n, top, 1n << 64n, BASE + (1n << 64n)]) {
    assertThrows(() => window.getUint32(iova), DmaError);
    assertThrows(() => window.copyTo(iova, new Uint8Array(PAGE)), DmaError);
  }
  for (const iova of [NaN, 0.5, Infinity, 2 ** 53, 2 ** 64, START + 0.5]) {
    assertThrows(() => dma.window(iova, 1), RangeError, `${iova}`);
  }
  for (const length of [-1, 0.5, NaN, (1 << 30) + 1]) {
    assertThrows(() => dma.window(START, length), RangeError);
  }
  for (const iova of [-1, -1n, 1n << 64n, 0]) assertEquals(dma.window(iova, 1), undefined);
});

testFds("numbers reach what they can of a window that goes beyond 2^53", async () => {
  using served = await serveNegotiated();
  using file = new ClientFile(2 * PAGE);
  const last = 2 ** 53 - PAGE; // the last page that numbers reach
  await map(served.peer, { address: BigInt(last), size: BigInt(2 * PAGE) }, [file.fd]);
  const dma = dmaOf(served);
  const window = dma.window(last, 4)!;
  window.setUint32(last + 8, 7);
  window.copyFrom(last + 12, new Uint32Array([8]));
  const into = new Uint8Array(2);
  assertEquals(dma.copyTo(last + 12, into), undefined);
  assertEquals([window.getUint32(BigInt(last) + 8n), file.bytes[8], into[0]], [7, 7, 8]);
  // What is rounded is another address, perhaps.
  assertEquals(assertThrows(() => window.getUint32(2 ** 53), DmaError).errno, EFAULT);
  window.setUint32(2n ** 53n, 9);
  assertEquals(file.bytes[PAGE], 9);
});

testFds("a window that is asked for no bytes is alive", async () => {
  using served = await serveNegotiated();
  using file = new ClientFile(PAGE);
  const dma = dmaOf(served);
  await map(served.peer, { address: BASE }, [file.fd]);
  assertEquals(dma.window(BASE, 0)?.length, PAGE);
  assertEquals(dma.window(START + PAGE, 0), undefined, "an address behind it is not of it");
  await unmap(served.peer, BASE, 4096n);
  assertEquals(dma.window(BASE, 0), undefined);
  await map(served.peer, { address: BASE }, [file.fd]);
  assertEquals(dma.window(BASE, 0)?.length, PAGE);
});

testFds(
  "an array of other elements than declared is its bytes, whichever way they go",
  async () => {
    using served = await serveNegotiated();
    using file = new ClientFile(PAGE);
    await map(served.peer, { address: BASE }, [file.fd]);
    const dma = dmaOf(served);
    // As of a device that is written without types.
    const words = Uint16Array.of(0x0201, 0x0403) as unknown as Uint8Array;
    const ways: readonly ((data: Uint8Array) => unknown)[] = [
      (data) => dma.window(BASE, 4)!.copyFrom(BASE, data),
      (data) => dma.copyFrom(BASE, data),
      (data) => dma.write(BASE, data),
      (data) => dma.writeSync(BASE, data),
    ];
    for (const way of ways) {
      file.bytes.fill(0);
      await way(words);
      assertEquals([...file.bytes.slice(0, 5)], [1, 2, 3, 4, 0], `${way}`);
      const wrong = new ArrayBuffer(4) as unknown as Uint8Array;
      const error = await Promise.try(way, wrong).catch((error) => error);
      assertInstanceOf(error, TypeError, `${way}`);
      assertStringIncludes(error.message, "an ArrayBuffer, not a Uint8Array");
    }
    const into = new Uint16Array(2);
    dma.window(BASE, 4)!.copyTo(BASE, into as unknown as Uint8Array);
    assertEquals([...into], [0x0201, 0x0403]);
    await dma.readInto(BASE + 1n, into as unknown as Uint8Array);
    assertEquals([...into], [0x0302, 0x04]);
  },
);

testFds("memory that is not mapped here has no window, and cannot fault", async () => {
  using served = await serveNegotiated({ requireSealed: true });
  using file = new TestFile(2 * PAGE);
  const { peer } = served;
  await map(peer, { address: BASE }); // by message
  const flags = READ | WRITE | FILE_IO;
  const called = { address: 0n, size: 8192n, flags };
  assertEquals(await map(peer, called, [file.fd]), 0); // by calls: the file can shrink
  const dma = dmaOf(served);
  assertEquals([dma.window(BASE, 1), dma.window(0, 1), dma.window(0x5000, 1)], [
    undefined,
    undefined,
    undefined,
  ]);
  assertEquals(libc().ftruncate(file.fd.fd, 0n), 0);
  assertEquals(dma.window(0, 1), undefined);
  assertEquals(assertThrows(() => dma.readSync(0n, 1), DeviceError).errno, EIO);
});

testFds("a window of a memory taken away by the device is dead; the next one is not", async () => {
  using served = await serveNegotiated();
  using file = new ClientFile(PAGE);
  await map(served.peer, { address: BASE }, [file.fd]);
  const dma = dmaOf(served);
  const window = dma.window(START, 1)!;
  const view = dma.view(BASE, 1)!;
  structuredClone(view, { transfer: [view.buffer] });
  assertDead(window, START);
  const next = dma.window(START, 1)!;
  next.setUint8(START, 9);
  assertEquals(file.bytes[0], 9);
  assertEquals(await unmap(served.peer, BASE, 4096n), 0);
  assertDead(next, START);
});

testFds("a window copies within the memory itself, onto what overlaps", async () => {
  using served = await serveNegotiated();
  using file = new ClientFile(PAGE);
  await map(served.peer, { address: BASE }, [file.fd]);
  const dma = dmaOf(served);
  const window = dma.window(START, 1)!;
  for (const length of [16, 200]) {
    const model = Uint8Array.from({ length: 300 }, (_, i) => i);
    window.copyFrom(START, model);
    window.copyFrom(START + 4, dma.view(BASE, length)!);
    model.copyWithin(4, 0, length);
    window.copyTo(START + 8, dma.view(BASE + 11n, length)!);
    model.copyWithin(11, 8, 8 + length);
    assertEquals(file.bytes.slice(0, 300), model);
  }
});

testFds("a window can be asked for each access by its owner", async () => {
  using served = await serveNegotiated();
  using file = new ClientFile(PAGE);
  await map(served.peer, { address: BASE }, [file.fd]);
  let isAllowed = true;
  const check = () => {
    if (!isAllowed) throw new DeviceError(1, "not now");
  };
  const window = dmaOf(served).window(BASE, 1, check)!;
  for (const access of [...READS, ...WRITES]) access(window, START);
  isAllowed = false;
  for (const access of [...READS, ...WRITES]) {
    assertThrows(() => access(window, START), DeviceError, "not now");
  }
  const free = dmaOf(served).window(BASE, 1)!;
  assert(free !== window);
  assertEquals(free.getUint8(START), 0);
});

testFds("what a window writes is logged, and nothing that it reads", async () => {
  const device = new MigratingDevice();
  using served = await serveNegotiated({ device });
  using file = new ClientFile(64 * PAGE);
  const { peer } = served;
  const size = BigInt(64 * PAGE);
  await map(peer, { address: BASE, size }, [file.fd]);
  const dma = dmaOf(served);
  const window = dma.window(BASE, 1)!; // before the log is on
  const at = (page: number) => START + page * PAGE;
  const report = async () => {
    const asked = { iova: BASE, length: size, pageSize: 4096n, bitmap: new Uint8Array() };
    const data = DmaLoggingReportData.encode(asked);
    const { payload } = await feature(peer, GET | Feature.DMA_LOGGING_REPORT, data);
    const { bitmap } = DmaLoggingReportData.decode(payload.subarray(8));
    return Array.from({ length: 64 }, (_, i) => i).filter((i) => bitmap[i >> 3]! >> (i & 7) & 1);
  };
  const start = DmaLoggingStartData.encode({ pageSize: 4096n, ranges: [] });
  assertEquals((await feature(peer, SET | Feature.DMA_LOGGING_START, start)).errno, 0);
  for (const [i, access] of WRITES.entries()) access(window, at(4 * i));
  for (const access of READS) access(window, at(60));
  assertThrows(() => window.setUint32(START + 64 * PAGE, 1), DmaError);
  window.setUint16(at(34) - 1, 1); // of two pages
  assertEquals(await report(), [0, 4, 8, 12, 16, 20, 24, 28, 33, 34]);
  assertEquals(await report(), []);
  assertEquals((await feature(peer, SET | Feature.DMA_LOGGING_STOP)).errno, 0);
  window.setUint8(at(1), 1);
});
