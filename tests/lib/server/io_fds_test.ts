import { assert, assertEquals } from "@std/assert";
import { IoBuffer } from "../../../ffi/buffer.ts";
import { EAGAIN, EINVAL } from "../../../ffi/errno.ts";
import { EventFd } from "../../../ffi/event.ts";
import { createMemfd, Mapping, PAGE_SIZE } from "../../../ffi/memory.ts";
import { UnixSocket } from "../../../ffi/socket.ts";
import { closeAll, countOpenFds, type OwnedFd } from "../../../ffi/fd.ts";
import { DeviceError, type ServedIoFd } from "../../../lib/server/served_device.ts";
import { Command } from "../../../lib/wire/command.ts";
import {
  IoFdType,
  NO_IO_FD,
  RegionIoFdsReply,
  RegionIoFdsRequest,
  type SubRegion,
} from "../../../lib/wire/io_fds.ts";
import { testFds } from "../../_fds.ts";
import type { RawPeer } from "../../_raw_peer.ts";
import {
  access,
  ask,
  isReadable,
  type Served,
  serveNegotiated,
  sleep,
  TestDevice,
} from "./_client.ts";
import { until } from "../../_until.ts";

/** A client's answer to a question for the descriptors of a region. */
interface Answer {
  errno: number;
  argsz: number;
  count: number;
  subRegions: SubRegion[];
  fds: OwnedFd[];
}

async function ioFds(peer: RawPeer, index = 0, argsz = 4096): Promise<Answer> {
  const request = RegionIoFdsRequest.encode({ argsz, flags: 0, index, count: 0 });
  const { errno, payload, fds } = await ask(peer, Command.DEVICE_GET_REGION_IO_FDS, request);
  if (errno !== 0) return { errno, argsz: 0, count: 0, subRegions: [], fds };
  return { errno, ...RegionIoFdsReply.decode(payload), fds };
}

/** A server whose region 0 has parts, and notes what is written to it. */
async function servedWith(
  parts: ServedIoFd[],
  maxMsgFds = 8,
): Promise<Served & { writes: [number, ...number[]][] }> {
  const device = new TestDevice();
  const writes: [number, ...number[]][] = [];
  device.bar0.ioFds = parts;
  device.bar0.write = (offset, data) => void writes.push([offset, ...data]);
  const served = await serveNegotiated({ device, capabilities: { maxMsgFds } });
  return Object.assign(served, { writes });
}

const { IOEVENTFD, IOREGIONFD, SHADOW_IOEVENTFD } = IoFdType;
const DOORBELL: ServedIoFd = { type: IOEVENTFD, offset: 0x60, size: 4 };
const MATCHED: ServedIoFd = {
  type: IOEVENTFD,
  offset: 0x70,
  size: 2,
  datamatch: 0x1234n,
  flags: 1,
};

testFds("a region without parts has none, one that is not there neither", async () => {
  using served = await servedWith([]);
  for (const index of [0, 1, 4]) {
    const { errno, argsz, count, fds } = await ioFds(served.peer, index);
    assertEquals([errno, argsz, count, fds.length], [0, 16, 0, 0]);
  }
  assertEquals((await ioFds(served.peer, 5)).errno, EINVAL);
  assertEquals((await ioFds(served.peer, 0xffffffff)).errno, EINVAL);
  assertEquals((await ioFds(served.peer, 0, 15)).errno, EINVAL);
});

testFds("an argsz that is too small gets the size to ask with, and no descriptor", async () => {
  using served = await servedWith([DOORBELL, MATCHED]);
  for (const argsz of [16, 56, 95]) {
    const answer = await ioFds(served.peer, 0, argsz);
    assertEquals([answer.argsz, answer.count], [96, 2]);
    assertEquals([answer.subRegions.length, answer.fds.length], [0, 0]);
  }
  const answer = await ioFds(served.peer, 0, 96);
  assertEquals([answer.argsz, answer.subRegions.length, answer.fds.length], [96, 2, 2]);
  closeAll(answer.fds);
});

