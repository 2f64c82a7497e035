import { assertEquals } from "@std/assert";
import fc from "fast-check";
import {
  bitsText,
  decodeRegister,
  fieldLines,
  fieldMask,
  loadRegisterMap,
  type Register,
  registerLines,
} from "../../../lib/registers/mod.ts";

const nvme = await loadRegisterMap("nvme");

function nvmeRegister(name: string): Register {
  return nvme.registers.find((each) => each.name === name)!;
}

/** A register of 8 bytes whose bits all belong to a field, cut at random places. */
const tiled: fc.Arbitrary<Register> = fc.uniqueArray(fc.integer({ min: 1, max: 63 })).map(
  (cuts) => {
    const starts = [0, ...cuts.sort((a, b) => a - b)];
    const fields = starts.map((low, i) => ({
      name: `F${i}`,
      low,
      high: (starts[i + 1] ?? 64) - 1,
      access: "rw" as const,
      enum: new Map<bigint, string>(),
    }));
    return { name: "R", region: "bar0", offset: 0, width: 8, access: "rw", fields };
  },
);

Deno.test("decodeRegister() loses no bit of a register that is all fields", () => {
  fc.assert(fc.property(tiled, fc.bigInt(0n, 2n ** 64n - 1n), (register, value) => {
    const decoded = decodeRegister(register, value);
    const whole = decoded.reduce((sum, each, i) => {
      const field = register.fields[i]!;
      assertEquals(each.bits, bitsText(field));
      assertEquals(each.value >> BigInt(field.high - field.low + 1), 0n);
      return sum | (each.value << BigInt(field.low));
    }, 0n);
    assertEquals(whole, value);
    assertEquals(
      register.fields.reduce((sum, field) => sum + fieldMask(field), 0n),
      2n ** 64n - 1n,
    );
    assertEquals(fieldLines(register, value).join().includes("reserved"), false);
  }));
});

Deno.test("decodeRegister() gives values their meaning", () => {
  assertEquals(decodeRegister(nvmeRegister("CSTS"), 0b1001).slice(0, 3), [
    { name: "RDY", bits: "0", value: 1n },
    { name: "CFS", bits: "1", value: 0n },
    { name: "SHST", bits: "3:2", value: 2n, meaning: "shutdown complete" },
  ]);
});

Deno.test("registerLines() shows the capabilities of QEMU's nvme", () => {
  assertEquals(registerLines(nvmeRegister("CAP"), 0x0040_1820_0f01_07ffn), [
    "CAP 0x004018200f0107ff",
    "  MQES=2047 CQR=1 AMS=0 (none) TO=15 DSTRD=0 NSSRS=0 NCSS=1 IOCSS=1 NOIOCSS=1",
    "  BPS=0 CPS=0 (not reported) MPSMIN=0 (4 KiB) MPSMAX=4 (64 KiB) PMRS=0 CMBS=0",
    "  NSSS=0 CRWMS=0 CRIMS=0 NSSES=0",
  ]);
});

Deno.test("fieldLines() shows addresses in hexadecimal, and bits of no field", () => {
  assertEquals(fieldLines(nvmeRegister("ASQ"), 0x1234_5678_9000n), ["  ASQB=0x123456789"]);
  assertEquals(fieldLines(nvmeRegister("AQA"), 0xf01f_001fn), [
    "  ASQS=31 ACQS=31 reserved=0xf0000000",
  ]);
  assertEquals(fieldLines(nvmeRegister("INTMS"), 5), []);
});
