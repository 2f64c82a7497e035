import { assert, assertEquals, assertRejects } from "@std/assert";
import fc from "fast-check";
import { SystemError } from "../../../ffi/errno.ts";
import { createMemfd } from "../../../ffi/memory.ts";
import { UnixSocket } from "../../../ffi/socket.ts";
import { HEAD_SIZE, learnPart } from "../../../lib/replay/part.ts";
import type { Difference } from "../../../lib/replay/difference.ts";
import { type PlayOptions, type PlayResult, playToServer } from "../../../lib/replay/player.ts";
import { sessionText } from "../../../lib/replay/session_text.ts";
import type { NewEvent, RecordedEvent } from "../../../lib/record/event.ts";
import type { IncomingRequest } from "../../../lib/transport/incoming.ts";
import { VfioProxy } from "../../../lib/transport/proxy.ts";
import { Command } from "../../../lib/wire/command.ts";
import { RegionAccessLayout } from "../../../lib/wire/access.ts";
import { IoFdType, RegionIoFdsReply } from "../../../lib/wire/io_fds.ts";
import { encodeVersion } from "../../../lib/wire/version.ts";
import { testFds } from "../../_fds.ts";
import { anyEvent } from "../record/_events.ts";
import { readGolden } from "../record/_golden.ts";
import { Talk, u32 } from "../record/_talk.ts";

const VERSION = { major: 0, minor: 1, capabilities: {} };

async function* numbered(events: readonly NewEvent[]): AsyncGenerator<RecordedEvent> {
  for (const [index, event] of events.entries()) yield { ...event, index } as RecordedEvent;
}

/** Registers of a server: what a read returns, and what a write does. */
interface Registers {
  read?(offset: bigint, reads: number): number;
  /** Called with what was written; its requests to the client go over `proxy`. */
  write?(offset: bigint, proxy: VfioProxy): void;
  /** Handles a request in place of the rest, at once or later; false if it does not. */
  handle?(request: IncomingRequest, proxy: VfioProxy): boolean | Promise<void>;
}

/** Plays a recording to a server. */
async function play(
  events: readonly NewEvent[] | AsyncIterable<RecordedEvent>,
  { read, write, handle }: Registers,
  options: Partial<PlayOptions> = {},
): Promise<PlayResult & { found: Difference[]; notes: string[] }> {
  const found: Difference[] = [];
  const notes: string[] = [];
  const proxies: VfioProxy[] = [];
  const reads = new Map<bigint, number>();
  const connect = () => {
    const [ours, theirs] = UnixSocket.pair();
    const proxy: VfioProxy = new VfioProxy(ours, {
      role: "server",
      handler(request) {
        const handled = handle?.(request, proxy) ?? false;
        if (handled !== false) return handled === true ? undefined : handled;
        const { command, payload } = request;
        if (command === Command.VERSION) return request.reply(encodeVersion(VERSION));
        if (command !== Command.REGION_READ && command !== Command.REGION_WRITE) {
          return request.reply(payload.slice());
        }
        const { offset } = RegionAccessLayout.decode(payload);
        const head = payload.slice(0, HEAD_SIZE);
        if (command === Command.REGION_WRITE) {
          request.reply(head);
          return write?.(offset, proxy);
        }
        const count = (reads.get(offset) ?? 0) + 1;
        reads.set(offset, count);
        request.reply(head, u32(read?.(offset, count) ?? 0));
      },
    });
    proxy.limits = { maxFds: 8, maxMessageSize: 1 << 20 };
    proxy.serving = true;
    proxies.push(proxy);
    return Promise.resolve(theirs);
  };
  try {
    const result = await playToServer(Array.isArray(events) ? numbered(events) : events as never, {
      connect,
      onDifference: (each) => found.push(each),
      onNote: (text) => notes.push(text),
      timeoutMs: 60_000, // conditions end the waits of these tests
      ...options,
    });
    return { ...result, found, notes };
  } finally {
    for (const proxy of proxies) proxy.close();
  }
}

function talk(): Talk {
  const talk = new Talk();
  talk.answer("VERSION", talk.ask("VERSION", VERSION), VERSION);
  return talk;
}

