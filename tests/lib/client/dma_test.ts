import { assert, assertEquals, assertMatch, assertRejects, assertThrows } from "@std/assert";
import fc from "fast-check";
import { EACCES, EEXIST, EFAULT, EINVAL, ENOENT, SystemError } from "../../../ffi/errno.ts";
import { closeAll, OwnedFd } from "../../../ffi/fd.ts";
import { libc } from "../../../ffi/libc.ts";
import { Mapping } from "../../../ffi/memory.ts";
import { idle } from "../../../ffi/poller.ts";
import type { Device } from "../../../lib/client/device.ts";
import type { DmaEvent } from "../../../lib/client/dma.ts";
import type { DmaMap, DmaMapOptions } from "../../../lib/client/dma_map.ts";
import { ConnectionError, RemoteError, TimeoutError } from "../../../lib/base/errors.ts";
import { MAX_PENDING } from "../../../lib/base/limits.ts";
import { Command } from "../../../lib/wire/command.ts";
import { DmaMapRequest, DmaUnmapRequest } from "../../../lib/wire/dma.ts";
import { encodeMessage, MessageFlags } from "../../../lib/wire/header.ts";
import { DENO } from "../../_deno.ts";
import { testFds } from "../../_fds.ts";
import type { RawMessage, RawPeer } from "../../_raw_peer.ts";
import { startDemo } from "../../_demo_process.ts";
import { outcome, pause, replyTo, withHand, withTwin } from "../_by_hand.ts";
import { connectScripted } from "../_scripted_server.ts";
import { until } from "../../_until.ts";

const { DMA_MAP, DMA_UNMAP, DMA_READ, DMA_WRITE, DEVICE_RESET, REGION_READ, REGION_WRITE } =
  Command;

const PAGE = 0x1000;
const TOP = 1n << 64n;

/** Maps with the server's consent. */
async function mapByHand(
  device: Device,
  peer: RawPeer,
  options: DmaMapOptions,
): Promise<[DmaMap, RawMessage]> {
  const mapping = device.dma.mapAsync(options);
  const request = await peer.expect(DMA_MAP);
  peer.reply(request);
  return [await mapping, request];
}

async function unmapByHand(map: DmaMap, peer: RawPeer): Promise<RawMessage> {
  const unmapping = map.unmapAsync();
  const request = await peer.expect(DMA_UNMAP);
  peer.reply(request, request.payload);
  await unmapping;
  return request;
}

/** Address and count; in 12 bytes as QEMU 10.1 has them, if `short`. */
function head(address: bigint, count: bigint | number, short = false): Uint8Array {
  const bytes = new Uint8Array(short ? 12 : 16);
  const view = new DataView(bytes.buffer);
  view.setBigUint64(0, address, true);
  if (short) view.setUint32(8, Number(count), true);
  else view.setBigUint64(8, BigInt(count), true);
  return bytes;
}

function join(...parts: Uint8Array[]): Uint8Array {
  return new Uint8Array(parts.flatMap((part) => [...part]));
}

/** Sends a command of the server and takes its answer. */
async function ask(peer: RawPeer, command: number, payload: Uint8Array): Promise<RawMessage> {
  peer.command(4711, command, payload);
  const answer = await peer.expect(command);
  assertEquals(answer.messageId, 4711);
  return answer;
}

function withFile(size: number, body: (path: string) => Promise<void>): Promise<void> {
  const path = Deno.makeTempFileSync({ prefix: "vfu-test-" });
  Deno.truncateSync(path, size);
  return body(path).finally(() => Deno.removeSync(path));
}

// ---- What is sent

testFds(
  "mapAsync() sends DMA_MAP with the flags, the offset and the descriptor that belong",
  () =>
    withFile(3 * PAGE, (file) =>
      withHand(async ({ device, peer }) => {
        const bytes = new Uint8Array(2 * PAGE);
        const cases: [
          Omit<DmaMapOptions, "iova" | "size">,
          flags: number,
          offset: bigint,
          fds: number,
        ][] = [
          [{}, 3, 0n, 1],
          [{ access: "ro" }, 1, 0n, 1],
          [{ access: "wo" }, 2, 0n, 1],
          [{ access: "rw", share: "message" }, 3, 0n, 0],
          [{ access: "ro", share: { bytes } }, 1, 0n, 0],
          [{ access: "wo", share: { file } }, 2, 0n, 1],
          [{ share: { file, offset: BigInt(PAGE) } }, 3, BigInt(PAGE), 1],
        ];
        for (const [i, [options, flags, offset, fds]] of cases.entries()) {
          const iova = BigInt(0x100000 + i * 2 * PAGE);
          const [map, request] = await mapByHand(device, peer, {
            iova,
            size: 2 * PAGE,
            ...options,
          });
          assertEquals(request.payload.length, 32);
          assertEquals(DmaMapRequest.decode(request.payload), {
            argsz: 32,
            flags,
            offset,
            address: iova,
            size: BigInt(2 * PAGE),
          });
          assertEquals([request.fds.length, map.isShared], [fds, fds === 1]);
          assertEquals([map.iova, map.size, map.end], [iova, 2 * PAGE, iova + BigInt(2 * PAGE)]);
          closeAll(request.fds);
        }
        const request = await unmapByHand(device.dma.maps[1]!, peer);
        assertEquals(request.fds.length, 0);
        assertEquals(request.payload.length, 24);
        assertEquals(DmaUnmapRequest.decode(request.payload), {
          argsz: 24,
          flags: 0,
          address: BigInt(0x100000 + 2 * PAGE),
          size: BigInt(2 * PAGE),
        });
        assertEquals(device.dma.maps.length, cases.length - 1);
      })),
);

