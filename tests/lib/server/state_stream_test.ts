import { assert, assertEquals, assertThrows } from "@std/assert";
import fc from "fast-check";
import { crc32 } from "../../../lib/base/crc32.ts";
import { MAX_STATE_FRAME, MAX_STATE_NAME } from "../../../lib/base/limits.ts";
import { DeviceError } from "../../../lib/server/served_device.ts";
import {
  type SectionForm,
  type StateIdentity,
  StateReader,
  StateWriter,
} from "../../../lib/server/state_stream.ts";

crc32(new Uint8Array()); // loads what it takes, once

const IDENTITY: StateIdentity = { name: "test", vendor: 0x1234, device: 0x0de5, version: 1 };
const HEADER = 32;

type Part = readonly [section: number, bytes: Uint8Array, offset?: number];

/** A stream of parts as its chunks. */
function chunks(parts: readonly Part[], identity = IDENTITY): Uint8Array[] {
  const writer = new StateWriter(identity);
  const chunks: Uint8Array[] = [];
  for (const part of parts) for (const chunk of writer.write(...part)) chunks.push(chunk.slice());
  for (const chunk of writer.finish()) chunks.push(chunk.slice());
  return chunks;
}

function stream(parts: readonly Part[], identity = IDENTITY): Uint8Array {
  return concat(chunks(parts, identity));
}

function concat(parts: readonly Uint8Array[]): Uint8Array {
  return new Uint8Array(parts.flatMap((part) => [...part]));
}

function reader(...sizes: (number | SectionForm)[]): StateReader {
  const forms = sizes.map((size) => typeof size === "number" ? { size } : size);
  return new StateReader(IDENTITY, new Map(forms.entries()));
}

/** The frames of a stream. */
function frames(bytes: Uint8Array): Uint8Array[] {
  const frames: Uint8Array[] = [];
  for (let at = 0; at < bytes.length;) {
    const length = new DataView(bytes.buffer, at).getUint32(12, true);
    frames.push(bytes.subarray(at, at += HEADER + length));
  }
  return frames;
}

const A = new Uint8Array([1, 2, 3]);
const B = new Uint8Array([4, 5, 6, 7]);
const GOOD = stream([[0, A], [1, B]]);

/** Why a stream is refused by a device of the sections of `GOOD`. */
function refusalOf(bytes: Uint8Array): string {
  const target = reader(3, 4);
  return assertThrows(() => {
    target.write(bytes);
    target.finish();
  }, DeviceError).message;
}

Deno.test("a state is what it was, however it is cut", () => {
  const part = fc.record({
    section: fc.integer({ min: 0, max: 3 }),
    bytes: fc.uint8Array({ maxLength: 300 }),
  });
  fc.assert(
    fc.property(fc.array(part), fc.array(fc.integer({ min: 1, max: 400 })), (parts, cuts) => {
      const sections = new Map<number, Uint8Array>();
      for (const { section, bytes } of parts) sections.set(section, bytes);
      const bytes = stream([...sections]);
      const forms = [...sections].map(([n, { length }]) => [n, { size: length }] as const);
      const target = new StateReader(IDENTITY, new Map(forms));
      let at = 0;
      for (const cut of cuts) target.write(bytes.subarray(at, at += cut));
      target.write(bytes.subarray(at));
      target.finish();
      for (const [number, bytes] of sections) assertEquals(target.section(number), bytes);
    }),
  );
});

Deno.test("chunks have 1 MiB, but for the last, and what is large is not held twice", () => {
  const large = new Uint8Array(3 * MAX_STATE_FRAME + 12345);
  for (let i = 0; i < large.length; i += 997) large[i] = i;
  const all = chunks([[0, A], [1, large]]);
  assertEquals(all.map(({ length }) => length === MAX_STATE_FRAME), [true, true, true, false]);
  const target = reader(3, large.length);
  for (const chunk of all) target.write(chunk);
  target.finish();
  assert(target.section(1).every((byte, i) => byte === large[i]));
});

