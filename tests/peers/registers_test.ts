/**
 * `vfu read`, `write`, `poll`, `dump`, `load` and `bench` on QEMU's devices.
 * Each command has a server of its own, unless all is done over one connection.
 * QEMU ends when its client goes.
 */

import { assertEquals, assertMatch, assertStringIncludes } from "@std/assert";
import { libc } from "../../ffi/libc.ts";
import { connect } from "../../lib/client/connect.ts";
import type { Device } from "../../lib/client/device.ts";
import { vfu } from "./_vfu.ts";
import { type QemuDeviceName, startQemu } from "./peers.ts";

libc(); // opened once for all tests, which then leave nothing open

/** A connection to a fresh device that is switched on. */
async function withDevice(
  name: QemuDeviceName,
  body: (device: Device) => Promise<void>,
): Promise<void> {
  await using peer = await startQemu(name);
  using device = await connect(peer.socketPath);
  await device.pci.enable();
  await body(device);
}

Deno.test("vfu read --pci-enable reads the registers of QEMU's nvme", async () => {
  const addresses = ["bar0+0.q", "bar0+8.l", "bar0+0x1c.l", "COMMAND", "CAP_MSIX+2.w"];
  const { code, out, err } = await vfu("nvme", "read", ...addresses, "--pci-enable");
  assertEquals([code, err], [0, ""]);
  assertEquals(out.trimEnd().split("\n").map((line) => line.split(/: +/)), [
    ["bar0+0.q", "0x004018200f0107ff"],
    ["bar0+8.l", "0x00010400"],
    ["bar0+0x1c.l", "0x00000000"],
    ["COMMAND", "0x0007"],
    ["CAP_MSIX+2.w", "0x0040"], // 65 vectors
  ]);
});

Deno.test("vfu read without --pci-enable names the refusal of QEMU, and the option", async () => {
  for (
    const [device, address] of [["nvme", "bar0.q"], ["edu", "bar0"], [
      "pci-testdev",
      "bar1.b",
    ]] as const
  ) {
    const { code, out, err } = await vfu(device, "read", address);
    assertEquals([code, out], [1, ""]);
    assertMatch(
      err,
      /^vfu: Cannot read \d bytes? of bar\d at 0x0: the server answered EINVAL \(Invalid argument\); .*--pci-enable.*\n$/,
    );
  }
});

Deno.test("vfu read --count reads the registers of QEMU's nvme one by one", async () => {
  const { code, out } = await vfu("nvme", "read", "bar0.l", "--count", "4", "--pci-enable");
  assertEquals(code, 0);
  assertEquals(out, "00000000  0f0107ff 00401820 00010400 00000000  |.... .@.........|\n");
});

Deno.test("vfu write --verify sets up the admin queue of QEMU's nvme", async () => {
  const writes = ["bar0+0x24=0x001f001f", "bar0+0x28.q=0x10_0000", "bar0+0x30.q=0x10_1000"];
  const outcome = await vfu("nvme", "write", ...writes, "--pci-enable", "--verify");
  assertEquals(outcome, { code: 0, out: "", err: "" });
});

Deno.test("vfu poll tells that QEMU's nvme is not ready", async () => {
  const poll = (...args: string[]) => vfu("nvme", "poll", "bar0+0x1c", "--pci-enable", ...args);
  const never = await poll("--equals", "1:1", "--for", "50ms");
  assertEquals([never.code, never.out], [1, ""]);
  assertStringIncludes(never.err, "its last value was 0x00000000");
  assertEquals((await poll("--equals", "0:1")).out, "0x00000000\n");
});

Deno.test("vfu load and dump reach the controller memory buffer of QEMU's nvme", async () => {
  const folder = await Deno.makeTempDir({ prefix: "vfu-peer-" });
  try {
    const [there, back] = [`${folder}/there`, `${folder}/back`];
    const bytes = Uint8Array.from({ length: 1 << 20 }, (_, i) => (i * 7 + (i >> 8)) & 0xff);
    await Deno.writeFile(there, bytes);
    assertEquals(await vfu("nvme-cmb", "load", "bar2", there, "--pci-enable"), {
      code: 0,
      out: "",
      err: "",
    });
    assertEquals(await vfu("nvme-cmb", "dump", "bar2", "-o", back, "--pci-enable"), {
      code: 0,
      out: "",
      err: "",
    });
    assertEquals((await Deno.stat(back)).size, 1 << 20);
    const refused = await vfu("nvme-cmb", "load", "bar0", there, "--pci-enable");
    assertEquals([refused.code, refused.err], [
      1,
      `vfu: Cannot load ${there}: it has 1048576 bytes, bar0 has 8192\n`,
    ]);
  } finally {
    await Deno.remove(folder, { recursive: true });
  }
});