testFds("map() and unmap() do the same, blocking", () =>
  withHand(async ({ device, peer }) => {
    peer.send(replyTo(2, DMA_MAP));
    const map = device.dma.map({ iova: 0x10000, size: PAGE, share: "message", access: "ro" });
    assertEquals((await peer.expect(DMA_MAP)).payload[4], 1);
    peer.send(replyTo(3, DMA_UNMAP, new Uint8Array(24)));
    map.unmap();
    assertEquals((await peer.expect(DMA_UNMAP)).payload.length, 24);
    assertEquals(device.dma.maps, []);
    assertThrows(() => map.unmap(), RangeError, "0x1000 bytes at IOVA 0x10000 is not mapped");
    await assertRejects(() => map.unmapAsync(), RangeError, "is not mapped");
  }));

testFds(
  "a memfd is shared memory that the server can't shrink or grow",
  () =>
    withHand(async ({ device, peer }) => {
      const [map, { fds }] = await mapByHand(device, peer, { iova: 0, size: 2 * PAGE });
      using fd = fds[0]!;
      using theirs = Mapping.create(fd, { length: 2 * PAGE });
      map.bytes[PAGE] = 7;
      assertEquals(theirs.bytes[PAGE], 7);
      theirs.bytes[PAGE] = 8;
      assertEquals(map.bytes[PAGE], 8);
      for (const size of [0n, BigInt(PAGE), BigInt(4 * PAGE)]) {
        assertEquals(libc().ftruncate(fd.fd, size), -1);
      }
      assertEquals(fd.stat().size, BigInt(2 * PAGE));
    }),
);

testFds(
  "a file is shared from its offset on",
  () =>
    withFile(2 * PAGE, (file) =>
      withHand(async ({ device, peer }) => {
        const share = { file, offset: BigInt(PAGE) };
        const [map, { fds }] = await mapByHand(device, peer, { iova: 0, size: PAGE, share });
        closeAll(fds);
        map.bytes[3] = 9;
        assertEquals(Deno.readFileSync(file)[PAGE + 3], 9);
      })),
);

testFds(
  "own bytes are what the device reads and writes",
  () =>
    withHand(async ({ device, peer }) => {
      const bytes = new Uint8Array(3 * PAGE).subarray(PAGE, 2 * PAGE);
      const [map] = await mapByHand(device, peer, { iova: 0, size: PAGE, share: { bytes } });
      await ask(peer, DMA_WRITE, join(head(16n, 2), new Uint8Array([1, 2])));
      assertEquals(bytes.subarray(16, 18), new Uint8Array([1, 2]));
      assertEquals(map.bytes, bytes);
      await unmapByHand(map, peer);
      assertEquals(bytes.length, PAGE);
    }),
);

// ---- What is refused before anything is sent

testFds(
  "map() refuses what can't be mapped, and sends nothing",
  () =>
    withFile(PAGE + 1, (file) =>
      withHand(async ({ device, peer }) => {
        await mapByHand(device, peer, { iova: 0x10000, size: 4 * PAGE, share: "message" });
        const cases: [DmaMapOptions, string][] = [
          [{ iova: 0x20001, size: PAGE }, "must be multiples of the page size, 4096"],
          [
            { iova: 0x20000, size: PAGE + 1 },
            "Cannot map 0x1001 bytes at IOVA 0x20000: address and",
          ],
          [{ iova: 0x20000, size: 0 }, "from 1 to"],
          [{ iova: 0x20000, size: -PAGE }, "from 1 to"],
          [{ iova: 0x20000, size: 0.5 }, "0.5 bytes"],
          [{ iova: 0x20000, size: NaN }, "NaN bytes"],
          [{ iova: 0x20000, size: Infinity }, "from 1 to"],
          [{ iova: 0x20000, size: 2 ** 43 + PAGE }, "from 1 to"],
          [{ iova: 0.5, size: PAGE }, "0.5"],
          [{ iova: NaN, size: PAGE }, "NaN"],
          [{ iova: -PAGE, size: PAGE }, "-0x1000: it leaves the 64 bits"],
          [{ iova: -PAGE, size: 2 * PAGE }, "it leaves the 64 bits"],
          [{ iova: TOP, size: PAGE }, "it leaves the 64 bits"],
          [{ iova: TOP - BigInt(PAGE), size: 2 * PAGE }, "it leaves the 64 bits"],
          [{ iova: 0x10000, size: 4 * PAGE }, "it overlaps 0x4000 bytes at IOVA 0x10000"],
          [{ iova: 0xf000, size: 2 * PAGE }, "it overlaps"],
          [{ iova: 0x13000, size: 2 * PAGE }, "it overlaps"],
          [{ iova: 0x11000, size: PAGE }, "it overlaps"],
          [{ iova: 0xf000, size: 16 * PAGE }, "it overlaps"],
          [
            { iova: 0x20000, size: PAGE, share: { bytes: new Uint8Array(PAGE - 1) } },
            "4095 bytes as",
          ],
          [{ iova: 0x20000, size: 2 * PAGE, share: { file } }, "the file has 4097 bytes"],
          [{ iova: 0x20000, size: PAGE, share: { file, offset: 1n } }, "not a multiple of 4096"],
          [{ iova: 0x20000, size: PAGE, share: { file, offset: -4096n } }, "-"],
          [{ iova: 0x20000, size: PAGE, share: { file, offset: 1n << 63n } }, "the file has"],
          [{ iova: 0x20000, size: PAGE, share: { file: "/dev/null" } }, "no regular file"],
        ];
        for (const [options, part] of cases) {
          assertThrows(() => device.dma.map(options), RangeError, part);
          await assertRejects(() => device.dma.mapAsync(options), RangeError, part);
        }
        for (const [path, code] of [["/nowhere/at/all", "ENOENT"], ["/", "EISDIR"]] as const) {
          const share = { file: path };
          const error = assertThrows(
            () => device.dma.map({ iova: 0x20000, size: PAGE, share }),
            SystemError,
            path,
          );
          assertEquals(error.code, code);
        }
        assertEquals(device.dma.maps.length, 1);
        assertEquals(device.proxy.pendingCount, 0);
        // The next message
        await mapByHand(device, peer, { iova: 0xf000, size: PAGE, share: "message" });
        await mapByHand(device, peer, { iova: 0x14000, size: PAGE, share: "message" });
        assertEquals(device.dma.maps.map(({ iova }) => iova), [0xf000n, 0x10000n, 0x14000n]);
      })),
);

