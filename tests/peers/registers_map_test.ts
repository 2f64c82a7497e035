/**
 * `--map` on QEMU's nvme: registers by the names of the specification.
 */

import { assertEquals } from "@std/assert";
import { libc } from "../../ffi/libc.ts";
import { vfu } from "./_vfu.ts";

libc(); // opened once for all tests, which then leave nothing open

/** Runs a command on a fresh device that is switched on. */
async function onNvme(command: string, ...args: string[]): Promise<string> {
  const { code, out, err } = await vfu("nvme", command, ...args, "--pci-enable");
  assertEquals([code, err], [0, ""]);
  return out;
}

Deno.test("vfu read --map decodes the registers of QEMU's nvme", async () => {
  const out = await onNvme(
    "read",
    "nvme.CAP",
    "nvme.VS",
    "nvme.CSTS",
    "pci.COMMAND",
    "--map",
    "nvme",
    "--map",
    "pci",
  );
  assertEquals(out.split("\n"), [
    "nvme.CAP:    0x004018200f0107ff",
    "  MQES=2047 CQR=1 AMS=0 (none) TO=15 DSTRD=0 NSSRS=0 NCSS=1 IOCSS=1 NOIOCSS=1",
    "  BPS=0 CPS=0 (not reported) MPSMIN=0 (4 KiB) MPSMAX=4 (64 KiB) PMRS=0 CMBS=0",
    "  NSSS=0 CRWMS=0 CRIMS=0 NSSES=0",
    "nvme.VS:     0x00010400",
    "  TER=0 MNR=4 MJR=1",
    "nvme.CSTS:   0x00000000",
    "  RDY=0 CFS=0 SHST=0 (normal operation) NSSRO=0 PP=0 ST=0",
    "pci.COMMAND: 0x0007",
    "  IO=1 MEMORY=1 MASTER=1 SPECIAL=0 INVALIDATE=0 VGA_PALETTE=0 PARITY=0 WAIT=0",
    "  SERR=0 FAST_BACK=0 INTX_DISABLE=0",
    "",
  ]);
});

Deno.test("vfu write --map sets fields of QEMU's nvme", async () => {
  const fields = ["AQA.ASQS=31", "AQA.ACQS=31", "CC.IOSQES=6", "CC.IOCQES=4"];
  assertEquals(await onNvme("write", ...fields, "--map", "nvme", "--verify"), "");
});

Deno.test("vfu poll --map waits for a field of QEMU's nvme", async () => {
  const out = await onNvme("poll", "CSTS.SHST", "--equals", "normal operation", "--map", "nvme");
  assertEquals(out, "0x00000000\n  SHST=0 (normal operation)\n");
});
