/**
 * The small devices in a Linux guest: how QEMU attaches them, and what the guest's lspci says.
 * Drivers in the guest's user space use their registers, interrupts and DMA (`guest/pcidev.c`).
 */

import { assert, assertEquals, assertMatch, assertStringIncludes } from "@std/assert";
import { type ServeProcess, startServe } from "../_demo_process.ts";
import { bootGuest, type Guest, guestPrograms, guestTest } from "./guest.ts";

/** The devices of the guest, in its order, with what `lspci -vv` says of each. */
const DEVICES: Readonly<Record<string, readonly (string | RegExp)[]>> = {
  "demo": [
    "System peripheral: Device 1234:0de5 (rev 01)",
    "Subsystem: Device 1234:0001",
    "pin A routed to IRQ",
    /Region 0: Memory at \w+ \(32-bit, non-prefetchable\) .*\[size=4K\]/,
    /Region 2: Memory at \w+ \(64-bit, prefetchable\) .*\[size=64K\]/,
    /Region 4: Memory at \w+ \(32-bit, non-prefetchable\) .*\[size=4K\]/,
    "Capabilities: [40] Power Management version 3",
    "Capabilities: [50] MSI-X: Enable- Count=4 Masked-\n" +
    "\t\tVector table: BAR=4 offset=00000000\n\t\tPBA: BAR=4 offset=00000800",
    "Capabilities: [60] Express (v2) Endpoint",
    "Capabilities: [a0] Vendor Specific Information: Len=0c",
    "Capabilities: [100 v1] Device Serial Number 76-66-75-00-00-00-00-01",
    "Capabilities: [110 v2] Advanced Error Reporting",
  ],
  "examples/gpio.ts": [
    "ACCES I/O Products, Inc. PCI-IDIO-16 Isolated Digital Input",
    "Status: Cap-",
    "pin A routed to IRQ",
    /Region 2: Memory at \w+ \(32-bit, non-prefetchable\) .*\[size=256\]/,
  ],
  "examples/timer.ts": [
    "System peripheral: Device 1234:0de6",
    "pin A routed to IRQ",
    /Region 0: Memory at \w+ \(32-bit, non-prefetchable\) .*\[size=16\]/,
    "Capabilities: [40] Power Management version 3",
    "Capabilities: [48] MSI: Enable- Count=1/1 Maskable- 64bit+",
  ],
  "examples/dma_engine.ts": [
    "DMA controller: Device 1234:0de7",
    /Region 0: Memory at \w+ \(32-bit, non-prefetchable\) .*\[size=64\]/,
    /Region 4: Memory at \w+ \(32-bit, non-prefetchable\) .*\[size=4K\]/,
    "MSI-X: Enable- Count=2 Masked-\n" +
    "\t\tVector table: BAR=4 offset=00000000\n\t\tPBA: BAR=4 offset=00000800",
    "Express (v2) Endpoint",
  ],
  "examples/nvme.ts": [
    "Non-Volatile memory controller",
    "(prog-if 02 [NVM Express])",
    /Region 0: Memory at \w+ \(64-bit, non-prefetchable\) \[size=16K\]/,
    "MSI-X: Enable+ Count=5 Masked-\n" +
    "\t\tVector table: BAR=0 offset=00002000\n\t\tPBA: BAR=0 offset=00003000",
    "Express (v2) Endpoint",
    "Kernel driver in use: nvme",
  ],
};

/** Serves devices, each in a process of its own. */
async function serve(...devices: (string | readonly string[])[]): Promise<Served> {
  const starts = devices.map((each) => {
    const [device, ...args] = typeof each === "string" ? [each] : each;
    return startServe(device!, ...args);
  });
  const results = await Promise.allSettled(starts);
  const servers = results.flatMap((each) => each.status === "fulfilled" ? [each.value] : []);
  const served = {
    servers,
    async [Symbol.asyncDispose]() {
      for (const server of servers) await server.stop();
    },
  };
  const failed = results.find((each) => each.status === "rejected");
  if (failed === undefined) return served;
  await served[Symbol.asyncDispose]();
  throw failed.reason;
}

