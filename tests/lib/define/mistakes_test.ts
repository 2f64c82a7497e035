import { assertEquals, assertThrows } from "@std/assert";
import {
  callbacks,
  cap,
  defineDevice,
  DefinitionError,
  memory,
  option,
  overlay,
  registers,
} from "../../../mod.ts";
import { testFds } from "../../_fds.ts";

/** Calls something as JavaScript would, and returns all mistakes that it throws. */
function mistakesOf(act: () => unknown): readonly string[] {
  return assertThrows(act, DefinitionError).mistakes;
}

// deno-lint-ignore no-explicit-any -- what the types would refuse
const any = (value: unknown): any => value;

Deno.test("hooks that there are not are refused, all in one go, and none is set", () => {
  const bar0 = registers({ registers: [{ name: "DATA", offset: 0, width: 4 }] });
  const read = () => 7;
  const hooks = {
    DATA: { read, reed() {}, write: 5 },
    DATTA: { read },
    data: undefined,
  };
  assertEquals(mistakesOf(() => bar0.on(any(hooks))), [
    'registers.DATA.reed: unknown; did you mean "read"?',
    "registers.DATA.write: 5, not a function",
    'registers.DATTA: there is no such register in the region; did you mean "DATA"?',
    'registers.data: there is no such register in the region; did you mean "DATA"?',
  ]);
  const into = new Uint8Array(4);
  bar0.read(0, into);
  assertEquals(into[0], 0);
  assertEquals(mistakesOf(() => bar0.on(any({ DATA: read }))), [
    "registers.DATA: a function, not { read, write }",
  ]);
  assertEquals(mistakesOf(() => bar0.on(any(read))), [
    "registers: a function, not { NAME: { read, write } }",
  ]);
  class Hooks {
    count = 0;
    reed() {}
  }
  assertEquals(mistakesOf(() => bar0.on(any({ DATA: new Hooks() }))), [
    "registers.DATA: has neither read nor write",
  ]);
  class Counter {
    count = 0;
    read(): number {
      return ++this.count;
    }
  }
  bar0.on({ DATA: new Counter() });
  bar0.read(0, into);
  assertEquals(into[0], 1);
});

Deno.test("a map that is written here is checked as one in a file is", () => {
  const map = {
    name: "uart",
    titel: "x",
    registers: [
      { name: "A", offset: 0, width: 3, acces: "ro" },
      { name: "B", offset: "4", width: 4, access: "r0", count: 1.5, reset: "1" },
      { offset: 8, width: 4 },
      5,
      { name: "C", offset: 0x10, width: 4, fields: [{ nam: "F", bits: "a" }] },
      { name: "E", offset: 0x20, width: 4, region: "bar9" },
      { name: "D", offset: 0x12, width: 2, fields: [{ name: "G", bits: 1, enum: { 1: 2 } }] },
    ],
  };
  assertEquals(mistakesOf(() => registers(any(map))), [
    'uart.titel: unknown; did you mean "title"?',
    'uart.A.acces: unknown; did you mean "access"?',
    "uart.A.width: 3, not a width of 1, 2, 4 or 8 bytes",
    'uart.B.offset: "4", not a whole number from 0 on',
    'uart.B.access: "r0", not "ro" or "rw" or "wo" or "rc" or "w1c" or "w1s"',
    'uart.B.reset: "1", not a whole number from 0 on',
    "uart.B.count: 1.5, not a whole number from 0 on",
    "uart[2].name: missing; it takes a name of letters, digits and _",
    "uart[3]: 5, not an object with a name",
    'uart.C[0].nam: unknown; did you mean "name"?',
    "uart.C[0].name: missing; it takes a name of letters, digits and _",
    'uart.C[0].bits: "a", not the bits of a field, as "7:4" from the highest to the lowest, or 3',
    'uart.E.region: "bar9", not "bar0" or "bar1" or "bar2" or "bar3" or "bar4" or "bar5" or ' +
    '"rom" or "config" or "vga"',
    "uart.D.G.enum: an object, not an object of values to names",
    'uart.D.offset: D overlaps C, which is at 0x10 to 0x13; if that is meant, add "overlaps: C"',
  ]);
  for (const wrong of [undefined, null, 5, {}, { registers: 5 }]) {
    assertThrows(() => registers(any(wrong)), DefinitionError, "the register map registers");
  }
});