testFds("a kick is a write of the value to match, or of zeros", async () => {
  using served = await servedWith([DOORBELL, MATCHED]);
  const { subRegions, fds } = await ioFds(served.peer);
  assertEquals(
    subRegions.map((
      { offset, size, fdIndex, type, flags, data },
    ) => [offset, size, fdIndex, type, flags, data]),
    [
      [0x60n, 4n, 0, IOEVENTFD, 0, 0n],
      [0x70n, 2n, 1, IOEVENTFD, 1, 0x1234n],
    ],
  );
  const [doorbell, matched] = fds.map((fd) => new EventFd(fd));
  doorbell!.signal();
  await until(() => served.writes.length === 1, "the doorbell's write");
  assertEquals(served.writes.splice(0), [[0x60, 0, 0, 0, 0]]);
  matched!.signal(5n); // five kicks that the server has not heard yet are one
  await until(() => served.writes.length === 1, "the other's write");
  await sleep(20);
  assertEquals(served.writes.splice(0), [[0x70, 0x34, 0x12]]);
  doorbell!.close();
  matched!.close();
});

testFds("asked again the same eventfds are given", async () => {
  using served = await servedWith([DOORBELL]);
  const first = await ioFds(served.peer);
  const before = countOpenFds();
  const second = await ioFds(served.peer);
  assertEquals(countOpenFds(), before + 1); // the client's own
  const [a, b] = [...first.fds, ...second.fds].map((fd) => new EventFd(fd));
  for (const [i, event] of [a!, b!].entries()) {
    event.signal();
    await until(() => served.writes.length === i + 1, "the write");
    event.close();
  }
  assertEquals(served.writes.length, 2);
});

testFds("the device's own descriptors go along once, and nobody else listens to them", async () => {
  using event = new EventFd();
  const fd = event.handle;
  using served = await servedWith([
    { type: IOEVENTFD, offset: 0, size: 4, fd },
    { type: IOREGIONFD, offset: 0x100, size: 0x100, fd, userData: 77n },
    DOORBELL,
    { type: IOEVENTFD, offset: 8, size: 4, fd },
  ]);
  const { subRegions, fds } = await ioFds(served.peer);
  assertEquals(subRegions.map(({ fdIndex }) => fdIndex), [0, 0, 1, 0]);
  assertEquals([subRegions[1]!.type, subRegions[1]!.data, fds.length], [IOREGIONFD, 77n, 2]);
  const own = new EventFd(fds[0]!);
  own.signal(3n);
  await sleep(20);
  assertEquals([event.take(), served.writes.length], [3n, 0]);
  closeAll(fds);
});

testFds("a client that takes few descriptors is told of what needs no more", async () => {
  using event = new EventFd();
  const own: ServedIoFd = { type: IOEVENTFD, offset: 0, size: 4, fd: event.handle };
  for (
    const [maxMsgFds, count] of [[0, 0], [1, 2], [2, 3], [3, 4]] as const
  ) {
    using served = await servedWith([own, { ...own, offset: 4 }, DOORBELL, MATCHED], maxMsgFds);
    const answer = await ioFds(served.peer);
    assertEquals([answer.count, answer.subRegions.length], [count, count]);
    assertEquals(answer.fds.length, Math.min(maxMsgFds, 3));
    closeAll(answer.fds);
  }
});

testFds("a kick waits for a hook that is under way, and those behind it are one", async () => {
  using served = await servedWith([DOORBELL]);
  const { peer, device, writes } = served;
  const { fds } = await ioFds(peer);
  const event = new EventFd(fds[0]!);
  const gate = Promise.withResolvers<void>();
  let isReading = false;
  device.bar0.read = () => {
    isReading = true;
    return gate.promise;
  };
  peer.command(1, Command.REGION_READ, access(0n, 0, 4));
  await until(() => isReading, "the hook");
  event.signal();
  await until(() => !isReadable(event.fd), "the first kick to be heard");
  for (let i = 0; i < 4; i++) {
    event.signal();
    await sleep(5);
  }
  assertEquals(writes.length, 0);
  gate.resolve();
  await peer.expect(Command.REGION_READ);
  await until(() => writes.length === 2, "the writes");
  await sleep(20);
  assertEquals(writes.length, 2); // the one that waited, and one for all that came meanwhile
  event.close();
});

