import { assertEquals, assertThrows } from "@std/assert";
import { Conversation } from "../../../lib/record/conversation.ts";
import type { RecordedEvent } from "../../../lib/record/event.ts";
import { parseFilter } from "../../../lib/record/filter.ts";
import { loadRegisterMap } from "../../../lib/registers/load.ts";
import { Talk, u32 } from "./_talk.ts";

const nvme = await loadRegisterMap("nvme");

function talk(): Talk {
  const talk = new Talk();
  talk.add({ kind: "open", client: null, server: null }); // 0
  talk.write(0x14n, 0x460001); // 1, 2
  talk.read(0x1cn, 1); // 3, 4
  // 5, 6
  talk.refuse("REGION_READ", talk.ask("REGION_READ", { region: 2, offset: 0x40n, count: 2 }), 22);
  const id = talk.ask("DMA_READ", { address: 0x1000n, count: 64n }); // 7
  talk.answer("DMA_READ", id, { address: 0x1000n, data: new Uint8Array(64) }); // 8
  talk.add({ kind: "interrupt", irq: 2, vector: 1, count: 1n, action: "trigger" }); // 9
  const writes = [{ region: 0, offset: 0x1000n, data: u32(7) }, {
    region: 1,
    offset: 4n,
    data: u32(8),
  }];
  talk.ask("REGION_WRITE_MULTI", { writes }, { socket: "twin", passedOn: null }); // 10
  talk.add({ kind: "ioeventfd", region: 0, offset: 0x1000n, size: 4, count: 2n }); // 11
  return talk;
}

function chosen(text: string, isMapped = false): number[] {
  const filter = parseFilter(text, isMapped ? [nvme] : []);
  const conversation = new Conversation();
  return talk().events.flatMap((event, index) => {
    const recorded = { ...event, index } as RecordedEvent;
    return filter.matches(recorded, conversation.take(recorded)) ? [index] : [];
  });
}

Deno.test("filters choose events by fields and constants", () => {
  const cases: [text: string, indexes: number[]][] = [
    ["command == REGION_WRITE && region == bar0 && offset < 0x40", [1, 2]],
    ["region == bar0 && offset == 0x1000", [10, 11]],
    ["region == bar1", [10]],
    ["type == error_reply", [6]],
    ["error == EINVAL && region == bar2 && count == 2", [6]],
    ["address >= 4K && address < 8K && type == request", [7]],
    ["direction == to_client && kind == message", [2, 4, 6, 7]],
    ["irq == msix && vector == 1", [9]],
    ["kind == open || kind == interrupt", [0, 9]],
    ["value == 1", [4]],
    ["latency > 10000", [4]],
    ["!(kind == message)", [0, 9, 11]],
    ["altered || socket == twin", [10]],
    ["id == 1 && size == 36", [1]],
    ["index > 9", [10, 11]],
    ["time < 3000", [0, 1, 2]],
    ["fds != 0", []],
    // What an event does not have compares as false.
    ["region != bar0 && kind == interrupt", []],
    ["!(region == bar0) && kind == interrupt", [9]],
    ["offset / 0 == 0 || vector == 1", [9]],
  ];
  for (const [text, indexes] of cases) assertEquals([text, chosen(text)], [text, indexes]);
});

Deno.test("filters know registers of maps and their fields", () => {
  assertEquals(chosen("CSTS", true), [3, 4]);
  assertEquals(chosen("nvme.CC && type == request", true), [1]);
  assertEquals(chosen("csts.rdy == 1", true), [4]);
  assertEquals(chosen("CC.IOSQES == 6", true), [1]);
  assertEquals(chosen("SQTDBL", true), [10, 11].slice(0, 1));
});

Deno.test("filters take units of time, and the words of JSON", () => {
  const all = chosen("kind == message && latency >= 0");
  assertEquals(all.length > 0, true);
  assertEquals(chosen("latency < 1s && latency < 1.5ms && latency > 0.0001ns - 1"), all);
  assertEquals(chosen("latency == 1us"), chosen("latency == 1000"));
  assertEquals(chosen("latency == 1µs"), chosen("latency == 1000ns"));
  assertEquals(chosen("latency >= 1ms"), []);
  assertEquals(chosen("time < 1s"), chosen("index >= 0"));
  for (const [dash, word] of [["to-server", "to_server"], ["to - client", "to_client"]]) {
    assertEquals(chosen(`direction == ${dash}`), chosen(`direction == ${word}`));
  }
  assertEquals(chosen("type == error-reply"), [6]);
});

Deno.test("a register compares as its value, and alone is true of each access", () => {
  const talk = new Talk();
  talk.write(0x14n, 0x460001); // 0 and 1: CC
  talk.read(0x1cn, 0); // 2 and 3: CSTS
  talk.read(0x1cn, 1); // 4 and 5
  const conversation = new Conversation();
  const heard = talk.events.map((event, index) => {
    const recorded = { ...event, index };
    return [recorded, conversation.take(recorded)] as const;
  });
  const found = (text: string) => {
    const filter = parseFilter(text, [nvme]);
    return heard.flatMap(([event, message]) => filter.matches(event, message) ? [event.index] : []);
  };
  assertEquals(found("CC == 0x460001"), [0]);
  assertEquals(found("nvme.CC - 1 == 0x460000"), [0]);
  assertEquals(found("CSTS == 0"), [3]);
  assertEquals(found("CSTS != 0"), [5]);
  assertEquals(found("CSTS & 1"), [5]);
  assertEquals(found("CSTS < 2 && type == reply"), [3, 5]);
  assertEquals(found("CSTS || CC"), [0, 1, 2, 3, 4, 5]);
  assertEquals(found("!CSTS"), [0, 1]);
});

Deno.test("a name that is unknown is refused with the nearest", () => {
  const cases: [text: string, message: string][] = [
    ["comand == 1", "did you mean command?"],
    ["iova == 0x1000", "did you mean address?"], // as lines about events call it
    ["command == REGION_WRIT", "did you mean REGION_WRITE?"],
    ["region == bra0", "did you mean bar0?"],
    ["CSTS == 1", "fields are kind, command, "],
    ["command = 1", 'did you mean "=="?'],
    ["region ==", "it ends where a number is due"],
    ["", "it is empty"],
    ["region == bar0 and offset == 0", '"and" is no operator; did you mean "&&"?'],
    ["region == bar0 OR offset == 0", '"OR" is no operator; did you mean "||"?'],
    ["not altered", '"not" is no operator; did you mean "!"?'],
    ["CSTS.RDY == 1", "registers need --map"],
    ["CC", "registers need --map"],
    ["latency > 1.5", '"1.5" is no number'],
  ];
  for (const [text, message] of cases) {
    const error = assertThrows(() => parseFilter(text), SyntaxError, message);
    assertEquals(error.message.includes("${"), false);
  }
  assertThrows(() => parseFilter("CSTZ", [nvme]), SyntaxError, "did you mean CSTS?");
  assertThrows(() => parseFilter("CSTS.RYD", [nvme]), SyntaxError, "did you mean RDY?");
});
