/**
 * `vfu irq`: has a device signal its interrupts, and shows them.
 *
 * @module
 */

import { unmet, unmetLines } from "../shared/unmet.ts";
import { Argument, Command, Option } from "@commander-js/extra-typings";
import type { Device } from "../../lib/client/device.ts";
import type { IrqId } from "../../lib/client/info.ts";
import { TimeoutError } from "../../lib/base/errors.ts";
import type { IrqIndex, VectorRange } from "../../lib/client/irq.ts";
import { DEFAULT_TIMEOUT_MS } from "../../lib/base/limits.ts";
import { IrqFlags, PciIrq } from "../../lib/wire/irq.ts";
import { argument } from "../shared/argument.ts";
import { type ConnectionOptions, connectTo } from "../shared/connect.ts";
import { pciEnableOption, verboseOption } from "../shared/connection_options.ts";
import type { Context, Output } from "../shared/context.ts";
import { examples } from "../shared/examples.ts";
import { parseDuration } from "../../lib/text/duration.ts";
import { Grace, thenTakeBack } from "../shared/cleanup_grace.ts";
import { jsonText } from "../shared/json.ts";
import { nextTurn } from "../../lib/base/turn.ts";
import type { Style } from "../shared/style.ts";
import { parseCount, parseValue } from "../shared/value.ts";
import { assignAll, type Assignment, writeOption } from "../shared/assignment.ts";
import { readIndex } from "../../lib/text/integer.ts";

/** An action that follows once the vectors are enabled. */
export type Action =
  | { readonly kind: "trigger" | "mask" | "unmask"; readonly vector: number }
  | { readonly kind: "write"; readonly assignment: Assignment };

/** Options of {@linkcode run}. */
export interface IrqOptions extends Omit<ConnectionOptions, "timeout"> {
  /** The vectors; default all. */
  vectors?: VectorRange | undefined;
  /** The actions that follow, in this order. */
  actions: readonly Action[];
  /** End after so many interrupts. */
  count?: number | undefined;
  /** Wait so long, in milliseconds. */
  timeout?: number | undefined;
  /** Write JSON: an {@linkcode InterruptJson} a line. */
  json?: true | undefined;
}

/** The object that `vfu irq --json` writes on each line. */
export interface InterruptJson {
  /** Since the vectors were enabled, in milliseconds. */
  time_ms: number;
  /** The vector. */
  vector: number;
  /** Its interrupts since its last line. */
  count: bigint;
  /** Its interrupts in all. */
  total: bigint;
}

/** Interrupts of a vector, with when they were seen. */
interface Seen {
  readonly timeMs: number;
  readonly vector: number;
  readonly count: bigint;
  readonly total: bigint;
}

const MAX_VECTOR = 0xffff_ffffn;

/** The command's arguments and options. */
export function command(context: Context) {
  const actions: Action[] = [];
  const onVector = (kind: "trigger" | "mask" | "unmask") =>
    argument((text: string) => actions.push({ kind, vector: parseVector(text) }));
  return new Command("irq")
    .description(
      "Enables vectors of an IRQ index, then shows each interrupt with its time, until Ctrl-C, " +
        "--timeout or --count; then disables them. Before it waits it triggers, masks, unmasks " +
        "and writes registers, in the order of the options. INTx is unmasked after each " +
        "interrupt: while its level stays up it fires again and again.",
    )
    .argument("<socket>", "path of the server's socket")
    .addArgument(
      new Argument(
        "<index>",
        "intx, msi, msix, err, req or a number; vectors as msix[0] or msix[0-3]",
      )
        .argParser(argument(parseIrqTarget)),
    )
    .addOption(
      new Option("--vectors <range>", "only these, as 3 or 0-7").argParser(argument(parseVectors)),
    )
    .addOption(
      new Option("--trigger <vector>", "have the server fire it; repeatable")
        .argParser(onVector("trigger")),
    )
    .addOption(
      new Option("--mask <vector>", "mask it: it waits if it fires; repeatable")
        .argParser(onVector("mask")),
    )
    .addOption(
      new Option("--unmask <vector>", "unmask it; repeatable").argParser(onVector("unmask")),
    )
    .addOption(writeOption((assignment) => actions.push({ kind: "write", assignment })))
    .addOption(
      new Option("--count <number>", "end after so many interrupts").argParser(
        argument(parseCount),
      ),
    )
    .addOption(
      new Option("--timeout <duration>", "end after so long; fails if --count is not reached")
        .argParser(argument(parseDuration)),
    )
    .option("--json", "write a line of JSON for each")
    .addOption(pciEnableOption())
    .addOption(verboseOption())
    .addHelpText(
      "after",
      examples(
        "vfu irq dev.sock msix",
        "vfu irq dev.sock msix[0] --trigger 0 --count 1 --timeout 1s",
        "vfu irq dev.sock intx --write bar0+0x60.l=1 --json",
      ),
    )
    .action((socket, { id, vectors }, options, self) => {
      if (vectors !== undefined && options.vectors !== undefined) {
        self.error("error: the vectors are named twice, by the index and by '--vectors'");
      }
      return run(context, socket, id, { ...options, vectors: vectors ?? options.vectors, actions });
    });
}

