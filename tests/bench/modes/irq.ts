/**
 * Interrupts, each set off by a posted write.
 *
 * @module
 */

import type { Device } from "../../../lib/client/device.ts";
import { IrqIndex } from "../../../lib/client/irq.ts";
import { IrqFlags, PciIrq } from "../../../lib/wire/irq.ts";
import { Doorbell, type Mode } from "./mode.ts";
import { bar0 } from "./region.ts";

const POSTED = { posted: true };

/** Modes by name. */
export const irqModes: Record<string, Mode> = {
  async "interrupt"(device) {
    const region = bar0(device);
    const irqs = await enable(device);
    return (count) => {
      for (let i = 0; i < count; i++) {
        region.write32(Doorbell.INTERRUPT, 1, POSTED);
        irqs.wait(0);
      }
    };
  },

  async "interrupt-async"(device) {
    const region = bar0(device);
    const irqs = await enable(device);
    return async (count) => {
      for (let i = 0; i < count; i++) {
        region.write32(Doorbell.INTERRUPT, 1, POSTED);
        await irqs.waitAsync(0);
      }
    };
  },
};

/** One vector, of which the server of baseline.c tells nothing. */
async function enable(device: Device): Promise<IrqIndex> {
  const irqs = new IrqIndex(
    { index: PciIrq.MSIX, flags: IrqFlags.EVENTFD, count: 1 },
    device.proxy,
  );
  await irqs.enable();
  return irqs;
}