Deno.test("a part may come again, and counts the last time", () => {
  const bytes = stream([[0, A], [1, B], [1, new Uint8Array([9, 9]), 1]]);
  const target = reader(3, 4);
  target.write(bytes);
  target.finish();
  assertEquals([...target.section(1)], [4, 9, 9, 7]);
});

Deno.test("a section with memory of its own takes the bytes as they come", () => {
  const memory = new Uint8Array(4);
  const target = reader(3, { size: 4, into: memory });
  const [begin, first, second, end] = frames(GOOD);
  target.write(concat([begin!, first!, second!]));
  assertEquals(memory, B);
  target.write(end!);
  target.finish();
  assertEquals(target.section(1).buffer, memory.buffer);
  // One that ends early is refused as ever.
  const other = reader(3, { size: 4, into: memory });
  other.write(concat([begin!, first!]));
  assertThrows(() => other.finish(), DeviceError, "cut off");
  const wrong = () => reader(3, { size: 4, into: new Uint8Array(5) });
  assertThrows(wrong, RangeError, "A section of 4 bytes cannot go into 5");
});

Deno.test("parts may come in any order", () => {
  fc.assert(
    fc.property(
      fc.shuffledSubarray([0, 1, 2, 3, 4, 5, 6, 7], { minLength: 8 }),
      (order) => {
        const target = reader(16);
        target.write(stream(order.map((i) => [0, new Uint8Array([i, i]), 2 * i])));
        target.finish();
        assertEquals([...target.section(0)], [0, 0, 1, 1, 2, 2, 3, 3, 4, 4, 5, 5, 6, 6, 7, 7]);
      },
    ),
  );
});

Deno.test("a section may be shorter if its form says so", () => {
  const target = reader({ size: 100, mayBeShorter: true });
  target.write(stream([[0, A]]));
  target.finish();
  assertEquals(target.section(0), A);
  const empty = reader({ size: 100, mayBeShorter: true });
  empty.write(stream([[0, new Uint8Array()]]));
  empty.finish();
  assertEquals(empty.section(0).length, 0);
  assertThrows(() => empty.section(1), RangeError);
});

Deno.test("flush() gives what there is, and the stream goes on", () => {
  const writer = new StateWriter(IDENTITY);
  const came = [
    ...[...writer.write(0, A), ...writer.flush()].map((chunk) => chunk.slice()),
    ...[...writer.write(1, B), ...writer.finish()].map((chunk) => chunk.slice()),
  ];
  assertEquals(came.length, 2);
  assertEquals(concat(came), GOOD);
});

Deno.test("a stream that is cut off anywhere is refused at the end", () => {
  for (let length = 0; length < GOOD.length; length++) {
    const target = reader(3, 4);
    target.write(GOOD.subarray(0, length));
    const error = assertThrows(() => target.finish(), DeviceError, "cut off");
    assertEquals(error.errno, 22);
  }
});

Deno.test("a stream of which any bit is another is refused", () => {
  for (let bit = 0; bit < GOOD.length * 8; bit++) {
    const bytes = GOOD.slice();
    bytes[bit >> 3]! ^= 1 << (bit & 7);
    assert(refusalOf(bytes).startsWith("Cannot restore a state: "));
  }
});

Deno.test("frames that are missing, doubled or out of order are refused", () => {
  const all = frames(GOOD);
  assertEquals(all.length, 4);
  const order = (...indexes: number[]) => concat(indexes.map((i) => all[i]!));
  const CASES: [bytes: Uint8Array, reason: RegExp][] = [
    [order(0, 2, 1, 3), /frame 2 comes where 1 belongs/],
    [order(0, 1, 1, 2, 3), /frame 1 comes where 2 belongs/],
    [order(0, 2, 3), /frame 2 comes where 1 belongs/],
    [order(1, 2, 3), /frame 1 comes where 0 belongs/],
    [order(0, 1, 2), /cut off/],
    [order(0, 1, 2, 3, 3), /follows its end/],
    [order(0, 1, 2, 3, 0), /follows its end/],
    [concat([GOOD, new Uint8Array(1)]), /follows its end/],
    [concat([new Uint8Array(64), GOOD]), /no state of a device/],
    [concat([all[0]!, new Uint8Array(64)]), /out of step/],
    [new TextEncoder().encode("#!/bin/sh\n".repeat(10)), /no state of a device/],
  ];
  for (const [bytes, reason] of CASES) assert(reason.test(refusalOf(bytes)), refusalOf(bytes));
});

