import { assertEquals, assertThrows } from "@std/assert";
import fc from "fast-check";
import { completions, parseLine, tokenizeLine } from "../../../../lib/session/file/line.ts";
import { parseSession } from "../../../../lib/session/file/load.ts";
import type { Step } from "../../../../lib/session/model.ts";
import { sessionYaml } from "../../../../lib/session/file/save.ts";
import { problemText } from "../../../../lib/yaml/problem.ts";
import { someDefinitions } from "../_definitions.ts";

/** Parses a line to what a file would hold. */
function raw(line: string): Record<string, unknown> {
  return parseLine(line, someDefinitions()).raw;
}

function message(line: string): string {
  return assertThrows(() => parseLine(line, someDefinitions()), SyntaxError).message;
}

Deno.test("parseLine() takes subject, main argument and keys", () => {
  const cases: [line: string, raw: Record<string, unknown>][] = [
    ["write CC 0", { write: "CC", value: "0" }],
    ["  CC.EN=1 verify ", { write: "CC.EN", value: "1", verify: true }],
    ["write bar0+8.l=5 verify", { write: "bar0+8.l", value: "5", verify: true }],
    ["write SQTDBL[${tail == 1}]=2", { write: "SQTDBL[${tail == 1}]", value: "2" }],
    ["CC={ EN: 1, IOSQES: 6 }", { write: "CC", value: { EN: 1n, IOSQES: 6n } }],
    ["SQTDBL[${tail + 1}]=${tail == 3}", { write: "SQTDBL[${tail + 1}]", value: "${tail == 3}" }],
    ["write { CC: 0, AQA: 0x1f }", { write: { CC: 0n, AQA: 0x1fn } }],
    ["read CAP into cap", { read: "CAP", into: "cap" }],
    ["poll CSTS.RDY 1 timeout 500ms", { poll: "CSTS.RDY", equals: "1", timeout: "500ms" }],
    ["poll bar0 at least 1 at most 0x20", { poll: "bar0", "at least": "1", "at most": "0x20" }],
    ["expect VS one of 1,2,${tail}", { expect: "VS", "one of": [1n, 2n, "${tail}"] }],
    ["expect VS one of [1, 2]", { expect: "VS", "one of": [1n, 2n] }],
    ['expect queue text "a b"', { expect: "queue", text: "a b" }],
    ["expect queue text 'say \"x\"'", { expect: "queue", text: 'say "x"' }],
    ["expect ${tail * 2} 4", { expect: "${tail * 2}", equals: "4" }],
    ["set x = 5", { set: "x", to: "5" }],
    ["set x ${tail + 1}", { set: "x", to: "${tail + 1}" }],
    ["dma put queue+64 u32 6,0,0", { "dma put": "queue+64", u32: [6n, 0n, 0n] }],
    ["dma map b iova 1M size 4K fill {bytes: aa}", {
      "dma map": "b",
      iova: "1M",
      size: "4K",
      fill: { bytes: "aa" },
    }],
    ["irq expect none msix[0] 1s", { "irq expect none": "msix[0]", for: "1s" }],
    ["irq wait msix[0-1] 2 continue on failure", {
      "irq wait": "msix[0-1]",
      count: "2",
      "continue on failure": true,
    }],
    ["reset timeout 2s", { reset: null, timeout: "2s" }],
    ["pci enable", { "pci enable": null }],
    ["log 'tail is ${tail}'", { log: "tail is ${tail}" }],
    ["read bar0 expect error EINVAL,timeout", {
      read: "bar0",
      "expect error": ["EINVAL", "timeout"],
    }],
  ];
  for (const [line, expected] of cases) assertEquals(raw(line), expected, line);
});