testFds("a map may end exactly at 2^64", () =>
  withHand(async ({ device, peer }) => {
    const iova = TOP - BigInt(PAGE);
    const [map] = await mapByHand(device, peer, { iova, size: PAGE, share: "message" });
    assertEquals(map.end, TOP);
    device.dma.write(TOP - 1n, new Uint8Array([3]));
    assertEquals(device.dma.read(TOP - 2n, 2), new Uint8Array([0, 3]));
    assertThrows(
      () => device.dma.read(TOP - 1n, 2),
      RangeError,
      "nothing is at 0x10000000000000000",
    );
    assertEquals(device.dma.find(TOP - 1n, 2), undefined);
  }));

testFds(
  "memory of 6 GiB is shared and served at every address",
  () =>
    withHand(async ({ device, peer }) => {
      const GIB = 2 ** 30;
      const base = 1n << 40n;
      const [map, { payload, fds }] = await mapByHand(device, peer, { iova: base, size: 6 * GIB });
      closeAll(fds);
      assertEquals(DmaMapRequest.decode(payload).size, BigInt(6 * GIB));
      assertEquals([map.size, map.bytes.length, map.end], [
        6 * GIB,
        6 * GIB,
        base + BigInt(6 * GIB),
      ]);
      for (const at of [0, 2 * GIB - 2, 4 * GIB - 2, 5 * GIB, 6 * GIB - 4]) {
        const iova = base + BigInt(at);
        device.dma.write(iova, new Uint8Array([1, 2, 3, 4]));
        assertEquals(device.dma.view(iova, 4), new Uint8Array([1, 2, 3, 4]));
        assertEquals(device.dma.read(iova, 4), new Uint8Array([1, 2, 3, 4]));
        await ask(peer, DMA_WRITE, join(head(iova + 1n, 2), new Uint8Array([8, 9])));
        const answer = await ask(peer, DMA_READ, head(iova, 4));
        assertEquals(answer.payload.subarray(16), new Uint8Array([1, 8, 9, 4]));
      }
      assertEquals(outcome(await ask(peer, DMA_READ, head(map.end - 2n, 4))), EFAULT);
    }),
);

testFds(
  "a file with more holes than there is room for is no memory",
  () =>
    withFile(PAGE, (file) =>
      withHand(async ({ device }) => {
        using fd = OwnedFd.open(file);
        const { available, blockSize } = fd.fileSystem();
        const size = available * BigInt(blockSize) + (1n << 30n);
        if (libc().ftruncate(fd.fd, size) < 0) return; // no file can be so large there
        const error = await assertRejects(
          () => device.dma.mapAsync({ iova: 0, size: PAGE, share: { file } }),
          RangeError,
        );
        assertMatch(
          error.message,
          /^Cannot share memory of \S+: the file has holes of \d+ bytes, for/,
        );
        assertEquals(device.dma.maps, []);
      })),
);

testFds(
  "memory by message that this process can't have is refused, and nothing is sent",
  () =>
    withHand(async ({ device, peer }) => {
      const options = { iova: 0, size: 2 ** 42, share: "message" } as const;
      const error = await assertRejects(() => device.dma.mapAsync(options), RangeError);
      assertMatch(error.message, /^Cannot map 0x40000000000 bytes at IOVA 0x0: .*"memfd"/);
      assertEquals(device.dma.maps, []);
      await mapByHand(device, peer, { iova: 0, size: PAGE, share: "message" });
    }),
);

testFds("map() keeps to the smallest page size that the server takes", async () => {
  await withHand(async ({ device, peer }) => {
    const message = "multiples of the page size, 65536";
    assertThrows(() => device.dma.map({ iova: PAGE, size: 0x10000 }), RangeError, message);
    assertThrows(() => device.dma.map({ iova: 0x10000, size: PAGE }), RangeError, message);
    await mapByHand(device, peer, { iova: 0x10000, size: 0x10000, share: "message" });
  }, { pgsizes: 0x210000n });
  await withHand(async ({ device, peer }) => {
    await mapByHand(device, peer, { iova: 3, size: 5, share: "message" });
    await mapByHand(device, peer, { iova: 8, size: 1, share: "message" });
    assertEquals(device.dma.read(3, 6).length, 6);
  }, { pgsizes: 1n });
});

testFds(
  "map() refuses more maps than the server takes, until one is gone",
  () =>
    withHand(async ({ device, peer }) => {
      const options = { size: PAGE, share: "message" } as const;
      const [first] = await mapByHand(device, peer, { iova: 0, ...options });
      await mapByHand(device, peer, { iova: 0x2000, ...options });
      assertThrows(
        () => device.dma.map({ iova: 0x8000, ...options }),
        RangeError,
        "the server takes 2 maps at most",
      );
      await unmapByHand(first, peer);
      await mapByHand(device, peer, { iova: 0x8000, ...options });
    }, { maxDmaMaps: 2 }),
);

