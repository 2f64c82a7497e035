import { assert, assertEquals, assertRejects, assertThrows } from "@std/assert";
import fc from "fast-check";
import { EINVAL } from "../../../ffi/errno.ts";
import { DefinitionError, DeviceError, type InlineRegister, registers } from "../../../mod.ts";
import { loadRegisterMap, parseRegisterMap } from "../../../lib/registers/load.ts";
import type { ServedRegion } from "../../../lib/server/served_device.ts";
import { IoFdType } from "../../../lib/wire/io_fds.ts";

/** Reads `length` bytes as a little-endian number; the buffer was dirty. */
async function read(region: ServedRegion, offset: number, length: number): Promise<bigint> {
  const bytes = new Uint8Array(length).fill(0xaa);
  await region.read(offset, bytes);
  return bytes.reduceRight((value, byte) => value << 8n | BigInt(byte), 0n);
}

/** Writes a number as `length` bytes. */
async function write(region: ServedRegion, offset: number, length: number, value: bigint) {
  await region.write(offset, bytesOf(value, length));
}

function bytesOf(value: bigint, length: number): Uint8Array {
  return Uint8Array.from({ length }, (_, i) => Number((value >> BigInt(8 * i)) & 0xffn));
}

const ACCESSES = {
  registers: [
    { name: "RW", offset: 0x00, width: 4, reset: 0x11223344 },
    { name: "RO", offset: 0x04, width: 4, access: "ro", reset: 0x55667788 },
    { name: "WO", offset: 0x08, width: 4, access: "wo" },
    { name: "W1C", offset: 0x0c, width: 4, access: "w1c", reset: 0xffff_ffff },
    { name: "W1S", offset: 0x10, width: 4, access: "w1s" },
    { name: "RC", offset: 0x14, width: 4, access: "rc", reset: 0xffff_ffff },
    { name: "LONG", offset: 0x18, width: 8, reset: 0x0102_0304_0506_0708n },
    { name: "BYTE", offset: 0x24, width: 1 },
  ],
} as const;

Deno.test("registers() makes a region that is a power of two, and says which bytes migrate", () => {
  assertEquals(registers(ACCESSES).size, 64);
  assertEquals(registers(ACCESSES, { size: 0x100 }).size, 0x100);
  assertEquals(registers({ registers: [{ name: "A", offset: 0, width: 1 }] }).size, 16);
  assertEquals(registers({ registers: [] }).size, 16);
  assertEquals(registers(ACCESSES).contents[0]?.length, 0x25);
});

Deno.test("a client reads and writes by the access of each register", async () => {
  const region = registers(ACCESSES);
  const { regs } = region;
  const after = async (offset: number, value: bigint) => {
    await write(region, offset, 4, value);
    return await read(region, offset, 4);
  };
  assertEquals(await read(region, 0x00, 4), 0x11223344n);
  assertEquals(await after(0x00, 0xdeadbeefn), 0xdeadbeefn);
  assertEquals(await after(0x04, 0xffffffffn), 0x55667788n);
  assertEquals(await after(0x08, 0x12345678n), 0n);
  assertEquals(regs.WO.value, 0x12345678);
  assertEquals(await after(0x0c, 0x0000ffffn), 0xffff0000n);
  assertEquals(await after(0x10, 0x00000003n), 3n);
  assertEquals(await after(0x10, 0x00000104n), 0x107n);
  await write(region, 0x14, 4, 0n);
  assertEquals([await read(region, 0x14, 4), await read(region, 0x14, 4)], [0xffffffffn, 0n]);
  assertEquals(await read(region, 0x18, 8), 0x0102030405060708n);
});

Deno.test("a part of a register is read and written alone; it clears and sets nothing else", async () => {
  const region = registers(ACCESSES);
  await write(region, 0x01, 1, 0xeen);
  assertEquals(await read(region, 0x00, 4), 0x1122ee44n);
  assertEquals(await read(region, 0x02, 2), 0x1122n);
  assertEquals(await read(region, 0x1b, 2), 0x0405n);
  await write(region, 0x0d, 1, 0x0fn);
  assertEquals(await read(region, 0x0c, 4), 0xfffff0ffn);
  assertEquals(await read(region, 0x15, 1), 0xffn);
  assertEquals(await read(region, 0x14, 4), 0xffff00ffn);
});

