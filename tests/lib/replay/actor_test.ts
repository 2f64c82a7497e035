import { assert, assertEquals, assertRejects } from "@std/assert";
import fc from "fast-check";
import { EventFd } from "../../../ffi/event.ts";
import { UnixSocket } from "../../../ffi/socket.ts";
import {
  Actor,
  type ActorCounts,
  type Deviation,
  type Omission,
} from "../../../lib/replay/actor.ts";
import { learnPart } from "../../../lib/replay/part.ts";
import type { NewEvent, RecordedEvent } from "../../../lib/record/event.ts";
import { RemoteError } from "../../../lib/base/errors.ts";
import { VfioProxy } from "../../../lib/transport/proxy.ts";
import { Command } from "../../../lib/wire/command.ts";
import {
  RegionReadReply,
  RegionReadRequest,
  RegionWriteRequest,
} from "../../../lib/wire/access.ts";
import { DmaMapRequest, DmaUnmapRequest } from "../../../lib/wire/dma.ts";
import { IrqSetFlags, SetIrqsRequest } from "../../../lib/wire/irq.ts";
import { encodeVersion } from "../../../lib/wire/version.ts";
import { testFds } from "../../_fds.ts";
import { until } from "../../_until.ts";
import { Talk, u32 } from "../record/_talk.ts";

const VERSION = { major: 0, minor: 1, capabilities: {} };
const PLACE = { region: 0, offset: 0x1cn };

async function* numbered(events: readonly NewEvent[]): AsyncGenerator<RecordedEvent> {
  for (const [index, event] of events.entries()) yield { ...event, index } as RecordedEvent;
}

function talk(): Talk {
  const talk = new Talk();
  talk.answer("VERSION", talk.ask("VERSION", VERSION), VERSION);
  return talk;
}

/** A client of a mock. */
class Client implements Disposable {
  readonly deviations: Deviation[] = [];
  readonly omissions: Omission[] = [];
  /** The addresses that the mock wrote, with the data. */
  readonly written: [address: bigint, data: string][] = [];
  /** The contents of its memory, by address. */
  readonly memory = new Map<bigint, Uint8Array>();
  /** Called ahead of each answer to a read; the answer follows once it is settled. */
  beforeRead: (() => Promise<void>) | undefined;
  readonly proxy: VfioProxy;
  readonly #actor: Actor;

  private constructor(actor: (socket: UnixSocket, client: Client) => Actor) {
    const [ours, theirs] = UnixSocket.pair();
    this.proxy = new VfioProxy(ours, {
      role: "client",
      handler: (request) => {
        const { command, payload } = request;
        const address = new DataView(payload.buffer, payload.byteOffset).getBigUint64(0, true);
        const head = payload.slice(0, 16);
        if (command === Command.DMA_WRITE) {
          this.written.push([address, payload.slice(16).toHex()]);
          return request.reply(head);
        }
        const memory = this.memory.get(address);
        if (memory === undefined) return request.fail(14);
        if (this.beforeRead === undefined) return request.reply(head, memory);
        return this.beforeRead().then(() => request.reply(head, memory));
      },
    });
    this.#actor = actor(theirs, this);
  }

  static async connect(events: readonly NewEvent[]): Promise<Client> {
    const part = await learnPart(numbered(events));
    const client = new Client((socket, self) =>
      new Actor(socket, {
        part,
        timeoutMs: 60_000,
        onDeviation: (each) => self.deviations.push(each),
        onOmission: (each) => self.omissions.push(each),
        onEnd() {},
      })
    );
    await client.proxy.request(Command.VERSION, encodeVersion(VERSION));
    client.proxy.limits = { maxFds: 8, maxMessageSize: 1 << 20 };
    client.proxy.peerMaxFds = 8;
    client.proxy.serving = true;
    return client;
  }

