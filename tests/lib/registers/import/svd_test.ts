import { assertEquals, assertMatch } from "@std/assert";
import type { Register } from "../../../../lib/registers/mod.ts";
import { importSample, importText, mistakesOf, notesOf, registerOf, svd } from "./_import.ts";

/** A register in short: place, width, access and repetition. */
function short({ name, offset, width, access, array }: Register): string {
  const many = array === undefined ? "" : ` ${array.count}x0x${array.stride.toString(16)}`;
  return `${name} 0x${offset.toString(16)}/${width} ${access}${many}`;
}

function fieldsOf({ fields }: Register): string[] {
  return fields.map(({ name, high, low, access }) => `${name} ${high}:${low} ${access}`);
}

Deno.test("a serial port: access by fields, effects of reads and writes, reset masks", async () => {
  const made = await importSample("serial.svd");
  const { map } = made;
  assertEquals([map.name, map.title], ["uart0", "Universal asynchronous receiver & transmitter"]);
  assertEquals(notesOf(made), []);
  assertEquals(map.registers.map(short), [
    "SR 0x0/4 rw",
    "DR 0x4/2 rw",
    "CR1 0xc/4 rw",
    "CR2 0x10/4 rw",
  ]);
  const [sr, dr] = map.registers;
  assertEquals(fieldsOf(sr!), ["PE 0:0 rc", "TC 6:6 w1c", "TXE 7:7 ro"]);
  assertEquals([sr!.reset, sr!.description], [0xc00000n, "Status register"]);
  // Nothing is known of its reset value, and reading it takes a byte
  assertEquals([dr!.reset, dr!.readChanges], [undefined, true]);
  assertEquals(fieldsOf(dr!), ["DATA 8:0 rw"]);
});

Deno.test("enumerated values: derived ones, bits that do not count, a default", async () => {
  const { map } = await importSample("serial.svd");
  const [over, wake, en] = registerOf(map, "CR1").fields;
  const values = [[0n, "OFF"], [1n, "ON"]];
  assertEquals([...en!.enum], values as [bigint, string][]);
  assertEquals([...wake!.enum], values as [bigint, string][]);
  assertEquals([...over!.enum], [
    [0n, "NORMAL"],
    [4n, "FAST"],
    [5n, "FAST (5)"],
    [6n, "FAST (6)"],
    [7n, "FAST (7)"],
  ]);
});

Deno.test("a register is derived from another, with a field in another place", async () => {
  const { map } = await importSample("serial.svd");
  const cr2 = registerOf(map, "CR2");
  assertEquals(fieldsOf(cr2), ["OVERSAMPLING 3:1 rw", "EN 13:13 rw", "WAKE 20:20 rw"]);
  assertEquals(cr2.description, "Control register 1");
  assertEquals([...cr2.fields[2]!.enum.values()], ["OFF", "ON"]);
});

Deno.test("a peripheral is derived from another, and adds a register", async () => {
  const { map } = await importSample("serial.svd", "UART1");
  assertEquals(map.registers.map(({ name }) => name), ["SR", "DR", "CR1", "CR2", "GTPR"]);
  assertEquals(registerOf(map, "GTPR").access, "wo");
  assertEquals([...registerOf(map, "CR1").fields[1]!.enum.values()], ["OFF", "ON"]);
});

