import { assertEquals, assertThrows } from "@std/assert";
import {
  DeviceFeatureReply,
  DeviceFeatureRequest,
  DeviceStateData,
  deviceStateName,
  DmaLoggingReportData,
  DmaLoggingStartData,
  featureName,
  MigrationData,
  ProtocolError,
} from "../../../lib/wire/mod.ts";
import { assertGolden, hex } from "./_golden.ts";

Deno.test("DEVICE_FEATURE has the bytes of the specification", () => {
  for (const codec of [DeviceFeatureRequest, DeviceFeatureReply]) {
    assertGolden(
      codec,
      { argsz: 16, flags: 0x20002, data: hex("01 00 00 00 00 00 00 00") },
      "10 00 00 00  02 00 02 00  01 00 00 00 00 00 00 00",
    );
  }
});

Deno.test("DeviceFeatureRequest refuses an argsz below 8", () => {
  const payload = hex("07 00 00 00 01 00 01 00");
  assertThrows(() => DeviceFeatureRequest.decode(payload), ProtocolError, "argsz is 7");
});

Deno.test("the data of the features have the bytes of the specification", () => {
  assertGolden(MigrationData, { flags: 5n }, "05 00 00 00 00 00 00 00");
  assertGolden(DeviceStateData, { state: 3, dataFd: 0xffff_ffff }, "03 00 00 00 ff ff ff ff");
  assertGolden(
    DmaLoggingStartData,
    { pageSize: 4096n, ranges: [{ iova: 0x100000n, length: 0x200000n }] },
    "00 10 00 00 00 00 00 00  01 00 00 00  00 00 00 00" +
      "00 00 10 00 00 00 00 00  00 00 20 00 00 00 00 00",
  );
  assertGolden(
    DmaLoggingReportData,
    { iova: 0x100000n, length: 0x8000n, pageSize: 4096n, bitmap: hex("81 00 00 00 00 00 00 00") },
    "00 00 10 00 00 00 00 00  00 80 00 00 00 00 00 00  00 10 00 00 00 00 00 00" +
      "81 00 00 00 00 00 00 00",
  );
});

Deno.test("DmaLoggingStartData refuses ranges that are not there", () => {
  const payload = new Uint8Array(32);
  payload.fill(0xff, 8, 12);
  assertThrows(() => DmaLoggingStartData.decode(payload), ProtocolError, "4294967295 ranges");
});

Deno.test("DmaLoggingReportData refuses a bitmap that is not whole u64s", () => {
  assertThrows(() => DmaLoggingReportData.decode(new Uint8Array(28)), ProtocolError, "4 bytes");
});

Deno.test("featureName() and deviceStateName() number what they don't know", () => {
  assertEquals([1, 2, 6, 7, 8, 3].map(featureName), [
    "MIGRATION",
    "MIG_DEVICE_STATE",
    "DMA_LOGGING_START",
    "DMA_LOGGING_STOP",
    "DMA_LOGGING_REPORT",
    "feature 3",
  ]);
  assertEquals([0, 1, 2, 3, 4, 5, 6, 7, 8].map(deviceStateName), [
    "ERROR",
    "STOP",
    "RUNNING",
    "STOP_COPY",
    "RESUMING",
    "RUNNING_P2P",
    "PRE_COPY",
    "PRE_COPY_P2P",
    "state 8",
  ]);
});
