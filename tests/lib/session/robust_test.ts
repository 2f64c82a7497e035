import { assertEquals } from "@std/assert";
import fc from "fast-check";
import { parseFlow } from "../../../lib/session/file/flow.ts";
import { parseLine } from "../../../lib/session/file/line.ts";
import { parseSession } from "../../../lib/session/file/load.ts";
import { sessionYaml } from "../../../lib/session/file/save.ts";
import { BUFFER_ARGUMENTS, COMMON_ARGUMENTS } from "../../../lib/session/file/arguments.ts";
import { STEP_WORDS, WORDS } from "../../../lib/session/file/words.ts";
import { someDefinitions } from "./_definitions.ts";

/** Scalars that a hand or a machine may write anywhere. */
const scalar = fc.oneof(
  fc.constantFrom(
    "CC",
    "nvme.CC.EN",
    "SQTDBL[${x}]",
    "bar0+4.l",
    "config+4095",
    "queue",
    "dma+1M",
    "msix[0-1]",
    "500ms",
    "nvme",
    "./self.yaml",
    "${x}",
    "${x / 0}",
    "${queue.end",
    "x",
    "__proto__",
    "constructor",
    "de ad",
    "EINVAL",
    "",
  ),
  fc.string({ maxLength: 8 }),
  fc.integer({ min: -300, max: 70_000 }),
  fc.constantFrom(null, true, false, 1.5, 2 ** 80),
);
const value = fc.letrec<{ any: unknown }>((tie) => ({
  any: fc.oneof(
    { maxDepth: 2, depthSize: "small" },
    scalar,
    fc.array(tie("any"), { maxLength: 3 }),
    fc.dictionary(
      fc.constantFrom(
        "x",
        "y",
        "CC",
        "EN",
        "bar0",
        "queue",
        "bytes",
        "u8",
        "text",
        "iova",
        "size",
        "toString",
      ),
      tie("any"),
      { maxKeys: 3 },
    ),
  ),
})).any;

/** A few registers; those of a whole map take longer to read than all else here. */
const MAP = {
  name: "nvme",
  registers: [
    { name: "CC", offset: 0x14, width: 4, fields: [{ name: "EN", bits: 0 }] },
    { name: "SQTDBL", offset: 0x1000, width: 4, count: 8 },
  ],
};

const ARGUMENTS = Object.keys(COMMON_ARGUMENTS);

/** A step with a word, some of its arguments, and now and then one that is not its own. */
const step = fc.constantFrom(...STEP_WORDS).chain((word) =>
  fc.tuple(
    value,
    fc.dictionary(
      fc.constantFrom(...Object.keys(WORDS[word].arguments), ...ARGUMENTS, "other"),
      value,
      { maxKeys: 4 },
    ),
  ).map(([subject, rest]) => ({ [word]: subject, ...rest }))
);
const steps = fc.array(fc.oneof(step, step, value), { maxLength: 5 });

const session = fc.record({
  title: value,
  requires: fc.oneof(
    value,
    fc.dictionary(
      fc.constantFrom("vendor", "class", "regions", "irqs", "other"),
      value,
    ),
  ),
  include: fc.constantFrom<unknown>("./self.yaml", 5, ["x"], null),
  registers: value,
  variables: fc.oneof(value, fc.dictionary(fc.constantFrom("x", "y", "1", "queue"), value)),
  buffers: fc.oneof(
    value,
    fc.dictionary(
      fc.constantFrom("queue", "x", "CC"),
      fc.dictionary(fc.constantFrom(...Object.keys(BUFFER_ARGUMENTS)), value),
    ),
  ),
  interrupts: value,
  steps: fc.oneof(steps, steps, steps, value),
}, { requiredKeys: ["steps"] });

Deno.test("parseSession() has a session or mistakes to tell of, whatever the file says", async () => {
  const good = '{"variables": {"x": 1}, "steps": [{"read": "bar0"}]}';
  await fc.assert(
    fc.asyncProperty(session, async (raw) => {
      const { session, problems } = await parseSession(JSON.stringify(raw), "f.yaml", {
        readText: () => Promise.resolve(good),
      });
      assertEquals(session === undefined, (problems?.length ?? 0) > 0);
    }),
    { numRuns: 500 },
  );
});

Deno.test("parseSession() reads steps in which nothing is wrong but their names", async () => {
  await fc.assert(
    fc.asyncProperty(steps, async (raws) => {
      const repeated = raws.map((each) => ({ repeat: 2, steps: [each] }));
      const { problems = [] } = await parseSession(
        JSON.stringify({ registers: MAP, steps: [...raws, ...repeated] }),
        "f.yaml",
        { readText: () => Promise.reject(new Deno.errors.NotFound("no file")) },
      );
      for (const { line, column, message } of problems) {
        assertEquals([line, column > 0, message.length > 0], [1, true, true]);
      }
    }),
    { numRuns: 300 },
  );
});

Deno.test("parseLine() reads a line, or says what is wrong, whatever it is", () => {
  const word = fc.oneof(
    fc.constantFrom(...STEP_WORDS, ...ARGUMENTS, "at least", "u32", "with", "into", "=", "{", "}"),
    fc.constantFrom(
      "{ EN: 1 }",
      "[1, 2",
      "1,2,3",
      "'a b'",
      '"',
      "CC=1",
      "${tail}",
      "{x: {y: [1]}}",
    ),
    scalar.map(String),
  );
  fc.assert(
    fc.property(fc.array(word, { maxLength: 8 }), (words) => {
      try {
        const { raw } = parseLine(words.join(" "), someDefinitions());
        sessionYaml({ raws: [raw] });
      } catch (error) {
        if (!(error instanceof SyntaxError)) throw error;
      }
    }),
    { numRuns: 2000 },
  );
});

Deno.test("parseFlow() ends for any text", () => {
  const pieces = ["{", "}", "[", "]", ":", ",", " ", "a", "'", '"', "\\", "${", "1"];
  const read = (text: string) => {
    try {
      parseFlow(text);
    } catch (error) {
      if (!(error instanceof SyntaxError)) throw error;
    }
  };
  fc.assert(fc.property(fc.string({ unit: fc.constantFrom(...pieces) }), read), { numRuns: 1000 });
  for (const piece of ["{a:", "[", "{'", "a ", "${", "{a: 1, ", "[[],", "{ "]) {
    read(piece.repeat(10_000 / piece.length));
  }
});