interface Served extends AsyncDisposable {
  readonly servers: readonly ServeProcess[];
}

const sockets = ({ servers }: Served) => servers.map(({ path }) => ({ socket: path }));

/** Lets `pcidev` work on a device of the guest and returns the lines that it prints. */
async function drive(guest: Guest, index: number, by: "sysfs" | "vfio", words: string) {
  return (await guest.sh(`pcidev ${by} ${guest.address(index)} ${words}`)).split("\n");
}

/**
 * Counts the messages about bar2 in the demo's log. A read of a register that is not there marks
 * the place to look up to.
 */
async function bar2Messages(guest: Guest, demo: ServeProcess, marker: number): Promise<number> {
  const until = `bar0+0x${marker.toString(16)}`;
  assertEquals(await drive(guest, 0, "sysfs", `r4:0:${marker}`), ["0x0"]);
  while (!demo.stderr().includes(until)) await new Promise((resolve) => setTimeout(resolve, 10));
  return demo.stderr().match(/bar2/g)?.length ?? 0;
}

guestTest("lspci says what each device declares, registers are there, pins interrupt", async () => {
  await using served = await serve(["demo", "-v"], ...Object.keys(DEVICES).slice(1));
  await using guest = await bootGuest({
    devices: sockets(served),
    files: await guestPrograms("pcidev"),
  });
  for (const [index, [device, expected]] of Object.entries(DEVICES).entries()) {
    const text = await guest.sh(`lspci -vv -s ${guest.address(index)}`);
    for (const part of expected) {
      if (typeof part === "string") assertStringIncludes(text, part, device);
      else assertMatch(text, part, device);
    }
  }

  // Registers go by message, the mapped areas of memory by none.
  const demo = served.servers[0]!;
  assertEquals(
    await drive(guest, 0, "sysfs", "r4:0:0 w4:0:8:0x12345678 r4:0:8 w1:2:0:7 r1:2:0 r8:2:0x4000"),
    ["0x64756676", "0x12345678", "0x7", "0x0"],
  );
  const before = await bar2Messages(guest, demo, 0x28);
  assert(before > 0);
  assertEquals(
    await drive(guest, 0, "sysfs", "w8:2:0x1000:0x1122334455667788 r4:2:0x1004 r2:2:0xfffe"),
    ["0x11223344", "0x0"],
  );
  assertEquals(await bar2Messages(guest, demo, 0x2c), before);

  assertEquals(await drive(guest, 3, "sysfs", "w8:0:0x20:0x123456789abc r8:0:0x20 r4:0:0x10"), [
    "0x123456789abc",
    "0x0",
  ]);

  await guest.sh(`modprobe uio_pci_generic
    cd /sys/bus/pci/drivers/uio_pci_generic
    echo 494f 0dc8 > new_id
    echo 1234 0de6 > new_id`);
  // Each third read raises the pin. It interrupts again when unmasked, until the next read.
  assertEquals(
    await drive(
      guest,
      1,
      "sysfs",
      "irq:0:50 r1:2:0 r1:2:0 r1:2:0 irq:0:5000 irq:0:50 unmask irq:0:5000 unmask irq:0:5000 " +
        "r1:2:0 unmask irq:0:50 r1:2:0 r1:2:0 irq:0:5000 r1:2:0",
    ),
    ["none", "0x0", "0x0", "0x0", "1", "none", "1", "1", "0x1", "none", "0x1", "0x1", "1", "0x2"],
  );
  // The timer's pin is up until its STATUS is cleared.
  assertEquals(
    await drive(
      guest,
      2,
      "sysfs",
      "r4:0:4 w4:0:4:20 w4:0:0:1 irq:0:5000 r4:0:8 r4:0:12 unmask irq:0:5000 w4:0:12:1 unmask " +
        "irq:0:50 r4:0:12 w4:0:0:1 irq:0:5000 w4:0:12:1",
    ),
    ["0x3e8", "1", "0x1", "0x1", "1", "none", "0x0", "1"],
  );
  assertEquals(await guest.complaints(), []);
  assertEquals(guest.qemuSaid(), "");

  // The demo's registers refuse a byte: QEMU says so, and the guest reads ones.
  assertEquals(await drive(guest, 0, "sysfs", "r1:0:0 r4:0:0"), ["0xff", "0x64756676"]);
  assertMatch(guest.qemuSaid(), /^.*region0\+0x0, 1\) failed: Invalid argument$/);
});

