/**
 * The diagnosis of a device that does not do what a client waits for.
 *
 * @module
 */

import { ConnectionError, ProtocolError, TimeoutError } from "../../base/errors.ts";
import { irqName } from "../../wire/irq.ts";
import type { Device } from "../device.ts";
import type { IrqIndex } from "../irq.ts";
import { clueText, type Finding, type Subject, SUBJECTS } from "./cause.ts";
import { CAUSES } from "./causes.ts";
import { Examination, type ExaminationOptions } from "./examination.ts";

/** The things to look at, and the time for that. */
export interface DiagnoseOptions extends ExaminationOptions {
  /** The things that the client waits for; default all, and what prevents none of them. */
  readonly subjects?: readonly Subject[];
}

/**
 * Looks for causes why a device does not do what a client waits for. It writes nothing, and never
 * throws. A device may work all the same if it ignores the registers that are named.
 *
 * @returns the causes that were found, those that explain most first
 *
 * @example
 * ```ts
 * import { connect } from "../connect.ts";
 * import { DemoDevice } from "../../devices/demo_device.ts";
 * import { embed } from "../../server/embedded.ts";
 * import { diagnose } from "./diagnose.ts";
 *
 * using device = await connect(embed(new DemoDevice()).fd);
 * const found = await diagnose(device);
 * if (found[0]?.cause !== "bar-unassigned") throw new Error(found[0]?.evidence);
 * ```
 */
export async function diagnose(
  device: Device,
  { subjects, ...options }: DiagnoseOptions = {},
): Promise<Finding[]> {
  const look = new Examination(device, options);
  const found: Finding[] = [];
  for (const cause of CAUSES) {
    if (subjects !== undefined && !cause.subjects.some((each) => subjects.includes(each))) continue;
    for (const clue of await cause.find(look)) found.push({ cause: cause.id, ...clue });
  }
  if (subjects === undefined && look.isOver) found.push(unfinished(look));
  return found;
}

/** The reason why not all was looked at. */
function unfinished({ failure, budgetMs }: Examination): Finding {
  if (failure instanceof ProtocolError) {
    return {
      cause: "other-protocol",
      evidence: failure.message,
      remedy: "the server has to answer as the specification says (vfu check)",
      command: "doctor SOCKET --verbose",
    };
  }
  const evidence = failure instanceof TimeoutError || failure instanceof ConnectionError
    ? failure.message
    : `the answers to all questions took longer than ${budgetMs} ms together`;
  const remedy = failure instanceof ConnectionError
    ? "restart its server, and see with --verbose after which message it ends"
    : "look again with a longer --timeout, or restart its server";
  return { cause: "no-answer", evidence, remedy };
}

/**
 * Finds reasons why a device does not access the memory that it was given.
 *
 * @returns a clause each, with register, value and remedy; empty if nothing is in the way
 *
 * @example
 * ```ts
 * import { connect } from "../connect.ts";
 * import { DemoDevice } from "../../devices/demo_device.ts";
 * import { embed } from "../../server/embedded.ts";
 * import { dmaReasons } from "./diagnose.ts";
 *
 * using device = await connect(embed(new DemoDevice()).fd);
 * const [reason] = await dmaReasons(device);
 * if (!reason!.startsWith("bus master is off")) throw new Error(reason);
 * ```
 */
export async function dmaReasons(device: Device): Promise<string[]> {
  return (await diagnose(device, { subjects: ["dma"] })).map(clueText);
}

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
 * import { DemoDevice } from "../../devices/demo_device.ts";
 * import { embed } from "../../server/embedded.ts";
 * import { interruptReasons } from "./diagnose.ts";
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
  return (await interruptFindings(device, irqs, vectors)).map(clueText);
}

async function interruptFindings(
  device: Device,
  irqs: IrqIndex,
  vectors: readonly number[],
): Promise<Finding[]> {
  const subject = SUBJECTS.find((each) => each === irqName(irqs.info.index));
  // Of other indexes no register tells, but this client may have masked them.
  if (subject !== undefined) return await diagnose(device, { subjects: [subject], irqs, vectors });
  const all = await diagnose(device, { subjects: ["intx"], irqs, vectors });
  return all.filter(({ cause }) => BY_CLIENT.has(cause));
}

/** The causes that lie in this client. */
const BY_CLIENT: ReadonlySet<string> = new Set(["masked-by-client", "masks-itself"]);

/** Clues that are told at once; the others are counted. */
const SHOWN_CLUES = 3;

/** One text of the first causes that were found, and the number of the others. */
function whyText(found: readonly Finding[], ...further: readonly string[]): string | undefined {
  if (found.length === 0) return undefined;
  const texts = found.slice(0, SHOWN_CLUES).map(clueText);
  const more = found.length - texts.length;
  if (more > 0) texts.push(`${more} more (vfu doctor shows all)`);
  return [...texts, ...further].join("; ");
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
  const all = await interruptFindings(device, irqs, vectors);
  const own = all.filter(({ cause }) => BY_CLIENT.has(cause));
  if (hasFired) return whyText(own);
  // A server may leave the registers to the client, as a VMM keeps the MSI-X table to itself.
  const why = whyText(all, ...all.length > own.length ? [IF_IGNORED] : []);
  return why ?? (device.state === "CONNECTED" ? NOTHING_OFF : undefined);
}

const IF_IGNORED = "if the device ignores these registers, it did not fire";

const NOTHING_OFF =
  "nothing is off, masked or pending that would hold it back: the device did not fire";

/**
 * Says why a device does no DMA.
 *
 * @returns one text; undefined if nothing is in the way
 */
export async function dmaSilenceText(device: Device): Promise<string | undefined> {
  return whyText(await diagnose(device, { subjects: ["dma"] }));
}

/**
 * Says why a register did not change, though its reads are answered: the device can't work, or is
 * not what answers.
 *
 * @param value the last that was read
 * @param width bytes of it
 * @returns one text; undefined if nothing is in the way
 */
export async function standstillText(
  device: Device,
  value: bigint,
  width: number,
): Promise<string | undefined> {
  // A BAR that does not decode reads as ones, or as zeros.
  const isBlank = value === 0n || value === (1n << BigInt(width * 8)) - 1n;
  const subjects = isBlank ? ["registers", "dma"] as const : ["dma"] as const;
  return whyText(await diagnose(device, { subjects }), ELSEWHERE);
}

const ELSEWHERE = "if the device ignores these registers, the reason is another one";
