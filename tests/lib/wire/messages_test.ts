import { assert, assertEquals, assertThrows } from "@std/assert";
import fc from "fast-check";
import { type Codec, Command, messageOf, messages, ProtocolError } from "../../../lib/wire/mod.ts";
import { rows } from "./_arbitraries.ts";

/** Decodes, and lets pass what a peer may cause. */
function tryDecode(codec: Codec<unknown>, payload: Uint8Array): void {
  try {
    codec.decode(payload);
  } catch (error) {
    if (!(error instanceof ProtocolError)) throw error;
    assert(error.message.startsWith("Cannot decode "), error.message);
  }
}

for (const { name, side, values } of rows) {
  const codec: Codec<unknown> = messages[name][side];

  Deno.test(`messages.${name}.${side} decodes what it encodes`, () => {
    fc.assert(fc.property(values, (value) => {
      assertEquals(codec.decode(codec.encode(value)), value);
    }));
  });

  Deno.test(`messages.${name}.${side} decodes inside a larger buffer`, () => {
    fc.assert(
      fc.property(values, fc.nat({ max: 9 }), (value, before) => {
        const payload = codec.encode(value);
        const buffer = new Uint8Array(before + payload.length + 7).fill(0xff);
        buffer.set(payload, before);
        assertEquals(codec.decode(buffer.subarray(before, before + payload.length)), value);
      }),
      { numRuns: 30 },
    );
  });

  Deno.test(`messages.${name}.${side} gives a value or a ProtocolError when cut short`, () => {
    fc.assert(
      fc.property(values, (value) => {
        const payload = codec.encode(value);
        for (let length = 0; length < payload.length; length++) {
          tryDecode(codec, payload.subarray(0, length));
        }
      }),
      { numRuns: 30 },
    );
  });

  Deno.test(`messages.${name}.${side} gives a value or a ProtocolError for any bytes`, () => {
    fc.assert(fc.property(fc.uint8Array({ maxLength: 128 }), (bytes) => tryDecode(codec, bytes)));
  });
}

Deno.test("messages has every command but DIRTY_PAGES", () => {
  const { DIRTY_PAGES: _, ...commands } = Command;
  assertEquals(
    Object.values(messages).map(({ name, command }) => [name, command]),
    Object.entries(commands),
  );
});

Deno.test("messages lets the server send DMA_READ and DMA_WRITE alone", () => {
  const sent = Object.values(messages).filter(({ sender }) => sender === "server");
  assertEquals(sent.map(({ name }) => name), ["DMA_READ", "DMA_WRITE"]);
});

Deno.test("messages refuses a fixed part that is cut by one byte", () => {
  const sizes = {
    VERSION: [4, 4],
    DMA_MAP: [32, 0],
    DMA_UNMAP: [24, 24],
    DEVICE_GET_INFO: [16, 16],
    DEVICE_GET_REGION_INFO: [32, 32],
    DEVICE_GET_REGION_IO_FDS: [16, 16],
    DEVICE_GET_IRQ_INFO: [16, 16],
    DEVICE_SET_IRQS: [20, 0],
    REGION_READ: [16, 16],
    REGION_WRITE: [16, 16],
    DMA_READ: [16, 16],
    DMA_WRITE: [16, 16],
    DEVICE_RESET: [0, 0],
    REGION_WRITE_MULTI: [8, 8],
    DEVICE_FEATURE: [8, 8],
    MIG_DATA_READ: [8, 8],
    MIG_DATA_WRITE: [8, 0],
  } satisfies Record<keyof typeof messages, [number, number]>;
  for (const { name, request, reply } of Object.values(messages)) {
    for (const [i, codec] of [request, reply].entries()) {
      const size = sizes[name as keyof typeof messages][i]!;
      if (size === 0) continue;
      const wanted = `${size - 1} bytes came, ${size} are needed`;
      assertThrows(() => codec.decode(new Uint8Array(size - 1)), ProtocolError, wanted);
    }
  }
});

Deno.test("messages refuses surplus bytes of a request that has no argsz, not of a reply", () => {
  const reset = messages.DEVICE_RESET;
  assertThrows(
    () => reset.request.decode(new Uint8Array(1)),
    ProtocolError,
    "1 bytes came, it has 0",
  );
  assertEquals(reset.reply.decode(new Uint8Array(1)), undefined);
  const read = messages.REGION_READ.request;
  assertThrows(() => read.decode(new Uint8Array(17)), ProtocolError, "17 bytes came, it has 16");
  const write = messages.REGION_WRITE.reply;
  assertEquals(write.decode(new Uint8Array(17)).count, 0);
});

Deno.test("messageOf() finds a message by its number, and nothing for one that is reserved", () => {
  assertEquals(messageOf(Command.DMA_MAP)?.name, "DMA_MAP");
  assertEquals(messageOf(Command.DIRTY_PAGES), undefined);
  assertEquals(messageOf(99), undefined);
});
