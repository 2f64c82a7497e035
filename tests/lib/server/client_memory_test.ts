import {
  assert,
  assertEquals,
  assertInstanceOf,
  assertMatch,
  assertRejects,
  assertThrows,
} from "@std/assert";
import {
  EACCES,
  EAGAIN,
  EEXIST,
  EFAULT,
  EINVAL,
  EIO,
  ENOMEM,
  ENOSPC,
  ENOTSUP,
} from "../../../ffi/errno.ts";
import { EventFd } from "../../../ffi/event.ts";
import { addressSpace, mappings } from "../../../ffi/budget.ts";
import { IoBuffer } from "../../../ffi/buffer.ts";
import { countOpenFds, OwnedFd } from "../../../ffi/fd.ts";
import { libc } from "../../../ffi/libc.ts";
import { createMemfd, Mapping } from "../../../ffi/memory.ts";
import { UnixSocket } from "../../../ffi/socket.ts";
import {
  ConnectionError,
  ProtocolError,
  RemoteError,
  TimeoutError,
} from "../../../lib/base/errors.ts";
import type { DeviceDma } from "../../../lib/server/device_dma.ts";
import { DeviceError, DmaError } from "../../../lib/server/served_device.ts";
import { DmaMap } from "../../../lib/server/dma_map.ts";
import { FileMaps } from "../../../lib/server/file_maps.ts";
import {
  DmaReadReply,
  DmaReadReply32,
  DmaReadRequest,
  DmaReadRequest32,
  DmaWriteReply,
  DmaWriteRequest32,
} from "../../../lib/wire/access.ts";
import { Command } from "../../../lib/wire/command.ts";
import { DmaMapFlags, DmaUnmapRequest } from "../../../lib/wire/dma.ts";
import { testFds } from "../../_fds.ts";
import { runJson } from "../../ffi/_subprocess.ts";
import type { RawMessage } from "../../_raw_peer.ts";
import {
  access,
  ask,
  commands,
  negotiate,
  serve,
  type Served,
  serveNegotiated,
  sleep,
  TestDevice,
} from "./_client.ts";
import { withHugePages } from "../../_huge_pages.ts";
import { answer, DmaThread } from "./_dma_thread.ts";
import { BASE, ClientFile, map, PAGE, READ_WRITE, TestFile, unmap } from "./_memory.ts";

const { READ, WRITE } = DmaMapFlags;

await DmaThread.warmUp();

function dmaOf(served: Served): DeviceDma {
  return served.device.bus!.dma;
}

/** Returns the errno of the DeviceError that `body` throws. */
function errnoOf(body: () => unknown): number {
  return assertThrows(body, DeviceError).errno;
}

async function rejectsWith(promise: Promise<unknown>): Promise<number> {
  return (await assertRejects(() => promise, DeviceError)).errno;
}

// ---- Maps with a file

testFds("a map with a file is the client's memory, from the offset on", async () => {
  using served = await serveNegotiated();
  using file = new ClientFile(4 * PAGE);
  file.bytes.set([1, 2, 3, 4], PAGE);
  const size = BigInt(2 * PAGE);
  assertEquals(await map(served.peer, { address: BASE, offset: 4096n, size }, [file.fd]), 0);
  const dma = dmaOf(served);
  assertEquals(await dma.read(BASE, 4), new Uint8Array([1, 2, 3, 4]));
  assertEquals(dma.readSync(BASE + 1n, 2), new Uint8Array([2, 3]));
  await dma.write(BASE + 4096n, new Uint8Array([5]));
  dma.writeSync(BASE + 4097n, new Uint8Array([6]));
  assertEquals([file.bytes[2 * PAGE], file.bytes[2 * PAGE + 1]], [5, 6]);
  const view = dma.view(BASE, 2 * PAGE)!;
  view[0] = 9;
  assertEquals([file.bytes[PAGE], view.length], [9, 2 * PAGE]);
  assertEquals(await rejectsWith(dma.read(BASE, 2 * PAGE + 1)), EFAULT);
  assertEquals(errnoOf(() => dma.readSync(BASE - 1n, 1)), EFAULT);
  assertEquals([dma.view(BASE, 2 * PAGE + 1), dma.view(BASE - 1n, 1)], [undefined, undefined]);
  assertEquals((await dma.read(BASE, 0)).length, 0);
});

testFds("the descriptor of a map is not kept", async () => {
  using served = await serveNegotiated();
  using file = new ClientFile(PAGE);
  const before = countOpenFds();
  for (let i = 0; i < 8; i++) await map(served.peer, { address: BigInt(i * PAGE) }, [file.fd]);
  assertEquals(countOpenFds(), before);
});

testFds("access rights are those of the map", async () => {
  using served = await serveNegotiated();
  using file = new ClientFile(PAGE);
  await map(served.peer, { address: 0n, flags: READ }, [file.fd]);
  await map(served.peer, { address: 4096n, flags: WRITE }, [file.fd]);
  const dma = dmaOf(served);
  const data = new Uint8Array(1);
  assertEquals(await rejectsWith(dma.write(0n, data)), EACCES);
  assertEquals(errnoOf(() => dma.writeSync(0n, data)), EACCES);
  assertEquals(await rejectsWith(dma.read(4096n, 1)), EACCES);
  assertEquals(errnoOf(() => dma.readSync(4095n, 2)), EACCES);
  await dma.write(4096n, new Uint8Array([7]));
  assertEquals((await dma.read(0n, 1))[0], 7);
  assertEquals([dma.view(0n, 1)?.length, dma.view(0n, 1, WRITE)], [1, undefined]);
  assertEquals([dma.view(4096n, 1), dma.view(4096n, 1, WRITE)?.length], [undefined, 1]);
});

testFds("an error says what was accessed and why it can't be", async () => {
  using served = await serveNegotiated();
  await map(served.peer, { address: BASE });
  const error = await assertRejects(() => dmaOf(served).read(BASE + 4000n, 200), DeviceError);
  assertEquals(
    error.message,
    "Cannot read 200 bytes of the client's memory at 0x100fa0: nothing is mapped at 0x101000",
  );
});

testFds("an access goes across maps that adjoin, mapped or not", async () => {
  using served = await serveNegotiated();
  using file = new ClientFile(2 * PAGE);
  const own = new Uint8Array(3 * PAGE); // the page at BASE + PAGE is not in a file
  await map(served.peer, { address: BASE + 8192n, offset: 4096n }, [file.fd]);
  await map(served.peer, { address: BASE }, [file.fd]);
  await map(served.peer, { address: BASE + 4096n });
  const dma = dmaOf(served);
  const data = Uint8Array.from({ length: PAGE + 200 }, (_, i) => i);
  const [log] = await Promise.all([
    answer(served.peer, own, 2),
    dma.write(BASE + 3996n, data).then(async () => {
      assertEquals(await dma.read(BASE + 3996n, data.length), data);
    }),
  ]);
  assertEquals(log, ["write 4096+4096", "read 4096+4096"]);
  assertEquals(
    file.bytes.slice(3996, 4196),
    new Uint8Array([...data.slice(0, 100), ...data.slice(-100)]),
  );
  assertEquals(dma.view(BASE + 3996n, 200), undefined);
});

