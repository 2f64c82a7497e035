import { assert, assertEquals, assertMatch } from "@std/assert";
import fc from "fast-check";
import { describeMessage, encodeMessage, messages } from "../../../lib/wire/mod.ts";
import type { Codec, Messages } from "../../../lib/wire/mod.ts";
import { fieldsText } from "../../../lib/wire/describe.ts";
import { rows } from "./_arbitraries.ts";
import { concat, hex, utf8 } from "./_golden.ts";

function request<K extends keyof Messages>(
  name: K,
  value: Parameters<Messages[K]["request"]["encode"]>[0],
): Uint8Array {
  const { command, request } = messages[name];
  return encodeMessage({ messageId: 7, command }, (request as Codec<unknown>).encode(value));
}

function reply<K extends keyof Messages>(
  name: K,
  value: Parameters<Messages[K]["reply"]["encode"]>[0],
): Uint8Array {
  const { command, reply } = messages[name];
  return encodeMessage(
    { messageId: 7, command, flags: 1 },
    (reply as Codec<unknown>).encode(value),
  );
}

const DATA = hex("01 00 00 00");
const LONG = new Uint8Array(4096).fill(0xab);
const info = { argsz: 32, index: 0, size: 0x4000n, offset: 0n };

const LINES: [Uint8Array, string][] = [
  [
    request("VERSION", { major: 0, minor: 1, capabilities: { maxMsgFds: 8 } }),
    'VERSION request 0.1 {"capabilities":{"max_msg_fds":8}}',
  ],
  [reply("VERSION", { major: 0, minor: 2, capabilities: {} }), "VERSION reply 0.2"],
  [
    request("DMA_MAP", { argsz: 32, flags: 3, offset: 0n, address: 0x100000n, size: 0x200000n }),
    "DMA_MAP request iova 0x100000 size 0x200000 rw offset 0x0",
  ],
  [
    request("DMA_MAP", { argsz: 32, flags: 6, offset: 0n, address: 0n, size: 0x1000n }),
    "DMA_MAP request iova 0x0 size 0x1000 -w mmap offset 0x0",
  ],
  [reply("DMA_MAP", undefined), "DMA_MAP reply"],
  [
    request("DMA_UNMAP", { argsz: 24, flags: 2, address: 0n, size: 0n }),
    "DMA_UNMAP request iova 0x0 size 0x0 all",
  ],
  [request("DEVICE_GET_INFO", { argsz: 16 }), "DEVICE_GET_INFO request"],
  [
    reply("DEVICE_GET_INFO", { argsz: 16, flags: 3, numRegions: 9, numIrqs: 5 }),
    "DEVICE_GET_INFO reply 9 regions, 5 IRQ indexes reset pci",
  ],
  [
    request("DEVICE_GET_REGION_INFO", { argsz: 32, index: 7 }),
    "DEVICE_GET_REGION_INFO request config argsz 32",
  ],
  [
    reply("DEVICE_GET_REGION_INFO", {
      ...info,
      flags: 7,
      capabilities: [{ kind: "sparse_mmap", version: 1, areas: [{ offset: 0n, size: 1n }] }],
    }),
    "DEVICE_GET_REGION_INFO reply bar0 size 0x4000 read write mmap caps, sparse_mmap 1 area",
  ],
  [
    reply("DEVICE_GET_REGION_IO_FDS", { argsz: 16, flags: 0, index: 1, count: 0, subRegions: [] }),
    "DEVICE_GET_REGION_IO_FDS reply bar1 0 sub-regions",
  ],
  [
    reply("DEVICE_GET_IRQ_INFO", { argsz: 16, flags: 9, index: 2, count: 65 }),
    "DEVICE_GET_IRQ_INFO reply msix 65 vectors eventfd noresize",
  ],
  [
    request("DEVICE_SET_IRQS", {
      argsz: 22,
      flags: 0x22,
      index: 2,
      start: 0,
      count: 2,
      data: hex("01 00"),
    }),
    "DEVICE_SET_IRQS request msix[0-1] bool trigger: 01 00",
  ],
  [
    request("DEVICE_SET_IRQS", {
      ...{ argsz: 20, flags: 0x21, index: 7, start: 3, count: 1 },
      data: new Uint8Array(),
    }),
    "DEVICE_SET_IRQS request irq7[3] none trigger",
  ],
  [
    request("DEVICE_SET_IRQS", {
      ...{ argsz: 20, flags: 0x21, index: 0, start: 0, count: 0 },
      data: new Uint8Array(),
    }),
    "DEVICE_SET_IRQS request intx start 0 count 0 none trigger",
  ],
  [
    request("REGION_READ", { offset: 0x1cn, region: 0, count: 4 }),
    "REGION_READ request bar0+0x1c 4 bytes",
  ],
  [
    reply("REGION_READ", { offset: 0x1cn, region: 0, data: DATA }),
    "REGION_READ reply bar0+0x1c 4 bytes: 01 00 00 00",
  ],
  [
    request("REGION_WRITE", { offset: 0n, region: 9, data: LONG }),
    "REGION_WRITE request region9+0x0 4096 bytes: " + "ab ".repeat(16) + "…",
  ],
  [
    request("DMA_READ", { address: 0x1000n, count: 1n }),
    "DMA_READ request iova 0x1000 1 byte",
  ],
  [
    request("DMA_WRITE", { address: 0x1000n, data: DATA }),
    "DMA_WRITE request iova 0x1000 4 bytes: 01 00 00 00",
  ],
  [request("DEVICE_RESET", undefined), "DEVICE_RESET request"],
  [
    request("REGION_WRITE_MULTI", { writes: [{ offset: 8n, region: 0, data: DATA }] }),
    "REGION_WRITE_MULTI request 1 write, first bar0+0x8 4 bytes: 01 00 00 00",
  ],
  [reply("REGION_WRITE_MULTI", { count: 2n }), "REGION_WRITE_MULTI reply 2 writes"],
  [
    request("DEVICE_FEATURE", { argsz: 16, flags: 0x20002, data: hex("01 00 00 00 00 00 00 00") }),
    "DEVICE_FEATURE request set MIG_DEVICE_STATE STOP",
  ],
  [
    request("DEVICE_FEATURE", { argsz: 16, flags: 0x10002, data: new Uint8Array(8) }),
    "DEVICE_FEATURE request get MIG_DEVICE_STATE",
  ],
  [
    reply("DEVICE_FEATURE", { argsz: 16, flags: 0x10002, data: new Uint8Array(8) }),
    "DEVICE_FEATURE reply get MIG_DEVICE_STATE ERROR",
  ],
  [
    reply("DEVICE_FEATURE", { argsz: 16, flags: 0x10001, data: hex("05 00 00 00 00 00 00 00") }),
    "DEVICE_FEATURE reply get MIGRATION stop_copy pre_copy",
  ],
  [
    request("DEVICE_FEATURE", { argsz: 10, flags: 0x60063, data: hex("0a 0b") }),
    "DEVICE_FEATURE request set probe feature 99 2 bytes: 0a 0b",
  ],
  [request("MIG_DATA_READ", { argsz: 8, size: 512 }), "MIG_DATA_READ request 512 bytes"],
  [
    request("MIG_DATA_WRITE", { argsz: 12, data: DATA }),
    "MIG_DATA_WRITE request 4 bytes: 01 00 00 00",
  ],
];

