import { assert, assertEquals } from "@std/assert";
import { blank, find } from "./_find.ts";
import { crowdedImage, nvmeImage, rootPortImage } from "./_images.ts";

Deno.test("decodeExpress() decodes an endpoint", () => {
  const express = find(nvmeImage(), "exp");
  assertEquals([express.structureVersion, express.deviceTypeName], [2, "Endpoint"]);
  assertEquals(express.device.functionLevelReset, true);
  assertEquals([express.device.maxPayload, express.device.maxReadRequest], [128, 512]);
  assertEquals(express.device.control.set, ["RELAX_EN", "NOSNOOP_EN"]);
  assertEquals([express.link?.speed, express.link?.width], ["2.5GT/s", 1]);
  assertEquals(express.link?.aspmSupport, "L0s");
  assertEquals([express.slot, express.rootControl], [undefined, undefined]);
  assertEquals(express.device2?.completionTimeoutDisable, true);
});

Deno.test("decodeExpress() decodes slot and root registers of a root port", () => {
  const express = find(rootPortImage(), "exp");
  assertEquals(express.deviceTypeName, "Root Port");
  assertEquals(express.link?.port, 10);
  assertEquals([express.link?.maxSpeed, express.link?.speed], ["8GT/s", "16GT/s"]);
  assertEquals(express.slot?.number, 2);
  assertEquals(express.slot?.status.set, ["PDC", "PDS"]);
  assertEquals(express.rootControl?.set, ["PMEIE", "CRSSVE"]);
  assertEquals(express.device2?.control.set, ["ARI", "LTR_EN"]);
  assertEquals(express.link2, {
    supportedSpeeds: ["2.5GT/s", "5GT/s", "8GT/s", "16GT/s"],
    targetSpeed: "16GT/s",
  });
});

Deno.test("decodeExpress() reads no second registers of version 1, no link of an integrated one", () => {
  const first = find(crowdedImage(), "exp");
  assertEquals([first.interruptMessage, first.device2, first.link2], [9, undefined, undefined]);
  const integrated = find(blank().capability(0x40, 0x10, 0x0092), "exp");
  assertEquals(integrated.deviceTypeName, "Root Complex Integrated Endpoint");
  assertEquals([integrated.link, integrated.link2], [undefined, undefined]);
  assert(integrated.device2);
});

Deno.test("decodeExpress() keeps types and speeds that it does not know", () => {
  const express = find(blank().capability(0x40, 0x10, 0x00f2), "exp");
  assertEquals([express.deviceType, express.deviceTypeName], [15, "Unknown type 15"]);
  assertEquals([express.link?.maxSpeed, express.link?.maxWidth], ["unknown", 0]);
});
