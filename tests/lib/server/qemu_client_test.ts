/**
 * The messages of QEMU 11.1's `vfio-user-pci`, as recorded from it. It sends maps in bursts for
 * whose replies it does not wait, maps BAR areas back, and sends eventfds in pieces of 16.
 */

import { assertEquals } from "@std/assert";
import { EventFd } from "../../../ffi/event.ts";
import type { OwnedFd } from "../../../ffi/fd.ts";
import type { ServedIrq } from "../../../lib/server/served_device.ts";
import { DmaReadReply, DmaReadRequest } from "../../../lib/wire/access.ts";
import { Command } from "../../../lib/wire/command.ts";
import { DmaMapRequest, DmaUnmapRequest } from "../../../lib/wire/dma.ts";
import { MessageFlags } from "../../../lib/wire/header.ts";
import { IrqFlags, IrqSetFlags, PciIrq, SetIrqsRequest } from "../../../lib/wire/irq.ts";
import { testFds } from "../../_fds.ts";
import type { RawPeer } from "../../_raw_peer.ts";
import { ask, type Served, serveNegotiated, TestDevice } from "./_client.ts";
import { ClientFile } from "./_memory.ts";

/** As QEMU proposes them, with version 0.0. */
const CAPABILITIES = {
  maxMsgFds: 16,
  maxDataXferSize: 1 << 20,
  maxDmaMaps: 65535,
  pgsizes: 4096n,
  writeMultiple: true,
  migration: { pgsize: 4096 },
};

const READ = 1;
const READ_WRITE = 3;
const RAM_SIZE = 0x200000;

type Range = readonly [address: number, size: number];

/** Sends a burst, each message for itself, and takes the replies only then. */
class Burst {
  readonly #sent: [id: number, command: number][] = [];
  static #nextId = 0x4000;

  constructor(readonly peer: RawPeer, readonly ram: ClientFile) {}

  /** Maps RAM: the file's bytes from the same offset on. */
  map([address, size]: Range, flags = READ_WRITE): this {
    return this.#mapAt(address, size, flags, BigInt(address), [this.ram.fd]);
  }

  /** Maps what has no file: ROM, or an area of a BAR. */
  rest([address, size]: Range, flags: number): this {
    return this.#mapAt(address, size, flags, 0n);
  }

  unmap([address, size]: Range): this {
    const request = { argsz: 24, flags: 0, address: BigInt(address), size: BigInt(size) };
    return this.#send(Command.DMA_UNMAP, DmaUnmapRequest.encode(request));
  }

  /** Each is answered once, in order, and none refused. */
  async answered(): Promise<void> {
    for (const [id, command] of this.#sent) {
      const reply = await this.peer.expect(command);
      assertEquals([reply.messageId, reply.flags, reply.error], [id, MessageFlags.REPLY, 0]);
    }
  }

  #mapAt(address: number, size: number, flags: number, offset: bigint, fds?: OwnedFd[]): this {
    const request = { argsz: 32, flags, offset, address: BigInt(address), size: BigInt(size) };
    return this.#send(Command.DMA_MAP, DmaMapRequest.encode(request), fds);
  }

  #send(command: number, payload: Uint8Array, fds?: OwnedFd[]): this {
    const id = Burst.#nextId++;
    this.peer.command(id, command, payload, fds);
    this.#sent.push([id, command]);
    return this;
  }
}

/**
 * Lets the device read where there is no file: it asks by DMA_READ. Returns what it was answered.
 */
async function readByMessage({ peer, device }: Served, address: number): Promise<Uint8Array> {
  const reading = device.bus!.dma.read(BigInt(address), 4);
  const asked = await peer.expect(Command.DMA_READ);
  const request = DmaReadRequest.decode(asked.payload);
  assertEquals([request.address, request.count], [BigInt(address), 4n]);
  const data = new Uint8Array([address >> 12, 2, 3, 4]);
  peer.reply(asked, DmaReadReply.encode({ address: request.address, data }));
  return await reading;
}

