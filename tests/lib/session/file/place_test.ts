import { assertEquals, assertThrows } from "@std/assert";
import { evaluate } from "../../../../lib/session/expression.ts";
import { parseIrqSelection } from "../../../../lib/session/file/irq_selection.ts";
import { parseMemoryPlace, parsePlace, withWidth } from "../../../../lib/session/file/place.ts";
import { parseValue } from "../../../../lib/session/file/value.ts";
import { someDefinitions } from "../_definitions.ts";

const definitions = someDefinitions();
const scope = { number: (name: string) => name === "k" ? 3n : 7n };

/** A place as [base, offset, width, register, field], with `tail` 7 and `k` 3. */
function place(text: string): unknown[] {
  const { base, offset, width, register, field } = parsePlace(text, definitions);
  const from = base.kind === "region" ? base.index : base.kind === "dma" ? "dma" : base.name;
  return [from, evaluate(offset, scope), width, register?.name, field?.name];
}

function complaint(text: string): string {
  return assertThrows(() => withWidth(parsePlace(text, definitions), definitions)).message;
}

Deno.test("parsePlace() reads regions, capabilities, registers, buffers and IOVAs", () => {
  const cases: [text: string, place: unknown[]][] = [
    ["bar0+0x1c.l", [0, 0x1cn, 4, undefined, undefined]],
    ["bar2", [2, 0n, undefined, undefined, undefined]],
    ["9+4K+${tail}.w", [9, 4103n, 2, undefined, undefined]],
    ["config+${k}.b", [7, 3n, 1, undefined, undefined]],
    ["CAP_MSIX+2.w", ["CAP_MSIX", 2n, 2, undefined, undefined]],
    ["CAP_VNDR@1", ["CAP_VNDR", 0n, undefined, undefined, undefined]],
    ["LATENCY_TIMER.b", [7, 0xdn, 1, undefined, undefined]],
    ["nvme.CSTS", [0, 0x1cn, 4, "CSTS", undefined]],
    ["csts.rdy", [0, 0x1cn, 4, "CSTS", "RDY"]],
    ["nvme.CC.EN", [0, 0x14n, 4, "CC", "EN"]],
    ["SQTDBL[2]", [0, 0x1010n, 4, "SQTDBL", undefined]],
    ["nvme.SQTDBL[${tail}].SQT", [0, 0x1038n, 4, "SQTDBL", "SQT"]],
    ["CAP+4.l", [0, 4n, 4, undefined, undefined]],
    ["COMMAND.w", [7, 4n, 2, undefined, undefined]],
    ["queue", ["queue", 0n, undefined, undefined, undefined]],
    ["queue.q", ["queue", 0n, 8, undefined, undefined]],
    ["queue+${16 * tail}+4.w", ["queue", 116n, 2, undefined, undefined]],
    ["dma+1M.l", ["dma", 0x10_0000n, 4, undefined, undefined]],
  ];
  for (const [text, expected] of cases) assertEquals(place(text), expected, text);
});

Deno.test("parsePlace() says what is wrong", () => {
  const cases: [text: string, message: string][] = [
    ["", '"" is no place; write REGION+OFFSET'],
    ["bar0 + 4", '"bar0 + 4" is no place'],
    ["bar6", '"bar6" is no region, capability, register or buffer; did you mean "bar0"?'],
    ["CTSS", '"CTSS" is no region, capability, register or buffer; did you mean "CSTS"?'],
    ["quue", '"quue" is no region, capability, register or buffer; did you mean "queue"?'],
    ["nvme.CTSS", '"CTSS" in "nvme.CTSS" is no register of nvme; did you mean CSTS?'],
    ["CC.ENN", '"ENN" in "CC.ENN" is no field of CC; did you mean EN?'],
    ["SQTDBL", '"SQTDBL" is an array; write SQTDBL[0] to SQTDBL[65535]'],
    ["CC[0]", '"CC[0]" has an index, but CC is a single register'],
    ["CC[${tail}]", '"CC[${tail}]" has an index, but CC is a single register'],
    ["SQTDBL[70000]", "The index of SQTDBL can't be 0x11170: it takes 0 to 0xffff"],
    ["SQTDBL[${k - 4}]", "The index of SQTDBL can't be -1: it takes 0 to 0xffff"],
    ["bar0+${tial}", '"tial" is no variable; did you mean "tail"?'],
    ["bar0+0xg", '"0xg" in "bar0+0xg" is no number; write it as 16, 0x10 or 4K'],
    ["bar0+${k - 4}", 'The offset of "bar0+${k - 4}" is negative: -1'],
    ["bar0+0x1_0000_0000_0000_0000", 'The offset of "bar0+0x1_0000_0000_0000_0000" is beyond 2^64'],
    ["config+4094", '4 bytes at "config+4094" reach outside the configuration space'],
    ["queue+4093", '4 bytes at "queue+4093" reach outside queue, which has 0x1000 bytes'],
    [
      "queue.iova",
      '"iova" in "queue.iova" is no width; write .b, .w, .l or .q, or ${queue.iova} for a number',
    ],
  ];
  for (const [text, message] of cases) {
    assertEquals(complaint(text).slice(0, message.length), message, text);
  }
  assertThrows(() => parseMemoryPlace("bar0", definitions), RangeError, '"bar0" is no memory');
});