for (const [bytes, line] of LINES) {
  Deno.test(`describeMessage() says: ${line}`, () => {
    assertEquals(describeMessage(bytes), `#7 ${line}`);
  });
}

Deno.test("describeMessage() counts file descriptors", () => {
  const bytes = request("DEVICE_RESET", undefined);
  assertEquals(describeMessage(bytes, { fds: 1 }), "#7 DEVICE_RESET request, 1 fd");
  assertEquals(describeMessage(bytes, { fds: 3 }), "#7 DEVICE_RESET request, 3 fds");
});

Deno.test("describeMessage() names the errno of an error reply", () => {
  const error = (errno: number, payload?: Uint8Array) =>
    describeMessage(
      encodeMessage({ messageId: 5, command: 4, flags: 0x21, error: errno }, payload),
    );
  assertEquals(error(22), "#5 DEVICE_GET_INFO error reply EINVAL (Invalid argument)");
  assertEquals(error(0), "#5 DEVICE_GET_INFO error reply, no errno");
  assertEquals(error(4242), "#5 DEVICE_GET_INFO error reply errno 4242");
  assertEquals(
    error(1, DATA),
    "#5 DEVICE_GET_INFO error reply EPERM (Operation not permitted), " +
      "4 bytes: 01 00 00 00",
  );
});

