/**
 * A recording as a session file: what the client did as steps, what the device did as expectations.
 *
 * @module
 */

import { accessesOf } from "../record/decode.ts";
import { sameBytes } from "../base/bytes.ts";
import { littleEndian } from "../base/little_endian.ts";
import { turnUnless } from "../base/turn.ts";
import type { RegisterLocator } from "../registers/locate.ts";
import { errnoText, MAX_ERRNO } from "../text/errno.ts";
import { hex } from "../text/hex.ts";
import { plural } from "../text/plural.ts";
import { WIDTH_LETTERS } from "../text/width.ts";
import { irqName, IrqSetFlags, vectorsName } from "../wire/irq.ts";
import { PciRegion, placeText, regionIndex, regionName } from "../wire/region.ts";
import { KnownMemory } from "./memory.ts";
import {
  type Effect,
  HEAD_SIZE,
  type PartAnswer,
  type PartRead,
  type Scene,
  type ServerPart,
} from "./part.ts";
import { buffersOf } from "./session_buffers.ts";
import { type Range, TouchedRanges } from "./touched.ts";

/** Characters of a session file: less than a session may have. */
const MAX_TEXT = 3 << 20;
/** Lines of a session file: YAML with more than 500,000 words and marks is refused. */
const MAX_LINES = 20_000;
/** Bytes of memory that a step has. */
const MAX_DATA = 4096;
/** Bytes on one line of the file. */
const BYTES_A_LINE = 32;
/** The end of offsets and addresses. */
const SPACE_END = 1n << 64n;
/** The end of configuration space. */
const CONFIG_END = 4096n;
/** The largest number of a region or an IRQ index that a session has. */
const MAX_INDEX = 999_999_999;
/** The largest vector. */
const MAX_VECTOR = 0xffff_ffff;

/** Options of {@linkcode sessionText}. */
export interface SessionTextOptions {
  /** The title. */
  readonly title: string;
  /** Names registers. */
  readonly locator?: RegisterLocator | undefined;
  /** The maps of these names, as a session includes them. */
  readonly include?: readonly string[];
  /** Ends the work; the promise is then rejected with its reason. */
  readonly signal?: AbortSignal | undefined;
}

/**
 * Writes a session file. What a session can't say is in its comments.
 *
 * @param part the recording, as `learnPart` returns it
 *
 * @example
 * ```ts
 * import { readRecording } from "../record/mod.ts";
 * import { learnPart } from "./part.ts";
 * import { sessionText } from "./session_text.ts";
 *
 * async function convert(recording: string, session: string): Promise<void> {
 *   const part = await learnPart(readRecording(recording));
 *   await Deno.writeTextFile(session, await sessionText(part, { title: "As recorded" }));
 * }
 * console.assert(typeof convert === "function");
 * ```
 */
export async function sessionText(part: ServerPart, options: SessionTextOptions): Promise<string> {
  const ranges = await buffersOf(part, options.signal);
  return await new SessionWriter(part, options, ranges).text();
}

class SessionWriter {
  readonly #part: ServerPart;
  readonly #options: SessionTextOptions;
  readonly #ranges: readonly Range[];
  readonly #memory = new KnownMemory();
  /** Vectors that are enabled, as "2 0". */
  readonly #enabled = new Set<string>();
  readonly #lines: string[] = [];
  #length = 0;

  constructor(part: ServerPart, options: SessionTextOptions, ranges: readonly Range[]) {
    this.#part = part;
    this.#options = options;
    this.#ranges = ranges;
  }

