/** `vfu show` of recordings of real peers: see `tests/peers/recordings.ts`. */

import { assertEquals } from "@std/assert";
import { temporaryFile } from "../lib/record/_events.ts";
import { type GoldenName, writeGolden } from "../lib/record/_golden.ts";
import { assertGolden, runHere } from "./_cli.ts";

/** Each is a golden file: a recording, and how it is shown. */
const SHOWN: Readonly<Record<string, readonly [GoldenName, ...options: string[]]>> = {
  "show-edu.txt": ["edu"],
  "show-edu-stats.txt": ["edu", "--stats"],
  // Most are of Linux, in the capabilities that QEMU has read before.
  "show-nvme-config.txt": [
    "nvme",
    "--map",
    "pci",
    "--filter",
    "region == config && command == REGION_WRITE && offset >= 0x40 && type == request",
  ],
  "show-gpio-reads.txt": ["gpio", "--filter", "region == bar2 || kind == interrupt"],
  "show-gpio-stats.txt": ["gpio", "--map", "pci", "--stats"],
  // What the driver does to the controller, and what that does to the guest.
  "show-nvme.txt": [
    "nvme",
    "--map",
    "nvme",
    "--filter",
    "region == bar0 || command == DMA_READ || command == DMA_WRITE || kind == interrupt",
  ],
  "show-nvme-stats.txt": ["nvme", "--map", "nvme", "--stats"],
};

for (const [golden, [name, ...options]] of Object.entries(SHOWN)) {
  Deno.test(`vfu show ${name} ${options.slice(0, 3).join(" ")}`.trimEnd(), async () => {
    using file = temporaryFile();
    writeGolden(name, file.path);
    const { code, out, err } = await runHere(["show", file.path, ...options]);
    assertEquals([code, err], [0, ""]);
    assertGolden(golden, out);
  });
}
