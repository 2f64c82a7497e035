import { assertEquals, assertThrows } from "@std/assert";
import fc from "fast-check";
import {
  Command,
  commandHeader,
  encodeMessage,
  errorReplyHeader,
  HEADER_SIZE,
  HeaderLayout,
  MessageFlags,
  ProtocolError,
  replyHeader,
} from "../../../lib/wire/mod.ts";
import { u16, u32 } from "./_arbitraries.ts";
import { assertGolden, concat, hex } from "./_golden.ts";

Deno.test("HeaderLayout has the bytes of the specification", () => {
  assertGolden(
    HeaderLayout,
    { messageId: 0x0102, command: 9, size: 0x20, flags: 0x21, error: 22 },
    "02 01  09 00  20 00 00 00  21 00 00 00  16 00 00 00",
  );
});

Deno.test("HeaderLayout keeps any header as it is, reserved bits too", () => {
  const header = fc.record({ messageId: u16, command: u16, size: u32, flags: u32, error: u32 }, {
    noNullPrototype: true,
  });
  fc.assert(fc.property(header, (value) => {
    assertEquals(HeaderLayout.decode(HeaderLayout.encode(value)), value);
  }));
});

Deno.test("HeaderLayout refuses fewer than 16 bytes", () => {
  assertThrows(
    () => HeaderLayout.decode(new Uint8Array(15)),
    ProtocolError,
    "Cannot decode message header: 15 bytes came, 16 are needed",
  );
});

Deno.test("commandHeader() asks for a reply unless told not to", () => {
  const key = { messageId: 7, command: Command.REGION_WRITE };
  assertEquals(commandHeader(key, 20), { ...key, size: 36, flags: 0, error: 0 });
  assertEquals(commandHeader(key, 20, true).flags, MessageFlags.NO_REPLY);
});

Deno.test("replyHeader() and errorReplyHeader() echo id and command alone", () => {
  const command = { messageId: 7, command: 10, size: 36, flags: 0x10, error: 5 };
  const key = { messageId: 7, command: 10 };
  assertEquals(replyHeader(command, 16), { ...key, size: 32, flags: 1, error: 0 });
  assertEquals(errorReplyHeader(command, 22), { ...key, size: 16, flags: 0x21, error: 22 });
});

Deno.test("encodeMessage() puts the payload after a header that counts both", () => {
  const payload = hex("aa bb cc");
  assertEquals(
    encodeMessage({ messageId: 1, command: 2, flags: 1 }, payload),
    concat(hex("01 00 02 00 13 00 00 00 01 00 00 00 00 00 00 00"), payload),
  );
  // The size of a header that was made before its payload is not believed.
  assertEquals(encodeMessage({ messageId: 1, command: 2, size: 999 }).length, HEADER_SIZE);
});

Deno.test("encodeMessage() refuses an id of more than 16 bits", () => {
  assertThrows(
    () => encodeMessage({ messageId: 65536, command: 1 }),
    RangeError,
    "messageId is 65536",
  );
});