testFds(
  "a server that takes no descriptors gets no shared memory, but messages",
  () =>
    withHand(async ({ device, peer }) => {
      assertThrows(() => device.dma.map({ iova: 0, size: PAGE }), RangeError, "takes 0");
      assertEquals(device.dma.maps, []);
      await mapByHand(device, peer, { iova: 0, size: PAGE, share: "message" });
    }, { maxMsgFds: 0 }),
);

// ---- What the server refuses

testFds(
  "nothing stays mapped when the server refuses, does not answer, or the wait is called off",
  () =>
    withHand(async ({ device, peer }) => {
      for (const share of ["memfd", "message"] as const) {
        const options = { iova: 0, size: PAGE, share };
        const refused = device.dma.mapAsync(options);
        const request = await peer.expect(DMA_MAP);
        closeAll(request.fds);
        peer.fail(request, EEXIST);
        const error = await assertRejects(
          () => refused,
          RemoteError,
          "Cannot map 0x1000 bytes at IOVA 0x0: the server answered EEXIST",
        );
        assertEquals(error.errno, EEXIST);
        // The server may have mapped it, and is asked to let go of the memory.
        const letGo = async (mapping: RawMessage) => {
          closeAll(mapping.fds);
          const unmapping = await peer.expect(DMA_UNMAP);
          assertEquals(DmaUnmapRequest.decode(unmapping.payload).size, BigInt(PAGE));
          peer.reply(unmapping);
        };
        const late = assertRejects(
          () => device.dma.mapAsync({ ...options, timeoutMs: 5 }),
          TimeoutError,
          "map 0x1000 bytes",
        );
        await letGo(await peer.expect(DMA_MAP));
        await late;
        const reason = new Error("enough");
        const aborting = new AbortController();
        const aborted = device.dma.mapAsync({ ...options, signal: aborting.signal });
        const second = await peer.expect(DMA_MAP);
        aborting.abort(reason);
        await Promise.all([
          assertRejects(() => aborted).then((error) => assertEquals(error, reason)),
          letGo(second),
        ]);
        assertEquals(device.dma.maps, []);
        assertEquals([device.proxy.serving, device.proxy.window], [false, MAX_PENDING]);
      }
    }),
);

testFds(
  "map() asks the server to let go of what it did not answer about, blocking a second more",
  () =>
    withHand(async ({ device, peer }) => {
      const map = () => device.dma.map({ iova: 0, size: PAGE, timeoutMs: 5 });
      assertThrows(map, TimeoutError, "map 0x1000 bytes at IOVA 0x0");
      assertEquals(device.dma.maps, []);
      closeAll((await peer.expect(DMA_MAP)).fds);
      await peer.expect(DMA_UNMAP);
    }),
);

testFds(
  "a map is gone even if the server refuses to unmap it",
  () =>
    withHand(async ({ device, peer }) => {
      const [map, { fds }] = await mapByHand(device, peer, { iova: 0, size: PAGE });
      closeAll(fds);
      const view = map.bytes;
      const unmapping = map.unmapAsync();
      peer.fail(await peer.expect(DMA_UNMAP), ENOENT);
      await assertRejects(() => unmapping, RemoteError, "Cannot unmap 0x1000 bytes at IOVA 0x0");
      assertEquals([device.dma.has(map), view.length], [false, 0]);
    }),
);

testFds(
  "a second unmap while the first is under way is refused",
  () =>
    withHand(async ({ device, peer }) => {
      const [map] = await mapByHand(device, peer, { iova: 0, size: PAGE, share: "message" });
      const first = map.unmapAsync();
      await assertRejects(() => map.unmapAsync(), RangeError, "is not mapped");
      assertThrows(() => map.unmap(), RangeError, "is not mapped");
      map[Symbol.dispose](); // as at the end of a block that did not await
      peer.reply(await peer.expect(DMA_UNMAP), new Uint8Array(24));
      await first;
      assertEquals(device.dma.maps, []);
    }),
);

// ---- Access from here

testFds(
  "find(), view(), read() and write() keep to what is mapped",
  () =>
    withHand(async ({ device, peer }) => {
      const { dma } = device;
      const options = { size: PAGE, share: "message" } as const;
      const [low] = await mapByHand(device, peer, { iova: 0x1000, ...options });
      const [high] = await mapByHand(device, peer, { iova: 0x2000, ...options });
      assertEquals([dma.find(0xfff), dma.find(0x1000), dma.find(0x1fff)], [undefined, low, low]);
      assertEquals([dma.find(0x2000n), dma.find(0x3000)], [high, undefined]);
      assertEquals([dma.find(0x1000, PAGE), dma.find(0x1001, PAGE)], [low, undefined]);
      dma.write(0x1ffe, new Uint8Array([1, 2, 3, 4]));
      assertEquals(dma.read(0x1ffd, 6), new Uint8Array([0, 1, 2, 3, 4, 0]));
      assertEquals(low.bytes.subarray(0xffe), new Uint8Array([1, 2]));
      assertEquals(dma.read(0x1000, 2 * PAGE).length, 2 * PAGE);
      const view = dma.view(0x2000, 2);
      assertEquals(view, new Uint8Array([3, 4]));
      view[0] = 9;
      assertEquals(dma.read(0x2000, 1)[0], 9);
      assertThrows(
        () => dma.view(0x1fff, 2),
        RangeError,
        "0x2 bytes at IOVA 0x1fff is not in one map",
      );
      assertThrows(() => dma.read(0x2fff, 2), RangeError, "nothing is at 0x3000");
      assertThrows(() => dma.read(0xfff, 2), RangeError, "nothing is at 0xfff");
      assertThrows(() => dma.read(-1, 1), RangeError, "-0x1");
      assertThrows(() => dma.read(0x1000, -1), RangeError);
      assertThrows(() => dma.view(0x1000, -1), RangeError);
      assertThrows(() => dma.read(0x3000, 2 ** 50), RangeError, "nothing is at 0x3000");
      assertThrows(() => dma.write(0x2fff, new Uint8Array([7, 7])), RangeError);
      assertEquals(dma.read(0x2fff, 1)[0], 0, "nothing is written of what does not fit");
      assertEquals(dma.read(0x9000, 0), new Uint8Array());
      dma.write(0x9000, new Uint8Array());
    }),
);