  async read(): Promise<number> {
    const payload = RegionReadRequest.encode({ ...PLACE, count: 4 });
    const reply = await this.proxy.request(Command.REGION_READ, payload);
    const { data } = RegionReadReply.decode(reply.payload);
    return new DataView(data.slice().buffer).getUint32(0, true);
  }

  async write(offset: bigint, data: Uint8Array): Promise<void> {
    const payload = RegionWriteRequest.encode({ region: 0, offset, data });
    await this.proxy.request(Command.REGION_WRITE, payload);
  }

  async map(address: bigint, size: bigint, flags = 3): Promise<void> {
    const payload = DmaMapRequest.encode({ argsz: 32, flags, offset: 0n, address, size });
    await this.proxy.request(Command.DMA_MAP, payload);
  }

  async unmap(address: bigint, size: bigint): Promise<void> {
    const payload = DmaUnmapRequest.encode({ argsz: 24, flags: 0, address, size });
    await this.proxy.request(Command.DMA_UNMAP, payload);
  }

  get counts(): Readonly<ActorCounts> {
    return this.#actor.counts;
  }

  /** Waits until the mock has dealt with so many DMA of the recording. */
  async dealt(count: number): Promise<void> {
    await until(() => this.counts.dma + this.counts.omitted >= count, "DMA");
  }

  [Symbol.dispose](): void {
    this.proxy.close();
    this.#actor[Symbol.dispose]();
  }
}

testFds("a client that says nothing does not keep a mock", async () => {
  const [ours, theirs] = UnixSocket.pair();
  using _ours = ours;
  const { promise, resolve } = Promise.withResolvers<Error | undefined>();
  const part = await learnPart(numbered(talk().events));
  const options = { timeoutMs: 60_000, handshakeTimeoutMs: 1, onDeviation() {}, onOmission() {} };
  using _actor = new Actor(theirs, { ...options, part, onEnd: resolve });
  assertEquals((await promise)?.message, "The client sent no VERSION within 1 ms");
});

testFds("a client may poll more often or less often than the recorded one", async () => {
  const recorded = talk();
  recorded.write(0x14n, 1);
  for (const value of [0, 0, 1]) recorded.read(0x1cn, value);
  recorded.write(0x14n, 0);
  recorded.read(0x1cn, 5);
  for (const polls of [1, 3, 6]) {
    using client = await Client.connect(recorded.events);
    await client.write(0x14n, u32(1));
    const seen = [];
    for (let i = 0; i < polls; i++) seen.push(await client.read());
    assertEquals(seen, [0, 0, 1, 1, 1, 1].slice(0, polls));
    await client.write(0x14n, u32(0));
    assertEquals(await client.read(), 5);
    assertEquals(client.deviations, []);
  }
});

testFds("a mock answers reads as large as the recorded server took", async () => {
  const recorded = new Talk();
  const capabilities = { maxDataXferSize: 2 << 20 };
  recorded.answer("VERSION", recorded.ask("VERSION", VERSION), { ...VERSION, capabilities });
  const read = { region: 0, offset: 0n, count: (1 << 20) + 4 };
  const data = new Uint8Array(read.count).fill(7);
  recorded.answer("REGION_READ", recorded.ask("REGION_READ", read), { ...read, data });
  using client = await Client.connect(recorded.events);
  client.proxy.limits = { maxFds: 8, maxMessageSize: 4 << 20 };
  const ask = (count: number) =>
    client.proxy.request(Command.REGION_READ, RegionReadRequest.encode({ ...read, count }));
  const { payload } = await ask(read.count);
  assertEquals(RegionReadReply.decode(payload).data.length, read.count);
  await assertRejects(() => ask((2 << 20) + 1), RemoteError);
});

testFds("a mock refuses to unmap nothing, and its maps stay", async () => {
  using client = await Client.connect(talk().events);
  await client.map(0x1000n, 0x2000n);
  await assertRejects(() => client.unmap(0x2000n, 0n), RemoteError);
  await client.map(0x1000n, 0x2000n);
  await assertRejects(() => client.map(0x2000n, 0x1000n), RemoteError, "EEXIST");
});

