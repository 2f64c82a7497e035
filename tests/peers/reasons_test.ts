/**
 * The reasons that users are given when real servers refuse, are silent, or are gone.
 */

import { assertEquals, assertMatch, assertStringIncludes } from "@std/assert";
import { libc } from "../../ffi/libc.ts";
import { connect } from "../../lib/client/connect.ts";
import { vfu, vfuAt } from "./_vfu.ts";
import { startGpio, startQemu, startSample } from "./peers.ts";

libc(); // opened once for all tests, which then leave nothing open

Deno.test("clients behind the first one of QEMU's server are told what it does", async () => {
  await using peer = await startQemu("edu");
  {
    using device = await connect(peer.socketPath);
    await device.info();
    const second = await vfuAt(peer.socketPath, "probe", "--timeout", "300ms");
    assertEquals(second.code, 1);
    assertMatch(second.err, /did not answer within 300 ms; it may be busy with another client/);
  }
  assertEquals((await peer.exited).code, 0);
  const late = await vfuAt(peer.socketPath, "probe");
  assertEquals(late.code, 1);
  assertStringIncludes(
    late.err,
    "no process listens on it: the server has ended, or serves one client only, as QEMU 7.2's " +
      "does; " +
      "start it again, and do all in one connection (vfu shell, vfu run)",
  );
});

Deno.test("refusals of QEMU's edu are told apart: the width, and a BAR that is off", async () => {
  const off = await vfu("edu", "read", "bar0");
  assertMatch(
    off.err,
    /EINVAL \(Invalid argument\); reads of 1, 2, 4 and 8 bytes are refused there; the BAR has no add/,
  );
  const narrow = await vfu("edu", "read", "bar0.b", "--pci-enable");
  assertStringIncludes(
    narrow.err,
    "EINVAL (Invalid argument); a read of 4 bytes is answered there: name the width, bar0.l",
  );
});

Deno.test("a refusal of libvfio-user's sample server names the width of its register", async () => {
  await using peer = await startSample("server");
  const { code, err } = await vfuAt(peer.socketPath, "read", "bar0");
  assertEquals(code, 1);
  assertStringIncludes(err, "a read of 8 bytes is answered there: name the width, bar0.q");
});

Deno.test("vfu irq says that MSI of QEMU's edu is off", async () => {
  const args = ["msi", "--count", "1", "--for", "100ms"];
  const { code, err } = await vfu("edu", "irq", ...args);
  assertEquals(code, 1);
  assertMatch(
    err,
    /^vfu: 0 of 1 interrupt of msi\[0\] came in time\n {2}why: MSI is off \(CAP_MSI\+2\.w is 0x/,
  );
});

Deno.test("vfu dma says that QEMU's edu did no DMA without bus master", async () => {
  const write = ["--write", "COMMAND=2", "--write", "config+0x10=0x80000000"];
  const args = ["--map", "1M:64K", ...write, "--write", "bar0+0x20=0", "--for", "50ms"];
  const { code, out, err } = await vfu("edu", "dma", ...args);
  assertEquals([code, out], [1, ""]);
  assertMatch(
    err,
    /^vfu: The device did no DMA that is seen\n {2}why: bus master is off in COMMAND/,
  );
});

/** The causes that `vfu doctor` names. */
function causes({ out, err }: { out: string; err: string }): string[] {
  assertEquals(err, "");
  const { found } = JSON.parse(out) as { found: { cause: string }[] };
  return found.map(({ cause }) => cause);
}

Deno.test("vfu doctor looks at QEMU's devices, and says what is off", async () => {
  assertEquals(causes(await vfu("edu", "doctor", "--json")), [
    "bar-unassigned",
    "memory-off",
    "msi-off",
    "bus-master-off",
  ]);
  assertEquals(causes(await vfu("e1000", "doctor", "--json", "--pci-enable")), []);
});

Deno.test("vfu doctor finds its way with servers of other makes", async () => {
  await using sample = await startSample("server");
  const found = causes(await vfuAt(sample.socketPath, "doctor", "--json"));
  assertEquals(found, ["bar-unassigned", "io-off", "bus-master-off"]);
  // Its crate loses step over a question that it does not know.
  await using crate = await startGpio();
  const ofCrate = causes(await vfuAt(crate.socketPath, "doctor", "--json"));
  assertEquals(ofCrate.includes("older-protocol"), true);
  assertEquals(ofCrate.includes("no-answer"), false);
});