testFds("a loop of polls may be shorter, and may be longer", async () => {
  const recorded = talk();
  recorded.write(0x14n, 1);
  for (const value of [0, 0, 0, 1]) recorded.read(0x1cn, value);
  recorded.read(8n, 7);
  for (const ready of [1, 2, 4, 9]) {
    const read = (offset: bigint, reads: number) => offset === 8n ? 7 : reads >= ready ? 1 : 0;
    const { found, replies } = await play(recorded.events, { read });
    assertEquals(found, []);
    assert(replies >= 3);
  }
});

/** The numbers of differences, and of reads of a register, if its values come in turn. */
async function playReads(recorded: Talk, values: number[], options: Partial<PlayOptions> = {}) {
  let reads = 0;
  const read = (offset: bigint) => {
    if (offset !== 0x1cn) return 7;
    return values[Math.min(reads++, values.length - 1)]!;
  };
  const { found } = await play(recorded.events, { read }, options);
  return [found.length, reads];
}

testFds("a value that the recording does not poll is read once, and compared", async () => {
  const recorded = talk();
  recorded.write(0x14n, 1);
  recorded.read(0x1cn, 1);
  recorded.write(0x14n, 0);
  recorded.read(0x1cn, 0);
  const reopen = () => numbered(recorded.events);
  for (const options of [{}, { reopen }]) {
    assertEquals(await playReads(recorded, [1, 0], options), [0, 2]);
    assertEquals(await playReads(recorded, [0, 0], options), [1, 2]);
    assertEquals(await playReads(recorded, [0xdead, 1, 0], options), [2, 2]);
  }
});

testFds("a value in a loop that no loop ever had is a difference", async () => {
  const recorded = talk();
  recorded.write(0x14n, 1);
  for (const value of [0, 0, 1]) recorded.read(0x1cn, value);
  assertEquals(await playReads(recorded, [0, 0, 0, 1]), [0, 4]);
  for (let at = 0; at < 3; at++) {
    const values = [0, 0, 1];
    values[at] = 0xdead;
    assertEquals(await playReads(recorded, values), [1, 3]);
  }
});

testFds("a number that counts by itself may be in between", async () => {
  const recorded = talk();
  recorded.write(0x14n, 1);
  for (const value of [0, 40, 100]) recorded.read(0x1cn, value);
  assertEquals((await playReads(recorded, [0, 23, 77, 100]))[0], 0);
  assertEquals((await playReads(recorded, [0, 0x100_0000 + 40, 100]))[0], 1);
});

testFds("a register that is polled later, and is ready at once here, may be slower", async () => {
  const recorded = talk();
  recorded.write(0x14n, 1);
  recorded.read(0x1cn, 1);
  for (let i = 0; i < 3000; i++) recorded.read(0x20n, 7);
  recorded.write(0x14n, 2);
  for (const value of [0, 1]) recorded.read(0x1cn, value);
  const reopen = () => numbered(recorded.events);
  assertEquals(await playReads(recorded, [0, 0, 1, 0, 1], { reopen }), [0, 5]);
  const late = await playReads(recorded, [0, 0, 1], { maxDifferences: 1 });
  assertEquals(late, [1, 1]);
});

testFds("another value is a difference, with its request and the steps before", async () => {
  const recorded = talk();
  recorded.write(0x14n, 1);
  recorded.read(0x1cn, 1);
  recorded.read(8n, 7);
  const read = (offset: bigint) => offset === 8n ? 7 : 3;
  const { found, differences } = await play(recorded.events, { read });
  assertEquals([differences, found.length], [1, 1]);
  const [{ kind, step, before, request }] = found as [Difference];
  assertEquals([kind, step.event.index, request?.event.index], ["reply", 5, 4]);
  assertEquals(before.map(({ event }) => event.index), [0, 1, 2, 3, 4]);
});

testFds("a value that is ignored is no difference, as far as it is ignored", async () => {
  const recorded = talk();
  recorded.read(0x1cn, 0x11223344);
  const read = () => 0x11223399;
  const ranges = (start: number, end: number) => ({ ignore: [{ region: 0, start, end }] });
  assertEquals((await play(recorded.events, { read }, ranges(0x1c, 0x1d))).differences, 0);
  assertEquals((await play(recorded.events, { read }, ranges(0x1d, 0x20))).differences, 1);
});