testFds(
  "an interrupt comes after the request that it followed, once there is an eventfd",
  async () => {
    const recorded = talk();
    recorded.write(0x14n, 1);
    recorded.add({ kind: "interrupt", irq: 2, vector: 1, count: 1n, action: "trigger" });
    recorded.write(0x14n, 2);
    using client = await Client.connect(recorded.events);
    using event = new EventFd();
    const { DATA_EVENTFD, ACTION_TRIGGER } = IrqSetFlags;
    const enable = async () => {
      const payload = SetIrqsRequest.encode({
        argsz: 20,
        flags: DATA_EVENTFD | ACTION_TRIGGER,
        index: 2,
        start: 1,
        count: 1,
        data: new Uint8Array(),
      });
      await client.proxy.request(Command.DEVICE_SET_IRQS, payload, { fds: [event.handle] });
    };
    await enable();
    assertEquals(event.take(), 0n);
    await client.write(0x14n, u32(1));
    await until(() => event.take() === 1n, "the interrupt");
  },
);

testFds("more vectors than a mock keeps are refused, and it goes on", async () => {
  using client = await Client.connect(talk().events);
  using event = new EventFd();
  const flags = IrqSetFlags.DATA_EVENTFD | IrqSetFlags.ACTION_TRIGGER;
  const set = (start: number) => {
    const payload = SetIrqsRequest.encode({
      argsz: 20,
      flags,
      index: 2,
      start,
      count: 8,
      data: new Uint8Array(),
    });
    const fds = Array.from({ length: 8 }, () => event.handle);
    return client.proxy.request(Command.DEVICE_SET_IRQS, payload, { fds });
  };
  let start = 0;
  for (; start < 2048; start += 8) await set(start);
  await assertRejects(() => set(start), RemoteError, "ENOSPC");
  assertEquals(client.proxy.state, "CONNECTED");
});

testFds("a request that the recording does not have is told once, and answered", async () => {
  const recorded = talk();
  recorded.write(0x14n, 1);
  recorded.write(0x18n, 2);
  using client = await Client.connect(recorded.events);
  await client.write(0x40n, u32(1));
  await client.write(0x44n, u32(1));
  await client.write(0x14n, u32(1));
  await client.write(0x18n, u32(2));
  assertEquals(client.deviations.map(({ expected }) => expected?.event.index), [2]);
});

testFds("reads of what the recording does not have are counted, by region", async () => {
  const recorded = talk();
  recorded.read(0x1cn, 5);
  using client = await Client.connect(recorded.events);
  const read = async (region: number, offset: bigint, count: number) => {
    const payload = RegionReadRequest.encode({ region, offset, count });
    const reply = await client.proxy.request(Command.REGION_READ, payload);
    return RegionReadReply.decode(reply.payload).data.toHex();
  };
  await client.write(0x40n, u32(7));
  assertEquals([await read(0, 0x1cn, 4), await read(0, 0x1en, 2)], ["05000000", "0000"]);
  assertEquals(await read(0, 0x40n, 4), "07000000");
  assertEquals(client.counts.zeros, new Map());
  assertEquals([await read(0, 0x3cn, 8), await read(0, 0x20n, 4)], [
    "0000000007000000",
    "00000000",
  ]);
  assertEquals(await read(7, 0n, 2), "0000");
  assertEquals(client.counts.zeros, new Map([[0, 2], [7, 1]]));
});

const ADDRESS = 0x28n;
const LENGTH = 0x30n;
const MASK = 0x40n;
const DOORBELL = 0x1000n;

function u64(...values: bigint[]): Uint8Array {
  return new Uint8Array(BigUint64Array.from(values).buffer);
}

function writeWide(talk: Talk, offset: bigint, value: bigint): void {
  const id = talk.ask("REGION_WRITE", { region: 0, offset, data: u64(value) });
  talk.answer("REGION_WRITE", id, { region: 0, offset, count: 8 });
}

