/**
 * Interrupts that do not come: what the registers of the device say of the reason.
 *
 * @module
 */

import type { Device } from "../device.ts";
import type { IrqIndex } from "../irq.ts";
import {
  COMMAND,
  HEADER,
  MSI_CONTROL,
  MSIX_CONTROL,
  MSIX_ENTRY,
  STATUS,
} from "../../pci/registers.ts";
import { hex } from "../../text/hex.ts";
import { PciIrq } from "../../wire/irq.ts";
import { regionName } from "../../wire/region.ts";
import { busMasterReason, commandOf, powerReason } from "./dma.ts";
import { Peek } from "./peek.ts";

/** Vectors whose table entries are read. */
const MAX_VECTORS = 16;
const MSI_MASKABLE = 0x100;

/**
 * Finds reasons why vectors of an IRQ index do not fire: switched off or masked, in the device's
 * registers or by the client, or pending. Devices that leave this to their client may fire all the
 * same: these are for one that did not.
 *
 * @param vectors which; default all that are enabled
 * @returns a clause each, with register, value and remedy; empty if nothing is in the way
 *
 * @example
 * ```ts
 * import { connect } from "../connect.ts";
 * import { DemoDevice } from "../../devices/demo.ts";
 * import { embed } from "../../server/embedded.ts";
 * import { interruptReasons } from "./interrupts.ts";
 *
 * using device = await connect(embed(new DemoDevice()).fd);
 * const msix = await device.irqs("msix");
 * await msix.enable();
 * const [reason] = await interruptReasons(device, msix);
 * if (!reason!.startsWith("MSI-X is off")) throw new Error(reason);
 * ```
 */
export async function interruptReasons(
  device: Device,
  irqs: IrqIndex,
  vectors: readonly number[] = irqs.enabled,
): Promise<string[]> {
  const peek = new Peek(device);
  const own = clientReasons(irqs, vectors);
  const command = await commandOf(peek);
  if (command === undefined) return own; // no PCI device, or one that is gone
  switch (irqs.info.index) {
    case PciIrq.INTX:
      return [...own, ...await intxReasons(peek, command), ...await powerReason(peek)];
    case PciIrq.MSI:
      return [...own, ...await msiReasons(peek, vectors), ...await senderReasons(peek, command)];
    case PciIrq.MSIX:
      return [...own, ...await msixReasons(peek, vectors), ...await senderReasons(peek, command)];
    default:
      return own;
  }
}

/**
 * Says why vectors are silent. If another vector of the index has fired, the device ignores what
 * its registers say of all of them. Only reasons in this client are left then.
 *
 * @returns one text; undefined if nothing is known
 */
export async function silenceText(
  device: Device,
  irqs: IrqIndex,
  vectors: readonly number[] = irqs.enabled,
): Promise<string | undefined> {
  const hasFired = irqs.enabled.some((vector) => irqs.total(vector) > 0n);
  const own = clientReasons(irqs, vectors);
  const all = hasFired ? own : await interruptReasons(device, irqs, vectors);
  // A server may leave the registers to the client, as a VMM keeps the MSI-X table to itself.
  const reasons = all.length > own.length ? [...all, IF_IGNORED] : all;
  if (reasons.length > 0) return reasons.join("; ");
  return hasFired || device.state !== "CONNECTED" ? undefined : NOTHING_OFF;
}

const IF_IGNORED = "if the device ignores these registers, it did not fire";

const NOTHING_OFF =
  "nothing is off, masked or pending that would hold it back: the device did not fire";

/** Finds reasons in what this client did itself. */
function clientReasons(irqs: IrqIndex, vectors: readonly number[]): string[] {
  const { name, masked } = irqs;
  const reasons: string[] = [];
  const ours = vectors.filter((vector) => masked.includes(vector));
  if (ours.length > 0) reasons.push(`${vectorsText(ours)} masked by this client: unmask`);
  if (vectors.some((vector) => irqs.isSelfMasked(vector))) {
    reasons.push(`${name} masks itself when it fires, and has fired: unmask it`);
  }
  return reasons;
}

/** MSI and MSI-X are writes to memory. */
async function senderReasons(peek: Peek, command: number): Promise<string[]> {
  return [...busMasterReason(command), ...await powerReason(peek)];
}

async function intxReasons(peek: Peek, command: number): Promise<string[]> {
  const reasons: string[] = [];
  if ((command & COMMAND.INTX_DISABLE) !== 0) {
    reasons.push(`INTx is disabled in COMMAND (${hex(command, 4)}): clear its bit 10`);
  }
  if (await peek.config(HEADER.INTERRUPT_PIN, 1) === 0) {
    reasons.push("the device has no interrupt pin (INTERRUPT_PIN is 0)");
  }
  for (
    const [name, enable] of [["MSIX", MSIX_CONTROL.ENABLE], ["MSI", MSI_CONTROL.ENABLE]] as const
  ) {
    const at = await peek.capability(`CAP_${name}`);
    const control = at === undefined ? undefined : await peek.config(at + 2, 2);
    if (control !== undefined && (control & enable) !== 0) {
      reasons.push(`${name === "MSIX" ? "MSI-X" : name} is on, and takes the place of INTx`);
    }
  }
  const status = await peek.config(HEADER.STATUS, 2);
  if (status !== undefined && (status & STATUS.INTERRUPT) !== 0) {
    reasons.push(`the device asserts INTx (bit 3 of STATUS, ${hex(status, 4)})`);
  }
  return reasons;
}