testFds("what a kick's hook throws is reported unless the device means it", async () => {
  using served = await servedWith([DOORBELL]);
  const { fds } = await ioFds(served.peer);
  const event = new EventFd(fds[0]!);
  for (const error of [new DeviceError(EINVAL), new TypeError("a bug")]) {
    let isCalled = false;
    served.device.bar0.write = () => {
      isCalled = true;
      throw error;
    };
    event.signal();
    await until(() => isCalled, "the hook");
  }
  await until(() => served.errors.length > 0, "the report");
  assertEquals(served.errors.map(([error, doing]) => [`${error}`, doing]), [[
    "TypeError: a bug",
    "ioeventfd",
  ]]);
  event.close();
});

testFds("a client that is gone kicks nobody", async () => {
  using served = await servedWith([DOORBELL]);
  const { fds } = await ioFds(served.peer);
  const event = new EventFd(fds[0]!);
  served.peer.close();
  await served.closed;
  event.signal();
  await sleep(20);
  assertEquals(served.writes.length, 0);
  assertEquals(event.take(), 1n);
  event.close();
});

testFds("a device's parts are the same for each client, their eventfds are not", async () => {
  const device = new TestDevice();
  device.bar0.ioFds = [DOORBELL];
  const kept: EventFd[] = [];
  const writes: number[] = [];
  device.bar0.write = (offset) => void writes.push(offset);
  for (let i = 0; i < 2; i++) {
    using served = await serveNegotiated({ device });
    const { fds } = await ioFds(served.peer);
    kept.push(new EventFd(fds[0]!));
    kept[0]!.signal(); // the first client's
    await until(() => writes.length > 0, "the write");
    await sleep(20);
    served.peer.close();
    await served.closed;
  }
  assertEquals(writes, [0x60]);
  for (const event of kept) event.close();
  assert(kept.length === 2);
});

testFds("a shadow ioeventfd is a write of the value that is in its memory", async () => {
  using served = await servedWith([
    DOORBELL,
    { type: SHADOW_IOEVENTFD, offset: 0x80, size: 4 },
    { type: SHADOW_IOEVENTFD, offset: 0x88, size: 8 },
  ]);
  const { subRegions, fds } = await ioFds(served.peer);
  assertEquals(
    subRegions.map(({ offset, type, fdIndex, shadowFdIndex, shadowOffset }) => [
      offset,
      type,
      fdIndex,
      shadowFdIndex,
      shadowOffset,
    ]),
    [
      [0x60n, IOEVENTFD, 0, 0, 0n],
      [0x80n, SHADOW_IOEVENTFD, 1, 2, 0n],
      [0x88n, SHADOW_IOEVENTFD, 3, 2, 8n],
    ],
  );
  // As KVM does: the value goes into memory, then the eventfd is signalled.
  using shadow = Mapping.create(fds[2]!, { length: PAGE_SIZE });
  const view = new DataView(shadow.buffer);
  const [first, second] = [new EventFd(fds[1]!), new EventFd(fds[3]!)];
  view.setUint32(0, 0xdeadbeef, true);
  first.signal();
  await until(() => served.writes.length === 1, "the first write");
  view.setBigUint64(8, 0x0102030405060708n, true);
  second.signal();
  await until(() => served.writes.length === 2, "the second write");
  assertEquals(served.writes, [
    [0x80, 0xef, 0xbe, 0xad, 0xde],
    [0x88, 8, 7, 6, 5, 4, 3, 2, 1],
  ]);
  closeAll(fds);
});

testFds("a shadow ioeventfd of the device's own is the device's to read", async () => {
  using event = new EventFd();
  using memory = createMemfd("doorbells", PAGE_SIZE);
  const part: ServedIoFd = {
    type: SHADOW_IOEVENTFD,
    offset: 0,
    size: 4,
    fd: event.handle,
    shadow: { fd: memory, offset: 0x40n },
    datamatch: 7n,
    flags: 1,
  };
  using served = await servedWith([part, { ...part, offset: 4 }], 2);
  // A value to match and a shadow do not fit the specification's 40 bytes: libvfio-user has 48.
  assertEquals((await ioFds(served.peer, 0, 111)).argsz, 112);
  const { subRegions, fds } = await ioFds(served.peer, 0, 112);
  assertEquals(
    subRegions.map(({ fdIndex, shadowFdIndex, shadowOffset, data }) => [
      fdIndex,
      shadowFdIndex,
      shadowOffset,
      data,
    ]),
    [[0, 1, 0x40n, 7n], [0, 1, 0x40n, 7n]],
  );
  const own = new EventFd(fds[0]!);
  own.signal();
  await sleep(20);
  assertEquals([event.take(), served.writes.length], [1n, 0]);
  closeAll(fds);
});

