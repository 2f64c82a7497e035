/**
 * A timer. It counts how often its period was over, and raises an interrupt each time. The
 * interrupt is MSI if the client has set that up, else the pin's.
 *
 * ```sh
 * vfu serve ./examples/timer.ts --socket-path=/tmp/timer.sock &
 * vfu irq /tmp/timer.sock msi --write bar0+4=100 --write bar0=3 --for 1s
 * ```
 *
 * @module
 */

import { cap, defineDevice, type DeviceTimer, registers } from "../mod.ts";

/** Also what `vfu read --map` takes, as YAML. */
const MAP = {
  name: "timer",
  registers: [
    {
      name: "CTRL",
      offset: 0x00,
      width: 4,
      fields: [
        { name: "EN", bits: 0, description: "Runs" },
        { name: "PERIODIC", bits: 1, description: "Begins again at the end" },
      ],
    },
    { name: "PERIOD", offset: 0x04, width: 4, reset: 1000, description: "In milliseconds" },
    { name: "COUNT", offset: 0x08, width: 4, access: "ro", description: "Periods that are over" },
    {
      name: "STATUS",
      offset: 0x0c,
      width: 4,
      access: "w1c",
      fields: [{ name: "OVER", bits: 0, description: "A period was over; drives the pin" }],
    },
  ],
} as const;

export default defineDevice({
  name: "timer",
  title: "Timer with interrupts",
  pci: {
    vendor: 0x1234,
    device: 0x0de6,
    class: 0x088000, // a system peripheral of no other class
    interruptPin: "A",
    capabilities: [cap.pm(), cap.msi()],
  },
  create({ irq, timers }) {
    const bar0 = registers(MAP);
    const { CTRL, PERIOD, COUNT, STATUS } = bar0.regs;
    let timer: DeviceTimer | undefined;
    const start = (ms: number) => {
      timer?.cancel();
      timer = timers.after(ms, () => {
        COUNT.value = (COUNT.value + 1) >>> 0;
        STATUS.OVER = 1;
        if (!irq.msi(0).raise()) irq.intx.set(true);
        if (CTRL.PERIODIC === 1) start(period());
        else CTRL.EN = 0;
      });
    };
    const period = () => Math.min(PERIOD.value, 2 ** 31 - 1);
    bar0.on({
      CTRL: {
        write() {
          if (CTRL.EN === 0) timer?.cancel();
          else if (!timer?.isActive) start(period());
        },
      },
      STATUS: { write: () => irq.intx.set(STATUS.OVER === 1 && irq.intx.isUp) },
    });
    return {
      regions: { bar0 },
      state: {
        save: () => timer?.leftMs ?? 0,
        restore(left) {
          timer?.cancel();
          if (CTRL.EN === 1) start(Math.min(Number(left) || 0, period()));
        },
      },
    };
  },
});

if (import.meta.main) {
  const { main } = await import("../cli/main.ts");
  main(["serve", import.meta.filename!, ...Deno.args]).then(Deno.exit);
}