testFds("maps may be unmapped while they are iterated", () =>
  withHand(async ({ device, peer }) => {
    for (let i = 0; i < 4; i++) {
      await mapByHand(device, peer, { iova: i * PAGE, size: PAGE, share: "message" });
    }
    for (const map of device.dma.maps) await unmapByHand(map, peer);
    assertEquals(device.dma.maps, []);
  }));

// ---- The server's accesses

/**
 * Maps of 4 KiB each, all by message. Two are in a row, one is only to be read with one only to be
 * written behind it; and the last page.
 */
async function mapAll(device: Device, peer: RawPeer): Promise<void> {
  const share = "message";
  await mapByHand(device, peer, { iova: 0x1000, size: PAGE, share });
  await mapByHand(device, peer, { iova: 0x2000, size: PAGE, share });
  await mapByHand(device, peer, { iova: 0x4000, size: PAGE, share, access: "ro" });
  await mapByHand(device, peer, { iova: 0x5000, size: PAGE, share, access: "wo" });
  await mapByHand(device, peer, { iova: TOP - 0x1000n, size: PAGE, share });
  for (const { bytes, iova } of device.dma.maps) bytes.fill(Number((iova >> 12n) & 0xffn));
}

const LIMIT = 0x1800;

const ACCESSES: [address: bigint, count: bigint, read: number, write: number, what: string][] = [
  [0x1000n, 8n, 0, 0, "the beginning of a map"],
  [0x1000n, 0x1000n, 0, 0, "a map"],
  [0x1fffn, 1n, 0, 0, "its last byte"],
  [0x1ff0n, 0x20n, 0, 0, "across adjacent maps"],
  [0x1000n, BigInt(LIMIT), 0, 0, "as much as we take"],
  [0x1000n, BigInt(LIMIT) + 1n, EINVAL, EINVAL, "more than we take"],
  [0x2ff0n, 0x11n, EFAULT, EFAULT, "beyond the end of a map"],
  [0xfffn, 2n, EFAULT, EFAULT, "from ahead of a map"],
  [0x3000n, 1n, EFAULT, EFAULT, "what is not mapped"],
  [0x4000n, 8n, 0, EACCES, "memory only to be read"],
  [0x5000n, 8n, EACCES, 0, "memory only to be written"],
  [0x4ff8n, 16n, EACCES, EACCES, "from the one into the other"],
  [TOP - 8n, 8n, 0, 0, "the last bytes of all"],
  [TOP - 8n, 9n, EFAULT, EFAULT, "around the end of addresses"],
  [1n << 63n, 8n, EFAULT, EFAULT, "2^63"],
  [0x1000n, 0n, 0, 0, "nothing"],
  [0x9000n, 0n, 0, 0, "nothing of what is not mapped"],
];

for (const short of [false, true]) {
  const form = short ? "12 bytes, as QEMU 10.1 has it" : "16 bytes";
  testFds(
    `DMA_READ and DMA_WRITE with a head of ${form} are answered by range and right`,
    () =>
      withHand(
        async ({ device, peer }) => {
          await mapAll(device, peer);
          for (const [address, count, read, write, what] of ACCESSES) {
            const start = head(address, count, short);
            const answer = await ask(peer, DMA_READ, start);
            assertEquals(outcome(answer), read || "ok", `read ${what}`);
            if (read !== 0) assertEquals(answer.payload.length, 0);
            else {
              assertEquals(answer.payload.subarray(0, start.length), start);
              assertEquals(
                answer.payload.slice(start.length),
                device.dma.read(address, Number(count)),
              );
            }
            const data = new Uint8Array(Number(count)).map((_, i) => i * 3 + 1);
            const written = await ask(peer, DMA_WRITE, join(start, data));
            assertEquals(outcome(written), write || "ok", `write ${what}`);
            const reply = write !== 0 || short ? new Uint8Array() : start;
            assertEquals(written.payload, reply, `write ${what}`);
            if (write === 0) assertEquals(device.dma.read(address, data.length), data);
          }
        },
        { maxMsgFds: 8 },
        { capabilities: { maxDataXferSize: LIMIT } },
      ),
  );
}

testFds(
  "requests that make no sense are refused, and the connection goes on",
  () =>
    withHand(async ({ device, peer }) => {
      await mapAll(device, peer);
      const cases: [command: number, payload: Uint8Array, errno: number][] = [
        [DMA_READ, head(0x1000n, 1n << 63n), EINVAL],
        [DMA_READ, head(0x1000n, TOP - 1n), EINVAL],
        [DMA_READ, head(TOP - 1n, TOP - 1n), EINVAL],
        [DMA_READ, new Uint8Array(), EINVAL],
        [DMA_READ, new Uint8Array(11), EINVAL],
        [DMA_READ, new Uint8Array(15), EINVAL],
        [DMA_READ, new Uint8Array(17), EINVAL],
        [DMA_WRITE, head(0x1000n, 1n << 63n), EINVAL],
        [DMA_WRITE, head(0x1000n, 5), EINVAL], // with 4 it would be the shorter head and 4 bytes
        [DMA_WRITE, join(head(0x1000n, 4), new Uint8Array(3)), EINVAL],
        [DMA_WRITE, join(head(0x1000n, 4), new Uint8Array(5)), EINVAL],
        [DMA_WRITE, new Uint8Array(), EINVAL],
        [Command.VERSION, new Uint8Array(4), EINVAL],
        [REGION_READ, new Uint8Array(16), EINVAL],
        [4242, new Uint8Array(), EINVAL],
      ];
      for (const [command, payload, errno] of cases) {
        const answer = await ask(peer, command, payload);
        assertEquals([outcome(answer), answer.payload.length], [errno, 0]);
      }
      assertEquals(outcome(await ask(peer, DMA_READ, head(0x1000n, 1))), "ok");
    }),
);