testFds("a part without a descriptor is told, and needs none", async () => {
  const none = { offset: 0, size: 4, fd: null } as const;
  using served = await servedWith([
    { type: IOEVENTFD, ...none },
    { type: SHADOW_IOEVENTFD, ...none },
    { type: IOREGIONFD, ...none },
  ], 0);
  const { subRegions, fds } = await ioFds(served.peer);
  assertEquals(fds.length, 0);
  assertEquals(
    subRegions.map(({ type, fdIndex, shadowFdIndex }) => [type, fdIndex, shadowFdIndex]),
    [[IOEVENTFD, NO_IO_FD, 0], [SHADOW_IOEVENTFD, NO_IO_FD, NO_IO_FD], [IOREGIONFD, NO_IO_FD, 0]],
  );
});

testFds(
  "parts whose descriptors a client does not take are left out, shadows counted",
  async () => {
    const shadow: ServedIoFd = { type: SHADOW_IOEVENTFD, offset: 0, size: 4 };
    for (const [maxMsgFds, count] of [[1, 0], [2, 1], [3, 2]] as const) {
      using served = await servedWith([shadow, { ...shadow, offset: 4 }], maxMsgFds);
      const { subRegions, fds } = await ioFds(served.peer);
      assertEquals([subRegions.length, fds.length], [count, count === 0 ? 0 : count + 1]);
      closeAll(fds);
    }
  },
);

/** The words of an ioregionfd's command: `info`, user data, offset, data. */
function ioregion(info: number, offset: bigint, data = 0n): Uint8Array<ArrayBuffer> {
  const bytes = new Uint8Array(32);
  const view = new DataView(bytes.buffer);
  view.setUint32(0, info, true);
  view.setBigUint64(8, 77n, true);
  view.setBigUint64(16, offset, true);
  view.setBigUint64(24, data, true);
  return bytes;
}

const R8 = 0x40;
const R32 = 0x60;
const W32 = 0x61;
const POSTED = 0x21; // a write of 4 bytes without a response

/** A client's end of an ioregionfd. */
class IoRegion implements Disposable {
  readonly socket: UnixSocket;

  constructor(fd: OwnedFd) {
    this.socket = new UnixSocket(fd);
  }

  send(bytes: Uint8Array<ArrayBuffer>): void {
    assertEquals(this.socket.send(new IoBuffer(bytes), 0, bytes.length), bytes.length);
  }

  /** The data of the next response. */
  async answer(): Promise<bigint> {
    const buffer = new IoBuffer(32);
    let came = -EAGAIN;
    await until(() => (came = this.socket.receive(buffer, 0, 32)) !== -EAGAIN, "a response");
    assertEquals(came, 32);
    return buffer.view.getBigUint64(0, true);
  }

  ask(info: number, offset: bigint, data?: bigint): Promise<bigint> {
    this.send(ioregion(info, offset, data));
    return this.answer();
  }

  [Symbol.dispose](): void {
    this.socket.close();
  }
}

/** A device with an ioregionfd over 64 bytes at 0x100 of region 0, and the client's end. */
async function ioRegion() {
  const served = await servedWith([
    { type: IOREGIONFD, offset: 0x100, size: 0x40, userData: 77n },
  ]);
  const { subRegions, fds } = await ioFds(served.peer);
  assertEquals([subRegions[0]!.type, subRegions[0]!.data, fds.length], [IOREGIONFD, 77n, 1]);
  const region = new IoRegion(fds[0]!);
  return {
    served,
    region,
    [Symbol.dispose]() {
      region[Symbol.dispose]();
      served[Symbol.dispose]();
    },
  };
}

