import { assertEquals } from "@std/assert";
import { EFAULT, EPERM } from "../../../ffi/errno.ts";
import { EventFd } from "../../../ffi/event.ts";
import { DemoRegister } from "../../../lib/devices/demo.ts";
import { DemoDevice } from "../../../lib/devices/demo_device.ts";
import { Server } from "../../../lib/server/server.ts";
import {
  DmaReadReply,
  DmaReadRequest,
  DmaWriteReply,
  DmaWriteRequest,
} from "../../../lib/wire/access.ts";
import { Command } from "../../../lib/wire/command.ts";
import { RegionIoFdsReply, RegionIoFdsRequest } from "../../../lib/wire/io_fds.ts";
import { IrqSetFlags, PciIrq, SetIrqsRequest } from "../../../lib/wire/irq.ts";
import { testFds } from "../../_fds.ts";
import { RawPeer } from "../../_raw_peer.ts";
import { access, ask, negotiate, sleep } from "../server/_client.ts";
import { BASE, ClientFile, map, PAGE } from "../server/_memory.ts";
import { until } from "../../_until.ts";

const { TRIGGER, INTX_LEVEL, DMA_CONTROL, DMA_STATUS, DMA_ERRNO, DMA_DOORBELL, DMA_LENGTH } =
  DemoRegister;
const DONE = 1;
const ERROR = 2;
const BUSY = 0x80000000;
const CONFIG = 7;
const MASTER = 4;

/** A demo device and its client by hand. */
class Rig implements Disposable {
  readonly device = new DemoDevice();
  peer!: RawPeer;
  #server: Server | undefined;

  async connect(): Promise<void> {
    const [peer, socket] = RawPeer.pair();
    this.peer = peer;
    // The device outlives this server, as it does the clients of one that listens.
    const { device } = this;
    const { flags, regions, irqs } = device;
    this.#server = Server.serve(socket.release(), {
      flags,
      regions,
      irqs,
      reset: () => device.reset(),
      connected: (bus) => device.connected(bus),
      disconnected: () => device.disconnected(),
    });
    await negotiate(peer, { maxMsgFds: 8 });
  }

  async disconnect(): Promise<void> {
    this.peer.close();
    await this.#server?.closed;
  }

  async read(register: number): Promise<number> {
    const { payload } = await ask(this.peer, Command.REGION_READ, access(BigInt(register), 0, 4));
    return new DataView(payload.buffer, payload.byteOffset + 16).getUint32(0, true);
  }

  async write(register: number, value: number, region = 0): Promise<void> {
    const bytes = [...new Uint8Array(new Uint32Array([value]).buffer)];
    const request = access(BigInt(register), region, 4, bytes);
    assertEquals((await ask(this.peer, Command.REGION_WRITE, request)).errno, 0);
  }

  /** Describes a copy; `start` starts it. */
  async prepare(source: bigint, destination: bigint, length: number): Promise<void> {
    await this.write(DemoRegister.DMA_SRC_LO, Number(source & 0xffff_ffffn));
    await this.write(DemoRegister.DMA_SRC_HI, Number(source >> 32n));
    await this.write(DemoRegister.DMA_DST_LO, Number(destination & 0xffff_ffffn));
    await this.write(DemoRegister.DMA_DST_HI, Number(destination >> 32n));
    await this.write(DMA_LENGTH, length);
  }

  /** The status after a copy has ended. */
  async ended(): Promise<number> {
    let status = BUSY;
    await until(async () => (status = await this.read(DMA_STATUS)) !== BUSY, "the copy's end");
    return status;
  }

  /** Sets up eventfds for an IRQ index. */
  async listen(index: number, count: number): Promise<EventFd[]> {
    const events = Array.from({ length: count }, () => new EventFd());
    const flags = IrqSetFlags.DATA_EVENTFD | IrqSetFlags.ACTION_TRIGGER;
    const request = { argsz: 20, flags, index, start: 0, count, data: new Uint8Array() };
    const fds = events.map((event) => event.handle);
    const payload = SetIrqsRequest.encode(request);
    assertEquals((await ask(this.peer, Command.DEVICE_SET_IRQS, payload, fds)).errno, 0);
    return events;
  }

  [Symbol.dispose](): void {
    this.peer.close();
    this.#server?.close();
    this.device.close();
  }
}

async function rig(): Promise<Rig> {
  const made = new Rig();
  await made.connect();
  await made.write(0x04, MASTER, CONFIG);
  return made;
}