testFds("maps that come in bursts, firmware's shadowing of ROM and BAR areas as DMA", async () => {
  using served = await serveNegotiated({ capabilities: CAPABILITIES });
  using ram = new ClientFile(RAM_SIZE);
  const { peer, device } = served;
  for (let at = 0; at < RAM_SIZE; at += 4096) ram.bytes[at] = at >> 12 & 0xff;
  const burst = () => new Burst(peer, ram);
  const all: Range = [0, RAM_SIZE];
  const readsRam = async (...addresses: number[]) => {
    for (const at of addresses) {
      assertEquals((await device.bus!.dma.read(BigInt(at), 1))[0], at >> 12 & 0xff);
    }
  };

  await burst().map(all).rest([0xfffc0000, 0x40000], READ).answered();
  await readsRam(0, 0x1ff000);

  // Firmware makes the memory between 0xc0000 and 0x100000 a ROM, RAM, and a ROM again.
  await burst()
    .unmap(all)
    .map([0, 0xc0000])
    .rest([0xc0000, 0x20000], READ)
    .rest([0xe0000, 0x20000], READ)
    .map([0x100000, RAM_SIZE - 0x100000])
    .answered();
  await readsRam(0xbf000, 0x100000);
  assertEquals((await readByMessage(served, 0xe0000))[0], 0xe0);
  await burst()
    .unmap([0, 0xc0000])
    .unmap([0xc0000, 0x20000])
    .unmap([0xe0000, 0x20000])
    .unmap([0x100000, RAM_SIZE - 0x100000])
    .map(all)
    .answered();
  await readsRam(0xe0000);

  // COMMAND's memory enable maps areas of BARs back, without a file, and unmaps them.
  const areas: Range[] = [[0xfea01000, 0x3000], [0xfea08000, 0x8000]];
  for (let round = 0; round < 2; round++) {
    await burst().rest(areas[0]!, READ_WRITE).rest(areas[1]!, READ_WRITE).answered();
    await readByMessage(served, 0xfea08000);
    await burst().unmap(areas[0]!).unmap(areas[1]!).answered();
  }
  await burst()
    .unmap(all)
    .map([0, 0xc3000])
    .map([0xc3000, 0x15000], READ)
    .map([0xd8000, 0x18000])
    .map([0xf0000, 0x10000], READ)
    .map([0x100000, RAM_SIZE - 0x100000])
    .unmap([0xc3000, 0x15000])
    .unmap([0xd8000, 0x18000])
    .map([0xc3000, 0x25000], READ)
    .map([0xe8000, 0x8000])
    .answered();
  await readsRam(0, 0xc3000, 0xe7000, 0xe8000, 0xf0000, 0x1ff000);
});

const VECTORS = 40;

class ManyVectors extends TestDevice {
  override readonly irqs: ServedIrq[] = [
    { flags: IrqFlags.EVENTFD | IrqFlags.MASKABLE, count: 1 },
    { flags: IrqFlags.EVENTFD, count: 0 },
    { flags: IrqFlags.EVENTFD | IrqFlags.MASKABLE, count: VECTORS },
  ];
}

/** Hands eventfds to vectors from `start` on; none: the vector has no eventfd. */
async function setEvents(peer: RawPeer, start: number, events: readonly EventFd[], count = 1) {
  const { errno } = await ask(
    peer,
    Command.DEVICE_SET_IRQS,
    SetIrqsRequest.encode({
      argsz: 20,
      flags: IrqSetFlags.DATA_EVENTFD | IrqSetFlags.ACTION_TRIGGER,
      index: PciIrq.MSIX,
      start,
      count: events.length || count,
      data: new Uint8Array(),
    }),
    events.map((event) => event.handle),
  );
  assertEquals(errno, 0);
}

async function disableAll(peer: RawPeer): Promise<void> {
  const { errno } = await ask(
    peer,
    Command.DEVICE_SET_IRQS,
    SetIrqsRequest.encode({
      argsz: 20,
      flags: IrqSetFlags.DATA_NONE | IrqSetFlags.ACTION_TRIGGER,
      index: PciIrq.MSIX,
      start: 0,
      count: 0,
      data: new Uint8Array(),
    }),
  );
  assertEquals(errno, 0);
}

testFds("MSI-X as QEMU sets it up: vector by vector, then all in pieces of 16", async () => {
  const device = new ManyVectors();
  using served = await serveNegotiated({ device, capabilities: CAPABILITIES });
  const { peer } = served;
  const events = Array.from({ length: VECTORS }, () => new EventFd());
  const raise = (vector: number) => device.bus!.irqs.raise(PciIrq.MSIX, vector);
  const taken = () => events.map((event) => Number(event.take()));
  const only = (...vectors: number[]) => events.map((_, i) => vectors.includes(i) ? 1 : 0);
  try {
    // MSI-X on: all off, one eventfd, then none for that vector until the driver asks for it.
    await disableAll(peer);
    await setEvents(peer, 0, events.slice(0, 1));
    await setEvents(peer, 0, []);
    assertEquals([raise(0), taken()], [false, only()]);

    // It grows by one at a time; those that are there go on.
    for (let vector = 0; vector < VECTORS; vector++) {
      await setEvents(peer, vector, [events[vector]!]);
      assertEquals([raise(0), raise(vector)], [true, true]);
      assertEquals(taken(), vector === 0 ? [2, ...only().slice(1)] : only(0, vector));
    }

    // All at once come in pieces of 16, the most that one message may carry.
    for (let round = 0; round < 2; round++) {
      await disableAll(peer);
      assertEquals([raise(17), taken()], [false, only()]);
      for (let start = 0; start < VECTORS; start += 16) {
        await setEvents(peer, start, events.slice(start, start + 16));
        assertEquals([raise(0), raise(start), taken()[start]], [true, true, start === 0 ? 2 : 1]);
      }
      for (const vector of [15, 16, 31, 32, 39]) {
        assertEquals([raise(vector), taken()], [true, only(vector)], `vector ${vector}`);
      }
    }

    // A vector loses its eventfd; its neighbours keep theirs.
    await setEvents(peer, 16, []);
    assertEquals([raise(15), raise(16), raise(17), taken()], [true, false, true, only(15, 17)]);
  } finally {
    for (const event of events) event[Symbol.dispose]();
  }
});