function dmaRead(talk: Talk, address: bigint, data: Uint8Array): void {
  const id = talk.ask("DMA_READ", { address, count: BigInt(data.length) });
  talk.answer("DMA_READ", id, { address, data });
}

function dmaWrite(talk: Talk, address: bigint, data: Uint8Array): void {
  const id = talk.ask("DMA_WRITE", { address, data });
  talk.answer("DMA_WRITE", id, { address, count: BigInt(data.length) });
}

/** A command: an opcode, a number that the device repeats, an address and a length. */
function command(id: number, address: bigint, length: bigint): Uint8Array {
  return Uint8Array.of(...u32(id << 16 | 6), ...u32(0), ...u64(address, length));
}

/** A device that fetches a command from a ring, writes data, and answers in the second page. */
function commandTalk(): Talk {
  const recorded = talk();
  writeWide(recorded, ADDRESS, 0x5000n);
  for (const [i, id] of [0x18, 0x19].entries()) {
    recorded.write(DOORBELL, i + 1);
    const data = 0x7000n + BigInt(i) * 0x1000n;
    dmaRead(recorded, 0x5000n + BigInt(i) * 24n, command(id, data, 8n));
    dmaWrite(recorded, data, u64(BigInt(i)));
    dmaWrite(recorded, 0x5800n + BigInt(i) * 4n, u32(id));
  }
  return recorded;
}

testFds("addresses and numbers that the client chooses are those of its own", async () => {
  using client = await Client.connect(commandTalk().events);
  await client.map(0x20_0000n, 0x10000n);
  client.memory.set(0x20_0000n, command(0x31, 0x20_8000n, 8n));
  client.memory.set(0x20_0018n, command(0x77, 0x20_a000n, 8n));
  await client.write(ADDRESS, u64(0x20_0000n));
  for (const i of [1, 2]) {
    await client.write(DOORBELL, u32(i));
    await client.dealt(3 * i);
  }
  assertEquals(client.written, [
    [0x20_8000n, "0000000000000000"],
    [0x20_0800n, "31000000"],
    [0x20_a000n, "0100000000000000"],
    [0x20_0804n, "77000000"],
  ]);
  assertEquals([client.deviations, client.omissions, client.counts.omitted], [[], [], 0]);
});

/** Steps of a client ahead of the doorbell, and the reason why nothing is then written. */
const UNVOUCHED: Record<string, [(client: Client) => Promise<void>, RegExp]> = {
  "tells no address, with memory where the recorded one had it": [
    async () => {},
    /bar0\+0x28 has another value/,
  ],
  "tells address 0": [
    (client) => client.write(ADDRESS, u64(0n)),
    /bar0\+0x28 has another value/,
  ],
  "tells an address that it has not mapped": [
    (client) => client.write(ADDRESS, u64(0x90_0000n)),
    /bar0\+0x28 has another value/,
  ],
  "writes a register that the recording never writes": [
    async (client) => {
      await client.write(ADDRESS, u64(0x5000n));
      await client.write(0x50n, u32(1));
    },
    /the client wrote bar0\+0x50, which the recording never writes/,
  ],
  "unmaps the memory and has other memory there": [
    async (client) => {
      await client.write(ADDRESS, u64(0x5000n));
      await client.unmap(0x1000n, 0x10000n);
      await client.map(0x1000n, 0x10000n);
    },
    /the client has not told an address/,
  ],
  "maps less than the device reads": [
    async (client) => {
      await client.unmap(0x1000n, 0x10000n);
      await client.map(0x1000n, 0x4017n);
      await client.write(ADDRESS, u64(0x5000n));
    },
    /the client has not mapped it for reads/,
  ],
  "writes to a capability, which may be a reset of the function": [
    async (client) => {
      await client.write(ADDRESS, u64(0x5000n));
      const write = { region: 7, offset: 0x48n, data: Uint8Array.of(0, 0x80) };
      await client.proxy.request(Command.REGION_WRITE, RegionWriteRequest.encode(write));
    },
    /the client has not told an address/,
  ],
  "resets the device": [
    async (client) => {
      await client.write(ADDRESS, u64(0x5000n));
      await client.proxy.request(Command.DEVICE_RESET);
    },
    /the client has not told an address/,
  ],
};