testFds("DMA_MAP refuses what is out of order, and keeps nothing of it", async () => {
  using served = await serveNegotiated({ maxDmaMaps: 3 });
  using file = new ClientFile(4 * PAGE);
  using other = new ClientFile(4 * PAGE);
  const { peer } = served;
  const address = BASE;
  const size = BigInt(2 * PAGE);
  assertEquals(await map(peer, { address, size }, [file.fd]), 0);
  assertEquals(await map(peer, { address: 0x8000n }), 0);
  const far = 0x900000n;
  const before = countOpenFds();
  const cases: [string, number, Parameters<typeof map>[1], OwnedFd[]][] = [
    ["the same again", 0, { address, size }, [file.fd]],
    ["the same again, by message", 0, { address: 0x8000n }, []],
    ["the same of another file", EEXIST, { address, size }, [other.fd]],
    ["the same without a file", EEXIST, { address, size }, []],
    ["the same with other rights", EEXIST, { address, size, flags: READ }, [file.fd]],
    ["the same at another offset", EEXIST, { address, size, offset: 4096n }, [file.fd]],
    ["over its beginning", EEXIST, { address: address - 4096n, size }, [file.fd]],
    ["over its end", EEXIST, { address: address + 4096n, size }, [file.fd]],
    ["inside", EEXIST, { address: address + 4096n }, [file.fd]],
    ["around", EEXIST, { address: address - 4096n, size: size * 2n }, [file.fd]],
    ["around everything", EEXIST, { address: 0n, size: 1n << 63n }, []],
    ["beyond 64 bits", EINVAL, { address: (1n << 64n) - 4096n, size }, [file.fd]],
    ["no bytes", EINVAL, { address: far, size: 0n }, [file.fd]],
    ["address not aligned", EINVAL, { address: far + 512n }, [file.fd]],
    ["size not aligned", EINVAL, { address: far, size: 4097n }, [file.fd]],
    ["offset not aligned", EINVAL, { address: far, offset: 1n }, [file.fd]],
    ["no rights", EINVAL, { address: far, flags: 0 }, [file.fd]],
    ["unknown flags", EINVAL, { address: far, flags: 0x13 }, [file.fd]],
    ["two files", EINVAL, { address: far }, [file.fd, other.fd]],
    ["file too short", EINVAL, { address: far, size: BigInt(5 * PAGE) }, [file.fd]],
    ["file ends before the offset", EINVAL, { address: far, offset: 1n << 40n }, [file.fd]],
    ["offset at the end of 64 bits", EINVAL, { address: far, offset: (1n << 64n) - 4096n }, [
      file.fd,
    ]],
  ];
  for (const [what, errno, request, fds] of cases) {
    assertEquals([what, await map(peer, request, fds)], [what, errno]);
    assertEquals([what, countOpenFds()], [what, before]);
  }
  assertEquals(await map(peer, { address: far }), 0);
  assertEquals(await map(peer, { address: far + 4096n }), ENOSPC);
  assertEquals(await map(peer, { address: far }), 0, "the same again needs no room");
  const dma = dmaOf(served);
  assertEquals(dma.view(address, Number(size))?.length, Number(size));
  assertEquals(errnoOf(() => dma.readSync(address + size, 1)), EFAULT);
});

testFds("DMA_MAP takes the last page of 64 bits", async () => {
  using served = await serveNegotiated();
  using file = new ClientFile(PAGE);
  const address = (1n << 64n) - 4096n;
  assertEquals(await map(served.peer, { address }, [file.fd]), 0);
  const dma = dmaOf(served);
  assertEquals(dma.readSync(address, PAGE).length, PAGE);
  assertEquals(errnoOf(() => dma.readSync(address, PAGE + 1)), EFAULT);
});

testFds("DMA_MAP refuses descriptors that are no memory, and closes them", async () => {
  using served = await serveNegotiated();
  const [a, b] = UnixSocket.pair();
  const [socket, other] = [new OwnedFd(a.release()), new OwnedFd(b.release())];
  using event = new EventFd();
  using file = new TestFile(PAGE);
  const O_WRONLY = 1, O_PATH = 0o10000000;
  const opened = {
    directory: OwnedFd.open("/tmp", 0),
    device: OwnedFd.open("/dev/zero"),
    path: file.open(O_PATH),
    readOnly: file.open(0),
    writeOnly: file.open(O_WRONLY),
    process: OwnedFd.open("/proc/self/mem"),
    kernel: OwnedFd.open("/sys/kernel/mm/transparent_hugepage/enabled"),
    status: OwnedFd.open("/proc/self/status", 0),
  };
  const { FILE_IO, MMAP } = DmaMapFlags;
  const cases: [string, number, number, OwnedFd | undefined][] = [
    ["a socket", EINVAL, READ, socket],
    ["an eventfd", EINVAL, READ, event.handle],
    ["a directory", EINVAL, READ, opened.directory],
    ["a device", EINVAL, READ_WRITE, opened.device],
    ["a device, by calls", EINVAL, READ | FILE_IO, opened.device],
    ["a socket, by calls", EINVAL, READ | FILE_IO, socket],
    ["a path", EACCES, READ, opened.path],
    ["a file for reading, to write", EACCES, READ_WRITE, opened.readOnly],
    ["a file for reading, to write by calls", EACCES, WRITE | FILE_IO, opened.readOnly],
    ["a file for writing, to read", EACCES, READ, opened.writeOnly],
    ["a file for writing, to map", EACCES, WRITE, opened.writeOnly],
    ["a file for writing, to read by calls", EACCES, READ | FILE_IO, opened.writeOnly],
    ["a process, to map", EINVAL, READ_WRITE, opened.process],
    ["a process, to map explicitly", EINVAL, READ_WRITE | MMAP, opened.process],
    ["a file of a process, by calls", EINVAL, READ | FILE_IO, opened.status],
    ["a file of the kernel", EINVAL, READ, opened.kernel],
    ["a file of the kernel, by calls", EINVAL, READ | FILE_IO, opened.kernel],
    ["file I/O without a file", EINVAL, READ | FILE_IO, undefined],
    ["a mapping without a file", EINVAL, READ | MMAP, undefined],
  ];
  const before = countOpenFds();
  for (const [what, errno, flags, fd] of cases) {
    assertEquals([what, await map(served.peer, { flags }, fd && [fd])], [what, errno]);
    assertEquals([what, countOpenFds()], [what, before]);
  }
  for (const fd of [...Object.values(opened), socket, other]) fd.close();
});

testFds("DMA_MAP of a file that can be read only is for reading only", async () => {
  using served = await serveNegotiated();
  using file = new TestFile(PAGE);
  file.fd.writeAt(new Uint8Array([3]), 0n);
  using readOnly = file.open(0);
  assertEquals(await map(served.peer, { address: 0n }, [file.fd]), 0);
  assertEquals(await map(served.peer, { address: BASE }, [readOnly]), EACCES, "mapped already");
  assertEquals(await map(served.peer, { address: BASE, flags: READ }, [readOnly]), 0);
  assertEquals(dmaOf(served).readSync(BASE, 1)[0], 3);
});