Deno.test("parseLine() says what is wrong, and what to write", () => {
  const cases: [line: string, message: string][] = [
    ["", "The line is empty"],
    ["raed CC", '"raed" is no step; did you mean "read"?'],
    ["fill buffer u32 7", '"fill" is no step; did you mean "dma fill"?'],
    ["enable msix", '"enable" is no step; did you mean "irq enable" or "pci enable"?'],
    ["CAPP", '"CAPP" is no step; did you mean "CAP"?'],
    ["irq wiat msix", '"irq" is no step; did you mean "irq wait"?'],
    ["read", '"read" is the last word; write its value after it'],
    ["write CC", '"value" is missing here'],
    ["write CC 0 verfy", '"verfy" is no key of write; did you mean "verify"?'],
    ["write CC 0 value 1", '"value" is there already'],
    ["write CX 0", '"CX" is no region, capability, register or buffer; did you mean "CC"?'],
    ["read CC timeout", '"timeout" is the last word; write its value after it'],
    ["read CC timeout 5", "The time 5 has no unit; write 5ms or 5s"],
    ['log "a', '""a" has no end: a quote, bracket or brace is missing'],
    ["write CC {EN: 1", '"{EN: 1" has no end: a quote, bracket or brace is missing'],
    [
      "write CC {EN 1}",
      'Cannot read {EN 1}: "EN 1}" can\'t be there; write { NAME: VALUE, ... } or [VALUE, ...]',
    ],
    ["write CC {EM: 1}", '"EM" is no field of CC; did you mean "EN"?'],
    [
      "repeat 3 steps x",
      "Steps to be repeated can't be typed on a line; write them into a file for vfu run",
    ],
    ["call x.yaml", 'Cannot call x.yaml from here; run it by "vfu run x.yaml SOCKET"'],
    ["CC==1", `"CC==1" is no step; there are ${"read, write"}`],
    ["x".repeat(10_001), "The line has 10001 characters, the limit is 10000"],
  ];
  for (const [line, expected] of cases) {
    assertEquals(message(line).slice(0, expected.length), expected, line);
  }
});

Deno.test("parseLine() defines what the line defines, and nothing if it is wrong", () => {
  const names = someDefinitions();
  parseLine("read CAP into cap", names);
  parseLine("set x 1", names);
  parseLine("dma map more iova 2M size 4K", names);
  parseLine("log ${cap.MQES + x + more.end}", names);
  assertThrows(() => parseLine("read CAPP into bad", names), SyntaxError);
  assertEquals(names.variables.has("bad"), false);
  assertThrows(() => parseLine("log ${cap.MQEX}", names), SyntaxError, 'did you mean "MQES"?');
});

Deno.test("tokenizeLine() ends for any line", () => {
  fc.assert(fc.property(
    fc.string({ unit: fc.constantFrom("a", " ", '"', "'", "{", "}", "[", "]", "$", "\\", ",") }),
    (line) => {
      try {
        tokenizeLine(line);
      } catch (error) {
        assertEquals(error instanceof SyntaxError, true);
      }
    },
  ));
  // No pattern goes back and forth over a long line.
  for (const part of ["{'", "[{", "${", '\\"', "{${", "''", "[${}"]) {
    try {
      tokenizeLine(part.repeat(5000 / part.length));
    } catch (error) {
      assertEquals(error instanceof SyntaxError, true);
    }
  }
});