/**
 * Reads the name of an IRQ index, or its number.
 *
 * @throws {SyntaxError} if it is neither
 */
export function parseIrq(text: string): IrqId {
  const name = text.toLowerCase();
  if (name.toUpperCase() in PciIrq) return name as IrqId;
  const index = readIndex(text);
  if (index !== undefined) return index;
  throw new SyntaxError(`"${text}" is no IRQ index; write intx, msi, msix, err, req or a number`);
}

/** The vectors that `vfu irq` listens to: all of an IRQ index, or some. */
export interface IrqTarget {
  /** The index. */
  readonly id: IrqId;
  /** Its vectors; undefined: all, or what `--vectors` says. */
  readonly vectors?: Required<VectorRange>;
}

/**
 * Reads an IRQ index, or vectors of one as sessions name them: "msix", "msix[0]", "msix[0-3]".
 *
 * @throws {SyntaxError} if it is neither
 * @throws {RangeError} if the last vector comes before the first
 */
export function parseIrqTarget(text: string): IrqTarget {
  const [, name, vectors] = /^([^[]*)\[([^\]]*)\]$/.exec(text) ?? [];
  if (vectors === undefined) return { id: parseIrq(text) };
  return { id: parseIrq(name!), vectors: parseVectors(vectors) };
}

/**
 * Reads `FIRST-LAST`, or the number of one vector.
 *
 * @throws {SyntaxError} if it is neither
 * @throws {RangeError} if the last comes before the first
 */
export function parseVectors(text: string): Required<VectorRange> {
  const [first, last = first, ...rest] = text.split("-");
  if (rest.length > 0) throw new SyntaxError(`"${text}" is no range of vectors; write it as 0-7`);
  const start = parseVector(first!);
  const end = parseVector(last!);
  if (end < start) throw new RangeError(`${end} comes before ${start}`);
  return { start, count: end - start + 1 };
}

function parseVector(text: string): number {
  const vector = parseValue(text);
  if (vector > MAX_VECTOR) throw new RangeError("A vector has 32 bits");
  return Number(vector);
}

/** Shows interrupts of the device behind `socket`. */
export async function run(
  context: Context,
  socket: string,
  id: IrqId,
  options: IrqOptions,
): Promise<void> {
  using grace = new Grace(context.signal);
  using connection = await connectTo({ ...context, signal: grace.signal }, socket, {
    ...options,
    timeout: DEFAULT_TIMEOUT_MS,
  });
  const { device } = connection;
  const irqs = await device.irqs(id);
  grace.begin();
  await irqs.enable(options.vectors);
  const startMs = performance.now();
  const work = async () => {
    for (const action of options.actions) {
      context.signal.throwIfAborted();
      await act(device, irqs, action);
    }
    sayWaiting(context.err, irqs);
    await showAll(context, device, irqs, startMs, options);
  };
  await thenTakeBack(device, work, (wait) => irqs.disable(undefined, wait));
}