testFds(
  "descriptors that come with a DMA request are closed, and it is answered all the same",
  () =>
    withHand(async ({ device, peer }) => {
      await mapAll(device, peer);
      using pair = new (await import("../../../ffi/event.ts")).EventFd();
      peer.command(1, DMA_READ, head(0x1000n, 1), [pair.handle, pair.handle]);
      assertEquals(outcome(await peer.expect(DMA_READ)), "ok");
    }),
);

testFds(
  "onAccess is told of each access, also of those that are refused",
  () =>
    withHand(async ({ device, peer }) => {
      await mapAll(device, peer);
      const events: DmaEvent[] = [];
      device.dma.onAccess = (event) => events.push(event);
      await ask(peer, DMA_READ, head(0x1000n, 8));
      await ask(peer, DMA_WRITE, join(head(0x4000n, 2), new Uint8Array(2)));
      await ask(peer, DMA_READ, head(0x1000n, 1n << 63n));
      assertEquals(events, [
        { kind: "read", iova: 0x1000n, length: 8n, errno: 0 },
        { kind: "write", iova: 0x4000n, length: 2n, errno: EACCES },
        { kind: "read", iova: 0x1000n, length: 1n << 63n, errno: EINVAL },
      ]);
    }),
);

testFds(
  "an access that wants no reply is done and not answered",
  () =>
    withHand(async ({ device, peer }) => {
      await mapAll(device, peer);
      const payload = join(head(0x1000n, 1), new Uint8Array([0x77]));
      peer.command(1, DMA_WRITE, payload, [], MessageFlags.NO_REPLY);
      const answer = await ask(peer, DMA_READ, head(0x1000n, 1));
      assertEquals(answer.payload[16], 0x77);
    }),
);

testFds(
  "the device's accesses are served while a synchronous request waits",
  () =>
    withHand(async ({ device, peer }) => {
      const [map, { fds }] = await mapByHand(device, peer, { iova: 0x1000, size: PAGE });
      closeAll(fds);
      peer.send(join(
        encodeMessage(
          { messageId: 9, command: DMA_WRITE, flags: 0 },
          join(head(0x1008n, 2), new Uint8Array([5, 6])),
        ),
        encodeMessage({ messageId: 10, command: DMA_READ, flags: 0 }, head(0x1007n, 4)),
        replyTo(3, DEVICE_RESET),
      ));
      device.proxy.requestSync(DEVICE_RESET);
      assertEquals(map.bytes.subarray(8, 10), new Uint8Array([5, 6]));
      await peer.expect(DEVICE_RESET);
      assertEquals((await peer.expect(DMA_WRITE)).messageId, 9);
      assertEquals((await peer.expect(DMA_READ)).payload.slice(16), new Uint8Array([0, 5, 6, 0]));
    }),
);

testFds(
  "they are served while an asynchronous request waits, with shared memory alone",
  () =>
    withHand(async ({ device, peer }) => {
      closeAll((await mapByHand(device, peer, { iova: 0x1000, size: PAGE }))[1].fds);
      assertEquals(device.proxy.serving, false);
      const resetting = device.reset();
      const request = await peer.expect(DEVICE_RESET);
      assertEquals(outcome(await ask(peer, DMA_READ, head(0x1000n, 4))), "ok");
      peer.reply(request);
      await resetting;
    }),
);

testFds(
  "a server that asks and asks and reads no answer is left",
  () =>
    withHand(async ({ device, peer }) => {
      await mapByHand(device, peer, { iova: 0, size: 1 << 20, share: "message" });
      const request = encodeMessage(
        { messageId: 1, command: DMA_READ, flags: 0 },
        head(0n, 1 << 20),
      );
      peer.send(join(...Array.from({ length: 100 }, () => request)));
      await until(() => device.state === "CLOSED", "the end of the connection");
      assert(device.proxy.cause instanceof ConnectionError);
      assert(/does not read: \d+ bytes wait/.test(device.proxy.cause.message));
    }),
);

testFds(
  "own bytes that were given away are a fault, not a crash",
  () =>
    withHand(async ({ device, peer }) => {
      const bytes = new Uint8Array(PAGE);
      await mapByHand(device, peer, { iova: 0, size: PAGE, share: { bytes } });
      structuredClone(bytes.buffer, { transfer: [bytes.buffer] });
      assertEquals(outcome(await ask(peer, DMA_READ, head(0n, 4))), EFAULT);
      assertEquals(
        outcome(await ask(peer, DMA_WRITE, join(head(0n, 1), new Uint8Array(1)))),
        EFAULT,
      );
    }),
);

// ---- While there are maps by message