Deno.test("an access goes over several registers, and what is between them reads as 0", async () => {
  const region = registers(ACCESSES);
  assertEquals(await read(region, 0x00, 8), 0x55667788_11223344n);
  assertEquals(await read(region, 0x02, 4), 0x7788_1122n);
  await write(region, 0x02, 4, 0xaabbccddn); // of RO nothing is taken
  assertEquals(await read(region, 0x00, 8), 0x55667788_ccdd3344n);
  await write(region, 0x20, 16, (1n << 128n) - 1n);
  assertEquals(await read(region, 0x20, 16), 0xffn << 32n);
  assertEquals(await read(region, 0x30, 16), 0n); // behind the last one
});

Deno.test("hooks are called once a register and access, whatever part of it that is", async () => {
  const calls: unknown[][] = [];
  const region = registers(ACCESSES);
  region.on({
    RW: {
      read: (...args) => void calls.push(["read RW", ...args]),
      write: (...args) => void calls.push(["write RW", ...args]),
    },
    W1C: { write: (...args) => void calls.push(["write W1C", ...args]) },
    LONG: {
      read: () => 0x1111_2222_3333_4444n,
      write: (...args) => void calls.push(["write LONG", ...args]),
    },
  });
  assertEquals(await read(region, 0x00, 4), 0x11223344n); // undefined: what it holds
  await read(region, 0x02, 4);
  await write(region, 0x01, 2, 0xaabbn);
  await write(region, 0x0e, 1, 0x0fn);
  await write(region, 0x16, 4, 0xffffffffn); // two bytes of LONG
  assertEquals(calls, [
    ["read RW", 0],
    ["read RW", 0],
    ["write RW", 0x11aabb44, 0x11223344, 0, 0x00aabb00],
    ["write W1C", 0xfff0ffff, 0xffffffff, 0, 0x000f0000],
    ["write LONG", 0x010203040506ffffn, 0x0102030405060708n, 0, 0xffffn],
  ]);
  assertEquals(await read(region, 0x1b, 4), 0x22223333n >> 8n | 0x11n << 24n);
});

Deno.test("hooks may take their time; the rest of the access follows them", async () => {
  const order: string[] = [];
  const region = registers(ACCESSES);
  const later = () => new Promise((resolve) => setTimeout(resolve, 1));
  region.on({
    RW: {
      async read() {
        order.push("read RW");
        await later();
        return 1;
      },
      async write() {
        order.push("RW begins");
        await later();
        order.push("RW ends");
      },
    },
    RO: { read: () => (order.push("read RO"), 2) },
    WO: { write: () => void order.push("WO") },
  });
  const reading = read(region, 0, 8);
  assertEquals(order, ["read RW"]);
  assertEquals(await reading, 2n << 32n | 1n);
  await write(region, 0, 12, 0n);
  assertEquals(order, ["read RW", "read RO", "RW begins", "RW ends", "WO"]);
});

Deno.test("a hook that throws undoes its register, and the rest does not happen", async () => {
  const region = registers(ACCESSES);
  const { regs } = region;
  const fail = () => {
    throw new Error("no");
  };
  region.on({ RW: { write: fail } });
  await assertRejects(() => write(region, 0, 12, 0x1234n << 64n), Error, "no");
  assertEquals([regs.RW.value, regs.WO.value], [0x11223344, 0]);
  region.on({ RW: { write: () => Promise.reject(new Error("later")), read: fail } });
  await assertRejects(() => write(region, 0, 12, 0x1234n << 64n), Error, "later");
  assertEquals([regs.RW.value, regs.WO.value], [0x11223344, 0]);
  await assertRejects(() => read(region, 0, 4), Error, "no");
  // What the hook itself has set stays.
  region.on({
    RW: {
      write() {
        regs.RW.value = 7;
        fail();
      },
    },
  });
  await assertRejects(() => write(region, 0, 4, 1n), Error, "no");
  assertEquals(regs.RW.value, 7);
});

Deno.test("a hook that gives what the register can't hold is told of", async () => {
  const region = registers(ACCESSES);
  for (const value of [-1, 2 ** 32, 1.5, NaN]) {
    region.on({ RW: { read: () => value } });
    await assertRejects(() => read(region, 0, 4), RangeError, "RW can't hold");
  }
  region.on({ LONG: { read: () => 1n << 64n } });
  await assertRejects(() => read(region, 0x18, 4), RangeError, "LONG can't hold");
});

Deno.test("on() refuses a register that there is not, and names the nearest", () => {
  const region = registers(ACCESSES);
  // @ts-expect-error the types know the names
  assertThrows(() => region.on({ RV: {} }), DefinitionError, 'did you mean "RW"?');
  // @ts-expect-error values of 8 bytes are bigints
  region.on({ LONG: { read: () => 1 } });
});

