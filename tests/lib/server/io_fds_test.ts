import { assert, assertEquals } from "@std/assert";
import { EINVAL } from "../../../ffi/errno.ts";
import { EventFd } from "../../../ffi/event.ts";
import { closeAll, countOpenFds, type OwnedFd } from "../../../ffi/fd.ts";
import { DeviceError, type ServedIoFd } from "../../../lib/server/served_device.ts";
import { Command } from "../../../lib/wire/command.ts";
import {
  IoFdType,
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

const { IOEVENTFD, IOREGIONFD } = IoFdType;
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