Deno.test("what makes regions, capabilities and options refuses what it does not take", () => {
  const region = callbacks({ size: 16 });
  const wrong: [() => unknown, string][] = [
    [
      () => registers(any({ registers: [] }), any({ sise: 5 })),
      "options.sise: unknown; did you me",
    ],
    [
      () => memory(any({ size: 4096, mapable: false })),
      'memory.mapable: unknown; did you mean "map',
    ],
    [() => memory(any({})), "memory.size: missing; it takes a number"],
    [
      () => memory(any({ size: 4096, mappable: [{ offset: 0, len: 4096 }] })),
      "memory.mappable[0].len: unknown",
    ],
    [() => callbacks(any({ size: 4, raed() {} })), 'callbacks.raed: unknown; did you mean "read"?'],
    [() => callbacks(any(undefined)), "callbacks: undefined, not an object"],
    [
      () => overlay(region, any([{ ofset: 0, region }])),
      'parts[0].ofset: unknown; did you mean "of',
    ],
    [
      () => overlay(region, any([{ offset: 0, region: {} }])),
      "parts[0].region: an object, not a r",
    ],
    [() => overlay(region, any([undefined])), "parts[0]: undefined, not { offset: 0, region: "],
    [() => overlay(region, any({ offset: 0 })), "parts: an object, not a list"],
    [() => overlay(any(undefined), []), "the region below: undefined, not a region; registers,"],
    [
      () => memory(any({ size: 4096, mappable: new Array(1) })), // as [,]
      "memory.mappable[0]: undefined, not an object",
    ],
    [
      () => registers(any({ registers: new Array(1) })),
      "registers[0]: undefined, not an object wi",
    ],
    [
      () => registers({ registers: [] }, any({ ioeventfds: [5] })),
      "ioeventfds[0]: 5, not a name",
    ],
    [() => cap.serialNumber(any(5)), "cap.serialNumber: 5, not a bigint, as 0x1234n"],
    [() => cap.msi(any({ vector: 4 })), 'cap.msi.vector: unknown; did you mean "vectors"?'],
    [() => cap.pm(any({ noSoftreset: 4 })), 'cap.pm.noSoftreset: unknown; did you mean "noSoftRes'],
    [() => cap.msix(any({ vectors: 4 })), "cap.msix.bar: missing; it takes a number"],
    [() => cap.express(any({ lane: 4 })), 'cap.express.lane: unknown; did you mean "lanes"?'],
    [() => cap.vendor([1], any({ writeable: [1] })), "cap.vendor.writeable: unknown; did you mean"],
    [() => cap.aer(any({ att: 4 })), 'cap.aer.att: unknown; did you mean "at"?'],
    [() => cap.vendor(any("abc")), 'cap.vendor.bytes: "abc", not a list of bytes'],
    [() => cap.vendor([1, 256]), "cap.vendor.bytes: a list, not a list of bytes"],
    [() => cap.express({ lanes: 3 }), "cap.express.lanes: 3, not one of 1, 2, 4, 8, 12, 16, 32"],
    [() => cap.express({ speed: 7 }), "cap.express.speed: 7, not a whole number from 1 to 6"],
    [() => cap.pm({ version: 4 }), "cap.pm.version: 4, not a whole number from 1 to 3"],
    [() => cap.extended({ id: 0x10000, bytes: [] }), "cap.extended.id: 65536, not a whole num"],
    [() => cap.standard(any({ id: 9 })), "cap.standard.bytes: missing"],
    [() => cap.extended(any({ id: 9, bytes: [], vers: 1 })), "cap.extended.vers: unknown"],
    [() => option.integer(any({ description: "", defualt: 1 })), 'did you mean "default"?'],
    [() => option.text(any({})), "option.text.description: missing"],
    [() => option.choice(any({ description: "" })), "option.choice.choices: missing"],
    [() => option.boolean(any({ description: "", min: 1 })), "option.boolean.min: unknown"],
  ];
  for (const [act, message] of wrong) assertThrows(act, DefinitionError, message);
});

Deno.test("all that is wrong with a definition is said in one go, each with its place", () => {
  const spec = {
    name: "x",
    titel: "y",
    pci: {
      vendor: 0x1234,
      devise: 1,
      interruptPin: "E",
      interruptMasking: "guest",
      subsystem: { vendor: 1 },
      capabilities: [cap.pm, cap.msi(), cap.msi({ vectors: 2 })],
    },
  };
  assertEquals(mistakesOf(() => defineDevice(any(spec))), [
    'titel: unknown; did you mean "title"?',
    "create: missing; it takes the function that makes a device",
    'pci.devise: unknown; did you mean "device"?',
    "pci.device: missing; it takes a number",
    'pci.interruptPin: "E", not "A" or "B" or "C" or "D"',
    'pci.interruptMasking: "guest", not "client" or "device"',
    "pci.subsystem.device: missing; it takes a number",
    "pci.capabilities[0]: a function, not a capability; cap makes them, as cap.pm()",
    "pci.capabilities[2]: a second capability MSI; a device has one",
  ]);
});

testFds("MSI-X that does not fit its BAR says table, PBA, BAR and the size that it takes", () => {
  const make = (size: number, msix: { table?: number; pba?: number } = {}, io = false) =>
    defineDevice({
      name: "x",
      pci: { vendor: 1, device: 1, capabilities: [cap.msix({ vectors: 16, bar: 2, ...msix })] },
      create: () => ({ regions: { bar2: callbacks({ size, io }) } }),
    }).create();
  assertEquals(mistakesOf(() => make(256)), [
    "MSI-X does not fit bar2 of 256 bytes: its table of 16 vectors is at 0x0 to 0xff, its PBA at " +
    "0x800 to 0x807; give bar2 a size of 4096 bytes, or MSI-X a BAR of its own",
  ]);
  assertEquals(mistakesOf(() => make(128, { pba: 0x100 })).length, 1);
  assertEquals(mistakesOf(() => make(4096, {}, true)), [
    "MSI-X is in bar2, which is I/O ports; it takes a BAR of memory",
  ]);
  make(512, { pba: 0x100 }).close?.();
  const mapped = defineDevice({
    name: "x",
    pci: { vendor: 1, device: 1, capabilities: [cap.msix({ vectors: 1, bar: 0 })] },
    create: () => ({ regions: { bar0: memory({ size: 4096 }) } }),
  });
  assertThrows(() => mapped.create(), RangeError, "Cannot put BAR0's MSI-X table at 0x0 to 0xf: a");
});