/** Lines of all words. */
const value = fc.oneof(
  fc.bigInt(0n, 0xffff_ffffn).map((each) => `0x${each.toString(16)}`),
  fc.nat(1000).map(String),
  fc.constantFrom(
    "-1",
    "4K",
    "0b101",
    "1_000",
    "${tail}",
    "${tail + 4 * (tail & 3)}",
    "${queue.iova}",
  ),
);
const place = fc.constantFrom(
  "CC",
  "nvme.AQA",
  "SQTDBL[1]",
  "SQTDBL[${tail}]",
  "bar0+0x1c.l",
  "config+${tail}.l",
  "CAP_MSIX+4.l",
  "queue+64",
  "queue.l",
  "dma+1M.l",
);
const text = fc.string({ unit: "binary", minLength: 1, maxLength: 20 }).filter((each) =>
  !/[$"\\]/.test(each) && each.isWellFormed()
);
const common = fc.constantFrom(
  "",
  " timeout 2s",
  " name 'a name'",
  " name '12'",
  " name 'true'",
  " expect error EINVAL,timeout",
  " expect error 22",
  " continue on failure",
  " when ${tail}",
);
const line = fc.tuple(
  fc.oneof(
    fc.tuple(fc.constantFrom("write", "poll", "expect"), place, value).map((each) =>
      each.join(" ")
    ),
    fc.tuple(place, value).map((each) => each.join("=")),
    fc.tuple(place, value, value).map(([a, b, c]) => `modify ${a} ${b} mask ${c}`),
    fc.tuple(place, value, value).map(([a, b, c]) => `expect ${a} at least ${b} one of ${b},${c}`),
    fc.tuple(fc.nat(15), fc.nat(3)).map(([a, b]) =>
      `write CC { IOSQES: ${a}, EN: 1, SHN: ${b} } verify`
    ),
    fc.constantFrom(
      "write CC.SHN normal-shutdown",
      "read CAP into cap",
      "set x ${tail << 2}",
      "irq wait msix[0-1] 2",
      "irq expect none msix[${tail}] 50ms",
      "irq enable 2",
      "reset",
      "pci enable",
      "sleep 10ms",
      "dma fill queue bytes '12 34' length 0x10",
      "dma put queue u16 1,0xffff,${tail}",
      "dma load queue file a/b.bin",
      "dma dump queue file 12",
      "dma map more iova 2M size 4K fill {u8: [1, 2]} share message",
      "dma unmap queue",
      "expect queue same as queue+64 length 16",
    ),
    text.map((each) => `log "${each}"`),
    text.map((each) => `dma put queue text "${each}"`),
  ),
  common,
).map((parts) => parts.join(""));

/** Steps without where they are from. */
function bare(steps: readonly Step[]): unknown {
  return JSON.parse(
    JSON.stringify(
      steps,
      (key, each) =>
        key === "source" || key === "register" || key === "field"
          ? undefined
          : typeof each === "bigint"
          ? `${each}n`
          : each,
    ),
  );
}

const HEAD = "include: [nvme, pci]\nvariables: { tail: 0 }\n" +
  "buffers: { queue: { iova: 0x100000, size: 0x1000 } }\n";

Deno.test("sessionYaml() gives a file that loads as what was typed", async () => {
  await fc.assert(
    fc.asyncProperty(fc.array(line, { minLength: 1, maxLength: 8 }), async (lines) => {
      const names = someDefinitions();
      const typed = lines.flatMap((each) => {
        try {
          return [parseLine(each, names)];
        } catch (error) {
          if (!(error instanceof SyntaxError)) throw error;
          return []; // a value that does not fit, or a queue that was unmapped
        }
      });
      // That a step changes it keeps values from being looked at before they are known.
      const raws = [...typed.map((each) => each.raw), { set: "tail", to: 0n }];
      const file = HEAD + sessionYaml({ raws });
      const { session, problems = [] } = await parseSession(file, "t.yaml");
      assertEquals(problems.map(problemText), [], file);
      assertEquals(
        bare(session!.steps.slice(0, -1)),
        bare(typed.flatMap((each) => each.steps)),
        file,
      );
    }),
  );
});

Deno.test("sessionYaml() has title, maps and variables", () => {
  assertEquals(
    sessionYaml({
      title: "12",
      include: ["nvme", "./a b.yaml"],
      variables: { x: 1n, y: 0x100n },
      raws: [{ "pci enable": null }, { reset: null, name: "Say: it" }],
    }),
    'title: "12"\ninclude: [nvme, "./a b.yaml"]\nvariables:\n  x: 1\n  y: 0x100\n\n' +
      'steps:\n  - pci enable\n  - reset:\n    name: "Say: it"\n',
  );
});

Deno.test("completions() finds words, keys and names", () => {
  const names = someDefinitions();
  const cases: [line: string, part: string, some: string[]][] = [
    ["", "", ["read", "irq expect none"]],
    ["dma m", "dma m", ["dma map"]],
    ["irq e", "irq e", ["irq enable", "irq expect none"]],
    ["read CS", "CS", ["CSTS"]],
    ["read q", "q", ["queue"]],
    ["read nvme.A", "nvme.A", ["nvme.AQA", "nvme.ASQ", "nvme.ACQ"]],
    ["read CC.IO", "CC.IO", ["CC.IOSQES", "CC.IOCQES"]],
    ["read cap_ms", "cap_ms", ["CAP_MSI", "CAP_MSIX"]],
    ["write CC.SHN no", "no", ["none", "normal-shutdown"]],
    ["write CC.EN 1 v", "v", ["verify"]],
    ["poll CSTS.RDY ${", "${", ["${tail}", "${queue.iova}"]],
    ["poll CSTS at ", "at ", ["at least", "at most"]],
    ["poll CSTS at l", "at l", ["at least"]],
    ["read CC continue on f", "continue on f", ["continue on failure"]],
    ["read CC expect error EI", "EI", ["EINVAL", "EIO"]],
    ["irq wait ms", "ms", ["msi", "msix"]],
    ["dma fill qu", "qu", ["queue"]],
    ["CS", "CS", ["CSTS"]],
  ];
  for (const [line, part, some] of cases) {
    const found = completions(line, names);
    assertEquals(found.part, part, line);
    assertEquals(some.filter((each) => !found.words.includes(each)), [], `${line}: ${found.words}`);
    const isFit = found.words.every((each) => each.toLowerCase().startsWith(part.toLowerCase()));
    assertEquals(isFit, true, `${line}: ${found.words}`);
  }
});
