/**
 * Causes that keep a device from the client's memory. An MSI is a write to memory as well.
 *
 * @module
 */

import { COMMAND } from "../../pci/registers.ts";
import { hex } from "../../text/hex.ts";
import { type Cause, ENABLE } from "./cause.ts";

const PM_STATE_AT = 4;
const PM_STATES = ["D0", "D1", "D2", "D3hot"] as const;

/** The causes, with those that explain most first. */
export const DMA_CAUSES: readonly Cause[] = [
  {
    id: "bus-master-off",
    title: "bus master enable is off in COMMAND",
    subjects: ["dma", "msi", "msix"],
    async find(look) {
      const command = await look.command();
      if (command === undefined || (command & COMMAND.MASTER) !== 0) return [];
      return [{
        evidence: `bus master is off in COMMAND (${hex(command, 4)}), ` +
          "without which there is no DMA and no MSI",
        remedy: "enable the device (--pci-enable, device.pci.enable(), or pci enable in a session)",
        command: ENABLE,
      }];
    },
  },
  {
    id: "asleep",
    title: "the device is in a power state below D0",
    subjects: ["registers", "intx", "msi", "msix", "dma"],
    async find(look) {
      if (await look.command() === undefined) return [];
      const at = await look.capability("CAP_PM");
      const control = at === undefined ? undefined : await look.config(at + PM_STATE_AT, 2);
      const state = PM_STATES[(control ?? 0) & 3]!;
      if (state === "D0") return [];
      return [{
        evidence: `the device is in ${state} (CAP_PM+4.w)`,
        remedy: "write 0 to its low 2 bits",
        command: "write SOCKET CAP_PM+4.w=0:3",
      }];
    },
  },
];