  async text(): Promise<string> {
    const { title, include = [], signal } = this.#options;
    const { scenes } = this.#part;
    for (const [number, scene] of scenes.entries()) {
      await turnUnless(signal);
      if (this.#isFull) {
        this.#lines.push(
          `  # The session ends here: ${plural(scenes.length - number, "request")} more that may ` +
            "change the device would make it too long.",
        );
        break;
      }
      this.#scene(scene);
    }
    const buffers = this.#ranges.map(({ start, end }, i) =>
      `  memory${i}: { iova: ${hex(start)}, size: ${hex(end - start)} }`
    );
    const isEmpty = !this.#lines.some((line) => line.startsWith("  -"));
    return [
      `title: ${JSON.stringify(title)}`,
      ...(include.length === 0 ? [] : [`include: ${JSON.stringify(include)}`]),
      ...(buffers.length === 0 ? [] : ["", "buffers:", ...buffers]),
      ...this.#sharedMemory(),
      ...this.#leftOut(),
      "",
      isEmpty ? "steps: []" : "steps:",
      ...this.#lines,
      "",
    ].join("\n");
  }

  /** Says that the contents of shared memory are unknown. */
  #sharedMemory(): string[] {
    const hasDma = this.#part.scenes.some(({ effects }) =>
      effects.some(({ kind }) => kind === "dma")
    );
    if (hasDma || this.#ranges.length === 0) return [];
    return ["# The contents of this memory are not in the recording: it was shared."];
  }

  get #isFull(): boolean {
    return this.#length > MAX_TEXT || this.#lines.length > MAX_LINES;
  }

  /** Names the parts of the recording for which there is no step. */
  #leftOut(): string[] {
    const { otherClients, kicks } = this.#part;
    return [
      ...(otherClients === 0 ? [] : [
        `# Not expressed: ${plural(otherClients, "other client")} of the recording.`,
      ]),
      ...(kicks === 0 ? [] : [
        `# Not expressed: ${plural(kicks, "signal")} on descriptors of regions.`,
      ]),
    ];
  }

  #add(...lines: string[]): void {
    for (const line of lines) {
      this.#lines.push(`  ${line}`);
      this.#length += line.length + 3;
    }
  }

  #scene(scene: Scene): void {
    this.#puts(scene.effects);
    if (scene.step !== undefined) this.#cause(scene);
    let run: PartRead[] = [];
    let written: Range[] = [];
    const before = new Map<Range, Uint8Array>();
    const flushReads = () => {
      this.#reads(run);
      run = [];
    };
    const flushWritten = (hasCome: boolean) => {
      this.#written(written, before, hasCome);
      written = [];
      before.clear();
    };
    for (const each of scene.order) {
      if (this.#isFull) break;
      if (each.kind === "read") {
        const [first] = run;
        if (first !== undefined && !isSamePlace(first, each)) flushReads();
        run.push(each);
        continue;
      }
      if (each.kind === "interrupt") {
        flushReads();
        this.#interrupt(each.irq, each.vector, each.count);
        flushWritten(true);
        continue;
      }
      const [access] = accessesOf(each.step.asked.payload);
      if (access?.data === undefined || access.data.length === 0) continue;
      const range = { start: access.offset, end: access.offset + access.count };
      if (!this.#isMemory(range, each.step.event.index)) continue;
      const length = Math.min(access.data.length, MAX_DATA);
      before.set(range, this.#memory.read(access.offset, length));
      this.#memory.write(access.offset, access.data);
      written.push(range);
    }
    flushReads();
    flushWritten(false);
  }

  /** Puts into memory what the device is about to read there. */
  #puts(effects: readonly Effect[]): void {
    const touched = new TouchedRanges();
    for (const effect of effects) {
      if (this.#isFull) break;
      if (effect.kind !== "dma") continue;
      const { asked, answer, event } = effect.step;
      const [access] = accessesOf(asked.payload);
      if (access === undefined || answer === undefined || answer.errno !== 0) continue;
      const isWrite = access.action === "write";
      const data = isWrite ? access.data! : answer.payload.subarray(HEAD_SIZE);
      const range = { start: access.offset, end: access.offset + BigInt(data.length) };
      if (isWrite) {
        touched.add(range);
        continue;
      }
      if (!this.#isMemory(range, event.index)) continue;
      const known = this.#memory.read(access.offset, data.length);
      if (sameBytes(data, known)) continue;
      if (touched.overlaps(range)) {
        this.#add(
          `# Not expressed: event ${event.index} reads ${plural(data.length, "byte")} at ` +
            `${hex(access.offset)} again, which changed in between.`,
        );
        continue;
      }
      touched.add(range);
      this.#memory.write(access.offset, data);
      for (let at = 0; at < data.length && !this.#isFull; at += MAX_DATA) {
        this.#add(
          `- dma put: dma+${hex(access.offset + BigInt(at))}`,
          bytesLine(data.subarray(at, at + MAX_DATA)),
        );
      }
    }
  }

  /** True if a range is within all addresses; else says that it is not. */
  #isMemory({ start, end }: Range, event: number): boolean {
    if (end <= SPACE_END) return true;
    this.#add(`# Not expressed: event ${event} accesses memory at ${hex(start)} and beyond 2^64.`);
    return false;
  }

  /** The step that a scene begins with. */
  #cause({ step, write, answer }: Scene): void {
    const { sent, event } = step!;
    const comment = `  # event ${event.index}`;
    const error = errorLines(answer);
    if (write !== undefined) {
      const { region, offset, data } = write;
      const place = this.#place(region, offset, data.length, "ro");
      if (place === undefined || error === undefined) {
        this.#add(
          `# Not expressed: event ${event.index} writes ${plural(data.length, "byte")} at ` +
            `${placeText(region, offset)}.`,
        );
        return;
      }
      const value = hex(littleEndian(data), data.length * 2);
      if (error.length === 0) this.#add(`- write: { ${place}: ${value} }${comment}`);
      else this.#add(`- write: ${place}${comment}`, `  value: ${value}`, ...error);
      return;
    }
    const { payload } = sent;
    if (sent.name === "DEVICE_RESET") return this.#add(`- reset${comment}`);
    if (payload?.name === "DEVICE_SET_IRQS" && payload.side === "request") {
      const { flags, index, start, count } = payload.value;
      return this.#setIrqs(flags, index, start, count, event.descriptors.length, event.index);
    }
    this.#add(`# Not expressed: event ${event.index}, ${sent.name}.`);
  }

  #setIrqs(
    flags: number,
    irq: number,
    start: number,
    count: number,
    descriptors: number,
    event: number,
  ): void {
    const action = flags & IrqSetFlags.ACTION_MASK_BITS;
    const data = flags & IrqSetFlags.DATA_MASK;
    const comment = `  # event ${event}`;
    const isTrigger = action === IrqSetFlags.ACTION_TRIGGER;
    const refused = () =>
      this.#add(`# Not expressed: event ${event}, DEVICE_SET_IRQS with flags ${hex(flags)}.`);
    const end = Math.min(start + descriptors, start + 4096);
    if (isTrigger && data === IrqSetFlags.DATA_EVENTFD && descriptors > 0) {
      if (vectorsText(irq, start, end - start) === undefined) return refused();
      for (let vector = start; vector < end; vector++) {
        const key = `${irq} ${vector}`;
        if (this.#enabled.has(key)) continue;
        this.#enabled.add(key);
        this.#add(`- irq enable: ${vectorsText(irq, vector)}${comment}`);
      }
      return;
    }
    const isAll = data === IrqSetFlags.DATA_NONE && count === 0;
    if (isTrigger && (isAll || data === IrqSetFlags.DATA_EVENTFD)) {
      for (const key of [...this.#enabled]) {
        const [own, vector] = key.split(" ").map(Number) as [number, number];
        if (own !== irq || (!isAll && (vector < start || vector >= start + count))) continue;
        this.#enabled.delete(key);
        this.#add(`- irq disable: ${vectorsText(irq, vector)}${comment}`);
      }
      return;
    }
    const word = isTrigger
      ? "trigger"
      : action === IrqSetFlags.ACTION_MASK
      ? "mask"
      : action === IrqSetFlags.ACTION_UNMASK
      ? "unmask"
      : undefined;
    const vectors = count === 0 ? undefined : vectorsText(irq, start, count);
    if (word === undefined || data !== IrqSetFlags.DATA_NONE || vectors === undefined) {
      return refused();
    }
    this.#add(`- irq ${word}: ${vectors}${comment}`);
  }

  #interrupt(irq: number, vector: number, count: bigint): void {
    if (count === 0n) return;
    if (!this.#enabled.has(`${irq} ${vector}`)) {
      const name = vectorsName(irqName(irq), vector);
      return this.#add(`# Not expressed: an interrupt of ${name}, which is not enabled.`);
    }
    this.#add(
      `- irq wait: ${vectorsText(irq, vector)}`,
      ...(count === 1n ? [] : [`  count: ${count}`]),
    );
  }

  /** Reads of one place: the value that they come to in the end. */
  #reads(run: readonly PartRead[]): void {
    const [first] = run;
    const answers = run.flatMap(({ answer }) => answer ?? []);
    const last = answers.at(-1);
    if (first === undefined || last === undefined) return;
    const { region, offset, count } = first;
    const place = this.#place(region, offset, count, "wo");
    if (place === undefined) {
      return this.#add(
        `# Not expressed: a read of ${plural(count, "byte")} at ${placeText(region, offset)}.`,
      );
    }
    const error = errorLines(last);
    if (error === undefined) {
      return this.#add(
        `# Not expressed: a read at ${placeText(region, offset)} fails with errno ` +
          `${last.errno}.`,
      );
    }
    if (error.length > 0) return this.#add(`- read: ${place}`, ...error);
    const values = answers.map(({ payload }) => littleEndian(payload.subarray(HEAD_SIZE)));
    const value = hex(values.at(-1)!, count * 2);
    const isPoll = values.some((each) => each !== values[0]);
    if (isPoll) return this.#add(`- poll: { ${place}: ${value} }`);
    const expect = `- expect: { ${place}: ${value} }`;
    // A read may have effects: there are as many as in the recording.
    if (values.length === 1) this.#add(expect);
    else this.#add(`- repeat: ${values.length}`, "  steps:", `    ${expect}`);
  }

  /** Expects in memory what the device wrote there; waits for it unless an interrupt has come. */
  #written(
    written: readonly Range[],
    before: ReadonlyMap<Range, Uint8Array>,
    hasCome: boolean,
  ): void {
    const latest = new Map<string, Range>(); // each where it was written last
    for (const range of written) {
      const key = `${range.start} ${range.end}`;
      latest.delete(key);
      latest.set(key, range);
    }
    for (const range of latest.values()) {
      if (this.#isFull) break;
      const { start, end } = range;
      const length = Number(end - start > BigInt(MAX_DATA) ? BigInt(MAX_DATA) : end - start);
      const data = this.#memory.read(start, length);
      const old = before.get(range)!;
      const at = hasCome ? undefined : lastChange(old, data);
      if (at !== undefined) {
        const word = littleEndian(data.subarray(at, at + 4));
        this.#add(`- poll: { "dma+${hex(start + BigInt(at))}.l": ${hex(word, 8)} }`);
      }
      this.#add(`- expect: dma+${hex(start)}`, bytesLine(data));
      if (BigInt(length) < end - start) {
        const rest = end - start - BigInt(length);
        this.#add(`# Not expressed: ${plural(rest, "byte")} after these.`);
      }
    }
  }

  /**
   * A place as a session names it; undefined for a width that no register has, and for what no
   * region has.
   */
  #place(
    region: number,
    offset: bigint,
    count: number,
    forbidden: "ro" | "wo",
  ): string | undefined {
    const { [count]: width }: Readonly<Record<number, string>> = WIDTH_LETTERS;
    const end = region === PciRegion.CONFIG ? CONFIG_END : SPACE_END;
    const isInside = region <= MAX_INDEX && offset + BigInt(count) <= end;
    if (width === undefined || !isInside) return undefined;
    const located = this.#options.locator?.at(region, offset, count);
    const isNamed = located?.isWhole && located.register.access !== forbidden &&
      regionIndex(located.register.region) !== undefined;
    if (isNamed) return `"${located.map.name}.${located.name}"`;
    return `"${region <= 8 ? regionName(region) : region}+${hex(offset)}.${width}"`;
  }
}

