import { assertEquals } from "@std/assert";
import { MAX_PENDING } from "../../../lib/base/limits.ts";
import { Conversation, type HeardMessage } from "../../../lib/record/conversation.ts";
import type { NewEvent, RecordedEvent } from "../../../lib/record/event.ts";
import { encodeMessage } from "../../../lib/wire/header.ts";
import { Talk, u32 } from "./_talk.ts";

function follow(
  events: readonly NewEvent[],
): { conversation: Conversation; heard: HeardMessage[] } {
  const conversation = new Conversation();
  const heard = events.flatMap((event, index) => {
    const message = conversation.take({ ...event, index } as RecordedEvent);
    return message === undefined ? [] : [message];
  });
  return { conversation, heard };
}

/** For each message the event of its request, if it has one. */
const requests = (heard: HeardMessage[]) => heard.map(({ request }) => request?.index);

const READ = { region: 0, offset: 0x1cn, count: 4 };
const ANSWER = { region: 0, offset: 0x1cn, data: u32(1) };
const DMA = { address: 0x1000n, count: 8n };

Deno.test("replies find their requests out of order, and have a latency", () => {
  const talk = new Talk();
  const [a, b] = [talk.ask("REGION_READ", READ), talk.ask("DEVICE_RESET", undefined)];
  talk.answer("DEVICE_RESET", b, undefined);
  talk.answer("REGION_READ", a, ANSWER);
  const { heard, conversation } = follow(talk.events);
  assertEquals(requests(heard), [undefined, undefined, 1, 0]);
  assertEquals(heard.map(({ latencyNs }) => latencyNs), [undefined, undefined, 1000n, 3000n]);
  assertEquals(conversation.unanswered(), new Map());
});

Deno.test("ids of the two directions, sockets and clients are independent", () => {
  const talk = new Talk();
  const same = (event: NewEvent) => {
    if (event.kind === "message") event.bytes[0] = 9;
  };
  talk.ask("REGION_READ", READ);
  talk.ask("DMA_READ", DMA);
  talk.ask("DMA_READ", DMA, { socket: "twin" });
  talk.ask("REGION_READ", READ, { connection: 1 });
  talk.answer("DMA_READ", 9, { address: 0x1000n, data: new Uint8Array(8) });
  talk.answer("REGION_READ", 9, ANSWER, { connection: 1 });
  talk.answer("REGION_READ", 9, ANSWER);
  talk.answer("DMA_READ", 9, { address: 0n, data: new Uint8Array() }, { socket: "twin" });
  talk.events.forEach(same);
  assertEquals(requests(follow(talk.events).heard).slice(4), [1, 3, 0, 2]);
});

Deno.test("an id that is used again, no_reply, and a reply to nothing", () => {
  const talk = new Talk();
  const id = talk.ask("REGION_READ", READ);
  talk.ask("REGION_READ", READ);
  talk.events.at(-1)!.kind === "message" &&
    ((talk.events.at(-1) as { bytes: Uint8Array }).bytes[0] = id);
  talk.answer("REGION_READ", id, ANSWER);
  talk.answer("REGION_READ", id, ANSWER); // late, from the first
  talk.ask("DEVICE_RESET", undefined, {}, 0x10); // no reply
  talk.ask("DEVICE_RESET", undefined);
  talk.answer("REGION_READ", 4, ANSWER); // of another command
  const { heard, conversation } = follow(talk.events);
  assertEquals(requests(heard), [
    undefined,
    undefined,
    1,
    undefined,
    undefined,
    undefined,
    undefined,
  ]);
  assertEquals(heard[1]!.replaces?.index, 0);
  assertEquals(conversation.unanswered(), new Map([["REGION_READ", 1], ["DEVICE_RESET", 1]]));
});

