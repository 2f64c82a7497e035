/**
 * Devices that do no DMA: what their registers say of the reason.
 *
 * @module
 */

import type { Device } from "../device.ts";
import { COMMAND, HEADER } from "../../pci/registers.ts";
import { hex } from "../../text/hex.ts";
import { Peek } from "./peek.ts";

const PM_STATE_AT = 4;
const PM_STATES = ["D0", "D1", "D2", "D3hot"] as const;

/**
 * Finds reasons why a device does not access the memory that it was given.
 *
 * @returns a clause each, with register, value and remedy; empty if nothing is in the way
 *
 * @example
 * ```ts
 * import { connect } from "../connect.ts";
 * import { DemoDevice } from "../../devices/demo.ts";
 * import { embed } from "../../server/embedded.ts";
 * import { dmaReasons } from "./dma.ts";
 *
 * using device = await connect(embed(new DemoDevice()).fd);
 * const [reason] = await dmaReasons(device);
 * if (!reason!.startsWith("bus master is off")) throw new Error(reason);
 * ```
 */
export async function dmaReasons(device: Device): Promise<string[]> {
  const peek = new Peek(device);
  const command = await commandOf(peek);
  if (command === undefined) return [];
  return [...busMasterReason(command), ...await powerReason(peek)];
}

/** COMMAND; undefined if the device is no PCI device, or does not answer. */
export async function commandOf(peek: Peek): Promise<number | undefined> {
  const command = await peek.config(HEADER.COMMAND, 2);
  return command === 0xffff ? undefined : command; // ones only: there is no function
}

/**
 * A clause if bus master is off: a device does nothing to memory then, and an MSI is a write to
 * memory.
 */
export function busMasterReason(command: number): string[] {
  if ((command & COMMAND.MASTER) !== 0) return [];
  return [
    `bus master is off in COMMAND (${
      hex(command, 4)
    }), without which there is no DMA and no MSI: ` +
    "enable the device (--pci-enable, device.pci.enable(), or pci enable in a session)",
  ];
}

/** A clause if the device sleeps. */
export async function powerReason(peek: Peek): Promise<string[]> {
  const at = await peek.capability("CAP_PM");
  const control = at === undefined ? undefined : await peek.config(at + PM_STATE_AT, 2);
  const state = PM_STATES[(control ?? 0) & 3]!;
  return state === "D0"
    ? []
    : [`the device is in ${state} (CAP_PM+4.w): write 0 to its low 2 bits`];
}