Deno.test("a state of another device is refused, and says of which it is", () => {
  const OTHERS: StateIdentity[] = [
    { ...IDENTITY, name: "other" },
    { ...IDENTITY, vendor: 1 },
    { ...IDENTITY, device: 1 },
    { ...IDENTITY, subsystemVendor: 1 },
    { ...IDENTITY, subsystem: 1 },
    { ...IDENTITY, version: 2 },
    { ...IDENTITY, name: "" },
  ];
  for (const other of OTHERS) {
    const reason = refusalOf(stream([[0, A], [1, B]], other));
    assert(reason.includes(`it is of another device: of "${other.name}" (`), reason);
    assert(reason.includes(`not "test" (1234:0de5:0000:0000), version 1`), reason);
  }
});

Deno.test("sections that the device does not have so are refused", () => {
  const CASES: [parts: Part[], reason: string][] = [
    [[[0, A], [2, B]], "it has a section 2, the device has none"],
    [[[0, A]], "section 1 has not come, or not all of it"],
    [[[0, A], [1, A]], "section 1 has not come, or not all of it"],
    [[[0, A], [1, A, 1]], "section 1 has not come, or not all of it"],
    [[[0, B], [1, B]], "section 0 has more than 3 bytes"],
    [[[0, A], [1, B, 1]], "section 1 has more than 4 bytes"],
    [[[0, A], [1, B, 2 ** 53 - 1]], "section 1 has more than 4 bytes"],
  ];
  for (const [parts, reason] of CASES) {
    assertEquals(refusalOf(stream(parts)), `Cannot restore a state: ${reason}`);
  }
});

Deno.test("a stream in very many pieces is refused, not compared for ever", () => {
  const pieces = Array.from({ length: 5000 }, (_, i): Part => [0, new Uint8Array(1), 2 * i]);
  const target = reader(10_000);
  assertThrows(() => target.write(stream(pieces)), DeviceError, "too many pieces");
});

Deno.test("a header that announces more than a frame has finds no memory for it", () => {
  const bytes = GOOD.slice();
  new DataView(bytes.buffer).setUint32(12, 0xffff_fff0, true);
  assert(refusalOf(bytes).includes("4294967280 bytes, more than there are in one"));
});

Deno.test("what was refused stays refused", () => {
  const target = reader(3, 4);
  assertThrows(() => target.write(new Uint8Array(40)), DeviceError, "no state");
  assertThrows(() => target.write(GOOD), DeviceError, "no state");
  assertThrows(() => target.finish(), DeviceError, "no state");
});

Deno.test("any bytes are refused or taken, and nothing else", () => {
  fc.assert(
    fc.property(fc.uint8Array({ maxLength: 200 }), fc.nat(GOOD.length), (bytes, keep) => {
      const target = reader(3, 4);
      try {
        target.write(concat([GOOD.subarray(0, keep), bytes]));
        target.finish();
      } catch (error) {
        assert(error instanceof DeviceError);
      }
    }),
  );
});

Deno.test("StateWriter refuses a name that is too long", () => {
  new StateWriter({ ...IDENTITY, name: "x".repeat(MAX_STATE_NAME) });
  assertThrows(
    () => new StateWriter({ ...IDENTITY, name: "é".repeat(MAX_STATE_NAME / 2 + 1) }),
    RangeError,
    "more than 64 bytes",
  );
  assertThrows(() => new StateWriter({ ...IDENTITY, vendor: 0x10000 }), RangeError);
});