testFds(
  "one request is in flight at a time while the device may send messages, and no longer",
  () =>
    withHand(async ({ device, peer }) => {
      const { proxy } = device;
      const [map] = await mapByHand(device, peer, { iova: 0, size: PAGE, share: "message" });
      const [other, { fds }] = await mapByHand(device, peer, { iova: 0x1000, size: PAGE });
      closeAll(fds);
      assertEquals([proxy.window, proxy.serving], [1, true]);
      const done: number[] = [];
      const requests = [1, 2, 3].map((i) =>
        proxy.request(REGION_READ, new Uint8Array([i])).then(() => done.push(i))
      );
      for (const i of [1, 2, 3]) {
        const request = await peer.expect(REGION_READ);
        assertEquals(request.payload[0], i);
        await pause(3);
        // Only the answer to the access comes: no second request.
        assertEquals(outcome(await ask(peer, DMA_READ, head(0n, 1))), "ok");
        peer.reply(request);
      }
      await Promise.all(requests);
      assertEquals(done, [1, 2, 3]);
      await unmapByHand(map, peer);
      assertEquals([proxy.window, proxy.serving], [MAX_PENDING, false]);
      const many = [1, 2, 3].map(() => proxy.request(REGION_READ));
      const came = [];
      for (let i = 0; i < 3; i++) came.push(await peer.expect(REGION_READ));
      for (const request of came) peer.reply(request);
      await Promise.all(many);
      await unmapByHand(other, peer);
    }),
);

testFds(
  "requests that are in flight end before a map by message is asked for",
  () =>
    withHand(async ({ device, peer }) => {
      const early = device.proxy.request(REGION_READ);
      const mapping = device.dma.mapAsync({ iova: 0, size: PAGE, share: "message" });
      const late = device.proxy.request(REGION_READ);
      for (const command of [REGION_READ, DMA_MAP, REGION_READ]) {
        peer.reply(await peer.expect(command));
        await pause(1);
      }
      await Promise.all([early, mapping, late]);
    }),
);

testFds(
  "post() is answered while the device may send messages, and a refusal is not heard of",
  () =>
    withHand(async ({ device, peer }) => {
      const [map] = await mapByHand(device, peer, { iova: 0, size: PAGE, share: "message" });
      peer.send(replyTo(3, REGION_WRITE));
      device.proxy.post(REGION_WRITE, new Uint8Array(16));
      peer.fail({ messageId: 4, command: REGION_WRITE }, EINVAL);
      device.proxy.post(REGION_WRITE, new Uint8Array(16));
      for (let i = 0; i < 2; i++) assertEquals((await peer.expect(REGION_WRITE)).flags, 0);
      await unmapByHand(map, peer);
      device.proxy.post(REGION_WRITE, new Uint8Array(16));
      assertEquals((await peer.expect(REGION_WRITE)).flags, MessageFlags.NO_REPLY);
    }),
);

testFds(
  "shared memory is read and written by message at any time, when the client only sleeps, too",
  async () => {
    for (const run of [withHand, withTwin]) {
      await run(async ({ device, peer, twin }) => {
        const carrier = twin ?? peer;
        const [map, { fds }] = await mapByHand(device, peer, { iova: 0, size: PAGE });
        closeAll(fds);
        for (const ms of [0, 1, 50, 150, 300]) {
          await pause(ms);
          const written = join(head(16n, 2), new Uint8Array([ms & 0xff, 1]));
          const wrote = await ask(carrier, DMA_WRITE, written);
          assertEquals([outcome(wrote), wrote.payload], ["ok", head(16n, 2)]);
          const { payload } = await ask(carrier, DMA_READ, head(15n, 4));
          assertEquals(payload.subarray(16), new Uint8Array([0, ms & 0xff, 1, 0]));
          assertEquals(map.bytes[16], ms & 0xff);
        }
      });
    }
  },
);

testFds(
  "a device that asks about shared memory has one request in flight over one socket",
  () =>
    withHand(async ({ device, peer }) => {
      const [map, { fds }] = await mapByHand(device, peer, { iova: 0, size: PAGE });
      closeAll(fds);
      assertEquals(device.proxy.window, MAX_PENDING);
      await ask(peer, DMA_READ, head(0n, 4));
      assertEquals(device.proxy.window, 1);
      await unmapByHand(map, peer);
      assertEquals(device.proxy.window, MAX_PENDING);
    }),
);

testFds(
  "the process is kept alive while there are maps by message, and only then",
  () =>
    withHand(async ({ device, peer }) => {
      const [shared, { fds }] = await mapByHand(device, peer, { iova: 0, size: PAGE });
      closeAll(fds);
      await idle();
      const [map] = await mapByHand(device, peer, { iova: 0x1000, size: PAGE, share: "message" });
      let isIdle = false;
      const ended = idle().then(() => isIdle = true);
      await pause(200);
      assertEquals(isIdle, false);
      await unmapByHand(map, peer);
      await ended;
      assertEquals(device.dma.maps, [shared]);
    }),
);

testFds("a process that has shared memory and closes nothing ends all the same", async () => {
  await using demo = await startDemo();
  const client = new URL("../../../lib/client/connect.ts", import.meta.url).href;
  const text = `
    import { connect } from ${JSON.stringify(client)};
    const device = await connect(${JSON.stringify(demo.path)});
    await device.dma.mapAsync({ iova: 0, size: 4096 });
    // As long as it is glanced at by a timer.
    await new Promise((resolve) => setTimeout(resolve, 200));
    console.log("done");
  `;
  const script = Deno.makeTempFileSync({ suffix: ".ts" });
  try {
    Deno.writeTextFileSync(script, text);
    const args = ["run", "--allow-ffi", "--allow-read", "--no-check", script];
    const { code, stdout } = await new Deno.Command(DENO, { args }).output();
    assertEquals([code, new TextDecoder().decode(stdout)], [0, "done\n"]);
  } finally {
    Deno.removeSync(script);
  }
});

// ---- The end

