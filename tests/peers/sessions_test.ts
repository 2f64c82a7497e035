/**
 * The sessions of examples/sessions on QEMU's devices, as a user runs them.
 */

import { assertEquals, assertMatch } from "@std/assert";
import { libc } from "../../ffi/libc.ts";
import { startQemu } from "./peers.ts";
import { vfuLine, vfuRun } from "./_vfu.ts";

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
  ] as const
) {
  Deno.test(`vfu run passes ${file} on QEMU's ${device}`, async () => {
    const { code, out, err } = await vfuRun(device, SESSIONS + file);
    assertEquals([code, err], [0, ""], out);
  });
}

Deno.test("vfu run passes virtio_blk.yaml on QEMU's virtio-blk-pci", async () => {
  // Without these QEMU's device reads its own machine's memory in place of the client's.
  const properties = ["disable-legacy=on", "iommu_platform=on"];
  await using peer = await startQemu("virtio-blk-pci", {
    arguments: properties.flatMap((each) => ["-global", `virtio-blk-pci.${each}`]),
  });
  const { code, out, err } = await vfuLine("run", `${SESSIONS}virtio_blk.yaml`, peer.socketPath);
  assertEquals([code, err], [0, ""], out);
});