function take(events: EventFd[]): number[] {
  return events.map((event) => Number(event.take()));
}

function closeEvents(events: EventFd[]): void {
  for (const event of events) event.close();
}

testFds(
  "the copy engine copies in the client's memory and raises the vector of its choice",
  async () => {
    using demo = await rig();
    using file = new ClientFile(4 * PAGE);
    const high = 0x1_0000_0000n;
    await map(demo.peer, { address: high, size: BigInt(4 * PAGE) }, [file.fd]);
    const events = await demo.listen(PciIrq.MSIX, 4);
    file.bytes.set([1, 2, 3, 4, 5], 10);
    assertEquals(await demo.read(DMA_STATUS), 0);
    await demo.prepare(high + 10n, high + 9000n, 5);
    await demo.write(DMA_CONTROL, 1 | 2 << 8);
    assertEquals(await demo.ended(), DONE);
    assertEquals(file.bytes.slice(8999, 9006), new Uint8Array([0, 1, 2, 3, 4, 5, 0]));
    assertEquals(take(events), [0, 0, 1, 0]);
    assertEquals([await demo.read(DMA_CONTROL), await demo.read(DMA_ERRNO)], [2 << 8, 0]);
    closeEvents(events);
  },
);

testFds("the copy engine copies megabytes in pieces", async () => {
  using demo = await rig();
  const size = 64 << 20; // no machine copies that within one turn
  using file = new ClientFile(2 * size);
  for (let i = 0; i < size; i += 4093) file.bytes[i] = i;
  await map(demo.peer, { address: BASE, size: BigInt(2 * size) }, [file.fd]);
  await demo.prepare(BASE, BASE + BigInt(size), size - 3);
  await demo.write(DMA_CONTROL, 1);
  assertEquals(await demo.read(DMA_STATUS), BUSY);
  assertEquals(await demo.ended(), DONE);
  assertEquals(file.bytes.slice(size, 2 * size - 3), file.bytes.slice(0, size - 3));
});

testFds("the copy engine needs bus master, and memory that is mapped", async () => {
  using demo = await rig();
  const events = await demo.listen(PciIrq.MSIX, 1);
  await demo.prepare(0n, 0n, 1);
  await demo.write(0x04, 0, CONFIG);
  await demo.write(DMA_CONTROL, 1);
  assertEquals([await demo.read(DMA_STATUS), await demo.read(DMA_ERRNO)], [ERROR, EPERM]);
  await demo.write(0x04, MASTER, CONFIG);
  await demo.write(DMA_CONTROL, 1);
  assertEquals([await demo.ended(), await demo.read(DMA_ERRNO)], [ERROR, EFAULT]);
  assertEquals(take(events), [2]);
  await demo.prepare(0n, 0n, 0);
  await demo.write(DMA_CONTROL, 1);
  assertEquals([await demo.ended(), await demo.read(DMA_ERRNO)], [DONE, 0]);
  closeEvents(events);
});

testFds(
  "the copy engine is BUSY while the client is asked, and starts no second copy",
  async () => {
    using demo = await rig();
    const { peer } = demo;
    await map(peer, { address: BASE });
    const events = await demo.listen(PciIrq.MSIX, 4);
    await demo.prepare(BASE, BASE + 100n, 4);
    const start = access(BigInt(DMA_CONTROL), 0, 4, [1, 1, 0, 0]);
    peer.command(1, Command.REGION_WRITE, start);
    await peer.expect(Command.REGION_WRITE);
    const read = await peer.expect(Command.DMA_READ);
    assertEquals(DmaReadRequest.decode(read.payload), { address: BASE, count: 4n });
    assertEquals(await demo.read(DMA_STATUS), BUSY);
    await demo.write(DMA_CONTROL, 1 | 3 << 8); // not started; the vector of the one under way stays
    const data = new Uint8Array([4, 3, 2, 1]);
    peer.reply(read, DmaReadReply.encode({ address: BASE, data }));
    const write = await peer.expect(Command.DMA_WRITE);
    assertEquals(DmaWriteRequest.decode(write.payload), { address: BASE + 100n, data });
    peer.reply(write, DmaWriteReply.encode({ address: BASE + 100n, count: 4n }));
    assertEquals(await demo.ended(), DONE);
    assertEquals(take(events), [0, 1, 0, 0]);
    closeEvents(events);
  },
);

