import { assertThrows } from "@std/assert";
import {
  DeviceInfoReply,
  DeviceInfoRequest,
  DeviceResetReply,
  DeviceResetRequest,
  ProtocolError,
} from "../../../lib/wire/mod.ts";
import { assertGolden } from "./_golden.ts";

Deno.test("DeviceInfoRequest has the bytes of the specification", () => {
  assertGolden(
    DeviceInfoRequest,
    { argsz: 16 },
    "10 00 00 00  00 00 00 00  00 00 00 00  00 00 00 00",
  );
});

Deno.test("DeviceInfoRequest refuses an argsz without room for the reply", () => {
  const short = DeviceInfoRequest.encode({ argsz: 15 });
  assertThrows(
    () => DeviceInfoRequest.decode(short),
    ProtocolError,
    "argsz is 15, the least is 16",
  );
});

Deno.test("DeviceInfoReply has the bytes of the specification", () => {
  assertGolden(
    DeviceInfoReply,
    { argsz: 16, flags: 3, numRegions: 10, numIrqs: 5 },
    "10 00 00 00  03 00 00 00  0a 00 00 00  05 00 00 00",
  );
});

Deno.test("DeviceResetRequest and DeviceResetReply are empty", () => {
  assertGolden(DeviceResetRequest, undefined, "");
  assertGolden(DeviceResetReply, undefined, "");
});