Deno.test("timers: arrays, lists of names, clusters in clusters, and what overlaps", async () => {
  const made = await importSample("timers.svd", "TIMER1");
  assertEquals(made.map.registers.map(short), [
    "TASKS_START 0x0/4 wo",
    "EVENTS 0x100/4 rw 4x0x4",
    "GPIOA_MODE 0x200/4 rw",
    "GPIOB_MODE 0x204/4 rw",
    "GPIOC_MODE 0x208/4 rw",
    "LATE6 0x210/4 rw",
    "LATE7 0x214/4 rw",
    "CH_CC 0x400/4 rw 4x0x20",
    "CH_CC_LOW 0x400/2 rw 4x0x20",
    "CH_PIN0_SELECT 0x408/4 rw 4x0x20",
    "CH_PIN0_OTHER 0x40c/4 ro 4x0x20",
    "CH_PIN1_SELECT 0x410/4 rw 4x0x20",
    "CH_PIN1_OTHER 0x414/4 ro 4x0x20",
    "SPARE_CC 0x600/4 rw",
    "SPARE_CC_LOW 0x600/2 rw",
    "SPARE_PIN_SELECT 0x608/4 rw 2x0x8",
    "SPARE_PIN_OTHER 0x60c/4 ro 2x0x8",
    "LONG 0x700/8 rw",
    "HIGH 0x704/4 rw",
    "KEY 0x710/4 rw",
    "CONFIG_2 0x714/4 rw",
  ]);
  const { map } = made;
  assertEquals(fieldsOf(registerOf(map, "EVENTS")), [
    "SEEN_A 1:0 w1s",
    "SEEN_B 3:2 w1s",
    "SEEN_C 5:4 w1s",
  ]);
  assertEquals(registerOf(map, "GPIOA_MODE").reset, 0x5678n);
  assertEquals(registerOf(map, "CH_CC_LOW").reset, 0xffffn);
  assertEquals(registerOf(map, "TASKS_START").reset, undefined);
  assertEquals(notesOf(made), [
    "103:9 HIGH overlaps LONG, which is at 0x700; both are there",
    '107:13 The map can\'t say "oneToToggle" of TOGGLE: it is read and written',
    "111:13 The field ALL of HIGH is left out: 31:0 overlaps TOGGLE",
    "112:13 The field BEYOND of HIGH is left out: bit 35 is outside the register, which ends " +
    "with bit 31",
    "115:9 KEY has 24 bits; in the map it has 32",
    "120:9 The register CONFIG is called CONFIG_2",
    "121:9 ODD is left out: 0x722 is not a multiple of its width, 4 bytes",
    "122:9 WIDE is left out: it has 128 bits, and a map has 64 at most",
  ]);
});

Deno.test("an array whose stride is no multiple of its width is a list", async () => {
  const { map } = await importText(svd(
    "<cluster><dim>2</dim><dimIncrement>6</dimIncrement><name>C[%s]</name>" +
      "<addressOffset>0</addressOffset>" +
      "<register><name>R</name><addressOffset>2</addressOffset><size>16</size></register>" +
      "<register><name>L</name><addressOffset>0</addressOffset><size>8</size></register>" +
      "</cluster><register><dim>2</dim><dimIncrement>6</dimIncrement><name>Q_%s</name>" +
      "<addressOffset>12</addressOffset><size>32</size></register>",
  ));
  assertEquals(map.registers.map(short), [
    "C_R 0x2/2 rw 2x0x6",
    "C_L 0x0/1 rw 2x0x6",
    "Q_0 0xc/4 rw",
  ]);
});

Deno.test("names of a peripheral's registers are prefixed as it says", async () => {
  const text = svd("<register><name>R</name><addressOffset>0</addressOffset></register>")
    .replace("<baseAddress>", "<prependToName>A_</prependToName><baseAddress>");
  assertEquals((await importText(text)).map.registers.map(({ name }) => name), ["A_R"]);
});

Deno.test("registers of the same name are numbered", async () => {
  const register = (name: string, at: number) =>
    `<register><name>${name}</name><addressOffset>${4 * at}</addressOffset></register>`;
  const names = ["R", "r", "R_2", "R", "R-2", "é", "9", "x".repeat(80), "x".repeat(80)];
  const made = await importText(svd(names.map(register).join("")));
  assertEquals(made.map.registers.map(({ name }) => name), [
    "R",
    "r_2",
    "R_2_2",
    "R_3",
    "R_2_3",
    "_",
    "_9",
    "x".repeat(63),
    "x".repeat(57) + "_2",
  ]);
  assertEquals(notesOf(made).length, 8);
});

Deno.test("numbers have units and bases, sizes come from around", async () => {
  const { map } = await importText(svd(
    "<register><name>A</name><addressOffset>#100</addressOffset></register>" +
      "<register><name>B</name><addressOffset>1k</addressOffset><size>0b1000</size></register>",
    "<size>16</size><resetValue>0x1FFFF</resetValue>",
  ));
  assertEquals(map.registers.map(short), ["A 0x4/2 rw", "B 0x400/1 rw"]);
  assertEquals(map.registers.map(({ reset }) => reset), [0xffffn, 0xffn]);
});