testFds("DMA_MAP refuses more than 8 TiB, and takes as much, in one piece", async () => {
  using served = await serveNegotiated();
  const { peer } = served;
  using fd = createMemfd("client", 2 ** 43 + PAGE);
  const before = [mappings.used, addressSpace.used];
  assertEquals(await map(peer, { address: 0n, size: (1n << 43n) + 4096n }, [fd]), ENOSPC);
  assertEquals([mappings.used, addressSpace.used], before);
  assertEquals(await map(peer, { address: 0n, size: 1n << 43n }, [fd]), 0);
  const dma = dmaOf(served);
  for (const edge of [(4n << 30n) - 2n, (1n << 42n) - 2n]) {
    dma.writeSync(edge, new Uint8Array([1, 2, 3, 4]));
    const view = dma.view(edge, 4)!;
    assertEquals([...view], [1, 2, 3, 4]);
    assertEquals(dma.readSync(edge - 1n, 6), new Uint8Array([0, 1, 2, 3, 4, 0]));
    assertEquals(await dma.read(edge + 1n, 3), new Uint8Array([2, 3, 4]));
  }
  const views = [dma.view(0n, 1 << 30)!, dma.view((1n << 43n) - 4096n, PAGE)!];
  assertEquals(views.map(({ length }) => length), [1 << 30, PAGE]);
  const window = dma.window(0, PAGE)!;
  const words = new Uint32Array(PAGE / 4);
  for (const at of [(4n << 30n) - 4n, (1n << 43n) - 4096n]) {
    window.setUint32(at, 5);
    assertEquals([window.getUint32(Number(at)), window.length], [5, 2 ** 43]);
    window.copyFrom(at, words.subarray(0, 1).fill(6));
    assertEquals(dma.view(at, 4)!.join(), "6,0,0,0");
  }
  window.copyTo((1n << 43n) - 4096n, words);
  assertEquals([words[0], words[1]], [6, 0]);
  assertEquals(await unmap(peer, 0n, 1n << 43n), 0);
  assertThrows(() => window.getUint32(0), DmaError);
  assertEquals(views.map(({ length }) => length), [0, 0]);
  assertEquals([mappings.used, addressSpace.used], before);
});

testFds(
  "maps of one file share a mapping for each GiB and right; each is unmapped alone",
  async () => {
    using served = await serveNegotiated();
    const { peer } = served;
    using file = new ClientFile(64 * PAGE);
    using other = new ClientFile(PAGE);
    const before = mappings.used;
    const page = (i: number) => BASE + BigInt(i * 2 * PAGE);
    for (let i = 0; i < 64; i++) {
      const flags = i % 2 === 0 ? READ_WRITE : READ;
      const offset = BigInt(i * PAGE);
      assertEquals(await map(peer, { address: page(i), offset, flags }, [file.fd]), 0);
      file.bytes[i * PAGE] = i + 1;
    }
    assertEquals(await map(peer, { address: 0n }, [other.fd]), 0);
    assertEquals(mappings.used, before + 3);
    const dma = dmaOf(served);
    for (let i = 0; i < 64; i++) assertEquals(dma.readSync(page(i), 1)[0], i + 1);
    assertEquals(errnoOf(() => dma.readSync(page(0), PAGE + 1)), EFAULT, "no further than its own");
    const [first, second] = [dma.view(page(0), PAGE)!, dma.view(page(2), PAGE)!];
    assertEquals(await unmap(peer, page(0), 4096n), 0);
    second[1] = 7;
    assertEquals([first.length, second.length, file.bytes[2 * PAGE + 1]], [0, PAGE, 7]);
    for (let i = 2; i < 64; i += 2) await unmap(peer, page(i), 4096n);
    assertEquals([second.length, mappings.used], [0, before + 2]);
    assertEquals(dma.readSync(page(1), 1)[0], 2, "those for reading have theirs");
    assertEquals(await unmap(peer, 0n, 1n << 63n), 0);
    assertEquals(mappings.used, before);
  },
);

testFds("what a device wrote to memory that it may only read is gone with the map", async () => {
  using served = await serveNegotiated();
  using file = new ClientFile(2 * PAGE);
  await map(served.peer, { address: 0n, flags: READ }, [file.fd]);
  await map(served.peer, { address: BASE, offset: 4096n, flags: READ }, [file.fd]);
  const dma = dmaOf(served);
  dma.view(BASE, 1)![0] = 99;
  assertEquals([dma.readSync(BASE, 1)[0], file.bytes[PAGE]], [99, 0]);
  await unmap(served.peer, BASE, 4096n);
  await map(served.peer, { address: BASE, offset: 4096n, flags: READ }, [file.fd]);
  assertEquals(dma.readSync(BASE, 1)[0], 0);
});

testFds(
  "a file that has grown is mapped anew; a small one may be at the end of a large one",
  async () => {
    using served = await serveNegotiated();
    const { peer } = served;
    using fd = new OwnedFd(libc().memfd_create(new Uint8Array([65, 0]), 0));
    const before = mappings.used;
    for (const [i, pages] of [1, 2, 3].entries()) {
      assertEquals(libc().ftruncate(fd.fd, BigInt(pages * PAGE)), 0);
      const offset = BigInt(i * PAGE);
      assertEquals(await map(peer, { address: BASE + offset, offset }, [fd]), 0);
      dmaOf(served).writeSync(BASE + offset, new Uint8Array([i + 1]));
    }
    assertEquals(dmaOf(served).readSync(BASE, 2 * PAGE + 1)[2 * PAGE], 3);
    assertEquals(mappings.used, before + 3);
    assertEquals(await map(peer, { address: 0n, offset: 4096n }, [fd]), 0);
    assertEquals([mappings.used, dmaOf(served).readSync(0n, 1)[0]], [before + 3, 2]);
    const far = 1n << 41n; // across the border of two GiB, and behind it
    assertEquals(libc().ftruncate(fd.fd, far + (2n << 30n)), 0);
    const offset = far + (1n << 30n) - 4096n;
    assertEquals(await map(peer, { address: far, offset, size: 8192n }, [fd]), 0);
    assertEquals(await map(peer, { address: 2n * far, offset: offset + 4096n }, [fd]), 0);
    dmaOf(served).writeSync(far + 4095n, new Uint8Array([5, 6]));
    assertEquals(dmaOf(served).readSync(2n * far, 1)[0], 6);
    served.connection.close();
    assertEquals(mappings.used, before);
  },
);

testFds(
  "requireSealed refuses what can be taken away, unless it may be read and written by calls",
  async () => {
    using served = await serveNegotiated({ requireSealed: true });
    const { peer } = served;
    const { FILE_IO, MMAP } = DmaMapFlags;
    using sealed = new ClientFile(PAGE);
    using file = new TestFile(PAGE, { folder: "/dev/shm" });
    assertEquals(await map(peer, { address: 0n }, [sealed.fd]), 0);
    assertEquals(await map(peer, { address: BASE }, [file.fd]), EINVAL);
    assertEquals(await map(peer, { address: BASE, flags: READ_WRITE | MMAP }, [file.fd]), EINVAL);
    const flags = READ_WRITE | MMAP | FILE_IO;
    assertEquals(await map(peer, { address: BASE, flags }, [file.fd]), 0);
    const dma = dmaOf(served);
    dma.writeSync(BASE, new Uint8Array([1]));
    assertEquals(dma.view(BASE, 1), undefined);
    assertEquals(libc().ftruncate(file.fd.fd, 0n), 0);
    assertEquals(errnoOf(() => dma.readSync(BASE, 1)), EIO);
  },
);

// ---- By calls: pread(2) and pwrite(2)

testFds(
  "a file with holes on a file system that can fill up is not mapped, so nothing faults",
  async () => {
    using served = await serveNegotiated();
    using holes = new TestFile(2 * PAGE, { folder: "/dev/shm", isFull: false });
    using full = new TestFile(2 * PAGE, { folder: "/dev/shm" });
    assertEquals(await map(served.peer, { address: 0n, size: 8192n }, [holes.fd]), 0);
    assertEquals(await map(served.peer, { address: BASE, size: 8192n }, [full.fd]), 0);
    const dma = dmaOf(served);
    assertEquals([dma.view(0n, 1), dma.view(BASE, 1)?.length], [undefined, 1]);
    await dma.write(4090n, new Uint8Array([1, 2]));
    const into = new Uint8Array(4);
    await dma.readInto(4089n, into);
    assertEquals(into, new Uint8Array([0, 1, 2, 0]));
    assertEquals(holes.fd.readAt(into, 4090n), 4);
    assertEquals(into, new Uint8Array([1, 2, 0, 0]));
    assertEquals(libc().ftruncate(holes.fd.fd, 4096n), 0); // the client takes it away
    assertEquals(await rejectsWith(dma.write(4000n, new Uint8Array(200))), EIO);
    assertEquals(holes.fd.stat().size, 4096n, "it is not made longer again");
    const error = await assertRejects(() => dma.read(4000n, 200), DeviceError);
    assertEquals([error.errno, error.message], [
      EIO,
      "Cannot read the client's memory at 0xfa0: the client's file ends there",
    ]);
  },
);

