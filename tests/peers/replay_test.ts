/** `vfu replay` with peers that this project did not write. */

import { assertEquals, assertStringIncludes } from "@std/assert";
import { temporaryFile } from "../lib/record/_events.ts";
import { writeGolden } from "../lib/record/_golden.ts";
import { startQemu } from "./peers.ts";
import { vfuLine } from "./_vfu.ts";

Deno.test("the edu of QEMU 7.2's server does what it did when it was recorded", async () => {
  using file = temporaryFile();
  writeGolden("edu", file.path);
  await using peer = await startQemu("edu");
  const { code, out, err } = await vfuLine("replay", file.path, peer.socketPath);
  assertStringIncludes(err, "The recorded client shared memory");
  assertEquals(
    [code, out.replace(peer.socketPath, "SOCKET")],
    [0, "52 requests to SOCKET; compared: 52 replies, 0 DMA, 3 interrupts: no difference\n"],
  );
});
