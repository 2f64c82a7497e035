/**
 * Asks a server for its offers.
 *
 * @module
 */

import { MessageFlags } from "../wire/header.ts";
import type { CameMessage } from "./raw_peer.ts";
import { Deviation } from "./deviation.ts";
import type { Facts, FoundIrq, FoundRegion } from "./facts.ts";
import { u32At, u64At } from "./pack.ts";
import { type Ask, deviceInfo, feature, irqInfo, read, regionInfo, write } from "./requests.ts";
import type { Trial } from "./trial.ts";

/** Indexes that are asked for, whatever number the server names. */
const MAX_INDEXES = 64;
/** The room for the capabilities of a region. */
const MAX_INFO = 1 << 16;
/** PCI's Interrupt Line: a byte that the device keeps for software. */
const INTERRUPT_LINE = 0x3cn;

const FEATURE_GET = 1 << 16;
const FEATURE_PROBE = 1 << 18;

/**
 * Learns what the server offers, on the trial's connection, which is new.
 *
 * @param onProblem hears of each answer that is none: little is known of what it was to tell
 * @throws {Deviation} if it does not answer VERSION or DEVICE_GET_INFO
 */
export async function learn(
  trial: Trial,
  onProblem: (problem: Deviation) => void = () => {},
): Promise<Facts> {
  const answer = (ask: Ask) => answerTo(trial, ask, onProblem);
  const version = await trial.negotiate();
  const info = (await trial.accepts(deviceInfo())).payload;
  const [flags, numRegions, numIrqs] = [u32At(info, 4), u32At(info, 8), u32At(info, 12)];
  const regions: (FoundRegion | undefined)[] = [];
  for (let index = 0; index < Math.min(numRegions, MAX_INDEXES); index++) {
    regions.push(await learnRegion(answer, index));
  }
  const irqs: FoundIrq[] = [];
  for (let index = 0; index < Math.min(numIrqs, MAX_INDEXES); index++) {
    const reply = await answer(irqInfo(index));
    if (reply === undefined) continue;
    const { payload } = reply;
    irqs.push({ index, flags: u32At(payload, 4), count: u32At(payload, 12) });
  }
  const isPci = (flags & 2) !== 0;
  const readable = await findReadable(answer, isPci, regions);
  const migration = await answer(feature(FEATURE_GET | 1, new Uint8Array(), 16));
  const logging = await answer(feature(FEATURE_PROBE | 6));
  return {
    major: u32At(version.payload, 0) & 0xffff,
    minor: u32At(version.payload, 0) >>> 16,
    capabilities: capabilitiesOf(version.payload),
    isPci,
    canReset: (flags & 1) !== 0,
    numRegions,
    numIrqs,
    regions,
    irqs,
    readable,
    scratch: isPci && await keeps(answer) ? { region: 7, offset: INTERRUPT_LINE } : undefined,
    migration: migration === undefined ? undefined : u64At(migration.payload, 8),
    logs: logging !== undefined,
  };
}

/** The capabilities that the JSON of a VERSION has; empty if it has none, or is none. */
export function capabilitiesOf(payload: Uint8Array): Record<string, unknown> {
  const nul = payload.indexOf(0, 4);
  const text = new TextDecoder().decode(payload.subarray(4, nul < 0 ? undefined : nul));
  try {
    const value = JSON.parse(text)?.capabilities;
    return typeof value === "object" && value !== null ? value : {};
  } catch {
    return {};
  }
}

/** Asks; undefined if the answer is an error, or none. */
type Asking = (ask: Ask) => Promise<CameMessage | undefined>;

async function learnRegion(answer: Asking, index: number): Promise<FoundRegion | undefined> {
  let reply = await answer(regionInfo(index));
  if (reply === undefined) return undefined;
  const argsz = u32At(reply.payload, 0);
  if (argsz > 32) reply = await answer(regionInfo(index, Math.min(argsz, MAX_INFO)));
  if (reply === undefined) return undefined;
  const { payload, fds } = reply;
  return {
    index,
    size: u64At(payload, 16),
    flags: u32At(payload, 4),
    argsz,
    info: payload,
    fds: fds.length,
  };
}

async function findReadable(
  answer: Asking,
  isPci: boolean,
  regions: readonly (FoundRegion | undefined)[],
): Promise<FoundRegion | undefined> {
  const order = isPci ? [regions[7], ...regions] : regions;
  for (const region of order) {
    if (region === undefined || (region.flags & 1) === 0 || region.size < 4n) continue;
    if (await answer(read(region.index, 0, 4)) !== undefined) return region;
  }
  return undefined;
}

/** Reports whether the Interrupt Line keeps what is written. It is put back. */
async function keeps(answer: Asking): Promise<boolean> {
  const before = (await answer(read(7, INTERRUPT_LINE, 1)))?.payload[16];
  if (before === undefined) return false;
  const other = before ^ 0x5a;
  if (await answer(write(7, INTERRUPT_LINE, new Uint8Array([other]))) === undefined) {
    return false;
  }
  const after = (await answer(read(7, INTERRUPT_LINE, 1)))?.payload[16];
  await answer(write(7, INTERRUPT_LINE, new Uint8Array([before])));
  return after === other;
}

/** The reply, unless it is one of an error or does not come while the server still answers. */
async function answerTo(trial: Trial, ask: Ask, onProblem: (problem: Deviation) => void) {
  if (!trial.peer.isOpen) return undefined;
  try {
    const reply = await trial.ask(ask);
    return (reply.flags & MessageFlags.ERROR) !== 0 ? undefined : reply;
  } catch (error) {
    if (!(error instanceof Deviation)) throw error;
    onProblem(error);
    return undefined;
  }
}
