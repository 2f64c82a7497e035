/**
 * `vfu irq`: has a device signal its interrupts, and shows them.
 *
 * @module
 */

import { unmet, unmetLines } from "../shared/unmet.ts";
import { Argument, Command, type CommandUnknownOpts, Option } from "@commander-js/extra-typings";
import type { Device } from "../../lib/client/device.ts";
import type { IrqId } from "../../lib/client/info.ts";
import { TimeoutError } from "../../lib/base/errors.ts";
import type { IrqIndex, VectorRange } from "../../lib/client/irq.ts";
import { IrqFlags, irqIndex, irqName, PciIrq, vectorsName } from "../../lib/wire/irq.ts";
import {
  act,
  findAll,
  GivenActions,
  type RegisterAction,
  waitOption,
  writeOption,
} from "../shared/actions.ts";
import { argument } from "../shared/argument.ts";
import { type ConnectionOptions, connectTo } from "../shared/connect.ts";
import {
  forOption,
  pciEnableOption,
  timeoutOption,
  verboseOption,
} from "../shared/connection_options.ts";
import { mapOption, placeParser } from "../shared/map.ts";
import type { Context, Output } from "../shared/context.ts";
import { examples } from "../shared/examples.ts";
import { Grace, thenTakeBack } from "../shared/cleanup_grace.ts";
import { jsonText } from "../shared/json.ts";
import { nextTurn } from "../../lib/base/turn.ts";
import type { Style } from "../shared/style.ts";
import { parseCount, parseValue } from "../shared/value.ts";
import { readIndex } from "../../lib/text/integer.ts";
import { plural } from "../../lib/text/plural.ts";

/** An action that follows once the vectors are enabled. */
export type Action = VectorAction | RegisterAction;

/** An action on vectors of the IRQ index. */
export interface VectorAction {
  readonly kind: "trigger" | "mask" | "unmask";
  readonly target: VectorTarget;
}

/** Options of {@linkcode run}. */
export interface IrqOptions extends ConnectionOptions {
  /** The vectors; default all. */
  vectors?: VectorRange | undefined;
  /** The actions that follow, in this order. */
  actions: readonly Action[];
  /** End after so many interrupts. */
  count?: number | undefined;
  /** Wait so long in all, in milliseconds. */
  for?: number | undefined;
  /** Write JSON: an {@linkcode InterruptJson} a line. */
  json?: true | undefined;
}

/** The object that `vfu irq --json` writes on each line. */
export interface InterruptJson {
  /** Since the vectors were enabled, in milliseconds. */
  time_ms: number;
  /** The IRQ index, as "msix". */
  irq: string;
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
  readonly irq: string;
  readonly vector: number;
  readonly count: bigint;
  readonly total: bigint;
}

const MAX_VECTOR = 0xffff_ffffn;