const MIB = 1 << 20;

/** Does what drivers do by VFIO behind an IOMMU: MSI, MSI-X and DMA. */
async function driveByVfio(guest: Guest): Promise<void> {
  await guest.sh(`modprobe vfio_iommu_type1 allow_unsafe_interrupts=1
    modprobe vfio-pci
    for i in 0000:01:00.0 0000:02:00.0 0000:03:00.0; do
      echo vfio-pci > /sys/bus/pci/devices/$i/driver_override
      echo $i > /sys/bus/pci/drivers_probe
    done`);

  // The demo copies a page; each of its vectors is its own.
  const copy = `w4:0:0x40:${MIB} w4:0:0x48:${2 * MIB} w4:0:0x50:4096 w4:0:0x54:0x301`;
  assertEquals(
    await drive(
      guest,
      0,
      "vfio",
      `use:2:4 fill:${MIB}:4096:3 same:${MIB}:${2 * MIB}:4096 ${copy} irq:3:5000 r4:0:0x58 ` +
        `same:${MIB}:${2 * MIB}:4096 w4:0:0x20:0 irq:0:5000 w4:0:0x20:2 irq:2:5000 irq:1:20 ` +
        "w4:0:0x20:1 irq:1:5000 irq:0:20 w4:0:8:1 reset r4:0:8",
    ),
    ["different", "1", "0x1", "same", "1", "1", "none", "1", "none", "0x0"],
  );

  // The timer interrupts by MSI, and on its pin where that is set up.
  assertEquals(
    await drive(
      guest,
      1,
      "vfio",
      "use:1:1 w4:0:4:20 w4:0:0:1 irq:0:5000 r4:0:8 use:0:1 w4:0:12:1 w4:0:0:1 irq:0:5000 " +
        "irq:0:20 unmask irq:0:5000 w4:0:12:1 unmask irq:0:50",
    ),
    ["1", "0x1", "1", "none", "1", "none"],
  );

  // The engine's twentieth channel copies 3 MiB and tells so by its own vector: QEMU hands out more
  // eventfds than fit into one message. Then it fails by memory that isn't the device's.
  const [list, size] = [MIB, 3 * MIB];
  const descriptor = `p8:${list}:${2 * MIB} p8:${list + 8}:${8 * MIB} p4:${list + 16}:${size}`;
  const start = "w8:0:0x260:0x100000 w1:0:0x268:1 w4:0:0x26c:1";
  assertEquals(
    await drive(
      guest,
      2,
      "vfio",
      `use:2:20 fill:${2 * MIB}:${size}:9 ${descriptor} ${start} irq:19:5000 r4:0:0x270 ` +
        `r8:0:0x278 same:${2 * MIB}:${8 * MIB}:${size} p8:${list + 8}:0x80000000 ${start} ` +
        "irq:19:5000 r2:0:0x270 irq:0:20",
    ),
    ["1", "0x2", "0x300000", "same", "1", "0x4", "none"],
  );
}

/** A device without FLR is reset by its bus, which the kernel always warns of. */
const BUS_RESET = "unlocked secondary bus reset";

guestTest("MSI, MSI-X and DMA behind an IOMMU, also after the guest's reboot", async () => {
  const engine = ["examples/dma_engine.ts", "--option", "channels=20"];
  await using served = await serve("demo", "examples/timer.ts", engine);
  await using guest = await bootGuest({
    iommu: true,
    devices: sockets(served),
    files: await guestPrograms("pcidev"),
  });
  for (let round = 0; round < 2; round++) {
    if (round === 1) await guest.reboot();
    await driveByVfio(guest);
    const complaints = await guest.complaints();
    assertEquals(complaints.filter((each) => !each.includes(BUS_RESET)), []);
  }
  assertEquals(guest.qemuSaid(), "");
});