Deno.test("each mistake is told with line and column, all in one go", async () => {
  const text = `<device>
  <name>D</name>
  <peripherals><peripheral><name>P</name><registers>
    <register><name>A</name></register>
    <register><name>B</name><addressOffset>4x</addressOffset></register>
    <register derivedFrom="AA"><name>C</name><addressOffset>8</addressOffset></register>
    <register><name>D</name><addressOffset>8</addressOffset><access>read-wirte</access></register>
    <register><addressOffset>8</addressOffset></register>
    <register><dim>2</dim><dimIncrement>4</dimIncrement><dimIndex>X</dimIndex><name>E%s</name>
      <addressOffset>8</addressOffset></register>
    <register><dim>2</dim><dimIncrement>4</dimIncrement><name>F</name>
      <addressOffset>8</addressOffset></register>
    <register><name>G</name><addressOffset>8</addressOffset><fields>
      <field><name>H</name></field>
      <field><name>I</name><bitRange>3:0</bitRange></field>
      <field><name>J</name><lsb>3</lsb><msb>2</msb></field>
      <field><name>K</name><bitOffset>8</bitOffset><enumeratedValues derivedFrom="L"/></field>
      <field><name>M</name><bitOffset>9</bitOffset><enumeratedValues><enumeratedValue>
        <name>N</name><value>two</value></enumeratedValue></enumeratedValues></field>
    </fields></register>
  </registers></peripheral></peripherals>
</device>`;
  assertEquals(await mistakesOf(text), [
    "4:5 <register> has no <addressOffset>",
    '5:29 <addressOffset> is "4x", not a number; write it as 16, 0x10 or #10000',
    '6:5 There is no <register> "AA" to be derived from; did you mean "A"?',
    '7:61 "read-wirte" is no access; did you mean "read-write"?',
    "8:5 <register> has no <name>",
    "9:57 <dimIndex> has 1 name, and <dim> is 2; write it as 0-3, A-D or A,B,C",
    "11:15 F has <dim>, but no %s in its name",
    "14:7 <field> has no <bitOffset>",
    '15:28 "3:0" are no bits; write them as [7:4]',
    "16:40 The field J has no bits",
    '17:52 There are no <enumeratedValues> "L" to be derived from',
    '19:23 "two" is no value; write it as 2, 0x2, 0b10 or 0b1x',
  ]);
});

Deno.test("circles and chains of derivations end with a mistake", async () => {
  const register = (name: string, from: string) =>
    `<register derivedFrom="${from}"><name>${name}</name>` +
    `<addressOffset>0</addressOffset></register>`;
  const [circle] = await mistakesOf(svd(register("A", "B") + register("B", "A")));
  assertMatch(circle!, /^1:\d+ <register> is derived from itself, over "B"$/);
  const [self] = await mistakesOf(svd(register("A", "A")));
  assertMatch(self!, /There is no <register> "A" to be derived from/);
  const chain = Array.from({ length: 5000 }, (_, i) => register(`R${i}`, `R${i + 1}`)).join("");
  assertMatch((await mistakesOf(svd(chain)))[0]!, /It is derived over more than 64 others/);
  const nested = "<cluster><name>A</name><addressOffset>0</addressOffset>" +
    '<cluster derivedFrom="A"><name>B</name><addressOffset>0</addressOffset></cluster></cluster>';
  assertMatch((await mistakesOf(svd(nested)))[0]!, /more than 64 clusters in one another/);
});

Deno.test("a few lines that mean millions of registers are refused", async () => {
  const cluster = (depth: number): string =>
    "<cluster><dim>1000</dim><dimIncrement>4</dimIncrement>" +
    `<name>C${depth}%s</name><addressOffset>0</addressOffset>${
      depth === 0
        ? "<register><name>R</name><addressOffset>0</addressOffset></register>"
        : cluster(depth - 1)
    }</cluster>`;
  const [mistake] = await mistakesOf(svd(cluster(8)));
  assertMatch(mistake!, /There are more registers, fields and values than a map can hold/);
  const derived = Array.from(
    { length: 20 },
    (_, i) =>
      `<cluster><name>D${i}</name><addressOffset>0</addressOffset>` +
      Array.from({ length: 10 }, (_, at) =>
        `<cluster derivedFrom="D${i + 1}"><name>E${at}</name>` +
        "<addressOffset>0</addressOffset></cluster>").join("") +
      "</cluster>",
  ).join("");
  const last = "<cluster><name>D20</name><addressOffset>0</addressOffset></cluster>";
  assertMatch((await mistakesOf(svd(derived + last)))[0]!, /more registers, fields and values/);
});

Deno.test("a device without peripherals, or one without registers, is a mistake", async () => {
  assertEquals(await mistakesOf("<device><name>D</name></device>"), [
    "1:1 The device has no <peripherals> with a <peripheral>",
  ]);
  assertEquals(await mistakesOf(svd("")), ["1:36 The peripheral P has no registers"]);
});