testFds(
  "views of shared memory are empty after unmap, and there are no new ones",
  () =>
    withHand(async ({ device, peer }) => {
      const [shared, { fds }] = await mapByHand(device, peer, { iova: 0, size: PAGE });
      closeAll(fds);
      const [own] = await mapByHand(device, peer, { iova: 0x1000, size: PAGE, share: "message" });
      const views = [shared.bytes, device.dma.view(16, 16), own.bytes];
      await unmapByHand(shared, peer);
      await unmapByHand(own, peer);
      assertEquals(views.map((view) => view.length), [0, 0, PAGE]);
      for (const map of [shared, own]) assertThrows(() => map.bytes, RangeError, "is not mapped");
    }),
);

testFds("close() frees every map", () =>
  withHand(async ({ device, peer }) => {
    const views = [];
    for (let i = 0; i < 3; i++) {
      const [map, { fds }] = await mapByHand(device, peer, { iova: i * PAGE, size: PAGE });
      closeAll(fds);
      views.push(map.bytes);
    }
    const pending = device.dma.mapAsync({ iova: 0x10000, size: PAGE });
    device.close();
    assertEquals(views.map((view) => view.length), [0, 0, 0]);
    await assertRejects(() => pending, ConnectionError);
    assertEquals(device.dma.maps, []);
    assertThrows(() => device.dma.map({ iova: 0, size: PAGE }), ConnectionError);
    await assertRejects(() => device.dma.mapAsync({ iova: 0, size: PAGE }), ConnectionError);
    assertEquals(device.dma.maps, []);
  }));

testFds("using unmaps at the end of the block", () =>
  withHand(async ({ device, peer }) => {
    {
      using map = (await mapByHand(device, peer, { iova: 0, size: PAGE, share: "message" }))[0];
      assert(device.dma.has(map));
      peer.send(replyTo(3, DMA_UNMAP, new Uint8Array(24)));
    }
    assertEquals((await peer.expect(DMA_UNMAP)).payload.length, 24);
    assertEquals(device.dma.maps, []);
  }));

testFds(
  "using frees the memory, and hides no other error, when the server has gone",
  () =>
    withHand(async ({ device, peer }) => {
      const failing = async () => {
        const [made, { fds }] = await mapByHand(device, peer, { iova: 0, size: PAGE });
        closeAll(fds);
        using _map = made;
        peer.close();
        await device.reset();
      };
      await assertRejects(failing, ConnectionError);
      assertEquals(device.dma.maps, []);
    }),
);

// ---- Against a model

interface Model {
  start: number;
  bytes: Uint8Array;
}

testFds("any sequence of maps, unmaps and accesses agrees with a model", async () => {
  const page = fc.nat(11);
  const pages = fc.integer({ min: 1, max: 4 });
  const step = fc.oneof(
    fc.record({ kind: fc.constant("map" as const), page, pages, isShared: fc.boolean() }),
    fc.record({ kind: fc.constant("unmap" as const), page }),
    fc.record({
      kind: fc.constantFrom("read" as const, "write" as const),
      at: fc.nat(12 * PAGE),
      length: fc.nat(3 * PAGE),
      fill: fc.nat(255),
    }),
  );
  const [device, server] = await connectScripted(() => false);
  const { dma } = device;
  await fc.assert(
    fc.asyncProperty(fc.array(step, { maxLength: 30 }), async (steps) => {
      let model: Model[] = [];
      const at = (address: number) =>
        model.find(({ start, bytes }) => start <= address && address < start + bytes.length);
      for (const each of steps) {
        if (each.kind === "map") {
          const start = each.page * PAGE;
          const size = each.pages * PAGE;
          const overlaps = model.some((one) =>
            one.start < start + size && start < one.start + one.bytes.length
          );
          const share = each.isShared ? "memfd" : "message";
          const mapping = dma.mapAsync({ iova: start, size, share });
          if (overlaps) await assertRejects(() => mapping, RangeError, "overlaps");
          else {
            await mapping;
            model.push({ start, bytes: new Uint8Array(size) });
          }
        } else if (each.kind === "unmap") {
          const map = dma.find(each.page * PAGE);
          const known = at(each.page * PAGE);
          assertEquals(map?.iova, known && BigInt(known.start));
          await map?.unmapAsync();
          model = model.filter((one) => one !== known);
        } else {
          const addresses = Array.from({ length: each.length }, (_, i) => each.at + i);
          const owners = addresses.map(at);
          if (owners.includes(undefined)) {
            assertThrows(() => dma.read(each.at, each.length), RangeError);
            assertThrows(() => dma.write(each.at, new Uint8Array(each.length)), RangeError);
            continue;
          }
          const find = (i: number) => [owners[i]!.bytes, addresses[i]! - owners[i]!.start] as const;
          if (each.kind === "write") {
            const data = new Uint8Array(each.length).map((_, i) => each.fill + i);
            dma.write(each.at, data);
            for (let i = 0; i < data.length; i++) {
              const [bytes, offset] = find(i);
              bytes[offset] = data[i]!;
            }
          }
          const expected = new Uint8Array(each.length).map((_, i) => {
            const [bytes, offset] = find(i);
            return bytes[offset]!;
          });
          assertEquals(dma.read(each.at, each.length), expected);
        }
        assertEquals(
          dma.maps.map(({ iova }) => Number(iova)),
          model.map((m) => m.start).sort((a, b) => a - b),
        );
        assertEquals(device.proxy.serving, dma.maps.some(({ isShared }) => !isShared));
      }
      for (const map of dma.maps) await map.unmapAsync();
      assertEquals([device.proxy.serving, device.proxy.window], [false, MAX_PENDING]);
    }),
    { numRuns: 40 },
  );
  device.close();
  server.close();
});