Deno.test("describeMessage() tells what is wrong with a header", () => {
  assertEquals(
    describeMessage(hex("01 00 0a 00 ff 00 00")),
    "truncated header: 7 of 16 bytes: 01 00 0a 00 ff 00 00",
  );
  assertEquals(describeMessage(new Uint8Array()), "truncated header: 0 of 16 bytes");
  const header = (size: string, flags: string) =>
    hex(`09 00 0d 00 ${size} 00 00 00 ${flags} 00 00 00 00 00 00 00`);
  assertEquals(describeMessage(header("0f", "00")), "#9 DEVICE_RESET request, bad size 15");
  assertEquals(
    describeMessage(header("40", "01")),
    "#9 DEVICE_RESET reply, truncated: 16 of 64 bytes",
  );
  assertEquals(describeMessage(header("10", "10")), "#9 DEVICE_RESET request (no reply)");
  assertEquals(describeMessage(header("10", "07")), "#9 DEVICE_RESET of type 7");
  assertEquals(
    describeMessage(concat(header("10", "00"), DATA)),
    "#9 DEVICE_RESET request, 4 bytes after it",
  );
});

Deno.test("describeMessage() shows what it does not know as bytes", () => {
  const unknown = encodeMessage({ messageId: 9, command: 99 }, hex("00 01 02"));
  assertEquals(describeMessage(unknown), "#9 command 99 request, 3 bytes: 00 01 02");
});

Deno.test("describeMessage() gives the reason of what is malformed", () => {
  const short = encodeMessage({ messageId: 9, command: 9 }, hex("aa bb"));
  assertEquals(
    describeMessage(short),
    "#9 REGION_READ request, malformed: 2 bytes came, 16 are needed, 2 bytes: aa bb",
  );
});

Deno.test("describeMessage() lets no control character of a peer through", () => {
  const json = '{"\u001b[31mred\r\nline\u0085":"\u202egnp.exe\u2028"}';
  const escaped = utf8(json.replace("\u001b", "\\u001b").replace("\r\n", "\\r\\n"));
  for (const text of [utf8(json), escaped]) {
    const payload = concat(hex("00 00 01 00"), text, hex("00"));
    const line = describeMessage(encodeMessage({ messageId: 1, command: 1 }, payload));
    assertMatch(line, /^[^\p{Cc}\p{Cf}\u2028\u2029]+$/u);
    assertMatch(line, /gnp\.exe|malformed/);
  }
});

Deno.test("describeMessage() is one line of bounded length for any message", () => {
  for (const { name, side, values } of rows) {
    const codec: Codec<unknown> = messages[name][side];
    const flags = side === "reply" ? 1 : 0;
    fc.assert(
      fc.property(values, fc.nat({ max: 1000 }), (value, fds) => {
        const fields = { messageId: 65535, command: messages[name].command, flags };
        const line = describeMessage(encodeMessage(fields, codec.encode(value)), { fds });
        assert(line.startsWith(`#65535 ${name} ${side}`), line);
        assert(line.length <= (name === "VERSION" ? 2000 : 200), line);
        assert(!line.includes("malformed") || name === "DEVICE_FEATURE", line);
      }),
      { numRuns: 30 },
    );
  }
});

Deno.test("describeMessage() shows the JSON of a VERSION whole, valid or not, up to a bound", () => {
  const of = (text: string) =>
    describeMessage(
      encodeMessage({ messageId: 1, command: 1 }, concat(hex("00 00 01 00"), utf8(text + "\0"))),
    );
  const capabilities = { max_msg_fds: 8, migration: { pgsize: 4096 }, vendor: "v".repeat(900) };
  const json = JSON.stringify({ capabilities });
  assertEquals(of(json), `#1 VERSION request 0.1 ${json}`);
  const cut = of(json.slice(0, -1));
  assertMatch(cut, /^#1 VERSION request, malformed: the JSON is not valid: /);
  assert(cut.endsWith(json.slice(0, -1)), cut);
  assertEquals(of(JSON.stringify({ capabilities: { vendor: "v".repeat(9000) } })).length, 2000);
});

Deno.test("describeMessage() takes any bytes", () => {
  fc.assert(
    fc.property(fc.uint8Array({ maxLength: 64 }), (bytes) => {
      const line = describeMessage(bytes);
      assert(line.length > 0 && line.length <= 200);
    }),
    { numRuns: 1000 },
  );
});

Deno.test("fieldsText() shows the fields of a message that has no words of its own", () => {
  const value = { pageSize: 4096, data: hex("de ad"), ranges: [1, 2], offset: 1n << 40n };
  assertEquals(
    fieldsText(value),
    "page size 4096, data 2 bytes: de ad, ranges 2 entries, offset 1099511627776",
  );
  assertEquals(fieldsText(undefined), "");
});
