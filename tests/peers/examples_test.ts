/** The examples, on the devices that they are written for. */

import { assertEquals } from "@std/assert";
import { moveBytes } from "../../examples/edu_dma.ts";
import { identify } from "../../examples/nvme_identify.ts";
import { testFds } from "../_fds.ts";
import { startQemu } from "./peers.ts";

testFds(
  "nvme_identify.ts brings QEMU's NVMe up, moves a block and takes its interrupts",
  async () => {
    await using peer = await startQemu("nvme");
    const identity = await identify(peer.socketPath);
    assertEquals(identity, {
      vendorId: 0x1b36,
      serial: "deadbeef",
      model: "QEMU NVMe Ctrl",
      firmware: identity.firmware, // QEMU's version
      capabilities: 0x004018200f0107ffn,
      version: 0x10400,
      interrupts: [4n, 3n],
      blockIsBack: true,
    });
  },
);

testFds("edu_dma.ts moves bytes through QEMU's edu and back", async () => {
  await using peer = await startQemu("edu");
  assertEquals(await moveBytes(peer.socketPath), {
    identification: 0x010000ed,
    interrupts: 2n,
    isSame: true,
  });
});
