/**
 * The sessions of examples/sessions on QEMU's devices, as a user runs them.
 */

import { assertEquals, assertMatch } from "@std/assert";
import { libc } from "../../ffi/libc.ts";
import { vfuRun } from "./_vfu.ts";

libc(); // opened once for all tests, which then leave nothing open

const SESSIONS = new URL("../../examples/sessions/", import.meta.url).pathname;

Deno.test("vfu run brings up QEMU's nvme, writes a block and reads it back", async () => {
  const { code, out, err } = await vfuRun("nvme", `${SESSIONS}nvme.yaml`);
  assertEquals([code, err], [0, ""], out);
  assertMatch(out, /CSTS.*=> 0x00000009/);
  assertMatch(out, /QEMU NVMe Ctrl/);
});

for (
  const [device, file] of [
    ["edu", "edu.yaml"],
    ["e1000e", "e1000e.yaml"],
    ["virtio-blk-pci", "virtio_blk.yaml"],
  ] as const
) {
  Deno.test(`vfu run passes ${file} on QEMU's ${device}`, async () => {
    const { code, out, err } = await vfuRun(device, SESSIONS + file);
    assertEquals([code, err], [0, ""], out);
  });
}