/** The command's arguments and options. */
export function command(context: Context) {
  const given = new GivenActions<Action>();
  const vectorOption = (kind: VectorAction["kind"], use: string) =>
    given.option(`--${kind} <vector>`, `${use}; repeatable`, (text) => {
      return { kind, target: parseVectorTarget(text) };
    });
  return new Command("irq")
    .description(
      "Enables vectors of an IRQ index, then shows each interrupt with its time, until Ctrl-C, " +
        "--for or --count; then disables them. Before it waits it triggers, masks, unmasks, " +
        "writes registers and waits for them, in the order of the options. INTx is " +
        "unmasked after each " +
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
    .addOption(vectorOption("trigger", "have the server fire it, as msix[0] or 0"))
    .addOption(vectorOption("mask", "mask it: it waits if it fires"))
    .addOption(vectorOption("unmask", "unmask it"))
    .addOption(writeOption(given))
    .addOption(waitOption(given))
    .addOption(mapOption("take MAP.REGISTER or REGISTER as an address too"))
    .addOption(
      new Option("--count <number>", "end after so many interrupts").argParser(
        argument(parseCount),
      ),
    )
    .addOption(forOption("end after so long, as 500ms; fails if --count is not reached"))
    .option("--json", "write a line of JSON for each")
    .addOption(pciEnableOption())
    .addOption(verboseOption())
    .addOption(timeoutOption())
    .addHelpText(
      "after",
      examples(
        "vfu irq dev.sock msix",
        "vfu irq dev.sock msix[0] --trigger msix[0] --count 1 --for 1s",
        "vfu irq dev.sock msix --map nvme --write CC.EN=1 --wait CSTS.RDY==1",
        "vfu irq dev.sock intx --write bar0+0x60.l=1 --json",
      ),
    )
    .action(async (socket, { id, vectors }, options, self) => {
      if (vectors !== undefined && options.vectors !== undefined) {
        self.error("error: the vectors are named twice, by the index and by '--vectors'");
      }
      const place = await placeParser(context, self, options.map);
      const actions = given.read(self, place);
      const all = { ...options, vectors: vectors ?? options.vectors, actions };
      checkVectors(self, id, actions);
      await run(context, socket, id, all);
    });
}

/**
 * Reads the name of an IRQ index, or its number.
 *
 * @throws {SyntaxError} if it is neither
 */
export function parseIrq(text: string): IrqId {
  const name = text.toLowerCase();
  if (irqIndex(name) !== undefined) return name as IrqId;
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
function parseIrqTarget(text: string): IrqTarget {
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

/** A vector of the index that the command is for. */
export interface VectorTarget {
  /** The index, if the text says. */
  readonly id?: IrqId;
  /** Its number. */
  readonly vector: number;
}

/**
 * Reads a vector as sessions name it, "msix[0]", or its number alone.
 *
 * @throws {SyntaxError} if it is neither
 */
function parseVectorTarget(text: string): VectorTarget {
  const [, name, vector] = /^([^[]*)\[([^\]-]*)\]$/.exec(text) ?? [];
  if (vector === undefined) return { vector: parseVector(text) };
  return { id: parseIrq(name!), vector: parseVector(vector) };
}

/** Refuses vectors of another index than that of the command, as wrong usage. */
function checkVectors(self: CommandUnknownOpts, id: IrqId, actions: readonly Action[]): void {
  for (const action of actions) {
    if (!isVectorAction(action)) continue;
    const { kind, target } = action;
    if (target.id === undefined || indexOf(target.id) === indexOf(id)) continue;
    const vector = vectorsName(irqName(indexOf(target.id)), target.vector);
    self.error(`error: --${kind} ${vector} is no vector of ${irqName(indexOf(id))}`);
  }
}

function indexOf(id: IrqId): number {
  return typeof id === "number" ? id : irqIndex(id)!;
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
  using connection = await connectTo({ ...context, signal: grace.signal }, socket, options);
  const { device } = connection;
  await device.info(); // which has the names of interrupts
  const irqs = await device.irqs(id);
  await findAll(device, options.actions.filter((action) => !isVectorAction(action)));
  grace.begin();
  await irqs.enable(options.vectors);
  const startMs = performance.now();
  const work = async () => {
    for (const action of options.actions) {
      context.signal.throwIfAborted();
      if (isVectorAction(action)) await irqs[action.kind](action.target.vector);
      else await act(device, action, context.signal);
    }
    sayWaiting(context.err, irqs);
    await showAll(context, device, irqs, startMs, options);
  };
  await thenTakeBack(device, work, (wait) => irqs.disable(undefined, wait));
}

function isVectorAction(action: Action): action is VectorAction {
  return action.kind !== "write" && action.kind !== "wait";
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
  { count, for: forMs = Infinity, json }: IrqOptions,
): Promise<void> {
  const totals = new Map<number, bigint>();
  // What a level drives is unmasked after each, as a VMM does at the end of an interrupt.
  const needsUnmask = (irqs.info.flags & IrqFlags.AUTOMASKED) !== 0 ||
    (irqs.info.index === PciIrq.INTX && (irqs.info.flags & IrqFlags.MASKABLE) !== 0);
  let sum = 0n;
  let isOver = false;
  while (count === undefined || sum < BigInt(count)) {
    const timeoutMs = startMs + forMs - performance.now();
    // When the time is over, what has come by then is shown once more.
    if (isOver || !await comes(irqs, Math.max(0, timeoutMs), signal)) {
      if (count === undefined) return sum > 0n ? undefined : await saySilence(err, device, irqs);
      const message = `${sum} of ${plural(count, "interrupt")} of ${
        enabledName(irqs)
      } came in time`;
      throw unmet(message, await silenceOf(device, irqs));
    }
    isOver = timeoutMs <= 0;
    const timeMs = performance.now() - startMs;
    for (const vector of irqs.enabled) {
      const total = irqs.total(vector);
      const seen = {
        timeMs,
        irq: irqs.name,
        vector,
        total,
        count: total - (totals.get(vector) ?? 0n),
      };
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
  const lines = unmetLines(
    `No interrupt of ${enabledName(irqs)} came`,
    await silenceOf(device, irqs),
  );
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

/** The vectors that are waited for, as `msix[0-3]`. */
function enabledName({ name, enabled }: IrqIndex): string {
  const [first, last] = [enabled[0], enabled.at(-1)];
  if (first === undefined || last === undefined) return name; // the connection has ended
  return vectorsName(name, first, last - first + 1);
}

function sayWaiting({ isTerminal, style, write }: Output, irqs: IrqIndex): void {
  if (!isTerminal) return;
  write(style.dim(`Waiting for ${enabledName(irqs)}; Ctrl-C disables them`) + "\n");
}

function interruptLine(
  { timeMs, irq, vector, count, total }: Seen,
  { dim, green }: Style,
): string {
  const time = dim(`${timeMs.toFixed(1).padStart(8)} ms`);
  return `${time}  ${green(vectorsName(irq, vector))}  count ${count}  total ${total}\n`;
}

function interruptJson({ timeMs, irq, vector, count, total }: Seen): string {
  const json: InterruptJson = {
    time_ms: Math.round(timeMs * 1000) / 1000,
    irq,
    vector,
    count,
    total,
  };
  return jsonText(json) + "\n";
}