for (const [title, [prepare, reason]] of Object.entries(UNVOUCHED)) {
  testFds(`nothing is written if a client ${title}`, async () => {
    using client = await Client.connect(commandTalk().events);
    client.memory.set(0x5000n, command(0x18, 0x7000n, 8n));
    await client.map(0x1000n, 0x10000n);
    await prepare(client);
    await client.write(DOORBELL, u32(1));
    await client.dealt(3);
    await client.write(DOORBELL, u32(2));
    await client.dealt(6);
    assertEquals([client.written, client.counts.omitted], [[], 6]);
    assertEquals(client.omissions.length, 1);
    assert(reason.test(client.omissions[0]!.text), client.omissions[0]!.text);
  });
}

testFds("a command that is another one gets no data, and no answer", async () => {
  const others = {
    "of another length": command(0x31, 0x8000n, 4n),
    "with no address": command(0x31, 0n, 8n),
    "with an address that is not mapped": command(0x31, 0x100_0000n, 8n),
    "of another kind": Uint8Array.of(7, ...command(0x31, 0x8000n, 8n).subarray(1)),
    "that is too short": command(0x31, 0x8000n, 8n).subarray(0, 20),
  };
  for (const [title, other] of Object.entries(others)) {
    using client = await Client.connect(commandTalk().events);
    await client.map(0x1000n, 0x10000n);
    await client.write(ADDRESS, u64(0x5000n));
    client.memory.set(0x5000n, other);
    await client.write(DOORBELL, u32(1));
    await client.dealt(3);
    assertEquals(client.written, [], title);
    assertEquals([client.counts.dma, client.counts.omitted], [1, 2], title);
    // The next command is sound.
    client.memory.set(0x5018n, command(0x32, 0x8000n, 8n));
    await client.write(DOORBELL, u32(2));
    await client.dealt(6);
    assertEquals(client.written.map(([address]) => address), [0x8000n, 0x5804n], title);
  }
});

testFds("an answer behind a reset tells no address of before the reset", async () => {
  const resets: Record<string, (client: Client) => Promise<unknown>> = {
    "DEVICE_RESET": ({ proxy }) => proxy.request(Command.DEVICE_RESET),
    "a capability": ({ proxy }) => {
      const data = Uint8Array.of(0x80);
      const payload = RegionWriteRequest.encode({ region: 7, offset: 0x49n, data });
      return proxy.request(Command.REGION_WRITE, payload);
    },
  };
  for (const [title, reset] of Object.entries(resets)) {
    using client = await Client.connect(commandTalk().events);
    await client.map(0x1000n, 0x10000n);
    client.memory.set(0x5000n, command(0x31, 0x8000n, 8n));
    const [asked, answered] = [Promise.withResolvers<void>(), Promise.withResolvers<void>()];
    client.beforeRead = () => {
      asked.resolve();
      return answered.promise;
    };
    await client.write(ADDRESS, u64(0x5000n));
    await client.write(DOORBELL, u32(1));
    await asked.promise;
    await reset(client);
    answered.resolve();
    await client.dealt(3);
    assertEquals([client.written, client.counts.omitted], [[], 2], title);
    assertEquals(client.omissions[0]!.text, "the client has reset the device since", title);
  }
});