/** A write that has the device read memory: an address and what is there. */
function dmaTalk(addresses: readonly bigint[]): Talk {
  const recorded = talk();
  recorded.write(0x10n, 1);
  for (const address of addresses) {
    const data = u32(Number(address));
    const id = recorded.ask("DMA_READ", { address, count: 4n });
    recorded.answer("DMA_READ", id, { address, data });
  }
  recorded.write(0x14n, 1);
  return recorded;
}

/** A server that reads memory. */
function reader(addresses: readonly bigint[], seen: number[]): Registers {
  return {
    async write(offset, proxy) {
      if (offset !== 0x10n) return;
      for (const address of addresses) {
        const head = new Uint8Array(BigUint64Array.of(address, 4n).buffer);
        const { payload } = await proxy.request(Command.DMA_READ, head);
        seen.push(new DataView(payload.slice().buffer).getUint32(HEAD_SIZE, true));
      }
    },
  };
}

testFds("the device finds in memory what was there, in any order of its reads", async () => {
  for (const order of [[0x1000n, 0x2000n], [0x2000n, 0x1000n]]) {
    const seen: number[] = [];
    const recorded = dmaTalk([0x1000n, 0x2000n]);
    const { found, dma } = await play(recorded.events, reader(order, seen));
    assertEquals([found, dma, seen], [[], 2, order.map(Number)]);
  }
});

testFds("equal reads of memory that come together are two of the recording", async () => {
  const recorded = talk();
  recorded.write(0x10n, 1);
  for (const value of [5, 6]) {
    const id = recorded.ask("DMA_READ", { address: 0x1000n, count: 4n });
    recorded.answer("DMA_READ", id, { address: 0x1000n, data: u32(value) });
  }
  recorded.write(0x14n, 1);
  const seen: number[] = [];
  const { found, dma } = await play(recorded.events, {
    write(offset, proxy) {
      if (offset !== 0x10n) return;
      for (let i = 0; i < 2; i++) {
        const head = new Uint8Array(BigUint64Array.of(0x1000n, 4n).buffer);
        proxy.request(Command.DMA_READ, head).then(({ payload }) =>
          seen.push(new DataView(payload.slice().buffer).getUint32(HEAD_SIZE, true))
        );
      }
    },
  });
  assertEquals([found, dma, seen.sort()], [[], 2, [5, 6]]);
});

testFds("a DMA elsewhere is a difference, and one that does not come is another", async () => {
  let hasRead = false;
  const { found } = await play(dmaTalk([0x1000n]).events, {
    handle(request, proxy) {
      if (request.command !== Command.REGION_WRITE || hasRead) return false;
      hasRead = true;
      const head = request.payload.slice(0, HEAD_SIZE);
      const elsewhere = new Uint8Array(BigUint64Array.of(0x3000n, 4n).buffer);
      return proxy.request(Command.DMA_READ, elsewhere).then(() => request.reply(head));
    },
  }, { timeoutMs: 2000 });
  assertEquals(found.map(({ kind }) => kind), ["other dma", "no dma"]);
});

testFds("a server that leaves in the middle ends the play, with the reason", async () => {
  const recorded = talk();
  recorded.read(8n, 1);
  recorded.read(8n, 1);
  const { found, isPartial } = await play(recorded.events, {
    handle(request, proxy) {
      if (request.command !== Command.REGION_READ) return false;
      proxy.close();
      return true;
    },
  });
  assertEquals(found.map(({ kind }) => kind), ["connection"]);
  assertEquals(isPartial, true);
});

testFds("the play of a recording whose server died goes as far as it goes", async () => {
  const recorded = talk();
  recorded.read(8n, 1);
  recorded.ask("REGION_READ", { region: 0, offset: 8n, count: 4 });
  recorded.add({ kind: "end", side: "server", reason: "left", text: "the server left" });
  const { found, notes } = await play(recorded.events, { read: () => 1 }, { timeoutMs: 2000 });
  assertEquals(found, []);
  assertEquals(notes.length, 1);
});

