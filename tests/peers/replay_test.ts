/** `vfu replay` with peers that this project did not write. */

import { assertEquals, assertStringIncludes } from "@std/assert";
import { temporaryFile } from "../lib/record/_events.ts";
import { writeGolden } from "../lib/record/_golden.ts";
import { startReplay } from "../_replay_process.ts";
import { bootGuest, guestTest } from "./guest.ts";
import { startQemu } from "./peers.ts";
import { vfuLine, vfuRun } from "./_vfu.ts";

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

Deno.test("vfu show --session of edu runs on edu", async () => {
  using file = temporaryFile();
  const session = `${file.path}.yaml`;
  writeGolden("edu", file.path);
  try {
    assertEquals((await vfuLine("show", file.path, "--session", session)).code, 0);
    const { code, out, err } = await vfuRun("edu", session);
    assertEquals([code, err], [0, ""], out);
    assertStringIncludes(out, "40 passed");
  } finally {
    Deno.removeSync(session);
  }
});

guestTest("a recorded controller lets Linux bind its driver, write and read", async () => {
  using file = temporaryFile();
  writeGolden("nvme", file.path);
  await using mock = await startReplay(file.path, "--map", "nvme");
  await using guest = await bootGuest({ devices: [{ socket: mock.path }] });
  await guest.sh(
    `set -e
    echo vfu | dd of=/dev/nvme0n1 bs=512 count=1 conv=sync oflag=direct 2>/dev/null
    dd if=/dev/nvme0n1 bs=512 count=1 iflag=direct 2>/dev/null | grep -q vfu`,
  );
  // Its memory is elsewhere, and the numbers of its commands are others.
  assertEquals(mock.stdout().includes("leaves the recorded path"), false, mock.stdout());
  assertEquals(/^left out/m.test(mock.stdout()), false, mock.stdout());
});
