import { assertEquals, assertThrows } from "@std/assert";
import fc from "fast-check";
import { decodePlain, encodePlain, type PlainData } from "../../../lib/define/plain_data.ts";

Deno.test("decodePlain() gives back what encodePlain() took", () => {
  const leaf = fc.oneof(
    fc.constant(null),
    fc.boolean(),
    // JSON has no -0
    fc.double({ noNaN: true, noDefaultInfinity: true }).map((each) => each === 0 ? 0 : each),
    fc.string(),
    fc.bigInt(),
    fc.uint8Array(),
  );
  const { value } = fc.letrec<{ value: PlainData }>((tie) => ({
    value: fc.oneof(
      { maxDepth: 4 },
      leaf,
      fc.array(tie("value")),
      fc.dictionary(fc.string().filter((key) => key !== "__proto__"), tie("value"), {
        noNullPrototype: true,
      }),
    ) as fc.Arbitrary<PlainData>,
  }));
  fc.assert(fc.property(value, (each) => {
    assertEquals(decodePlain(encodePlain(each)), each);
  }));
  assertEquals(decodePlain(encodePlain(undefined)), undefined);
});

Deno.test("encodePlain() says what is no plain data, and where", () => {
  const refuse = (value: unknown, message: string) =>
    assertThrows(() => encodePlain(value as PlainData), TypeError, message);
  refuse({ a: [1, () => {}] }, "Cannot save state.a[1]");
  refuse(NaN, "Cannot save state: NaN");
  refuse({ queue: new Map() }, "Cannot save state.queue");
  refuse({ date: new Date(0) }, "Cannot save state.date");
});

Deno.test("decodePlain() refuses anything else", () => {
  fc.assert(fc.property(fc.uint8Array({ minLength: 1 }), (bytes) => {
    try {
      decodePlain(bytes);
    } catch (error) {
      assertEquals(error instanceof SyntaxError, true);
    }
  }));
  for (const text of ['["x"]', '["n","zz"]', '["b","?"]', "[]", "{"]) {
    assertThrows(() => decodePlain(new TextEncoder().encode(text)), SyntaxError);
  }
});
