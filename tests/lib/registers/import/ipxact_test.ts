import { assertEquals, assertMatch } from "@std/assert";
import type { Register } from "../../../../lib/registers/mod.ts";
import { component, importSample, importText, mistakesOf, notesOf, registerOf } from "./_import.ts";

function short({ name, offset, width, access, array }: Register): string {
  const many = array === undefined ? "" : ` ${array.count}x0x${array.stride.toString(16)}`;
  return `${name} 0x${offset.toString(16)}/${width} ${access}${many}`;
}

const register = (name: string, more = "") =>
  `<register><name>${name}</name><addressOffset>0</addressOffset><size>32</size>${more}</register>`;

Deno.test("a component of 2014: expressions, files of registers, several blocks", async () => {
  const made = await importSample("engine.xml");
  assertEquals(notesOf(made), []);
  const { map } = made;
  assertEquals([map.name, map.title], ["host", "Registers for the host"]);
  assertEquals(map.registers.map(short), [
    "ID 0x0/4 ro",
    "STATUS 0x4/4 rw",
    "STATUS_DEBUG 0x4/4 ro",
    "CHANNEL_ADDRESS 0x100/8 rw 4x0x20",
    "CHANNEL_TOKEN0 0x110/4 wo 4x0x20",
    "CHANNEL_TOKEN1 0x114/4 wo 4x0x20",
    "ENTRY 0x1000/8 ro 8x0x8",
  ]);
  const [id, status] = map.registers;
  // Of REVISION only the low four bits are known
  assertEquals(id!.reset, 0xf1234n);
  assertEquals(id!.fields.map(({ name }) => name), ["VENDOR", "REVISION"]);
  const [done, errors] = status!.fields;
  assertEquals([done!.access, errors!.access], ["w1c", "rc"]);
  assertEquals([...done!.enum], [[1n, "done"]]);
});

Deno.test("a block of a memory map counts from its own start", async () => {
  const { map } = await importSample("engine.xml", "host.tables");
  assertEquals([map.name, map.registers.map(short)], ["host_tables", ["ENTRY 0x0/8 ro 8x0x8"]]);
});

Deno.test("a component of 2009: resets of registers, ids of values", async () => {
  const { map } = await importText(`<?xml version="1.0"?>
<spirit:component xmlns:spirit="http://www.spiritconsortium.org/XMLSchema/SPIRIT/1685-2009">
  <spirit:name>old</spirit:name>
  <spirit:memoryMaps><spirit:memoryMap>
    <spirit:name>slave</spirit:name>
    <spirit:addressBlock>
      <spirit:name>regs</spirit:name>
      <spirit:baseAddress spirit:format="long">0x10</spirit:baseAddress>
      <spirit:range>1K</spirit:range>
      <spirit:width>32</spirit:width>
      <spirit:register>
        <spirit:name>CTRL</spirit:name>
        <spirit:dim>2</spirit:dim>
        <spirit:addressOffset>0x4</spirit:addressOffset>
        <spirit:size>16</spirit:size>
        <spirit:access>read-writeOnce</spirit:access>
        <spirit:reset><spirit:value>0xFFFF</spirit:value><spirit:mask>0x0FF0</spirit:mask></spirit:reset>
        <spirit:field>
          <spirit:name>MODE</spirit:name><spirit:bitOffset>4</spirit:bitOffset>
          <spirit:bitWidth>n</spirit:bitWidth>
          <spirit:enumeratedValues>
            <spirit:enumeratedValue><spirit:name>slow</spirit:name><spirit:value>0</spirit:value></spirit:enumeratedValue>
          </spirit:enumeratedValues>
        </spirit:field>
      </spirit:register>
    </spirit:addressBlock>
  </spirit:memoryMap></spirit:memoryMaps>
  <spirit:parameters><spirit:parameter>
    <spirit:name>width</spirit:name><spirit:value spirit:id="n">2</spirit:value>
  </spirit:parameter></spirit:parameters>
</spirit:component>`);
  assertEquals(map.registers.map(short), ["CTRL 0x14/2 rw 2x0x2"]);
  const [ctrl] = map.registers;
  assertEquals(ctrl!.reset, 0xff0n);
  assertEquals([ctrl!.fields[0]!.high, ctrl!.fields[0]!.low], [5, 4]);
});

Deno.test("a component of 2022: arrays with strides, policies of access", async () => {
  const made = await importText(component(
    `<register><name>R</name><array><dim>4</dim><stride>8</stride></array>
      <addressOffset>0</addressOffset><size>32</size>
      <accessPolicies><accessPolicy><access>write-only</access></accessPolicy></accessPolicies>
      <field><name>F</name><array><dim>2</dim></array><bitOffset>0</bitOffset><bitWidth>3</bitWidth>
        <fieldAccessPolicies><fieldAccessPolicy><access>read-write</access>
          <modifiedWriteValue>oneToSet</modifiedWriteValue></fieldAccessPolicy></fieldAccessPolicies>
      </field></register>
     <register><name>OTHER</name><addressOffset>4</addressOffset><size>32</size>
       <registerDefinitionRef typeDefinitions="t">shared</registerDefinitionRef></register>`,
  ));
  assertEquals(made.map.registers.map(short), ["R 0x0/4 wo 4x0x8", "OTHER 0x4/4 rw"]);
  assertEquals(
    registerOf(made.map, "R").fields.map((
      { name, high, low, access },
    ) => [name, high, low, access]),
    [["F0", 2, 0, "w1s"], ["F1", 5, 3, "w1s"]],
  );
  assertMatch(notesOf(made)[0]!, /What OTHER has of "shared" is left out: definitions in other fi/);
});

Deno.test("addresses may count in units of more than a byte", async () => {
  const { map } = await importText(
    component(
      "<register><name>R</name><addressOffset>3</addressOffset><size>32</size></register>",
    ).replace("</addressBlock>", "</addressBlock><addressUnitBits>32</addressUnitBits>"),
  );
  assertEquals(map.registers.map(short), ["R 0xc/4 rw"]);
});

Deno.test("each mistake of a component is told with its place", async () => {
  const field = "<field><name>F</name><bitOffset>0</bitOffset></field>";
  const text = component(
    [
      "",
      register("A", field),
      register("B", "<access>rw</access>"),
      register("C", "<dim>X + 1</dim>"),
      register("D", "<dim>1 / 0</dim>"),
      register("E", "<dim>-1</dim>"),
      "<registerFile><name>G</name><dim>2</dim><addressOffset>0</addressOffset></registerFile>",
      "<register><name>H</name><size>8</size></register>",
    ].join("\n"),
  );
  assertEquals(await mistakesOf(text), [
    "2:72 The field F has no <bitWidth>",
    '3:72 "rw" is no access; write read-only, write-only, read-write, writeOnce, read-writeOnce',
    '4:72 <dim> is "X + 1", which can\'t be computed: there is no parameter X',
    '5:72 <dim> is "1 / 0", which can\'t be computed: it divides by 0',
    "6:72 <dim> is -1, which is below 0",
    "7:1 <registerFile> repeats, but has no <range>",
    "8:1 <register> has no <addressOffset>",
  ]);
});

Deno.test("what is no component, or one without memory maps, is told", async () => {
  assertEquals(await mistakesOf("<design/>"), [
    "1:1 The file begins with <design>; CMSIS-SVD begins with <device>, IP-XACT with <component>",
  ]);
  assertMatch((await mistakesOf("<component/>"))[0]!, /no <memoryMaps> with a <memoryMap>/);
});
