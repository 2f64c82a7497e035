import { assert, assertEquals } from "@std/assert";
import fc from "fast-check";
import { EventFd } from "../../../ffi/event.ts";
import { UnixSocket } from "../../../ffi/socket.ts";
import { Actor, type Deviation } from "../../../lib/replay/actor.ts";
import { learnPart } from "../../../lib/replay/part.ts";
import type { NewEvent, RecordedEvent } from "../../../lib/record/event.ts";
import { VfioProxy } from "../../../lib/transport/proxy.ts";
import { Command } from "../../../lib/wire/command.ts";
import {
  RegionReadReply,
  RegionReadRequest,
  RegionWriteRequest,
} from "../../../lib/wire/access.ts";
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
  /** The addresses that the mock wrote, with the data. */
  readonly written: [address: bigint, data: string][] = [];
  /** The contents of its memory, by address. */
  readonly memory = new Map<bigint, Uint8Array>();
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
        request.reply(head, memory);
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

  [Symbol.dispose](): void {
    this.proxy.close();
    this.#actor[Symbol.dispose]();
  }
}

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

testFds("addresses and numbers that the client chooses are those of its own", async () => {
  const recorded = talk();
  const queue = new Uint8Array(BigUint64Array.of(0x5000n).buffer);
  const command = new Uint8Array(Uint32Array.of(0x0018_0006, 0x6000).buffer);
  const id = recorded.ask("REGION_WRITE", { region: 0, offset: 0x28n, data: queue });
  recorded.answer("REGION_WRITE", id, { region: 0, offset: 0x28n, count: 8 });
  recorded.write(0x1000n, 1);
  const read = recorded.ask("DMA_READ", { address: 0x5000n, count: 8n });
  recorded.answer("DMA_READ", read, { address: 0x5000n, data: command });
  const write = recorded.ask("DMA_WRITE", { address: 0x6000n, data: u32(0x0001_0018) });
  recorded.answer("DMA_WRITE", write, { address: 0x6000n, count: 4n });
  using client = await Client.connect(recorded.events);
  client.memory.set(0x9000n, new Uint8Array(Uint32Array.of(0x0031_0006, 0x8000).buffer));
  await client.write(0x28n, new Uint8Array(BigUint64Array.of(0x9000n).buffer));
  await client.write(0x1000n, u32(1));
  await until(() => client.written.length > 0, "the answer");
  assertEquals(client.written, [[0x8000n, "31000100"]]);
  assertEquals(client.deviations, []);
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