testFds(
  "memory of huge pages that is only read is not mapped: its pages can be missing",
  () =>
    withHugePages(0, async () => {
      using served = await serveNegotiated();
      using fd = new OwnedFd(libc().memfd_create(new Uint8Array([65, 0]), 4 | 2));
      assertEquals(libc().ftruncate(fd.fd, 4n << 20n), 0);
      assertEquals(libc().fcntl(fd.fd, 1033, 2), 0); // sealed against shrinking
      const request = { address: BASE, offset: 4096n, size: 8192n };
      assertEquals(await map(served.peer, request, [fd]), ENOMEM);
      assertEquals(await map(served.peer, { ...request, flags: WRITE }, [fd]), ENOMEM);
      const { FILE_IO } = DmaMapFlags;
      assertEquals(await map(served.peer, { ...request, flags: WRITE | FILE_IO }, [fd]), EINVAL);
      assertEquals(await map(served.peer, { ...request, flags: READ }, [fd]), 0);
      const dma = dmaOf(served);
      assertEquals(await dma.read(BASE, 8192), new Uint8Array(8192));
      assertEquals(dma.view(BASE, 1), undefined);
      using sealing = await serveNegotiated({ requireSealed: true });
      assertEquals(await map(sealing.peer, request, [fd]), EINVAL, "they can be punched out");
      assertEquals(await map(sealing.peer, { ...request, flags: READ }, [fd]), 0);
    }),
);

testFds(
  "memory of huge pages is mapped from any page on, and shared within a huge one",
  () =>
    withHugePages(3, async () => {
      using served = await serveNegotiated();
      const { peer } = served;
      using fd = new OwnedFd(libc().memfd_create(new Uint8Array([65, 0]), 4 | 2));
      assertEquals(libc().ftruncate(fd.fd, 6n << 20n), 0);
      using all = Mapping.create(fd, { length: 6 << 20 });
      const before = mappings.used;
      // As QEMU maps the memory of a PC: below the VGA window, behind it, and the rest above 1 MiB.
      assertEquals(await map(peer, { address: 0n, size: 0xa0000n }, [fd]), 0);
      const rest = { address: 0x100000n, offset: 0x100000n, size: (6n << 20n) - 0x100000n };
      assertEquals(await map(peer, rest, [fd]), 0);
      assertEquals(mappings.used, before + 2);
      const dma = dmaOf(served);
      for (const [i, at] of [0, 0x9ffff, 0x100000, 0x1fffff, 0x200000, 0x5fffff].entries()) {
        dma.writeSync(BigInt(at), new Uint8Array([i + 1]));
        assertEquals([all.bytes[at], dma.view(BigInt(at), 1)![0]], [i + 1, i + 1]);
      }
      for (let i = 0; i < 16; i++) {
        const request = {
          address: (1n << 40n) + BigInt(i * PAGE),
          offset: BigInt(0x400000 + i * PAGE),
        };
        assertEquals(await map(peer, request, [fd]), 0);
      }
      assertEquals(mappings.used, before + 3);
    }),
);