testFds("an ioregionfd carries reads, writes and posted writes, in order", async () => {
  using stage = await ioRegion();
  const { served, region } = stage;
  served.device.bar0.bytes.set([0x44, 0x33, 0x22, 0x11], 0x108);
  assertEquals(await region.ask(R32, 8n), 0x11223344n);
  assertEquals(await region.ask(R8, 9n), 0x33n);
  assertEquals(await region.ask(W32, 0x10n, 0xcafe_f00dn), 0n);
  region.send(ioregion(POSTED, 0x14n, 1n));
  // The later form of the same command: the size and the response are in the second byte.
  assertEquals(await region.ask(0x12_01, 0x18n, 2n), 0n);
  assertEquals(await region.ask(0x10_00, 9n), 0x33n);
  assertEquals(served.writes, [
    [0x110, 0x0d, 0xf0, 0xfe, 0xca],
    [0x114, 1, 0, 0, 0],
    [0x118, 2, 0, 0, 0],
  ]);
  // Cut anywhere, and several at once.
  const two = new Uint8Array([...ioregion(R8, 8n), ...ioregion(R8, 9n)]);
  region.send(two.slice(0, 5));
  await sleep(5);
  region.send(two.slice(5));
  const buffer = new IoBuffer(64);
  let length = 0;
  await until(() => {
    const came = region.socket.receive(buffer, length, 64 - length);
    if (came > 0) length += came;
    return length === 64;
  }, "both answers");
  assertEquals([buffer.bytes[0], buffer.bytes[32]], [0x44, 0x33]);
});

testFds("an ioregionfd's access that fails is all ones, or lost", async () => {
  using stage = await ioRegion();
  const { served, region } = stage;
  for (const offset of [0x3dn, 0x40n, 2n ** 63n]) {
    assertEquals(await region.ask(R32, offset), 0xffff_ffffn);
    await region.ask(W32, offset, 1n);
  }
  assertEquals(served.writes, []);
  served.device.bar0.read = () => {
    throw new DeviceError(EINVAL);
  };
  assertEquals(await region.ask(R8, 0n), 0xffn);
  assertEquals(served.errors, []);
  served.device.bar0.read = () => {
    throw new TypeError("a bug");
  };
  assertEquals(await region.ask(R8, 0n), 0xffn);
  assertEquals(served.errors.map(([error]) => `${error}`), ["TypeError: a bug"]);
});

testFds("an ioregionfd waits for requests, and hooks that take their time", async () => {
  using stage = await ioRegion();
  const { served, region } = stage;
  const gate = Promise.withResolvers<void>();
  served.device.bar0.read = async (_offset, into) => {
    await gate.promise;
    into[0] = 5;
  };
  served.peer.command(1, Command.REGION_READ, access(0n, 0, 4));
  region.send(ioregion(W32, 0n, 9n));
  await sleep(20);
  assertEquals(served.writes.length, 0);
  gate.resolve();
  await served.peer.expect(Command.REGION_READ);
  assertEquals(await region.answer(), 0n);
  assertEquals([served.writes.length, await region.ask(R8, 0n)], [1, 5n]);
});

testFds("an ioregionfd that says nonsense, or brings descriptors, harms nobody", async () => {
  using stage = await ioRegion();
  const { served, region } = stage;
  const before = countOpenFds();
  using event = new EventFd();
  const bytes = ioregion(R8, 8n);
  region.socket.send(new IoBuffer(bytes), 0, 32, [event.fd]);
  assertEquals(await region.answer(), BigInt(served.device.bar0.bytes[0x108]!));
  assertEquals(countOpenFds(), before + 1);
  // No such command: the server listens no more, and the client finds the end.
  region.send(new Uint8Array([...ioregion(0xf, 8n), ...ioregion(W32, 8n)]));
  const buffer = new IoBuffer(32);
  await until(() => region.socket.receive(buffer, 0, 32) === 0, "the end");
  assertEquals(served.writes, []);
  assertEquals((await ask(served.peer, Command.REGION_READ, access(0n, 0, 4))).errno, 0);
});

testFds("a client that is gone finds its ioregionfd closed", async () => {
  using stage = await ioRegion();
  const { served, region } = stage;
  served.peer.close();
  await served.closed;
  const buffer = new IoBuffer(32);
  assertEquals(region.socket.receive(buffer, 0, 32), 0);
});
