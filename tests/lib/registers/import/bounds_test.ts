/** A few lines of a file, or many, that would be too much work or too much memory. */

import { assertEquals } from "@std/assert";
import { importText, mistakesOf, notesOf, registerOf, svd } from "./_import.ts";

function register(name: string, more = "", attributes = ""): string {
  return `<register ${attributes}><name>${name}</name><addressOffset>0</addressOffset>${more}` +
    `</register>`;
}

function many(count: number, make: (i: number) => string): string {
  return Array.from({ length: count }, (_, i) => make(i)).join("");
}

const TOO_MUCH = "There are more registers, fields and values than a map can hold";

/** The messages of mistakes, without their places. */
async function messagesOf(text: string): Promise<string[]> {
  return (await mistakesOf(text)).map((each) => each.slice(each.indexOf(" ") + 1));
}

Deno.test("a long name, which all names in it would begin with, is refused", async () => {
  const long = "P".repeat(201);
  const message = `The name ${"P".repeat(20)}... is longer than 200 letters`;
  const cluster = `<cluster><name>${long}</name><addressOffset>0</addressOffset>` +
    `${register("A")}</cluster>`;
  assertEquals(await messagesOf(svd(cluster)), [message]);
  const prepended = svd(register("A")).replace(
    "<reg",
    `<prependToName>${long}</prependToName><reg`,
  );
  assertEquals(await messagesOf(prepended), [message]);
});

Deno.test("values and fields count for each register that has them", async () => {
  const values = many(2000, (i) => {
    return `<enumeratedValue><name>V${i}</name><value>${i}</value></enumeratedValue>`;
  });
  const repeat = "<dim>1000</dim><dimIncrement>4</dimIncrement>";
  const field = `<fields><field><name>F</name><lsb>0</lsb><msb>31</msb>` +
    `<enumeratedValues>${values}</enumeratedValues></field></fields>`;
  assertEquals(await messagesOf(svd(register("A%s", repeat + field))), [TOO_MUCH]);
});

Deno.test("registers of arrays count before their names are made", async () => {
  const repeat = "<dim>65536</dim><dimIncrement>4</dimIncrement>";
  const text = svd(many(5000, (i) => register(`A${i}[%s]`, repeat)));
  assertEquals(await messagesOf(text), [TOO_MUCH]);
});

Deno.test("registers derived from one with a million elements are refused", async () => {
  const text = svd(
    register("A", "<x/>".repeat(100_000)) +
      many(1000, (i) => register(`B${i}`, "", 'derivedFrom="A"')),
  );
  assertEquals(await messagesOf(text), [
    "Too much of the file is derived from elements that have too much in them",
  ]);
});

Deno.test("a file with many mistakes is read up to the hundredth", async () => {
  const text = svd(many(100_000, (i) => register(`B${i}`, "", 'derivedFrom="NONE"')));
  assertEquals((await mistakesOf(text)).length, 100);
});

Deno.test("values of another peripheral are found, the one that is named first", async () => {
  const peripheral = (name: string, values: string, word: string) =>
    `<peripheral><name>${name}</name><registers>` + register(
      "R",
      "<fields><field><name>F</name><bitOffset>0</bitOffset><enumeratedValues>" +
        `<name>${values}</name><enumeratedValue><name>${word}</name><value>1</value>` +
        "</enumeratedValue></enumeratedValues></field></fields>",
    ) + "</registers></peripheral>";
  const field = (name: string, at: number, path: string) =>
    `<field><name>${name}</name><bitOffset>${at}</bitOffset>` +
    `<enumeratedValues derivedFrom="${path}"/></field>`;
  const text = svd(register(
    "A",
    `<fields>${field("ANY", 0, "V")}${field("Q2", 1, "Q2.R.F.V")}${
      field("W", 2, "R.F.W")
    }</fields>`,
  )).replace(
    "</peripherals>",
    peripheral("Q1", "V", "ONE") + peripheral("Q2", "V", "TWO") + peripheral("Q2", "W", "W") +
      "</peripherals>",
  );
  const { map } = await importText(text, "P");
  const words = registerOf(map, "A").fields.map((each) => each.enum.get(1n));
  assertEquals(words, ["ONE", "TWO", "W"]);
});

Deno.test("a map that is larger than --map reads is refused", async () => {
  const description = `<description>${"d".repeat(400)}</description>`;
  const text = svd(
    many(12_000, (i) => register(`A${i}`, description).replace(">0<", `>${4 * i}<`)),
  );
  assertEquals(await messagesOf(text), [
    "The map of P could not be read: it is larger than 4 MiB",
  ]);
});

Deno.test("text of an element is without the spaces of its lines", async () => {
  const { map } = await importText(svd(register(" A\n", "<description> a \n\t b </description>")));
  assertEquals(map.registers.map(({ name, description }) => [name, description]), [["A", "a b"]]);
});

Deno.test("of an array of registers that are too wide there is one note", async () => {
  const repeat = "<dim>60000</dim><dimIncrement>16</dimIncrement><size>128</size>";
  const made = await importText(svd(register("A[%s]", repeat) + register("B")));
  assertEquals(made.map.registers.map(({ name }) => name), ["B"]);
  assertEquals(notesOf(made).map((each) => each.replace(/^\S+ /, "")), [
    "A is left out: it has 128 bits, and a map has 64 at most",
  ]);
});