async function act(device: Device, irqs: IrqIndex, action: Action): Promise<void> {
  if (action.kind === "write") await assignAll(device, [action.assignment]);
  else await irqs[action.kind](action.vector);
}

/**
 * Shows interrupts until there were enough, or the time is over.
 *
 * @throws {TimeoutError} if that was before there were enough
 */
async function showAll(
  { out, err, signal }: Context,
  device: Device,
  irqs: IrqIndex,
  startMs: number,
  { count, timeout = Infinity, json }: IrqOptions,
): Promise<void> {
  const totals = new Map<number, bigint>();
  // What a level drives is unmasked after each, as a VMM does at the end of an interrupt.
  const needsUnmask = (irqs.info.flags & IrqFlags.AUTOMASKED) !== 0 ||
    (irqs.info.index === PciIrq.INTX && (irqs.info.flags & IrqFlags.MASKABLE) !== 0);
  let sum = 0n;
  let isOver = false;
  while (count === undefined || sum < BigInt(count)) {
    const timeoutMs = startMs + timeout - performance.now();
    // When the time is over, what has come by then is shown once more.
    if (isOver || !await comes(irqs, Math.max(0, timeoutMs), signal)) {
      if (count === undefined) return sum > 0n ? undefined : await saySilence(err, device, irqs);
      const message = `${sum} of ${count} interrupts of ${irqs.name} came in time`;
      throw unmet(message, await silenceOf(device, irqs));
    }
    isOver = timeoutMs <= 0;
    const timeMs = performance.now() - startMs;
    for (const vector of irqs.enabled) {
      const total = irqs.total(vector);
      const seen = { timeMs, vector, total, count: total - (totals.get(vector) ?? 0n) };
      if (seen.count === 0n) continue;
      totals.set(vector, total);
      sum += seen.count;
      out.write(json ? interruptJson(seen) : interruptLine(seen, out.style));
      if (needsUnmask) await irqs.unmask(vector);
    }
    await nextTurn(); // else a device that never stops would keep Ctrl-C from being seen
  }
}

/** Says to a person that no interrupt came, and why as far as the device tells. */
async function saySilence(
  { isTerminal, style, write }: Output,
  device: Device,
  irqs: IrqIndex,
): Promise<void> {
  if (!isTerminal) return;
  const lines = unmetLines(`No interrupt of ${irqs.name} came`, await silenceOf(device, irqs));
  write(style.dim(lines.join("\n")) + "\n");
}

/** Reasons why no interrupt came, as far as the device tells. */
async function silenceOf(device: Device, irqs: IrqIndex): Promise<string | undefined> {
  const { silenceText } = await import("../../lib/client/diagnose/diagnose.ts");
  return await silenceText(device, irqs);
}

/** Waits for an interrupt; false if none comes in time. */
async function comes(irqs: IrqIndex, timeoutMs: number, signal: AbortSignal): Promise<boolean> {
  try {
    await irqs.waitAsync(undefined, { timeoutMs, signal });
    return true;
  } catch (error) {
    if (error instanceof TimeoutError) return false;
    throw error;
  }
}

function sayWaiting({ isTerminal, style, write }: Output, { name, enabled }: IrqIndex): void {
  if (!isTerminal) return;
  const [first, last] = [enabled[0], enabled.at(-1)];
  const vectors = first === last ? `vector ${first}` : `vectors ${first} to ${last}`;
  write(style.dim(`Waiting for ${vectors} of ${name}; Ctrl-C disables them`) + "\n");
}

function interruptLine({ timeMs, vector, count, total }: Seen, { dim, green }: Style): string {
  const time = dim(`${timeMs.toFixed(1).padStart(8)} ms`);
  return `${time}  ${green(`vector ${vector}`)}  count ${count}  total ${total}\n`;
}

function interruptJson({ timeMs, vector, count, total }: Seen): string {
  const json: InterruptJson = {
    time_ms: Math.round(timeMs * 1000) / 1000,
    vector,
    count,
    total,
  };
  return jsonText(json) + "\n";
}