testFds(
  "a descriptor of a region that is no eventfd is a difference, and the play goes on",
  async () => {
    const recorded = talk();
    const argsz = 56;
    const part = {
      offset: 0x20n,
      size: 4n,
      fdIndex: 0,
      type: IoFdType.IOEVENTFD,
      flags: 0,
      shadowFdIndex: 0,
      data: 0n,
      shadowOffset: 0n,
    };
    const reply = { argsz, flags: 0, index: 0, count: 1, subRegions: [part] };
    const id = recorded.ask("DEVICE_GET_REGION_IO_FDS", { argsz, flags: 0, index: 0, count: 0 });
    recorded.answer("DEVICE_GET_REGION_IO_FDS", id, reply);
    recorded.add({ kind: "ioeventfd", region: 0, offset: 0x20n, size: 4, count: 1n });
    recorded.read(8n, 1);
    using memfd = createMemfd("no eventfd", 4096);
    const { found, replies } = await play(recorded.events, {
      read: () => 1,
      handle(request) {
        if (request.command !== Command.DEVICE_GET_REGION_IO_FDS) return false;
        request.reply(RegionIoFdsReply.encode(reply), undefined, [memfd]);
        return true;
      },
    });
    assertEquals(found.map(({ text }) => text), [
      "the server's descriptor for bar0+0x20 fails: cannot signal what is no eventfd: " +
      "EINVAL (Invalid argument)",
    ]);
    assertEquals(replies, 3);
  },
);

testFds("damage in a recording is reported after all ahead of it was played", async () => {
  const recorded = talk();
  recorded.read(8n, 1);
  let reads = 0;
  async function* damaged() {
    yield* numbered(recorded.events);
    throw new Error("damaged");
  }
  await assertRejects(() => play(damaged(), { read: () => ++reads }), Error, "damaged");
  assertEquals(reads, 1);
});

testFds("a signal ends a play that waits", async () => {
  const controller = new AbortController();
  const playing = play(dmaTalk([0x1000n]).events, {
    write(offset) {
      if (offset === 0x10n) setTimeout(() => controller.abort(new Error("enough")), 1);
    },
  }, { signal: controller.signal });
  await assertRejects(() => playing, Error, "enough");
});

testFds("events at random neither hang a play nor throw what is no error of theirs", async () => {
  await fc.assert(
    fc.asyncProperty(fc.array(anyEvent, { maxLength: 30 }), async (events) => {
      await play(events, {}, { timeoutMs: 20, maxDifferences: 3 });
      try {
        const part = await learnPart(numbered(events));
        assert((await sessionText(part, { title: "random" })).startsWith("title:"));
      } catch (error) {
        if (!(error instanceof RangeError)) throw error;
      }
    }),
    { numRuns: 60 },
  );
});

/** A recording with bytes of some of its messages changed, and some of its events left out. */
function damagedGolden(name: "edu" | "nvme"): fc.Arbitrary<NewEvent[]> {
  const golden = readGolden(name).slice(0, 300);
  const change = fc.record({
    at: fc.nat(golden.length - 1),
    byte: fc.nat(60),
    value: fc.constantFrom(0, 1, 0x7f, 0xff),
    isGone: fc.boolean(),
  });
  return fc.array(change, { minLength: 1, maxLength: 8 }).map((changes) => {
    const events = golden.map((event) =>
      event.kind === "message" ? { ...event, bytes: event.bytes.slice() } : event
    );
    const gone = new Set<NewEvent>();
    for (const { at, byte, value, isGone } of changes) {
      const event = events[at]!;
      if (isGone) gone.add(event);
      else if (event.kind === "message" && byte < event.bytes.length) event.bytes[byte] = value;
    }
    return events.filter((event) => !gone.has(event));
  });
}

for (const name of ["edu", "nvme"] as const) {
  testFds(`a damaged recording of ${name} is played, learnt and written as a session`, async () => {
    await fc.assert(
      fc.asyncProperty(damagedGolden(name), async (events) => {
        try {
          await play(events, {}, { timeoutMs: 5, maxDifferences: 2 });
        } catch (error) {
          // Memory that no computer has, or more descriptors than a message takes.
          if (!(error instanceof RangeError || error instanceof SystemError)) throw error;
        }
        const part = await learnPart(numbered(events));
        assert((await sessionText(part, { title: "damaged" })).startsWith("title:"));
      }),
      { numRuns: 40 },
    );
  });
}