/** The expectation of an error, if there was one; undefined for a number that no error has. */
function errorLines(answer: PartAnswer | undefined): string[] | undefined {
  if (answer === undefined || answer.errno === 0) return [];
  return answer.errno <= MAX_ERRNO ? [`  expect error: ${errnoText(answer.errno)}`] : undefined;
}

/** The bytes of a step: where they are many, as a block, which YAML takes as one piece. */
function bytesLine(data: Uint8Array): string {
  if (data.length <= BYTES_A_LINE) return `  bytes: "${data.toHex()}"`;
  let text = "  bytes: >-";
  for (let at = 0; at < data.length; at += BYTES_A_LINE) {
    text += `\n      ${data.subarray(at, at + BYTES_A_LINE).toHex()}`;
  }
  return text;
}

/** Vectors as a session names them, as "msix[0-3]"; undefined for numbers that none have. */
function vectorsText(irq: number, first: number, count = 1): string | undefined {
  if (irq > MAX_INDEX || first + count - 1 > MAX_VECTOR) return undefined;
  return vectorsName(irqName(irq), first, count);
}

function isSamePlace(a: PartRead, b: PartRead): boolean {
  return a.region === b.region && a.offset === b.offset && a.count === b.count;
}

/** The last aligned 4 bytes that differ; undefined if there are none. */
function lastChange(before: Uint8Array, after: Uint8Array): number | undefined {
  for (let at = after.length - after.length % 4 - 4; at >= 0; at -= 4) {
    if ([0, 1, 2, 3].some((i) => before[at + i] !== after[at + i])) return at;
  }
  return undefined;
}
