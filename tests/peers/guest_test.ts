/**
 * The guest itself: how it boots, runs scripts and ends, and what an error says. What devices do in
 * it is in `guest_*_test.ts`.
 */

import { assert, assertEquals, assertRejects, assertStringIncludes } from "@std/assert";
import { startServe } from "../_demo_process.ts";
import { bootGuest, GuestError, guestTest } from "./guest.ts";
import { cpioArchive } from "./guest_image.ts";

async function exists(path: string): Promise<boolean> {
  return await Deno.stat(path).then(() => true, () => false);
}

guestTest("it runs scripts, takes files along, and leaves nothing behind", async () => {
  await using served = await startServe("demo");
  const guest = await bootGuest({
    devices: [{ socket: served.path }],
    files: { "bin/greet": new TextEncoder().encode("#!/bin/sh\necho hello $1") },
  });
  try {
    assertEquals(await guest.run("greet you; exit 3"), { status: 3, output: "hello you\n" });
    assertEquals(await guest.sh(`cat /sys/bus/pci/devices/${guest.address()}/device`), "0x0de5");
    assertEquals(await guest.complaints(), []);
    assertEquals(guest.qemuSaid(), "");
    const status = await guest.qmp("query-status") as { running: boolean };
    assertEquals(status.running, true);
    await assertRejects(() => guest.qmp("no-such-command"), GuestError, "no-such-command");

    const failed = await assertRejects(() => guest.sh("echo why; false"), GuestError);
    assertStringIncludes(failed.message, "echo why; false\nIt wrote:\nwhy");

    await guest.sh("echo 8 > /proc/sys/kernel/printk");
    await guest.sh("echo '<1>words of the kernel' > /dev/kmsg");
    const late = await assertRejects(() => guest.run("sleep 5", { timeoutMs: 100 }), GuestError);
    assertStringIncludes(late.message, "After 100 ms a script does not end:\nsleep 5");
    assertStringIncludes(late.message, "words of the kernel");
  } finally {
    await guest.stop();
  }
  await guest.stop();
  assert(!await exists(`/proc/${guest.pid}`));
  assert(!await exists(guest.directory));
});

guestTest("QEMU's words are in the error when it doesn't start", async () => {
  const error = await assertRejects(
    () => bootGuest({ devices: [{ socket: "/nonexistent/socket" }] }),
    GuestError,
  );
  assertStringIncludes(error.message, "QEMU has ended (code 1)");
  assertStringIncludes(error.message, "/nonexistent/socket");
});

Deno.test("cpioArchive() lays out names and contents at multiples of 4 bytes", () => {
  const archive = cpioArchive({ "/one": new Uint8Array([1, 2, 3]), "three": new Uint8Array(5) });
  assertEquals(archive.length % 4, 0);
  const text = new TextDecoder("latin1").decode(archive);
  assertEquals(text.match(/070701/g)?.length, 3);
  assertEquals(text.slice(110, 114), "one\0");
  assertEquals(parseInt(text.slice(54, 62), 16), 3);
  assertEquals([...archive.subarray(116, 119)], [1, 2, 3]);
});