Deno.test("a request is paired by the id that its receiver got", () => {
  const talk = new Talk();
  const passedOn = encodeMessage({ messageId: 500, command: 13 });
  talk.ask("DEVICE_RESET", undefined, { passedOn });
  talk.answer("DEVICE_RESET", 500, undefined, { passedOn: new Uint8Array(16) });
  const kept = talk.ask("DEVICE_RESET", undefined, { passedOn: null });
  talk.ask("DEVICE_RESET", undefined, {
    origin: "side",
    passedOn: encodeMessage({ messageId: kept, command: 13 }),
  });
  talk.answer("DEVICE_RESET", kept, undefined, { origin: "recorder" });
  talk.answer("DEVICE_RESET", kept, undefined);
  assertEquals(requests(follow(talk.events).heard), [undefined, 0, undefined, undefined, 2, 3]);
});

Deno.test("an error reply has the accesses of its request; short DMA_WRITE replies are read", () => {
  const talk = new Talk();
  talk.refuse("REGION_READ", talk.ask("REGION_READ", READ), 22);
  const data = new Uint8Array(8);
  const id = talk.ask("DMA_WRITE", { address: 0x1000n, data });
  talk.answer("DMA_WRITE", id, DMA);
  const reply = talk.events.at(-1) as { bytes: Uint8Array };
  reply.bytes = reply.bytes.slice(0, 28);
  reply.bytes[4] = 28;
  const { heard } = follow(talk.events);
  assertEquals(heard[1]!.accesses, [{ space: "region", action: "read", ...READ, count: 4n }]);
  assertEquals(heard[3]!.decoded?.payload?.value, DMA);
});

Deno.test("what the server said of regions, and the client's memory, is known", () => {
  const talk = new Talk();
  const info = { argsz: 32, flags: 3, index: 2, size: 4096n, offset: 0n, capabilities: [] };
  const ask = talk.ask("DEVICE_GET_REGION_INFO", { argsz: 32, index: 2 });
  talk.answer("DEVICE_GET_REGION_INFO", ask, info as never);
  const map = { argsz: 32, flags: 3, offset: 0n, address: 0x1000n, size: 0x1000n };
  const accepted = [0x1000n, 0x4000n, 0x9000n].map((address) => ({ ...map, address }));
  for (const each of accepted) talk.answer("DMA_MAP", talk.ask("DMA_MAP", each), undefined);
  talk.refuse("DMA_MAP", talk.ask("DMA_MAP", { ...map, address: 0x2000n }), 17);
  const unmap = { argsz: 24, flags: 0, address: 0n, size: 0x8000n };
  talk.answer("DMA_UNMAP", talk.ask("DMA_UNMAP", unmap), unmap);
  const { conversation } = follow(talk.events);
  const state = conversation.state(0)!;
  assertEquals(state.regions.get(2)?.size, 4096n);
  assertEquals([...state.maps.keys()], [0x9000n]);
});

Deno.test("memory stays bounded: a client that never hears an answer, and many clients", () => {
  const conversation = new Conversation();
  const talk = new Talk();
  for (let i = 0; i < MAX_PENDING + 10; i++) talk.ask("DEVICE_RESET", undefined);
  for (let i = 0; i < 200; i++) talk.ask("DEVICE_RESET", undefined, { connection: i + 1 });
  for (const [index, event] of talk.events.entries()) {
    conversation.take({ ...event, index } as RecordedEvent);
  }
  assertEquals(conversation.state(0), undefined);
  assertEquals([...conversation.state(200)!.unanswered].length, 1);
  assertEquals(conversation.unanswered(), new Map([["DEVICE_RESET", MAX_PENDING + 210]]));
});