testFds("an error of the client shows in DMA_ERRNO", async () => {
  using demo = await rig();
  const { peer } = demo;
  await map(peer, { address: BASE });
  await demo.prepare(BASE, BASE, 4);
  peer.command(1, Command.REGION_WRITE, access(BigInt(DMA_DOORBELL), 0, 4, [0, 0, 0, 0]));
  await peer.expect(Command.REGION_WRITE);
  peer.fail(await peer.expect(Command.DMA_READ), 5);
  assertEquals([await demo.ended(), await demo.read(DMA_ERRNO)], [ERROR, 5]);
});

testFds("a reset stops a copy and forgets it", async () => {
  using demo = await rig();
  const { peer } = demo;
  await map(peer, { address: BASE });
  const events = await demo.listen(PciIrq.MSIX, 1);
  await demo.prepare(BASE, BASE, 4);
  peer.command(1, Command.REGION_WRITE, access(BigInt(DMA_DOORBELL), 0, 4, [0, 0, 0, 0]));
  await peer.expect(Command.REGION_WRITE);
  const read = await peer.expect(Command.DMA_READ);
  assertEquals((await ask(peer, Command.DEVICE_RESET)).errno, 0);
  assertEquals([await demo.read(DMA_STATUS), await demo.read(DMA_LENGTH)], [0, 0]);
  peer.reply(read, DmaReadReply.encode({ address: BASE, data: new Uint8Array(4) }));
  await sleep(5);
  assertEquals([await demo.read(DMA_STATUS), take(events)], [0, [0]]); // and no DMA_WRITE came
  closeEvents(events);
});

testFds("the doorbell may be rung through an ioeventfd", async () => {
  using demo = await rig();
  using file = new ClientFile(PAGE);
  await map(demo.peer, { address: BASE }, [file.fd]);
  const request = RegionIoFdsRequest.encode({ argsz: 56, flags: 0, index: 0, count: 0 });
  const reply = await ask(demo.peer, Command.DEVICE_GET_REGION_IO_FDS, request);
  const [doorbell] = RegionIoFdsReply.decode(reply.payload).subRegions;
  assertEquals([doorbell!.offset, doorbell!.size], [BigInt(DMA_DOORBELL), 4n]);
  const kick = new EventFd(reply.fds[0]!);
  const events = await demo.listen(PciIrq.MSIX, 4);
  file.bytes[0] = 77;
  await demo.prepare(BASE, BASE + 8n, 1);
  await demo.write(DMA_CONTROL, 3 << 8);
  kick.signal();
  await until(async () => await demo.read(DMA_STATUS) === DONE, "the copy");
  assertEquals([file.bytes[8], await demo.read(DMA_STATUS), take(events)], [77, DONE, [
    0,
    0,
    0,
    1,
  ]]);
  closeEvents([...events, kick]);
});

testFds("TRIGGER raises an MSI-X vector, INTX_LEVEL sets the pin", async () => {
  using demo = await rig();
  const vectors = await demo.listen(PciIrq.MSIX, 4);
  const pin = await demo.listen(PciIrq.INTX, 1);
  for (const value of [1, 1, 3, 4, 0xffffffff]) await demo.write(TRIGGER, value);
  assertEquals(take(vectors), [0, 2, 0, 1]);
  await demo.write(INTX_LEVEL, 1);
  await demo.write(INTX_LEVEL, 0xff);
  assertEquals([take(pin), await demo.read(INTX_LEVEL)], [[1], 1]);
  await demo.write(INTX_LEVEL, 0);
  assertEquals([take(pin), await demo.read(INTX_LEVEL), await demo.read(TRIGGER)], [[0], 0, 0]);
  closeEvents([...vectors, ...pin]);
});

testFds(
  "a copy fails when its client goes; registers and the pin's level are there for the next",
  async () => {
    using demo = await rig();
    await map(demo.peer, { address: BASE });
    await demo.prepare(BASE, BASE, 4);
    await demo.write(INTX_LEVEL, 1);
    await demo.write(DMA_CONTROL, 1 | 1 << 8);
    await demo.peer.expect(Command.DMA_READ);
    await demo.disconnect();
    await demo.connect();
    assertEquals([await demo.read(DMA_STATUS), await demo.read(DMA_LENGTH)], [ERROR, 4]);
    const pin = await demo.listen(PciIrq.INTX, 1);
    assertEquals(take(pin), [1]);
    closeEvents(pin);
  },
);