Deno.test("memory of DMA is known as far as the recording has it, not as a request claims", async () => {
  const recorded = commandTalk();
  recorded.ask("DMA_READ", { address: 0x5000n, count: 1n << 63n });
  const id = recorded.ask("DMA_READ", { address: 0x5000n, count: 1n << 28n });
  recorded.refuse("DMA_READ", id, 14);
  const { known: { accessed } } = await learnPart(numbered(recorded.events));
  assertEquals([accessed.isJoined(6n), accessed.isFull], [false, false]);
});

testFds("memory that may only be read is not written, and no answer says that it was", async () => {
  using client = await Client.connect(commandTalk().events);
  await client.map(0x1000n, 0x7000n);
  await client.map(0x8000n, 0x1000n, 1);
  client.memory.set(0x5000n, command(0x31, 0x8000n, 8n));
  await client.write(ADDRESS, u64(0x5000n));
  await client.write(DOORBELL, u32(1));
  await client.dealt(3);
  assertEquals([client.written, client.counts.omitted], [[], 2]);
  assertEquals(client.omissions[0]!.text, "the client has not mapped it for writes");
});

/** A DMA engine: address and length in registers, the same address twice in other uses. */
function engineTalk(): Talk {
  const recorded = talk();
  for (const [address, length] of [[0x2000n, 0x1000], [0x5000n, 0x2000]] as const) {
    writeWide(recorded, ADDRESS, address);
    recorded.write(LENGTH, length);
    recorded.write(DOORBELL, 1);
    dmaWrite(recorded, address, new Uint8Array(length));
  }
  return recorded;
}

testFds(
  "a shorter buffer is not written past its end, whatever its length looks like",
  async () => {
    for (const length of [0x800, 0x1000, 0x3000]) {
      using client = await Client.connect(engineTalk().events);
      await client.map(0x1000n, 0x100000n);
      await client.write(ADDRESS, u64(0x8000n));
      await client.write(LENGTH, u32(0x1000));
      await client.write(DOORBELL, u32(1));
      await client.dealt(1);
      await client.write(ADDRESS, u64(0x9000n));
      await client.write(LENGTH, u32(length));
      await client.write(DOORBELL, u32(1));
      await client.dealt(2);
      assertEquals(client.written.map(([address]) => address), [0x8000n]);
      assertEquals(client.omissions[0]!.text, "bar0+0x30 has another value than recorded");
    }
  },
);

testFds("an address that a client left out is not that of its last turn", async () => {
  using client = await Client.connect(engineTalk().events);
  await client.map(0x1000n, 0x100000n);
  await client.write(ADDRESS, u64(0x8000n));
  await client.write(LENGTH, u32(0x1000));
  await client.write(DOORBELL, u32(1));
  await client.dealt(1);
  await client.write(LENGTH, u32(0x2000));
  await client.write(DOORBELL, u32(1));
  await client.dealt(2);
  assertEquals(client.written.map(([address]) => address), [0x8000n]);
  assertEquals(client.omissions[0]!.text, "bar0+0x28 has another value than recorded");
});

testFds("a client that is back on the recorded path has its DMA again", async () => {
  const recorded = talk();
  recorded.write(MASK, 0);
  for (const item of engineTalk().events.slice(2)) recorded.events.push(item);
  using client = await Client.connect(recorded.events);
  await client.map(0x1000n, 0x100000n);
  await client.write(MASK, u32(7));
  for (const [address, length] of [[0x8000n, 0x1000], [0x9000n, 0x2000]] as const) {
    await client.write(ADDRESS, u64(address));
    await client.write(LENGTH, u32(length));
    await client.write(DOORBELL, u32(1));
    await client.dealt(1);
    await client.write(MASK, u32(0));
  }
  await client.dealt(2);
  assertEquals(client.written.map(([address]) => address), [0x9000n]);
});

