import { assertEquals, assertThrows } from "@std/assert";
import {
  IrqInfoReply,
  IrqInfoRequest,
  irqName,
  ProtocolError,
  SetIrqsReply,
  SetIrqsRequest,
} from "../../../lib/wire/mod.ts";
import { assertGolden, hex } from "./_golden.ts";

Deno.test("irqName() names the indexes of PCI and numbers the others", () => {
  const names = [0, 1, 2, 3, 4, 5, 0xffff_ffff].map(irqName);
  assertEquals(names, ["intx", "msi", "msix", "err", "req", "irq 5", "irq 4294967295"]);
});

Deno.test("IrqInfoRequest has the bytes of the specification", () => {
  assertGolden(
    IrqInfoRequest,
    { argsz: 16, index: 2 },
    "10 00 00 00  00 00 00 00  02 00 00 00  00 00 00 00",
  );
});

Deno.test("IrqInfoReply has the bytes of the specification", () => {
  assertGolden(
    IrqInfoReply,
    { argsz: 16, flags: 9, index: 2, count: 65 },
    "10 00 00 00  09 00 00 00  02 00 00 00  41 00 00 00",
  );
});

Deno.test("IrqInfoReply keeps what follows the struct", () => {
  assertGolden(
    IrqInfoReply,
    { argsz: 18, flags: 1, index: 0, count: 1, extra: hex("ab cd") },
    "12 00 00 00  01 00 00 00  00 00 00 00  01 00 00 00  ab cd",
  );
});

Deno.test("SetIrqsRequest has the bytes of the specification", () => {
  assertGolden(
    SetIrqsRequest,
    { argsz: 23, flags: 0x22, index: 2, start: 4, count: 3, data: hex("01 00 01") },
    "17 00 00 00  22 00 00 00  02 00 00 00  04 00 00 00  03 00 00 00  01 00 01",
  );
  assertGolden(SetIrqsReply, undefined, "");
});

Deno.test("SetIrqsRequest takes exactly one data bit and one action bit", () => {
  for (let flags = 0; flags < 64; flags++) {
    const payload = SetIrqsRequest.encode({
      argsz: 20,
      flags,
      index: 0,
      start: 0,
      count: 0,
      data: new Uint8Array(),
    });
    const good = [1, 2, 4].includes(flags & 7) && [8, 16, 32].includes(flags & 56);
    if (good) assertEquals(SetIrqsRequest.decode(payload).flags, flags);
    else assertThrows(() => SetIrqsRequest.decode(payload), ProtocolError, "have not exactly one");
  }
});

Deno.test("SetIrqsRequest refuses data of another length than its flags say", () => {
  const decode = (flags: number, count: number, length: number) => () =>
    SetIrqsRequest.decode(SetIrqsRequest.encode({
      argsz: 20 + length,
      flags,
      index: 0,
      start: 0,
      count,
      data: new Uint8Array(length),
    }));
  assertThrows(decode(0x21, 1, 1), ProtocolError, "1 bytes of data came, 0 are needed");
  assertThrows(decode(0x22, 3, 2), ProtocolError, "2 bytes of data came, 3 are needed");
  assertThrows(decode(0x22, 0xffff_ffff, 2), ProtocolError, "4294967295 are needed");
  assertThrows(decode(0x24, 2, 4), ProtocolError, "4 bytes of data came, 0 are needed");
  // The kernel's struct holds an int for each eventfd: forwarded as it is, it is understood.
  assertEquals(decode(0x24, 2, 8)().data.length, 8);
});

Deno.test("SetIrqsRequest refuses an argsz below its struct and takes one above", () => {
  const value = { flags: 0x24, index: 0, start: 0, count: 2, data: new Uint8Array() };
  const encode = (argsz: number) => SetIrqsRequest.encode({ ...value, argsz });
  assertThrows(() => SetIrqsRequest.decode(encode(19)), ProtocolError, "argsz is 19");
  assertEquals(SetIrqsRequest.decode(encode(28)).argsz, 28);
});
