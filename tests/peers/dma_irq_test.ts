/**
 * `vfu dma`, `vfu irq`, `vfu reset` and `vfu probe --io-fds` on QEMU's devices.
 * Each command has a server of its own: QEMU ends when its client goes.
 */

import { assertEquals, assertMatch } from "@std/assert";
import { vfu, vfuAt } from "./_vfu.ts";
import { startGpio } from "./peers.ts";

/**
 * Has edu move bytes between memory and its buffer, at 0x40000 in its own addresses. It takes 100
 * ms.
 */
function transfer(source: number, destination: number, count: number, command: number): string[] {
  const registers = { 0x80: source, 0x88: destination, 0x90: count, 0x98: command };
  return Object.entries(registers)
    .flatMap(([at, value]) => ["--write", `bar0+${at}.q=${value}`]);
}

const START = 1;
const FROM_DEVICE = 2;
const BUFFER = 0x40000;

Deno.test("vfu dma shows and dumps what QEMU's edu writes to shared memory", async () => {
  const file = await Deno.makeTempFile({ prefix: "vfu-peer-" });
  try {
    const { code, out, err } = await vfu(
      "edu",
      ...["dma", "--pci-enable", "--map", "1M:64K", "--fill", "1M:256=0x77", "--json"],
      // Its buffer holds zeros at first.
      ...[...transfer(BUFFER, 0x100040, 32, START | FROM_DEVICE), "--for", "1s", "--changes"],
      ...["--dump", `1M:256=${file}`],
    );
    assertEquals([code, err], [0, ""]);
    const { time_ms, ...event } = JSON.parse(out);
    assertEquals(time_ms > 0, true);
    const rest = { bytes: "00".repeat(32), errno: 0, code: "" };
    assertEquals(event, { event: "changed", iova: 0x100040, length: 32, ...rest });
    const expected = "77".repeat(64) + "00".repeat(32) + "77".repeat(160);
    assertEquals((await Deno.readFile(file)).toHex(), expected);
  } finally {
    await Deno.remove(file);
  }
});

Deno.test("vfu dma waits between writes until QEMU's edu has moved the bytes", async () => {
  const file = await Deno.makeTempFile({ prefix: "vfu-peer-" });
  const isDone = ["--wait", "bar0+0x98.q==0:1"];
  try {
    const outcome = await vfu(
      "edu",
      ...["dma", "--pci-enable", "--map", "1M:4K", "--fill", "1M:16=0xa5"],
      // Without a wait edu would ignore the second command: the first is still under way.
      ...[...transfer(0x100000, BUFFER, 16, START), ...isDone],
      ...[...transfer(BUFFER, 0x100100, 16, START | FROM_DEVICE), ...isDone],
      ...["--dump", `0x100100:16=${file}`],
    );
    assertEquals(outcome, { code: 0, out: "", err: "" });
    assertEquals((await Deno.readFile(file)).toHex(), "a5".repeat(16));
  } finally {
    await Deno.remove(file);
  }
});

Deno.test("vfu dma switches QEMU's nvme on and off, by the names of registers", async () => {
  const on = ["ASQ=1M", "ACQ=0x101000", "AQA=0x0003_0003", "CC=0x0046_0001"];
  const args = ["--pci-enable", "--map", "nvme", "--map", "1M:64K"];
  const outcome = await vfu(
    "nvme",
    "dma",
    ...[...args, ...on.flatMap((each) => ["--write", each]), "--wait", "CSTS.RDY==1"],
    ...["--write", "CC.EN=0", "--wait", "CSTS.RDY==0 for 2s"],
  );
  assertEquals(outcome, { code: 0, out: "", err: "" });
  const never = await vfu("nvme", "dma", ...args, "--wait", "CSTS.RDY==1 for 20ms");
  assertEquals(never.code, 1);
  assertMatch(never.err, /^vfu: CSTS\.RDY did not become .* RDY=0\n/);
});

Deno.test("vfu dma hears nothing of QEMU's edu: QEMU 7.2 leaves out memory that is not shared", async () => {
  const outcome = await vfu(
    "edu",
    ...["dma", "--pci-enable", "--map", "1M:64K:message", "--for", "300ms"],
    ...transfer(0x100000, BUFFER, 64, START),
  );
  assertEquals(outcome, { code: 0, out: "", err: "" });
});

Deno.test("vfu irq shows the interrupt of QEMU's edu after its factorial", async () => {
  const { code, out, err } = await vfu(
    "edu",
    ...["irq", "intx", "--pci-enable", "--write", "bar0+0x20=0x80", "--write", "bar0+8=5"],
    ...["--count", "1", "--for", "5s"],
  );
  assertEquals([code, err], [0, ""]);
  assertMatch(out, /^ +\d+\.\d ms {2}intx\[0\] {2}count 1 {2}total 1\n$/);
});

Deno.test("vfu irq shows an interrupt that a register of QEMU's edu raises", async () => {
  const { code, out, err } = await vfu(
    "edu",
    ...["irq", "intx", "--pci-enable", "--write", "bar0+0x60=1", "--write", "bar0+0x64=1"],
    ...["--for", "300ms", "--json"],
  );
  assertEquals([code, err], [0, ""]);
  assertEquals(JSON.parse(out.split("\n")[0]!).total, 1);
});

Deno.test("vfu irq enables the 65 MSI-X vectors of QEMU's nvme, and takes them back", async () => {
  const { code, err } = await vfu("nvme", "irq", "msix", "--pci-enable", "--for", "200ms");
  assertEquals([code, err], [0, ""]);
  const refused = await vfu("edu", "irq", "msix");
  assertEquals([refused.code, refused.err], [
    1,
    "vfu: Cannot use msix: the device does not have it\n",
  ]);
});

Deno.test("vfu irq --trigger has QEMU's nvme fire a vector", async () => {
  const { code, out, err } = await vfu(
    "nvme",
    ...["irq", "msix", "--vectors", "0-9", "--trigger", "7", "--count", "1", "--for", "5s"],
  );
  assertEquals([code, err], [0, ""]);
  assertMatch(out, /msix\[7\] {2}count 1 {2}total 1\n$/);
});

Deno.test("vfu reset resets QEMU's devices", async () => {
  for (const device of ["edu", "nvme"] as const) {
    assertEquals(await vfu(device, "reset"), { code: 0, out: "", err: "" });
  }
});

Deno.test("vfu probe --io-fds finds none in QEMU", async () => {
  const { code, out } = await vfu("edu", "probe", "--io-fds", "--json");
  const { regions } = JSON.parse(out);
  assertEquals([code, regions[0].io_fds, regions[7].io_fds], [0, [], []]);
});

Deno.test("vfu probe without --io-fds does not put the crate's server out of step", async () => {
  await using peer = await startGpio();
  const { code, err } = await vfuAt(peer.socketPath, "probe");
  assertEquals([code, err], [0, ""]);
});