testFds("an address beyond 4 GiB may be written as two halves", async () => {
  const recorded = talk();
  for (const high of [1, 2]) {
    recorded.write(ADDRESS, 0x5000);
    recorded.write(ADDRESS + 4n, high);
    recorded.write(DOORBELL, 1);
    dmaWrite(recorded, (BigInt(high) << 32n) + 0x5000n, u32(7));
  }
  using client = await Client.connect(recorded.events);
  await client.map(0x1000n, 1n << 40n);
  for (const [i, high] of [0, 9].entries()) {
    await client.write(ADDRESS, u32(0x8000));
    await client.write(ADDRESS + 4n, u32(high));
    await client.write(DOORBELL, u32(1));
    await client.dealt(i + 1);
  }
  assertEquals(client.written.map(([address]) => address), [0x8000n, 0x9_0000_8000n]);
  assertEquals(client.deviations, []);
});

testFds("a device without Bus Master Enable does no DMA", async () => {
  const recorded = talk();
  const enable = (talk: Talk) => {
    const id = talk.ask("REGION_WRITE", { region: 7, offset: 4n, data: Uint8Array.of(6, 0) });
    talk.answer("REGION_WRITE", id, { region: 7, offset: 4n, count: 2 });
  };
  enable(recorded);
  for (const item of engineTalk().events.slice(2)) recorded.events.push(item);
  for (const command of [6, 2]) {
    using client = await Client.connect(recorded.events);
    await client.map(0x1000n, 0x100000n);
    const data = Uint8Array.of(command, 0);
    const payload = RegionWriteRequest.encode({ region: 7, offset: 4n, data });
    await client.proxy.request(Command.REGION_WRITE, payload);
    await client.write(ADDRESS, u64(0x8000n));
    await client.write(LENGTH, u32(0x1000));
    await client.write(DOORBELL, u32(1));
    await client.dealt(1);
    assertEquals(client.written.length, command === 6 ? 1 : 0);
  }
});

testFds("a client at random is written to where it told an address alone", async () => {
  const step = fc.oneof(
    fc.record({ kind: fc.constant("address" as const), value: fc.constantFrom(0x2000, 0x8000, 9) }),
    fc.record({ kind: fc.constant("length" as const), value: fc.constantFrom(0x1000, 0x2000, 8) }),
    fc.record({ kind: fc.constant("doorbell" as const), value: fc.constant(1) }),
    fc.record({ kind: fc.constant("map" as const), value: fc.constantFrom(0x2000, 0x8000) }),
    fc.record({ kind: fc.constant("unmap" as const), value: fc.constantFrom(0x2000, 0x8000) }),
  );
  await fc.assert(
    fc.asyncProperty(fc.array(step, { maxLength: 16 }), async (steps) => {
      using client = await Client.connect(engineTalk().events);
      const told = new Set<bigint>();
      for (const { kind, value } of steps) {
        if (kind === "address") {
          told.add(BigInt(value));
          await client.write(ADDRESS, u64(BigInt(value)));
        } else if (kind === "length") await client.write(LENGTH, u32(value));
        else if (kind === "doorbell") await client.write(DOORBELL, u32(value));
        else if (kind === "map") await client.map(BigInt(value), 0x4000n).catch(() => {});
        else await client.unmap(BigInt(value), 0x4000n);
      }
      assert(client.written.every(([address]) => told.has(address)));
      assert(client.proxy.state === "CONNECTED");
    }),
    { numRuns: 60 },
  );
});

testFds("requests at random are answered, each once, and end nothing", async () => {
  const recorded = talk();
  recorded.write(0x14n, 1);
  recorded.read(0x1cn, 1);
  await fc.assert(
    fc.asyncProperty(
      fc.array(fc.tuple(fc.integer({ min: 2, max: 20 }), fc.uint8Array({ maxLength: 80 }))),
      async (requests) => {
        using client = await Client.connect(recorded.events);
        for (const [command, payload] of requests) {
          await client.proxy.request(command, payload).catch((error) => {
            assert(client.proxy.state === "CONNECTED", String(error));
          });
        }
        assert(client.proxy.state === "CONNECTED");
      },
    ),
    { numRuns: 60 },
  );
});
