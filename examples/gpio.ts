/**
 * The first device of every vfio-user server: a PCI-IDIO-16, whose input counts the reads of it by
 * threes. Each third read raises its interrupt pin, and the next one lowers it.
 *
 * ```sh
 * vfu serve ./examples/gpio.ts --socket-path=/tmp/gpio.sock &
 * vfu read /tmp/gpio.sock bar2.b
 * ```
 *
 * @module
 */

import { defineDevice, registers } from "../mod.ts";

export default defineDevice({
  name: "gpio",
  title: "PCI-IDIO-16 digital input",
  pci: { vendor: 0x494f, device: 0x0dc8, class: 0x0000ff, interruptPin: "A" },
  create({ irq }) {
    let reads = 0;
    const bar2 = registers(
      { registers: [{ name: "IN", offset: 0, width: 1, access: "ro" }] },
      { size: 0x100 },
    ).on({
      IN: {
        read() {
          const value = Math.floor(reads++ / 3) & 0xff;
          irq.intx.set(reads % 3 === 0); // up until the next read
          return value;
        },
      },
    });
    return {
      regions: { bar2 },
      reset: () => void (reads = 0),
      state: { save: () => reads, restore: (saved) => void (reads = Number(saved)) },
    };
  },
});

if (import.meta.main) {
  const { main } = await import("../cli/main.ts");
  main(["serve", import.meta.filename!, ...Deno.args]).then(Deno.exit);
}
