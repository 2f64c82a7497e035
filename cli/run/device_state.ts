/**
 * The state of a device, for a user who looks for the reason of a failed step.
 *
 * @module
 */

import { dmaReasons } from "../../lib/client/diagnose/diagnose.ts";
import { interruptReasons } from "../../lib/client/diagnose/diagnose.ts";
import type { LiveSession } from "../../lib/session/run/executor.ts";
import { thrownText } from "../../lib/base/thrown.ts";
import { PciRegion } from "../../lib/wire/region.ts";

/** The state of a device. */
export interface DeviceStateJson {
  /** The state of the connection: "CONNECTED", "ERROR", "CLOSED". */
  connection: string;
  /** The COMMAND register of a PCI device. */
  command?: number;
  /** Its STATUS register. */
  status?: number;
  /** The reason why the registers were not read. */
  unreadable?: string;
  /** Buffers that are mapped. */
  buffers: { name: string; iova: bigint; size: number }[];
  /** Interrupts so far, of vectors that are enabled. */
  interrupts: { index: string; vector: number; total: bigint }[];
  /** Reasons why the device does no DMA and vectors are silent, as its registers tell. */
  notes?: string[];
}

/** The time that the device may take to tell. In milliseconds. */
const TIMEOUT_MS = 1000;

/**
 * Asks a device how it stands. Never throws.
 *
 * @param said what the failure says already
 */
export async function deviceState(live: LiveSession, said = ""): Promise<DeviceStateJson> {
  const { device, memory, interrupts } = live;
  const state: DeviceStateJson = {
    connection: device.state,
    buffers: [...memory.maps].map(([name, { iova, size }]) => ({ name, iova, size })),
    interrupts: [],
  };
  if (device.state !== "CONNECTED") return state;
  for (const irqs of interrupts.used) {
    for (const vector of irqs.enabled) {
      state.interrupts.push({ index: irqs.name, vector, total: irqs.total(vector) });
    }
  }
  try {
    const wait = { timeoutMs: TIMEOUT_MS };
    const { size } = await device.regionInfo(PciRegion.CONFIG, wait);
    if (size > 0n) {
      const both = await device.region("config").read32Async(4, wait);
      state.command = both & 0xffff;
      state.status = both >>> 16;
    }
    const notes = (await notesOf(live)).filter((note) => !said.includes(note));
    if (notes.length > 0) state.notes = notes;
  } catch (error) {
    state.unreadable = thrownText(error);
    state.connection = device.state;
  }
  return state;
}

/** Reads the registers about DMA, if there are buffers, and about vectors that have not fired. */
async function notesOf({ device, memory, interrupts }: LiveSession): Promise<string[]> {
  const notes = memory.maps.size > 0 ? await dmaReasons(device) : [];
  for (const irqs of interrupts.used) {
    const totals = irqs.enabled.map((vector) => irqs.total(vector));
    // One that fired shows that the device does not mind what else its registers say.
    if (totals.some((total) => total > 0n)) continue;
    for (const reason of await interruptReasons(device, irqs)) {
      if (!notes.includes(reason)) notes.push(reason);
    }
  }
  return notes;
}
