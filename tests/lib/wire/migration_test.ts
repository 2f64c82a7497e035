import { assertEquals, assertThrows } from "@std/assert";
import {
  MigDataReadReply,
  MigDataReadRequest,
  MigDataWriteReply,
  MigDataWriteRequest,
  ProtocolError,
} from "../../../lib/wire/mod.ts";
import { assertGolden, hex } from "./_golden.ts";

Deno.test("MIG_DATA_READ and MIG_DATA_WRITE have the bytes of the specification", () => {
  assertGolden(MigDataReadRequest, { argsz: 0x108, size: 0x100 }, "08 01 00 00  00 01 00 00");
  for (const codec of [MigDataReadReply, MigDataWriteRequest]) {
    assertGolden(
      codec,
      { argsz: 11, data: hex("aa bb cc") },
      "0b 00 00 00  03 00 00 00  aa bb cc",
    );
  }
  assertGolden(MigDataWriteReply, undefined, "");
});

Deno.test("MigDataReadReply trusts its size where the data are padded", () => {
  const padded = hex("0b 00 00 00  01 00 00 00  aa 00 00");
  assertEquals(MigDataReadReply.decode(padded).data, hex("aa"));
});

Deno.test("MIG_DATA_READ and MIG_DATA_WRITE refuse a size beyond the data", () => {
  const short = hex("0b 00 00 00  04 00 00 00  aa bb cc");
  assertThrows(() => MigDataReadReply.decode(short), ProtocolError, "size is 4, 3 bytes");
  assertThrows(() => MigDataWriteRequest.decode(short), ProtocolError, "count is 4, 3 bytes");
});

Deno.test("MigDataWriteRequest refuses surplus data", () => {
  const long = hex("0b 00 00 00  02 00 00 00  aa bb cc");
  assertThrows(() => MigDataWriteRequest.decode(long), ProtocolError, "count is 2, 3 bytes");
});