const FIELDS = {
  registers: [
    {
      name: "CTRL",
      offset: 0,
      width: 4,
      reset: 0x8000_0100,
      fields: [
        { name: "EN", bits: 0 },
        { name: "MODE", bits: "7:4" },
        { name: "ERR", bits: 16, access: "w1c" },
        { name: "TOP", bits: "31:24", access: "ro" },
      ],
    },
    {
      name: "BASE",
      offset: 8,
      width: 8,
      fields: [{ name: "PAGE", bits: "63:12" }, { name: "VALID", bits: 0 }],
    },
    { name: "ALL", offset: 16, width: 8, fields: [{ name: "BITS", bits: "63:0" }] },
  ],
} as const;

Deno.test("fields are properties, and their access is that of the bits", async () => {
  const region = registers(FIELDS);
  const { CTRL, BASE, ALL } = region.regs;
  CTRL.ERR = 1;
  await write(region, 0, 4, 0xffff_ffffn);
  // Reserved bits and TOP are as they were, ERR is cleared.
  assertEquals(CTRL.value, 0x8000_01f1);
  assertEquals([CTRL.EN, CTRL.MODE, CTRL.ERR, CTRL.TOP], [1, 15, 0, 0x80]);
  CTRL.set({ EN: 0, MODE: 9 });
  CTRL.TOP = 0xff;
  assertEquals(CTRL.value, 0xff00_0190);
  CTRL.reset();
  assertEquals(CTRL.value, 0x8000_0100);
  BASE.value = 0xffff_ffff_ffff_f001n;
  assertEquals([BASE.PAGE, BASE.VALID], [2 ** 52 - 1, 1]);
  BASE.set({ PAGE: 1 });
  assertEquals(BASE.value, 0x1001n);
  assertEquals(Object.hasOwn(ALL, "BITS"), false); // a number can't hold it
});

Deno.test("values that do not fit are refused", () => {
  const { CTRL, BASE } = registers(FIELDS).regs;
  assertThrows(() => CTRL.MODE = 16, RangeError, "MODE can't hold 16: it has 4 bits");
  assertThrows(() => CTRL.set({ EN: -1 }), RangeError, "EN can't hold -1: it has 1 bit");
  assertThrows(() => CTRL.value = -1, RangeError, "CTRL can't hold -1");
  assertThrows(() => BASE.value = 1n << 64n, RangeError, "BASE can't hold");
  // @ts-expect-error the types know the fields
  assertThrows(() => CTRL.set({ NONE: 1 }), TypeError, "Cannot set CTRL.NONE: there is no such");
  assertEquals(CTRL.value, 0x8000_0100);
});

const ARRAY = {
  registers: [
    { name: "SQ", offset: 0, width: 4, access: "wo", count: 4, stride: 8 },
    { name: "CQ", offset: 4, width: 4, count: 4, stride: 8, reset: 5 },
  ],
} as const;

Deno.test("an array tells its hooks which one", async () => {
  const region = registers(ARRAY);
  const { SQ, CQ } = region.regs;
  const calls: number[][] = [];
  region.on({ SQ: { write: (value, old, index) => void calls.push([value, old, index]) } });
  await write(region, 0x10, 4, 7n);
  await write(region, 0x00, 16, 0x4_00000003_00000002_00000001n);
  assertEquals(calls, [[7, 0, 2], [1, 0, 0], [3, 0, 1]]);
  assertEquals([SQ.length, SQ.at(2).value, CQ.at(0).value, CQ.at(1).value, CQ.at(3).value], [
    4,
    7,
    2,
    4,
    5,
  ]);
  for (const index of [-1, 4, 0.5]) assertThrows(() => SQ.at(index), RangeError, "There is no SQ");
});

Deno.test("a size cuts an array off, and leaves registers out", async () => {
  const { regs, size } = registers(ARRAY, { size: 16 });
  assertEquals([size, regs.SQ.length, regs.CQ.length], [16, 2, 2]);
  const nvme = registers(await loadRegisterMap("nvme"), { size: 0x1000 });
  assertEquals([nvme.size, nvme.regs.CC.name, "SQTDBL" in nvme.regs], [0x1000, "CC", false]);
  assertThrows(() => nvme.regs.SQTDBL, TypeError, "the register is beyond the region's size");
  assertThrows(
    () => registers({ registers: [{ name: "FAR", offset: 1 << 30, width: 4 }] }),
    RangeError,
    "Give a size",
  );
});