Deno.test("the vectors with eventfds are those that the server agreed to", () => {
  const talk = new Talk();
  const eventfd = {
    kind: "eventfd",
    size: null,
    seals: [],
    access: "rw",
    identity: null,
    fate: "replaced",
  } as const;
  const set = (start: number, count: number, fds: number, flags = 0x24, refuse = false) => {
    const value = { argsz: 20, flags, index: 2, start, count, data: new Uint8Array() };
    const id = talk.ask("DEVICE_SET_IRQS", value, { descriptors: Array(fds).fill(eventfd) });
    if (refuse) talk.refuse("DEVICE_SET_IRQS", id, 22);
    else talk.answer("DEVICE_SET_IRQS", id, undefined);
    return [...follow(talk.events).conversation.state(0)!.vectors.get(2) ?? []].sort();
  };
  assertEquals(set(0, 4, 4), [0, 1, 2, 3]);
  assertEquals(set(1, 1, 0), [0, 2, 3]); // none disables the range
  assertEquals(set(5, 2, 2, 0x24, true), [0, 2, 3]);
  assertEquals(set(0, 0, 0, 0x09), [0, 2, 3]); // masks
  assertEquals(set(0xffff_fff0, 0xffff_ffff, 2), [0, 2, 3, 0xffff_fff0, 0xffff_fff1]);
  assertEquals(set(0, 0xffff_ffff, 0), [0xffff_fff0, 0xffff_fff1].slice(2));
  assertEquals(set(0, 2, 2), [0, 1]);
  assertEquals(set(0, 0, 0, 0x21), []); // all of the index
});

Deno.test("capabilities are found as far as the configuration space was read", () => {
  const talk = new Talk();
  const config = new Uint8Array(0x80);
  config[0x06] = 0x10;
  config[0x34] = 0x40;
  config.set([0x01, 0x50], 0x40);
  config.set([0x11, 0x60], 0x50);
  config.set([0x10, 0x00], 0x60);
  const read = (offset: number, count: number) => {
    const at = { region: 7, offset: BigInt(offset) };
    const data = config.subarray(offset, offset + count);
    talk.answer("REGION_READ", talk.ask("REGION_READ", { ...at, count }), { ...at, data });
    const { capabilities } = follow(talk.events).conversation.state(0)!;
    return capabilities.capabilities.map(({ id, offset }) => [id, offset]);
  };
  assertEquals(read(0x40, 4), []); // the list's start is not known yet
  assertEquals(read(0x00, 0x40), [[1, 0x40]]);
  assertEquals(read(0x60, 2), [[1, 0x40]]);
  assertEquals(read(0x50, 2), [[1, 0x40], [0x11, 0x50], [0x10, 0x60]]);
  config[0x60 + 1] = 0x40;
  assertEquals(read(0x60, 2), [[1, 0x40], [0x11, 0x50], [0x10, 0x60]]); // back to the start
  const tables = () => follow(talk.events).conversation.state(0)!.capabilities.tables;
  assertEquals(tables(), []);
  config.set([0x11, 0x60, 0x40, 0x00, 0x00, 0x20, 0x00, 0x00, 0x04, 0x10, 0x00, 0x00], 0x50);
  read(0x50, 8);
  assertEquals(tables(), []); // the place of the pending bits is not known yet
  read(0x58, 4);
  assertEquals(tables(), [ // of 65 vectors
    { region: 0, offset: 0x2000, size: 0x410 },
    { region: 4, offset: 0x1000, size: 16 },
  ]);
  const extended = new Uint8Array(8);
  extended.set([0x01, 0x00, 0x01, 0x20]);
  const at = { region: 7, offset: 0x100n };
  const id = talk.ask("REGION_READ", { ...at, count: 8 });
  talk.answer("REGION_READ", id, { ...at, data: extended });
  talk.answer("REGION_READ", talk.ask("REGION_READ", { region: 7, offset: 1n << 40n, count: 1 }), {
    region: 7,
    offset: 1n << 40n,
    data: new Uint8Array(1),
  });
  const { extendedCapabilities } = follow(talk.events).conversation.state(0)!.capabilities;
  assertEquals(extendedCapabilities.map(({ id, offset }) => [id, offset]), [[1, 0x100]]);
});