testFds("the memory of a process is read and written by calls, as far as it has any", async () => {
  using served = await serveNegotiated();
  using memory = OwnedFd.open("/proc/self/mem");
  const own = new IoBuffer(new Uint8Array(4 * PAGE));
  own.bytes.fill(5);
  const start = (own.address + 4095n) / 4096n * 4096n;
  const at = Number(start - own.address);
  const before = countOpenFds();
  const flags = READ_WRITE | DmaMapFlags.FILE_IO;
  const request = { address: BASE, offset: start, size: 8192n, flags };
  assertEquals(await map(served.peer, request, [memory]), 0);
  assertEquals(await map(served.peer, request, [memory]), 0, "the same again");
  assertEquals(await map(served.peer, { ...request, flags: READ_WRITE }, [memory]), EEXIST);
  assertEquals(countOpenFds(), before + 1, "one descriptor is kept");
  const dma = dmaOf(served);
  await dma.write(BASE + 10n, new Uint8Array([1, 2, 3]));
  assertEquals([...own.bytes.subarray(at + 9, at + 14)], [5, 1, 2, 3, 5]);
  assertEquals(dma.readSync(BASE + 10n, 3), new Uint8Array([1, 2, 3]));
  assertEquals(dma.view(BASE, 1), undefined);
  // Where the process has nothing, and where it has nothing to write.
  assertEquals(await map(served.peer, { ...request, address: 0n, offset: 0n }, [memory]), 0);
  const error = await assertRejects(() => dma.read(16n, 1), DeviceError);
  assertEquals(error.errno, EIO);
  assertMatch(error.message, /^Cannot read the client's memory at 0x10: .*EIO/);
  assertEquals(await rejectsWith(dma.write(16n, new Uint8Array(1))), EIO);
  const end = { ...request, address: 1n << 40n, offset: (1n << 63n) - 4096n };
  assertEquals(await map(served.peer, end, [memory]), EINVAL, "no file has such offsets");
  assertEquals(await unmap(served.peer, 0n, 1n << 63n), 0);
  assertEquals(countOpenFds(), before);
});

testFds("a client that has its file appended to does not make it longer", async () => {
  using served = await serveNegotiated();
  using file = new TestFile(PAGE);
  using theirs = file.open(2);
  const flags = READ_WRITE | DmaMapFlags.FILE_IO;
  assertEquals(await map(served.peer, { address: BASE, flags }, [theirs]), 0);
  const [F_SETFL, O_APPEND] = [4, 0o2000];
  assertEquals(libc().fcntl(theirs.fd, F_SETFL, O_APPEND), 0); // of the server's descriptor as well
  const errno = await dmaOf(served).write(BASE + 1n, new Uint8Array([7]))
    .then(() => 0, (error: DeviceError) => error.errno);
  const first = new Uint8Array(2);
  file.fd.readAt(first, 0n);
  const isRefused = errno === EINVAL; // by Linux before 6.9
  assertEquals([errno, ...first], isRefused ? [EINVAL, 0, 0] : [0, 0, 7]);
  assertEquals(file.fd.stat().size, BigInt(PAGE));
});

testFds("an access goes across maps of every kind", async () => {
  using served = await serveNegotiated();
  using mapped = new ClientFile(PAGE);
  using called = new TestFile(PAGE);
  const own = new Uint8Array(3 * PAGE);
  const flags = READ_WRITE | DmaMapFlags.FILE_IO;
  await map(served.peer, { address: BASE }, [mapped.fd]);
  await map(served.peer, { address: BASE + 4096n, flags }, [called.fd]);
  await map(served.peer, { address: BASE + 8192n });
  const data = Uint8Array.from({ length: 3 * PAGE }, (_, i) => i * 5);
  const dma = dmaOf(served);
  const [log] = await Promise.all([
    answer(served.peer, own, 2),
    dma.write(BASE, data).then(async () => assertEquals(await dma.read(BASE, 3 * PAGE), data)),
  ]);
  assertEquals(log, ["write 8192+4096", "read 8192+4096"]);
  const into = new Uint8Array(PAGE);
  called.fd.readAt(into, 0n);
  assertEquals([mapped.bytes.slice(), into], [data.slice(0, PAGE), data.slice(PAGE, 2 * PAGE)]);
});

testFds(
  "a device that takes a view's memory away loses it; accesses, unmap and close go on",
  async () => {
    using served = await serveNegotiated();
    using file = new ClientFile(PAGE);
    await map(served.peer, { address: BASE }, [file.fd]);
    const dma = dmaOf(served);
    const view = dma.view(BASE, PAGE)!;
    structuredClone(view, { transfer: [view.buffer] });
    dma.writeSync(BASE, new Uint8Array([4]));
    assertEquals([view.length, file.bytes[0], dma.view(BASE, 1)![0]], [0, 4, 4]);
    assertEquals(await unmap(served.peer, BASE, 4096n), 0);
    assertEquals(await map(served.peer, { address: BASE }, [file.fd]), 0);
    assertEquals(dma.readSync(BASE, 1)[0], 4);
  },
);

testFds("a closed map says why it is closed", () => {
  const request = { argsz: 32, flags: READ, offset: 0n, address: BASE, size: 4096n };
  const [open, unmapped, gone] = [1, 2, 3].map(() =>
    DmaMap.create(request, undefined, new FileMaps(), false)
  );
  unmapped!.close();
  gone!.close(new Error("the client is gone"));
  open!.assertOpen();
  const error = assertThrows(() => unmapped!.assertOpen(), DmaError);
  assertMatch(error.message, /it has unmapped 0x100000 to 0x100fff$/);
  assertEquals(error.errno, EFAULT);
  assertThrows(() => gone!.assertOpen(), Error, "the client is gone");
});

testFds("lengths that are no lengths are refused", async () => {
  using served = await serveNegotiated();
  await map(served.peer, { address: 0n, size: 1n << 63n });
  const dma = dmaOf(served);
  for (const length of [-1, 0.5, NaN, 2 ** 30 + 1, Infinity]) {
    await assertRejects(() => dma.read(0n, length), RangeError, "are possible");
    assertThrows(() => dma.view(0n, length), RangeError);
  }
});

// ---- DMA_UNMAP

testFds("DMA_UNMAP removes the map of its range; views are empty before the answer", async () => {
  using served = await serveNegotiated();
  using file = new ClientFile(2 * PAGE);
  const { peer } = served;
  await map(peer, { address: BASE, size: 8192n }, [file.fd]);
  await map(peer, { address: BASE + 8192n }, [file.fd]);
  const dma = dmaOf(served);
  const view = dma.view(BASE, 8192)!;
  assertEquals(await unmap(peer, BASE, 8192n, 1), ENOTSUP);
  assertEquals(await unmap(peer, BASE, 8192n, 4), EINVAL);
  assertEquals(view.length, 8192);
  assertEquals(await unmap(peer, BASE, 8192n), 0);
  assertEquals(view.length, 0);
  assertEquals(await unmap(peer, BASE, 8192n), 0, "nothing is left there: that is no error");
  assertEquals(errnoOf(() => dma.readSync(BASE, 1)), EFAULT);
  assertEquals(dma.readSync(BASE + 8192n, 1).length, 1);
});

testFds("DMA_UNMAP removes every map inside its range, shared or not, and no other", async () => {
  using served = await serveNegotiated();
  using file = new ClientFile(PAGE);
  const { peer } = served;
  const top = (1n << 64n) - 4096n;
  const addresses = [0n, 0x8000n, 0x9000n, 0xf000n, 0x10000n, top];
  for (const address of addresses) {
    assertEquals(await map(peer, { address }, address === 0x9000n ? [] : [file.fd]), 0);
  }
  const dma = dmaOf(served);
  const mapped = () => addresses.filter((address) => dma.view(address, 1) !== undefined);
  assertEquals(await unmap(peer, 0x8000n, 0x8000n), 0);
  assertEquals(await rejectsWith(dma.read(0x9000n, 1)), EFAULT);
  assertEquals(mapped(), [0n, 0x10000n, top]);
  assertEquals(await unmap(peer, 0x1000n, 0xf000n), 0, "between maps there is nothing");
  assertEquals(mapped(), [0n, 0x10000n, top]);
  assertEquals(await unmap(peer, 1n << 63n, 1n << 63n), 0, "up to the end of 64 bits");
  assertEquals(mapped(), [0n, 0x10000n]);
  assertEquals(await unmap(peer, 0n, 1n << 63n), 0);
  assertEquals(mapped(), []);
  assertEquals(await map(peer, { address: 0n, size: 0x20000n }), 0, "the room is free");
});

testFds("DMA_UNMAP of a part of a map removes nothing, and is reported once", async () => {
  using served = await serveNegotiated();
  using file = new ClientFile(4 * PAGE);
  const { peer } = served;
  await map(peer, { address: BASE, size: 0x2000n }, [file.fd]);
  await map(peer, { address: BASE + 0x2000n, size: 0x2000n }, [file.fd]);
  const dma = dmaOf(served);
  const views = [dma.view(BASE, 8192)!, dma.view(BASE + 0x2000n, 8192)!];
  for (
    const [address, size] of [
      [BASE, 0x1000n], // its beginning
      [BASE + 0x1000n, 0x1000n], // its end
      [BASE, 0x3000n], // all of one, and the beginning of the next
      [BASE + 0x1000n, 0x3000n], // the end of one, and all of the next
      [BASE + 0x1000n, 0x2000n],
      [0n, BASE + 0x1000n],
      [BASE, 0n],
      [BASE, 0x2001n],
      [BASE - 1n, 0x4000n],
      [BASE, (1n << 64n) - 4096n], // beyond 64 bits
    ] as const
  ) assertEquals([address, size, await unmap(peer, address, size)], [address, size, EINVAL]);
  assertEquals(views.map((view) => view.length), [8192, 8192]);
  assertEquals(served.errors.map(([error, doing]) => `${doing}: ${(error as Error).message}`), [
    "DMA_UNMAP: Cannot unmap 0x100000 to 0x100fff of the client's memory: that is a part of the " +
    "map 0x100000 to 0x101fff, and all maps stay; the client has to unmap whole maps",
  ]);
  assertEquals(await unmap(peer, BASE, 0x4000n), 0);
  assertEquals(views.map((view) => view.length), [0, 0]);
});

testFds(
  "DMA_UNMAP with a descriptor, as SPDK's client sends it, unmaps and closes that",
  async () => {
    using served = await serveNegotiated();
    using file = new ClientFile(PAGE);
    const { peer } = served;
    await map(peer, { address: BASE }, [file.fd]);
    const view = dmaOf(served).view(BASE, PAGE)!;
    const before = countOpenFds();
    const request = DmaUnmapRequest.encode({ argsz: 24, flags: 0, address: BASE, size: 4096n });
    const { errno, payload } = await ask(peer, Command.DMA_UNMAP, request, [file.fd]);
    assertEquals([errno, payload, view.length], [0, request, 0]);
    const cut = DmaUnmapRequest.encode({ argsz: 24, flags: 8, address: BASE, size: 4096n });
    assertEquals((await ask(peer, Command.DMA_UNMAP, cut, [file.fd, file.fd])).errno, EINVAL);
    assertEquals(countOpenFds(), before);
    assertEquals(await map(peer, { address: BASE }, [file.fd]), 0);
  },
);

testFds("DMA_UNMAP with ALL takes everything, and has no range", async () => {
  using served = await serveNegotiated();
  using file = new ClientFile(PAGE);
  const { peer } = served;
  for (let i = 0; i < 3; i++) await map(peer, { address: BigInt(i * PAGE) }, [file.fd]);
  await map(peer, { address: BASE });
  const view = dmaOf(served).view(0n, PAGE)!;
  assertEquals(await unmap(peer, 0n, 4096n, 2), EINVAL);
  assertEquals(view.length, PAGE);
  assertEquals(await unmap(peer, 0n, 0n, 2), 0);
  assertEquals(view.length, 0);
  for (const address of [0n, 8192n, BASE]) {
    assertEquals(errnoOf(() => dmaOf(served).readSync(address, 1)), EFAULT);
  }
  assertEquals(await unmap(peer, 0n, 0n, 2), 0);
});

// ---- By message

testFds(
  "memory without a file is asked for in pieces of the client's max_data_xfer_size",
  async () => {
    using served = await serveNegotiated({ capabilities: { maxDataXferSize: 1000 } });
    await map(served.peer, { address: BASE });
    const dma = dmaOf(served);
    const memory = Uint8Array.from({ length: PAGE }, (_, i) => i * 7);
    const [log, data] = await Promise.all([
      answer(served.peer, memory, 3),
      dma.read(BASE + 5n, 2500),
    ]);
    assertEquals(log, ["read 5+1000", "read 1005+1000", "read 2005+500"]);
    assertEquals(data, memory.slice(5, 2505));
    const bytes = new Uint8Array(1001).fill(1);
    const [writes] = await Promise.all([answer(served.peer, memory, 2), dma.write(BASE, bytes)]);
    assertEquals(writes, ["write 0+1000", "write 1000+1"]);
    assertEquals(memory.slice(0, 1001), bytes);
  },
);

testFds(
  "several pieces are in flight, eight at most, and answers may come in any order",
  async () => {
    using served = await serveNegotiated({ capabilities: { maxDataXferSize: 1 } });
    const { peer } = served;
    await map(peer, { address: BASE });
    const reading = dmaOf(served).read(BASE, 9);
    const requests: RawMessage[] = [];
    for (let i = 0; i < 8; i++) requests.push(await peer.expect(Command.DMA_READ));
    await sleep(5);
    const reply = (request: RawMessage) => {
      const { address } = DmaReadRequest.decode(request.payload);
      peer.reply(
        request,
        DmaReadReply.encode({ address, data: new Uint8Array([Number(address & 0xffn)]) }),
      );
    };
    for (const request of requests.reverse()) reply(request);
    const last = await peer.expect(Command.DMA_READ);
    assertEquals(DmaReadRequest.decode(last.payload).address, BASE + 8n);
    reply(last);
    assertEquals(await reading, new Uint8Array([0, 1, 2, 3, 4, 5, 6, 7, 8]));
  },
);

testFds("a client with a max_data_xfer_size of 1 costs no memory ahead", async () => {
  using served = await serveNegotiated({ capabilities: { maxDataXferSize: 1 } });
  await map(served.peer, { address: 0n, size: 1n << 40n });
  const reading = dmaOf(served).write(0n, new Uint8Array(64 << 20));
  await served.peer.expect(Command.DMA_WRITE);
  served.peer.close();
  await assertRejects(() => reading, ConnectionError);
});

testFds("readSync() and writeSync() ask one piece after another, from a hook as well", async () => {
  using served = await serveNegotiated({ capabilities: { maxDataXferSize: 1000 } });
  const { device, peer } = served;
  await map(peer, { address: BASE });
  await using client = await DmaThread.start(peer, 6);
  const dma = dmaOf(served);
  const data = Uint8Array.from({ length: 1500 }, (_, i) => i * 3);
  dma.writeSync(BASE + 1n, data);
  assertEquals(dma.readSync(BASE + 1n, 1500), data);
  device.bar0.read = (_offset, into) => into.set(dma.readSync(BASE + 1n, into.length));
  // Both are there when the hook asks: the second waits.
  peer.command(1, Command.REGION_READ, access(0n, 0, 1500));
  peer.command(2, Command.DEVICE_RESET);
  assertEquals(await client.log, [
    "write 1+1000",
    "write 1001+500",
    "read 1+1000",
    "read 1001+500",
    "read 1+1000",
    "read 1001+500",
  ]);
  assertEquals((await peer.expect(Command.REGION_READ)).payload.slice(16), data);
  await peer.expect(Command.DEVICE_RESET);
  assertEquals(device.resets, 1);
});

testFds("readSync() fails when the client refuses, and when it goes", async () => {
  using served = await serveNegotiated();
  await map(served.peer, { address: BASE });
  const dma = dmaOf(served);
  {
    await using _client = await DmaThread.start(served.peer, 1, { errno: EFAULT });
    assertEquals(assertThrows(() => dma.readSync(BASE, 4), RemoteError).errno, EFAULT);
  }
  {
    await using _client = await DmaThread.start(served.peer, 1, { leave: true });
    assertThrows(() => dma.readSync(BASE, 4), ConnectionError);
    await served.closed;
  }
  assertEquals(served.device.disconnects, 1);
});

testFds("readInto() reads into memory that is there, shared or by message", async () => {
  using served = await serveNegotiated();
  const { peer } = served;
  const dma = dmaOf(served);
  using file = new ClientFile(PAGE);
  file.bytes.set([1, 2, 3, 4], PAGE - 4);
  await map(peer, { address: BASE, size: BigInt(PAGE) }, [file.fd]);
  await map(peer, { address: BASE + BigInt(PAGE), size: BigInt(64 * PAGE) });
  const memory = Uint8Array.from({ length: 64 * PAGE }, (_, i) => i * 5 ^ i >> 8);
  for (const [length, messages] of [[4, 0], [10, 1], [65_000, 1], [70_000, 1], [150_000, 1]]) {
    const into = new Uint8Array(length! + 2).fill(0xee);
    const reading = dma.readInto(BASE + BigInt(PAGE - 4), into.subarray(1, length! + 1));
    for (let i = 0; i < messages!; i++) {
      const request = await peer.expect(Command.DMA_READ);
      const { address, count } = DmaReadRequest.decode(request.payload);
      const at = Number(address - BASE) - PAGE;
      peer.reply(
        request,
        DmaReadReply.encode({ address, data: memory.slice(at, at + Number(count)) }),
      );
    }
    await reading;
    const expected = [0xee, 1, 2, 3, 4, ...memory.subarray(0, length! - 4), 0xee];
    assertEquals(into.findIndex((byte, i) => byte !== expected[i]), -1);
  }
  assertEquals(await rejectsWith(dma.readInto(BASE - 1n, new Uint8Array(4))), EFAULT);
  // An answer for other bytes than those that were asked for is no answer.
  const reading = dma.readInto(BASE + BigInt(PAGE), new Uint8Array(16));
  const request = await peer.expect(Command.DMA_READ);
  peer.reply(request, DmaReadReply.encode({ address: BASE, data: new Uint8Array(16) }));
  await assertRejects(() => reading, ProtocolError);
  await served.closed;
});

for (const [what, maxDataXferSize] of [["maps", 8192], ["messages", 2048]] as const) {
  testFds(`readInto() has done with its memory when it fails in one of two ${what}`, async () => {
    using served = await serveNegotiated({ capabilities: { maxDataXferSize } });
    const { peer } = served;
    await map(peer, { address: BASE });
    await map(peer, { address: BASE + BigInt(PAGE) });
    const start = what === "maps" ? BASE + 2048n : BASE;
    const into = new Uint8Array(4096);
    let hasFailed = false;
    const reading = dmaOf(served).readInto(start, into).catch((error) => {
      hasFailed = true;
      return error;
    });
    const first = await peer.expect(Command.DMA_READ);
    const second = await peer.expect(Command.DMA_READ);
    peer.fail(first, EFAULT);
    assertEquals(await ask(peer, Command.DEVICE_RESET).then(({ errno }) => errno), 0);
    assert(!hasFailed); // the second piece is still to come into the same memory
    const { address } = DmaReadRequest.decode(second.payload);
    peer.reply(second, DmaReadReply.encode({ address, data: new Uint8Array(2048).fill(7) }));
    assertEquals((await reading).errno, EFAULT);
    assertEquals(into, new Uint8Array(4096).fill(7, 2048));
  });
}

testFds("an error reply rejects with what was asked; a hook passes the errno on", async () => {
  using served = await serveNegotiated();
  const { device, peer } = served;
  await map(peer, { address: BASE });
  const reading = assertRejects(() => dmaOf(served).read(BASE, 16), RemoteError);
  peer.fail(await peer.expect(Command.DMA_READ), EFAULT);
  const error = await reading;
  assertEquals(error.errno, EFAULT);
  assertMatch(
    error.message,
    /^Cannot read 16 bytes of the client's memory at 0x100000: the client answered EFAULT/,
  );
  device.bar0.write = (_offset, data) => device.bus!.dma.write(BASE, data);
  peer.command(9, Command.REGION_WRITE, access(0n, 0, 1, [1]));
  peer.fail(await peer.expect(Command.DMA_WRITE), ENOSPC);
  const reply = await peer.expect(Command.REGION_WRITE);
  assertEquals([reply.messageId, reply.error, served.errors.length], [9, ENOSPC, 0]);
});

testFds("nothing more is asked for after a piece has failed", async () => {
  using served = await serveNegotiated({ capabilities: { maxDataXferSize: 1 } });
  const { peer } = served;
  await map(peer, { address: BASE });
  const writing = assertRejects(() => dmaOf(served).write(BASE, new Uint8Array(100)), RemoteError);
  const requests: RawMessage[] = [];
  for (let i = 0; i < 8; i++) requests.push(await peer.expect(Command.DMA_WRITE));
  for (const request of requests) peer.fail(request, EFAULT);
  await writing;
  assertEquals(await map(peer, { address: BASE + 4096n }), 0); // the next message is this answer
});

for (
  const [what, address, data] of [
    ["another address", BASE + 1n, new Uint8Array(4)],
    ["too few bytes", BASE, new Uint8Array(3)],
    ["too many bytes", BASE, new Uint8Array(5)],
  ] as const
) {
  testFds(`a DMA_READ reply with ${what} ends the connection`, async () => {
    using served = await serveNegotiated();
    await map(served.peer, { address: BASE });
    const reading = assertRejects(() => dmaOf(served).read(BASE, 4), ProtocolError);
    served.peer.reply(
      await served.peer.expect(Command.DMA_READ),
      DmaReadReply.encode({ address, data }),
    );
    await reading;
    assertInstanceOf(await served.closed, ProtocolError);
  });

  testFds(`a DMA_WRITE reply with ${what} ends the connection`, async () => {
    using served = await serveNegotiated();
    await map(served.peer, { address: BASE });
    const writing = assertRejects(
      () => dmaOf(served).write(BASE, new Uint8Array(4)),
      ProtocolError,
    );
    const request = await served.peer.expect(Command.DMA_WRITE);
    served.peer.reply(request, DmaWriteReply.encode({ address, count: BigInt(data.length) }));
    assertMatch(
      (await writing).message,
      /^Cannot write 4 bytes of the client's memory at 0x100000/,
    );
    assertInstanceOf(await served.closed, ProtocolError);
  });
}

testFds("a client that does not answer times out, and the connection goes on", async () => {
  using served = await serveNegotiated({ dmaTimeoutMs: 20 });
  const { peer } = served;
  await map(peer, { address: BASE });
  const error = await assertRejects(() => dmaOf(served).read(BASE, 4), TimeoutError);
  assertMatch(error.message, /^Cannot read 4 bytes of .* at 0x100000: the client did not answer/);
  const request = await peer.expect(Command.DMA_READ);
  peer.reply(request, DmaReadReply.encode({ address: BASE, data: new Uint8Array(4) }));
  assertEquals(await unmap(peer, BASE, 4096n), 0);
});

// QEMU's firmware maps all memory anew while devices read it; the client answers all the same.
testFds("what the client was asked ends by its answer, though it unmaps meanwhile", async () => {
  using served = await serveNegotiated();
  const { peer } = served;
  await map(peer, { address: BASE });
  const dma = dmaOf(served);
  const reading = dma.read(BASE, 4);
  const read = await peer.expect(Command.DMA_READ);
  const writing = dma.write(BASE, new Uint8Array([5]));
  const write = await peer.expect(Command.DMA_WRITE);
  const refused = assertRejects(() => dma.read(BASE, 1), RemoteError);
  const late = await peer.expect(Command.DMA_READ);
  assertEquals(await unmap(peer, BASE, 4096n), 0);
  assertEquals(await rejectsWith(dma.read(BASE, 4)), EFAULT, "nothing more is asked");
  const data = new Uint8Array([1, 2, 3, 4]);
  peer.reply(read, DmaReadReply.encode({ address: BASE, data }));
  peer.reply(write, DmaWriteReply.encode({ address: BASE, count: 1n }));
  peer.fail(late, EFAULT);
  assertEquals(await reading, data);
  await writing;
  assertEquals((await refused).errno, EFAULT);
  assertEquals(await map(peer, { address: BASE }), 0);
});

testFds("of an access in several messages none is sent after the unmap", async () => {
  using served = await serveNegotiated({ capabilities: { maxDataXferSize: 1024 } });
  const { peer } = served;
  await map(peer, { address: BASE, size: 1n << 20n });
  const reading = rejectsWith(dmaOf(served).read(BASE, 1 << 20));
  const requests = [await peer.expect(Command.DMA_READ)];
  const range = { address: BASE, size: 1n << 20n };
  const unmapping = DmaUnmapRequest.encode({ argsz: 24, flags: 0, ...range });
  peer.command(0x99, Command.DMA_UNMAP, unmapping);
  for (let message; (message = (await peer.receive())!).command !== Command.DMA_UNMAP;) {
    requests.push(message); // sent before
  }
  assert(requests.length < 1024, "all was sent before");
  for (const request of requests) {
    const { address, count } = DmaReadRequest.decode(request.payload);
    peer.reply(request, DmaReadReply.encode({ address, data: new Uint8Array(Number(count)) }));
  }
  assertEquals(await reading, EFAULT);
});

testFds("dmaCount32 asks as QEMU 10.1's client expects it", async () => {
  using served = await serveNegotiated({ dmaCount32: true });
  const { peer } = served;
  await map(peer, { address: BASE });
  const dma = dmaOf(served);
  const reading = dma.read(BASE, 4);
  const read = await peer.expect(Command.DMA_READ);
  assertEquals(DmaReadRequest32.decode(read.payload), { address: BASE, count: 4n });
  assertEquals(read.size, 28);
  peer.reply(read, DmaReadReply32.encode({ address: BASE, data: new Uint8Array([1, 2, 3, 4]) }));
  assertEquals(await reading, new Uint8Array([1, 2, 3, 4]));
  const writing = dma.write(BASE, new Uint8Array([5, 6]));
  const write = await peer.expect(Command.DMA_WRITE);
  assertEquals(DmaWriteRequest32.decode(write.payload).data, new Uint8Array([5, 6]));
  peer.reply(write); // the header alone
  await writing;
});

testFds(
  "a device that floods a client that does not read is refused, and memory is bounded",
  async () => {
    using served = await serveNegotiated();
    await map(served.peer, { address: 0n, size: 1n << 30n });
    const dma = dmaOf(served);
    const data = new Uint8Array(64 << 10);
    const before = Deno.memoryUsage().rss;
    const errors = new Map<string, number>();
    const note = (error: unknown) => {
      const name = error instanceof DeviceError ? `errno ${error.errno}` : (error as Error).name;
      errors.set(name, (errors.get(name) ?? 0) + 1);
    };
    const writes: Promise<void>[] = [];
    for (let i = 0; i < 20_000; i++) writes.push(dma.write(0n, data).catch(note)); // 1.2 GiB
    await sleep(20);
    const refused = errors.get(`errno ${EAGAIN}`)!;
    assert(refused > 15_000 && refused < 16_000, `${refused} refused`);
    const grown = Deno.memoryUsage().rss - before;
    assert(grown < 150 << 20, `memory grew by ${grown >> 20} MiB`);
    served.peer.close();
    await Promise.all(writes);
    assertEquals(errors.get("ConnectionError"), 20_000 - refused);
  },
);

testFds("a hook may ask while the client's requests pile up on the same socket", async () => {
  using served = await serveNegotiated({ dmaTimeoutMs: 500 });
  const { device, peer } = served;
  await map(peer, { address: BASE });
  device.bar0.read = async (_offset, into) => into.set(await device.bus!.dma.read(BASE, 4));
  const count = 300; // more than are taken in while a hook is under way
  peer.send(commands(count, Command.REGION_READ, access(0n, 0, 4)));
  const data = new Uint8Array([9, 8, 7, 6]);
  let answered = 0;
  while (answered < count) {
    const message = (await peer.receive())!;
    if (message.command === Command.DMA_READ) {
      peer.reply(message, DmaReadReply.encode({ address: BASE, data }));
    } else {
      assertEquals([message.messageId, message.error], [answered++, 0]);
      assertEquals(message.payload.slice(16), data);
    }
  }
});

// ---- The client goes

testFds(
  "when the client goes its memory is unmapped, pending accesses fail, and the device hears of it",
  async () => {
    const device = new TestDevice();
    using file = new ClientFile(PAGE);
    for (let i = 1; i <= 2; i++) {
      const before = countOpenFds();
      using served = await serveNegotiated({ device });
      await map(served.peer, { address: 0n }, [file.fd]);
      await map(served.peer, { address: BASE });
      const { dma } = device.bus!;
      const view = dma.view(0n, 1)!;
      const reading = assertRejects(() => dma.read(BASE, 4), ConnectionError);
      await served.peer.expect(Command.DMA_READ);
      served.peer.close();
      await reading;
      await served.closed;
      assertEquals([view.length, device.disconnects, device.bus], [0, i, undefined]);
      await assertRejects(() => dma.read(0n, 1), ConnectionError, "the client is gone");
      await assertRejects(() => dma.write(BASE, new Uint8Array(1)), ConnectionError);
      assertThrows(() => dma.readSync(0n, 1), ConnectionError);
      assertEquals(dma.view(0n, 1), undefined);
      assertEquals(countOpenFds(), before);
    }
  },
);

testFds("a device hears of a client only if that has agreed on a version", async () => {
  using served = serve();
  served.peer.command(1, Command.DEVICE_RESET);
  await served.closed;
  assertEquals(served.device.disconnects, 0);
});

testFds("a device that throws when a client comes turns that away", async () => {
  const device = new TestDevice();
  device.connected = () => {
    throw new DeviceError(ENOSPC);
  };
  using served = serve({ device });
  const error = await assertRejects(() => negotiate(served.peer), Error);
  assert(error.message.length > 0);
  assertInstanceOf(await served.closed, DeviceError);
});

testFds("maxDmaMaps is what the client is told, if it says its own", async () => {
  const half = Math.floor(mappings.limit / 2);
  for (const [maxDmaMaps, told] of [[7, 7], [undefined, Math.min(16_000, half)]]) {
    using served = serve({ maxDmaMaps });
    const reply = await negotiate(served.peer, { maxDmaMaps: 65535 });
    assertMatch(new TextDecoder().decode(reply), new RegExp(`"max_dma_maps":${told}[,}]`));
  }
  using served = serve();
  await negotiate(served.peer);
  assertEquals(READ_WRITE, 3);
  const { errno } = await ask(served.peer, Command.DMA_MAP, new Uint8Array(31));
  assertEquals(errno, EINVAL);
});

Deno.test("two clients map 40,000 files each: ENOSPC, and the process lives", async () => {
  const url = (path: string) => JSON.stringify(new URL(path, import.meta.url).href);
  const result = await runJson(`
    import { mappings } from "ffi/budget.ts";
    import { createMemfd } from "ffi/memory.ts";
    const { ClientMemory } = await import(${url("../../../lib/server/client_memory.ts")});
    const { Offer } = await import(${url("../../../lib/server/offer.ts")});
    const counts = [], errors = [];
    const map = (client, at, page, fd) => {
      const offset = BigInt(page) << 12n, address = BigInt(at) << 13n;
      client.map({ argsz: 32, flags: 3, offset, address, size: 4096n }, [fd]);
    };
    const shared = createMemfd("shared", 1 << 28);
    const clients = [0, 1].map(() => new ClientMemory({}, {}, {}, new Offer({})));
    const shares = [0, 1].map(() => new ClientMemory({}, {}, {}, new Offer({})));
    for (const [i, client] of clients.entries()) {
      let count = 0;
      try {
        for (; count < 40_000; count++) {
          const fd = createMemfd("own", 4096);
          try { map(client, count, 0, fd); } finally { fd.close(); }
        }
      } catch (error) {
        errors.push(error.errno);
      }
      counts.push(count);
    }
    const full = mappings.used;
    Array.from({ length: 64 }, () => new Uint8Array(4 << 20).fill(1)); // V8 maps more
    clients[0].view(0n, 4096)[0] = 1;
    for (const client of clients) client.close();
    const left = mappings.used;
    // Of one file there is room for all of them.
    for (const client of shares) {
      for (let i = 0; i < 40_000; i++) {
        map(client, i, i, shared);
      }
      client.view(39_999n << 13n, 4096)[0] = 1;
    }
    const few = mappings.used;
    for (const client of shares) client.close();
    const { limit, used: end } = mappings;
    console.log(JSON.stringify({ counts, errors, full, left, few, limit, end }));
  `) as Record<string, number & number[]>;
  const { counts, errors, full, left, few, limit, end } = result;
  assertEquals(errors, [ENOSPC, ENOSPC]);
  // Each takes no more than it leaves to the others.
  assertEquals(counts, [Math.ceil(limit! / 2), Math.ceil(Math.floor(limit! / 2) / 2)]);
  assertEquals([full, left, few, end], [counts![0]! + counts![1]!, 0, 2, 0]);
});

Deno.test("descriptors that maps keep are bounded, and free again after them", async () => {
  const url = (path: string) => JSON.stringify(new URL(path, import.meta.url).href);
  const result = await runJson(
    `
    import { OwnedFd } from "ffi/fd.ts";
    import { keptDescriptors } from "ffi/budget.ts";
    const { ClientMemory } = await import(${url("../../../lib/server/client_memory.ts")});
    const { Offer } = await import(${url("../../../lib/server/offer.ts")});
    const memory = new ClientMemory({}, {}, {}, new Offer({}));
    const file = OwnedFd.open("/proc/self/mem");
    let count = 0, errno = 0;
    try {
      for (;; count++) {
        const address = BigInt(count) << 12n;
        memory.map({ argsz: 32, flags: 11, offset: 0n, address, size: 4096n }, [file]);
      }
    } catch (error) {
      errno = error.errno;
    }
    OwnedFd.open("/dev/null").close();
    memory.close();
    console.log(JSON.stringify([count, keptDescriptors.limit, errno, keptDescriptors.used]));
  `,
    { maxFds: 256 },
  );
  assertEquals(result, [32, 64, ENOSPC, 0]); // the others may have as many
});