Deno.test("vfu write --verify keeps a pattern in the controller memory buffer", async () => {
  const writes = ["bar2+0x100.q=0x0123456789abcdef", "bar2+0xffffc=0xdeadbeef", "bar2+1.b=0x5a"];
  const { code, err } = await vfu("nvme-cmb", "write", ...writes, "--pci-enable", "--verify");
  assertEquals([code, err], [0, ""]);
});

Deno.test("a region of QEMU's nvme reads back what it was written, in bulk", () =>
  withDevice("nvme-cmb", async (device) => {
    const bytes = Uint8Array.from({ length: 1 << 20 }, (_, i) => (i * 13 + (i >> 9)) & 0xff);
    await device.regionInfo(2);
    const bar2 = device.region("bar2");
    await bar2.writeAsync(0, bytes);
    assertEquals((await bar2.readAsync(0, 1 << 20)).toHex() === bytes.toHex(), true);
  }));

Deno.test("QEMU's edu identifies itself, inverts, and computes a factorial", async () => {
  const { out } = await vfu("edu", "read", "bar0", "bar0+4", "--pci-enable");
  assertEquals(out, "bar0:   0x010000ed\nbar0+4: 0x00000000\n");
  // Liveness: the complement of what is written. --verify shows both.
  const liveness = await vfu("edu", "write", "bar0+4=0x0f", "--verify", "--pci-enable");
  assertEquals(liveness.code, 1);
  assertEquals(
    liveness.err,
    "vfu: bar0+4 is not as written: expected 0x0000000f, found 0xfffffff0\n",
  );
  await withDevice("edu", async (device) => {
    await device.regionInfo(0);
    const bar0 = device.region("bar0");
    await bar0.write32Async(8, 5);
    await bar0.pollAsync(0x20, 4, (value) => (Number(value) & 1) === 0);
    assertEquals(await bar0.read32Async(8), 120);
  });
});

Deno.test("vfu poll sees QEMU's edu idle", async () => {
  const { code, out } = await vfu("edu", "poll", "bar0+0x20", "--equals", "0:1", "--pci-enable");
  assertEquals([code, out], [0, "0x00000000\n"]);
});

Deno.test("vfu read reads QEMU's pci-testdev, memory and I/O ports", async () => {
  const { code, out, err } = await vfu(
    "pci-testdev",
    "read",
    "VENDOR_ID",
    "DEVICE_ID",
    "bar0+0.b",
    "bar1+0.b",
    "--pci-enable",
  );
  assertEquals([code, err], [0, ""]);
  assertEquals(out.split("\n").slice(0, 2), ["VENDOR_ID: 0x1b36", "DEVICE_ID: 0x0005"]);
});

Deno.test("vfu bench measures QEMU's edu", async () => {
  const { code, out } = await vfu(
    "edu",
    "bench",
    "bar0",
    "--count",
    "200",
    "--json",
    "--pci-enable",
  );
  const { synchronous, pipelined, mapped } = JSON.parse(out);
  assertEquals([code, synchronous.reads, pipelined.reads, mapped], [0, 200, 200, null]);
});

Deno.test("QEMU's edu takes 4 bytes at a time, and vfu says what it refuses", async () => {
  for (const [address, bytes] of [["bar0.b", "1 byte"], ["bar0.w", "2 bytes"]] as const) {
    const { code, err } = await vfu("edu", "read", address, "--pci-enable");
    const what = `vfu: Cannot read ${bytes} of bar0 at 0x0`;
    const why = "the server answered EINVAL (Invalid argument); " +
      "a read of 4 bytes is answered there: name the width, bar0.l";
    assertEquals([code, err], [1, `${what}: ${why}\n`]);
  }
  // For registers that are 4 bytes wide, QEMU answers all ones to a read of 8 bytes.
  // The same holds for bytes that are read together.
  const wide = await vfu("edu", "read", "bar0.q", "--pci-enable");
  assertEquals(wide.out, "0xffffffffffffffff\n");
  const narrow = await vfu("edu", "read", "bar0.l", "--count", "2", "--pci-enable");
  assertEquals(narrow.out, "00000000  010000ed 00000000                    |........|\n");
});