async function msiReasons(peek: Peek, vectors: readonly number[]): Promise<string[]> {
  const at = await peek.capability("CAP_MSI");
  const control = at === undefined ? undefined : await peek.config(at + 2, 2);
  if (at === undefined || control === undefined) return [];
  const reasons: string[] = [];
  if ((control & MSI_CONTROL.ENABLE) === 0) {
    reasons.push(`MSI is off (CAP_MSI+2.w is ${hex(control, 4)}): set its bit 0`);
  }
  if ((control & MSI_MASKABLE) === 0) return reasons;
  const maskAt = at + ((control & MSI_CONTROL.ADDRESS_64) !== 0 ? 0x10 : 0x0c);
  const mask = await peek.config(maskAt, 4) ?? 0;
  const pending = await peek.config(maskAt + 4, 4) ?? 0;
  const isSet = (bits: number) => (vector: number) => (bits >>> vector & 1) !== 0;
  const masked = vectors.filter(isSet(mask));
  if (masked.length > 0) {
    reasons.push(`${vectorsText(masked)} masked (config+${hex(maskAt)}.l is ${hex(mask, 8)})`);
  }
  return [...reasons, ...pendingReason(vectors.filter(isSet(pending)))];
}

async function msixReasons(peek: Peek, vectors: readonly number[]): Promise<string[]> {
  const at = await peek.capability("CAP_MSIX");
  const control = at === undefined ? undefined : await peek.config(at + 2, 2);
  if (at === undefined || control === undefined) return [];
  const reasons: string[] = [];
  if ((control & MSIX_CONTROL.ENABLE) === 0) {
    reasons.push(`MSI-X is off (CAP_MSIX+2.w is ${hex(control, 4)}): set its bit 15`);
  }
  if ((control & MSIX_CONTROL.FUNCTION_MASK) !== 0) {
    reasons.push(
      `all of MSI-X is masked (CAP_MSIX+2.w is ${hex(control, 4)}): clear its bit 14`,
    );
  }
  const looked = vectors.slice(0, MAX_VECTORS);
  const table = await peek.config(at + 4, 4);
  if (table !== undefined) reasons.push(...await tableReasons(peek, table, looked));
  const pba = await peek.config(at + 8, 4);
  if (pba !== undefined) reasons.push(...await pbaReasons(peek, pba, looked));
  return reasons;
}

/**
 * A register that says where the table or the pending bits are: the BAR in its low 3 bits, else the
 * offset.
 */
function placeOf(register: number): { bar: number; offset: number } {
  return { bar: register & 7, offset: (register & ~7) >>> 0 };
}

async function tableReasons(
  peek: Peek,
  register: number,
  vectors: readonly number[],
): Promise<string[]> {
  const { bar, offset } = placeOf(register);
  const controlAt = (vector: number) => offset + vector * MSIX_ENTRY.SIZE + MSIX_ENTRY.CONTROL;
  const masked: number[] = [];
  for (const vector of vectors) {
    const control = await peek.read(bar, controlAt(vector), 4);
    if (control !== undefined && (control & 1) !== 0) masked.push(vector);
  }
  const [first] = masked;
  if (first === undefined) return [];
  const place = `${regionName(bar)}+${hex(controlAt(first))}`;
  return [`${vectorsText(masked)} masked in the MSI-X table (${place}): clear bit 0`];
}

async function pbaReasons(
  peek: Peek,
  register: number,
  vectors: readonly number[],
): Promise<string[]> {
  const { bar, offset } = placeOf(register);
  const words = new Map<number, number | undefined>();
  const pending: number[] = [];
  for (const vector of vectors) {
    const at = offset + (vector >> 5) * 4;
    if (!words.has(at)) words.set(at, await peek.read(bar, at, 4));
    if (((words.get(at) ?? 0) >>> (vector & 31) & 1) !== 0) pending.push(vector);
  }
  return pendingReason(pending);
}

function pendingReason(pending: readonly number[]): string[] {
  if (pending.length === 0) return [];
  return [`${vectorsText(pending)} pending: the device has fired, and holds it back`];
}

/** "vector 3 is", "vectors 0 to 3 are", "vectors 0, 2 and 3 are". */
function vectorsText(vectors: readonly number[]): string {
  const [first, last] = [vectors[0]!, vectors.at(-1)!];
  if (vectors.length === 1) return `vector ${first} is`;
  const isRow = vectors.length > 2 && last - first === vectors.length - 1;
  const list = isRow ? `${first} to ${last}` : `${vectors.slice(0, -1).join(", ")} and ${last}`;
  return `vectors ${list} are`;
}
