/**
 * `nvme_identify.ts` and `sessions/nvme.yaml` on controllers of several kinds, as a user runs them.
 */

import { assertEquals, assertMatch, assertRejects } from "@std/assert";
import { identify } from "../../examples/nvme_identify.ts";
import { RemoteError } from "../../lib/base/errors.ts";
import { connect } from "../../mod.ts";
import { runThere } from "../cli/_cli.ts";
import { startServe } from "../_demo_process.ts";
import { testFds } from "../_fds.ts";

const SESSION = new URL("../../examples/sessions/nvme.yaml", import.meta.url).pathname;
const OURS = new URL("../../examples/nvme.ts", import.meta.url).pathname;
const SPDK_LIKE = new URL("./_spdk_like.ts", import.meta.url).pathname;

for (
  const [what, module, args] of [
    ["nvme.ts", OURS, []],
    ["nvme.ts without mapped doorbells", OURS, ["--option", "doorbells=message"]],
    ["a controller that refuses its MSI-X table", SPDK_LIKE, []],
  ] as const
) {
  testFds(`vfu run nvme.yaml and nvme_identify.ts bring up ${what}`, async () => {
    await using served = await startServe(module, ...args);
    for (let i = 0; i < 2; i++) {
      const { code, out, err } = await runThere(["run", SESSION, served.path]);
      assertEquals([code, err], [0, ""], out);
      assertMatch(out, /CSTS.*=> 0x00000009/);
    }
    const { model, blockIsBack, interrupts } = await identify(served.path);
    assertEquals([model, blockIsBack, interrupts], ["vfu NVMe", true, [4n, 3n]]);
  });
}

testFds("the controller of that test behaves as SPDK's target does", async () => {
  await using served = await startServe(SPDK_LIKE);
  using device = await connect(served.path);
  assertEquals((await device.irqs("msix")).count, 512);
  for (const name of ["bar0", "bar4", "bar5"]) {
    await device.regionInfo(["bar0", "bar1", "bar2", "bar3", "bar4", "bar5"].indexOf(name));
  }
  const { capabilities } = await device.regionInfo(0);
  assertEquals(capabilities.map((each) => each.kind === "sparse_mmap" && each.areas), [
    [{ offset: 0x1000n, size: 0x1000n }],
  ]);
  for (const [name, access] of [["bar4", 4], ["bar5", 8], ["bar0", 2], ["bar0", 1]] as const) {
    const region = device.region(name);
    const read = () =>
      access === 1
        ? region.read8Async(0)
        : access === 2
        ? region.read16Async(0)
        : region.read32Async(0);
    await assertRejects(read, RemoteError);
  }
});