Deno.test("of registers that overlap the one that is just the access takes it", async () => {
  const region = registers({
    registers: [
      { name: "WORD", offset: 0, width: 4, reset: 0x11223344 },
      { name: "LOW", offset: 0, width: 2, overlaps: "WORD" },
      { name: "THIRD", offset: 2, width: 1, overlaps: "WORD" },
    ],
  });
  const calls: string[] = [];
  region.on({
    WORD: { write: () => void calls.push("WORD") },
    LOW: { write: () => void calls.push("LOW") },
    THIRD: { read: () => void calls.push("THIRD") },
  });
  await write(region, 0, 4, 0x55667788n);
  await write(region, 0, 2, 0xaabbn);
  await write(region, 3, 1, 0xffn);
  assertEquals(await read(region, 2, 1), 0x66n);
  assertEquals(calls, ["WORD", "LOW", "WORD", "THIRD"]);
  assertEquals(region.regs.WORD.value, 0xff66aabb);
});

Deno.test("of two registers at one place the one that is read and the one that is written take turns", async () => {
  const region = registers({
    registers: [
      { name: "RECEIVED", offset: 0, width: 1, access: "rc", reset: 0x11 },
      { name: "SENT", offset: 0, width: 1, access: "wo", reset: 0x22, overlaps: "RECEIVED" },
      { name: "CLEAR", offset: 4, width: 4, count: 2, access: "wo" },
      {
        name: "CAUSE",
        offset: 4,
        width: 4,
        count: 2,
        access: "ro",
        reset: 7,
        overlaps: "CLEAR",
        fields: [{ name: "LINE", bits: 3 }],
      },
    ],
  });
  const { regs } = region;
  const calls: string[] = [];
  region.on({
    SENT: { write: (value, old) => void calls.push(`SENT ${old} ${value}`) },
    CLEAR: { write: (value, _old, index) => void calls.push(`CLEAR ${index} ${value}`) },
    CAUSE: { read: (index) => void calls.push(`CAUSE ${index}`) },
  });
  assertEquals([region.size, regs.RECEIVED.value, regs.SENT.value], [16, 0x11, 0x22]);
  await write(region, 0, 1, 0x33n);
  assertEquals(await read(region, 0, 1), 0x11n);
  assertEquals([regs.RECEIVED.value, regs.SENT.value], [0, 0x33]);
  await write(region, 4, 8, 0x0000_0002_0000_0001n);
  regs.CAUSE.at(1).LINE = 1;
  assertEquals(await read(region, 4, 8), 0x0000_000f_0000_0007n);
  assertEquals([regs.CLEAR.at(1).value, regs.CAUSE.at(1).value], [2, 15]);
  assertEquals(calls, ["SENT 34 51", "CLEAR 0 1", "CLEAR 1 2", "CAUSE 0", "CAUSE 1"]);
  assertThrows(() => regs.CAUSE.at(1).set({ LIME: 1 } as never), TypeError, "CAUSE.at(1).LIME");
  assertEquals(region.review().unreachable, []);
  region.reset();
  assertEquals([regs.RECEIVED.value, regs.SENT.value, regs.CLEAR.at(1).value], [0x11, 0x22, 0]);
});

Deno.test("reset() puts reset values back and calls no hooks", async () => {
  const region = registers(ACCESSES);
  region.on({
    RW: {
      write() {
        throw new Error("no");
      },
    },
  });
  region.regs.RW.value = 1;
  await write(region, 0x18, 8, 1n);
  region.reset();
  assertEquals([region.regs.RW.value, region.regs.LONG.value], [0x11223344, 0x0102030405060708n]);
});

Deno.test("ioeventfds are parts that a client may write without a message", () => {
  const { ioFds } = registers(ARRAY, { ioeventfds: ["SQ"] });
  assertEquals(
    ioFds.map(({ offset, size, type }) => [offset, size, type]),
    [0, 8, 16, 24].map(
      (offset) => [offset, 4, IoFdType.IOEVENTFD],
    ),
  );
  assertThrows(
    () => registers(ARRAY, { ioeventfds: ["SR"] }),
    DefinitionError,
    'did you mean "SQ"?',
  );
  const shadows = registers(ARRAY, { ioeventfds: ["SQ"], shadowIoeventfds: ["SQ"] }).ioFds;
  assertEquals(shadows.map(({ type }) => type), [0, 0, 0, 0, 2, 2, 2, 2]);
  assertThrows(
    () => registers(ARRAY, { shadowIoeventfds: ["SR"] }),
    DefinitionError,
    "shadowIoeventfds[0]",
  );
});

Deno.test("registers() takes a map from a file as it takes one that is written here", async () => {
  const text = JSON.stringify({ name: "fields", registers: FIELDS.registers });
  const { map } = await parseRegisterMap(text, "fields.yaml");
  const region = registers(map!);
  region.regs.CTRL.MODE = 3;
  assertEquals(region.regs.CTRL.value, 0x8000_0130);
  assertEquals(region.size, registers(FIELDS).size);
});