Deno.test("parsePlace() ends soon for any text", () => {
  for (const part of ["a", "a.", "+1", "[", "${", ".b", "a[0].", "1+", "@1"]) {
    assertThrows(() => parsePlace(`${part.repeat(60_000 / part.length)}!`, definitions));
  }
});

Deno.test("parseIrqSelection() reads an index and vectors", () => {
  const read = (text: string) => {
    const { index, first, last } = parseIrqSelection(text, definitions);
    return [index, first && evaluate(first, scope), last && evaluate(last, scope)];
  };
  assertEquals(read("msix"), [2, undefined, undefined]);
  assertEquals(read("MSI[3]"), [1, 3n, undefined]);
  assertEquals(read("7[0 - 0x1f]"), [7, 0n, 31n]);
  assertEquals(read("msix[${k}-${tail - 1}]"), [2, 3n, 6n]);
  const wrong = (text: string) => assertThrows(() => parseIrqSelection(text, definitions)).message;
  assertEquals(wrong("mssix"), '"mssix" is no IRQ index; did you mean "msix"?');
  assertEquals(wrong("msix[]"), '"msix[]" is no interrupt; write msix, msix[0] or msix[0-3]');
  assertEquals(
    wrong("msix[3-1]"),
    'The vectors of "msix[3-1]" are in the wrong order; write the lower one first',
  );
  assertEquals(
    wrong("msix[${k - 4}]"),
    'The vector -1 in "msix[${k - 4}]" is no number below 2^32',
  );
});

/** The number and mask of a value for a place. */
function value(raw: unknown, text: string): unknown[] {
  const target = withWidth(parsePlace(text, definitions), definitions);
  const { expression, mask } = parseValue(raw, target, definitions);
  return [evaluate(expression, scope), mask];
}

Deno.test("parseValue() reads numbers, names of values and fields", () => {
  const cases: [raw: unknown, place: string, value: unknown[]][] = [
    [16n, "bar0", [16n, undefined]],
    ["2MiB", "bar0", [0x20_0000n, undefined]],
    [-1n, "bar0.w", [0xffffn, undefined]],
    ["-2", "bar0.b", [0xfen, undefined]],
    ["${tail * 2}", "bar0", [14n, undefined]],
    ["0xffff_ffff_ffff_ffff", "bar0.q", [0xffff_ffff_ffff_ffffn, undefined]],
    [1n, "CSTS.SHST", [4n, 0xcn]],
    ["normal-shutdown", "CC.SHN", [0x4000n, 0xc000n]],
    ["${tail}", "CC.IOSQES", [0x7_0000n, 0xf_0000n]],
    [-1n, "CC.IOSQES", [0xf_0000n, 0xf_0000n]],
    [{ EN: 1n, iosqes: "${tail - 1}", SHN: "normal-shutdown" }, "CC", [0x6_4001n, 0xf_c001n]],
  ];
  for (const [raw, place, expected] of cases) {
    assertEquals(value(raw, place), expected, String(raw));
  }
});

Deno.test("parseValue() says what is wrong", () => {
  const cases: [raw: unknown, place: string, message: string][] = [
    [0x1_0000_0000n, "bar0", "0x100000000 does not fit 32 bits"],
    [-0x8000_0001n, "bar0", "-0x80000001 does not fit 32 bits"],
    ["${k << 40}", "bar0", "0x30000000000 does not fit 32 bits"],
    [2n, "CC.EN", "0x2 does not fit CC.EN, which has 1 bit"],
    [{ EN: 2n }, "CC", "0x2 does not fit CC.EN, which has 1 bit"],
    [{ EM: 1n }, "CC", '"EM" is no field of CC; did you mean "EN"?'],
    [{ EN: 1n, en: 0n }, "CC", "EN is there twice"],
    [{}, "CC", "{} names no field of CC"],
    [{ EN: 1n }, "bar0", "{ EN: 1 } gives fields, but the place has none"],
    [
      "normal-shutdwn",
      "CC.SHN",
      '"normal-shutdwn" is no value of SHN; did you mean "normal shutdown"?',
    ],
    ["tail", "bar0", '"tail" is no value; did you mean "${tail}"?'],
    ["tail + 1", "bar0", '"tail + 1" is no value; did you mean "${tail + 1}"?'],
    ["abc", "bar0", '"abc" is no value; write it as 26, 0x1a, 0b11010, 4K or ${EXPRESSION}'],
    ["${1 / (k - 3)}", "bar0", "Cannot divide 1 by zero"],
    [true, "bar0", "true is no value"],
  ];
  for (const [raw, text, message] of cases) {
    const found = assertThrows(() => value(raw, text)).message;
    assertEquals(found.slice(0, message.length), message);
  }
  // What is not known yet is looked at when it is.
  assertThrows(() => value("${tail + 9}", "CC.IOSQES"), Error, "CC.IOSQES can't be 0x10");
});
