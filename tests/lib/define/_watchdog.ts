/**
 * A device that is not on the PCI bus, which `vfu --serve` takes as well.
 *
 * @module
 */

import { assert } from "@std/assert";
import { defineDevice, memory, registers } from "../../../mod.ts";

/** A watchdog on no bus: a region of registers at 0, memory at 3, a pin and two vectors. */
export default defineDevice({
  name: "watchdog",
  pci: false,
  interrupts: [{ masksItself: true }, { vectors: 2 }, { isMaskable: false }, { vectors: 0 }],
  create({ irq, isBusMaster, dma }) {
    const regs = registers({
      registers: [
        { name: "CTRL", offset: 0, width: 4, reset: 3 },
        { name: "RING", offset: 4, width: 4, access: "wo" },
        { name: "PIN", offset: 8, width: 4, access: "wo" },
        { name: "COPY", offset: 0x10, width: 8, access: "wo" },
      ],
    });
    regs.on({
      RING: { write: (value) => void irq.at(1, value).raise() },
      PIN: { write: (value) => irq.pin(0).set(value === 1) },
      COPY: {
        async write(iova) {
          assert(isBusMaster());
          await dma.write(iova, new Uint8Array([1, 2, 3, 4]));
        },
      },
    });
    return { regions: [regs, undefined, undefined, memory({ size: 8192 })] };
  },
});