Deno.test("registers() tells all that is wrong with a map", () => {
  const bad = (all: readonly InlineRegister[], ...messages: string[]) => {
    for (const message of messages) {
      assertThrows(() => registers({ name: "bad", registers: all }), DefinitionError, message);
    }
  };
  bad(
    [{ name: "A", offset: 2, width: 4 }, { name: "a", offset: 6, width: 1, reset: 256 }],
    "Cannot use the register map bad: ",
    "\n  bad.A.offset: 0x2 is not a multiple of the width",
    "\n  bad.a.name: There is a register a already",
    "\n  bad.a.reset: 0x100 does not fit 8 bits",
  );
  bad(
    [{ name: "A", offset: 0, width: 4 }, { name: "B", offset: 2, width: 2 }],
    "B overlaps A",
  );
  bad(
    [{ name: "A", offset: 0, width: 1, fields: [{ name: "F", bits: "9:2" }] }],
    "Bit 9 is outside the register",
  );
  bad([{ name: "A", offset: -4, width: 4 }], "bad.A.offset: -4, not a whole number");
});

Deno.test("any access does what the accesses of its bytes would", async () => {
  // Of registers without hooks, which bytes an access takes together makes no difference.
  const widths = [1, 2, 4, 8] as const;
  const kinds = ["rw", "ro", "wo", "w1c", "w1s", "rc"] as const;
  const register = fc.record({
    slot: fc.integer({ min: 0, max: 7 }),
    width: fc.constantFrom(...widths),
    access: fc.constantFrom(...kinds),
    reset: fc.bigInt({ min: 0n, max: 255n }),
  });
  const access = fc.record({
    isWrite: fc.boolean(),
    offset: fc.integer({ min: 0, max: 63 }),
    data: fc.uint8Array({ minLength: 1, maxLength: 16 }),
  });
  const maps = fc.uniqueArray(register, { selector: ({ slot }) => slot, minLength: 1 });
  await fc.assert(
    fc.asyncProperty(maps, fc.array(access), async (all, accesses) => {
      const make = () =>
        registers({
          registers: all.map(({ slot, ...rest }) => ({
            name: `R${slot}`,
            offset: slot * 8,
            ...rest,
          })),
        }, { size: 64 });
      const [whole, bytewise] = [make(), make()];
      for (const { isWrite, offset, data } of accesses) {
        const bytes = data.subarray(0, 64 - offset);
        const one = bytes.slice();
        await (isWrite ? whole.write(offset, one) : whole.read(offset, one));
        const other = bytes.slice();
        for (let i = 0; i < other.length; i++) {
          const byte = other.subarray(i, i + 1);
          await (isWrite ? bytewise.write(offset + i, byte) : bytewise.read(offset + i, byte));
        }
        assertEquals(one, other);
        assertEquals(whole.contents, bytewise.contents);
      }
      assert(true);
    }),
    { numRuns: 300 },
  );
});

Deno.test("accessWidth refuses accesses of other widths, and those between registers", () => {
  const map = {
    registers: [
      { name: "A", offset: 0, width: 4, reset: 7 },
      { name: "HALF", offset: 4, width: 2, reset: 5 },
    ],
  } as const;
  const region = registers(map, { size: 16, accessWidth: 4 });
  const into = new Uint8Array(4);
  for (const [offset, first] of [[0, 7], [4, 5], [12, 0]] as const) {
    region.read(offset, into);
    assertEquals([...into], [first, 0, 0, 0]);
  }
  for (
    const [offset, length] of [[0, 1], [0, 2], [0, 8], [1, 4], [2, 4], [4, 2], [0, 16]] as const
  ) {
    for (const access of ["read", "write"] as const) {
      const error = assertThrows(
        () => region[access](offset, new Uint8Array(length)),
        DeviceError,
        "accesses have 4 bytes",
      );
      assertEquals(error.errno, EINVAL);
    }
  }
  assertEquals([region.regs.A.value, region.regs.HALF.value], [7, 5]);
  assertThrows(() => registers(map, { accessWidth: 3 as never }), DefinitionError, "1, 2, 4 or 8");
});

Deno.test("a region may have more registers than 16 bits count", () => {
  const count = 2 ** 16 + 1;
  const all = Array.from({ length: count }, (_, i) => ({
    name: `R${i}`,
    offset: i,
    width: 1 as const,
  }));
  const region = registers({ registers: all });
  region.write(count - 1, new Uint8Array([7]));
  const into = new Uint8Array(2);
  region.read(count - 2, into);
  assertEquals([...into], [0, 7]);
});
