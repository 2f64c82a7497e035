/**
 * `vfu serve --watch` under a guest. Drivers go on while their devices are replaced by new
 * versions. The guest sees that these behave differently.
 */

import { assertEquals, assertStringIncludes } from "@std/assert";
import { type ServeProcess, startServe } from "../_demo_process.ts";
import { until } from "../_until.ts";
import { bootGuest, guestPrograms, guestTest } from "./guest.ts";

const EXAMPLES = new URL("../../examples/", import.meta.url);

/** A copy of an example in a folder of its own, as an author has it; served with `--watch`. */
async function serveCopy(name: string) {
  const folder = await Deno.makeTempDir({ prefix: "vfu-reload-" });
  const path = `${folder}/${name}.ts`;
  const original = await Deno.readTextFile(new URL(`${name}.ts`, EXAMPLES));
  let source = original.replaceAll('"../mod.ts"', '"@vfu/vfu"');
  await Deno.writeTextFile(path, source);
  const server: ServeProcess = await startServe(path, "--watch");
  const count = () => server.stderr().match(/^Reloaded with its state$/gm)?.length ?? 0;
  return {
    server,
    /** Edits the file, and waits until the device is replaced. */
    async edit(before: string, after: string) {
      assertStringIncludes(source, before);
      source = source.replace(before, after);
      const reloads = count();
      await Deno.writeTextFile(path, source);
      await until(() => count() > reloads, `a reload: ${server.stderr()}`);
    },
    async [Symbol.asyncDispose]() {
      await server.stop();
      await Deno.remove(folder, { recursive: true });
    },
  };
}

guestTest("drivers go on while their devices are reloaded", async () => {
  await using gpio = await serveCopy("gpio");
  await using timer = await serveCopy("timer");
  await using guest = await bootGuest({
    iommu: true,
    devices: [gpio, timer].map(({ server }) => ({ socket: server.path })),
    files: await guestPrograms("pcidev"),
  });
  await guest.sh(`modprobe uio_pci_generic
    echo 494f 0dc8 > /sys/bus/pci/drivers/uio_pci_generic/new_id
    modprobe vfio_iommu_type1 allow_unsafe_interrupts=1
    modprobe vfio-pci
    echo vfio-pci > /sys/bus/pci/devices/${guest.address(1)}/driver_override
    echo ${guest.address(1)} > /sys/bus/pci/drivers_probe`);

  // Each driver holds its device open. The pin of the first is up when its device is replaced, the
  // timer of the second runs then, and goes on; it interrupts by MSI.
  const pins = "r1:2:0 r1:2:0 r1:2:0 irq:0:60000 wait:/tmp/go unmask irq:0:60000 r1:2:0 unmask " +
    "irq:0:50 r1:2:0 r1:2:0 irq:0:60000";
  const ticks = "use:1:1 w4:0:4:20 w4:0:0:3 irq:0:60000 wait:/tmp/go irq:0:60000 irq:0:60000 " +
    "irq:0:60000 w4:0:0:0 r4:0:8 r4:0:4";
  await guest.sh(`pcidev sysfs ${guest.address(0)} ${pins} > /tmp/gpio 2>&1 &
    pcidev vfio ${guest.address(1)} ${ticks} > /tmp/timer 2>&1 &
    while [ $(cat /tmp/gpio /tmp/timer | wc -l) -lt 5 ]; do sleep 0.1; done`);
  await gpio.edit("Math.floor(reads++ / 3)", "0x40 + Math.floor(reads++ / 3)");
  await timer.edit("COUNT.value + 1", "COUNT.value + 0x10000");
  await guest.sh("touch /tmp/go; wait; while pidof pcidev; do sleep 0.1; done");

  const [first, ...pin] = (await guest.sh("cat /tmp/gpio")).split("\n");
  assertEquals([first, ...pin.slice(0, 3)], ["0x0", "0x0", "0x0", "1"]);
  // Still up: it interrupts when it is unmasked, until the next read, the first of the new version.
  assertEquals(pin.slice(3), ["1", "0x41", "none", "0x41", "0x41", "1"]);
  const ticked = (await guest.sh("cat /tmp/timer")).split("\n");
  const [count, period] = ticked.slice(-2).map(Number);
  assertEquals(ticked.slice(0, -2).some((each) => each === "none"), false, ticked.join());
  assertEquals([count! >>> 16 >= 1, (count! & 0xffff) >= 1, period], [true, true, 20]);

  const complaints = await guest.complaints();
  assertEquals(complaints.filter((each) => !each.includes("unlocked secondary bus reset")), []);
  assertEquals(guest.qemuSaid(), "");
  for (const { server } of [gpio, timer]) {
    assertEquals(server.stderr().match(/A client has connected/g)?.length, 1);
    assertEquals(server.stderr().includes("The client has left"), false);
  }
});
