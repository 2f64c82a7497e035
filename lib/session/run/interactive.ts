/**
 * Sessions without a file: step by step from a program, or from lines that are typed.
 *
 * @module
 */

import type { Device } from "../../client/device.ts";
import type { WaitOptions } from "../../client/info.ts";
import type { RegisterMap } from "../../registers/map.ts";
import { type Definitions, newDefinitions } from "../file/definitions.ts";
import { parseLine, parseStep } from "../file/line.ts";
import { meantValue } from "./compare.ts";
import { type LiveOptions, LiveSession } from "./executor.ts";
import type { Step } from "../model.ts";
import type { Outcome, StepResult } from "./step_result.ts";
import { runSteps } from "./runner.ts";

/** Options of a session without a file. */
export interface InteractiveOptions extends LiveOptions {
  /** Maps whose registers have names. */
  maps?: readonly RegisterMap[];
  /** The directory to which the names of files are relative; default the working directory. */
  directory?: string;
}

/**
 * A number, or numbers by the names of a register's fields.
 * Text is `${EXPRESSION}`, or the name of a field's value.
 */
export type ValueInput = number | bigint | string | { readonly [field: string]: ValueInput };

/** A condition on a value or on bytes. */
export interface ConditionInput {
  /** The expected value. */
  equals?: ValueInput;
  /** The value that is not accepted. */
  not?: ValueInput;
  /** The bits that `equals` and `not` are about. */
  mask?: number | bigint;
  /** The lowest accepted value. */
  atLeast?: ValueInput;
  /** The highest accepted value. */
  atMost?: ValueInput;
  /** The accepted values. */
  oneOf?: readonly ValueInput[];
  /** The bytes at the place are these. */
  bytes?: Uint8Array;
  /** The bytes at the place are this in UTF-8. */
  text?: string;
  /** The bytes at the place are those at this other place, `length` of them. */
  sameAs?: string;
  /** The number of bytes that are compared with those of `sameAs`. */
  length?: number | bigint;
}

/** Memory that a device is to be given. */
export interface BufferInput {
  /** The first address as the device sees it. */
  iova: number | bigint;
  /** In bytes. */
  size: number;
  /** The access of the device; default "rw". */
  access?: "rw" | "ro" | "wo";
  /** Shared with the device, or asked for by message; default "memfd". */
  share?: "memfd" | "message";
}

/** Data for memory: bytes, text, a file, or numbers of a width. */
export type DataInput =
  | Uint8Array
  | { text: string }
  | { file: string }
  | { u8: readonly (number | bigint)[] }
  | { u16: readonly (number | bigint)[] }
  | { u32: readonly (number | bigint)[] }
  | { u64: readonly (number | bigint)[] };

/** The time that a step may take. */
export interface StepOptions {
  /** In milliseconds. */
  timeoutMs?: number;
}

/** A step as a file has it: the step word with its subject, and arguments. */
export type RawStep = Record<string, unknown>;

/**
 * The words of session files as functions, for what a file can't say.
 * Places are written as in files: `bar0+0x1c.l`, `nvme.CSTS.RDY`, `queues+64`.
 * Every step throws what makes a step of a file fail.
 * {@linkcode InteractiveSession.close}, or `await using`, takes back what was set up.
 *
 * @example
 * ```ts
 * import { connect } from "../../client/connect.ts";
 * import { DemoDevice } from "../../devices/demo_device.ts";
 * import { embed } from "../../server/embedded.ts";
 * import { InteractiveSession } from "./interactive.ts";
 *
 * using device = await connect(embed(new DemoDevice()).fd);
 * await using session = new InteractiveSession(device);
 * await session.expect("bar0.l", { equals: 0x64756676 });
 * await session.enableIrqs("msix[1]");
 * await session.write("bar0+0x20", 1);
 * await session.waitForIrq("msix[1]");
 * await session.line("read bar0+4 into version");
 * if (session.variable("version") !== 0x10000n) throw new Error();
 * ```
 */
export class InteractiveSession implements AsyncDisposable {
  /** The live session in which steps are done. */
  readonly live: LiveSession;
  /** The meaning of names. */
  readonly definitions: Definitions;
  #count = 0;

  /** A session on a device, without memory, interrupts and variables. */
  constructor(device: Device, { maps = [], directory = "", ...options }: InteractiveOptions = {}) {
    this.live = new LiveSession(device, options);
    this.definitions = newDefinitions({ maps, directory });
  }

  /**
   * The value of a variable, as `read … into` and `set` make it; undefined if there is no such
   * variable.
   */
  variable(name: string): bigint | undefined {
    const { variables } = this.live;
    return variables.has(name) ? variables.number(name) : undefined;
  }

  /**
   * Does what a line says: `poll nvme.CSTS.RDY 1 timeout 500ms`.
   *
   * @returns the results, one for each step
   * @throws {SyntaxError} if it is no step, or {RangeError} if it names what is not there;
   *   nothing is done then
   * @throws as {@linkcode InteractiveSession.do}
   */
  async line(text: string): Promise<StepResult[]> {
    return await this.run(parseLine(text, this.definitions).steps);
  }

  /**
   * Does a step that is written as in a file: `{ write: "nvme.CC", value: 0n }`.
   *
   * @returns the visible outcome
   * @throws {StepFailure} if what came of it is not as it has to be;
   *   what else was thrown if it could not be done
   */
  async do(raw: RawStep): Promise<Outcome> {
    const results = await this.run(parseStep(raw, this.definitions));
    return results.at(-1)?.outcome ?? {};
  }

  /** Does steps that are read already. Throws as {@linkcode InteractiveSession.do}. */
  async run(steps: readonly Step[]): Promise<StepResult[]> {
    const results: StepResult[] = [];
    for await (const result of this.results(steps)) {
      results.push(result);
      if (result.status === "failed" && !result.step.continueOnFailure) throw result.error;
    }
    return results;
  }

  /**
   * Does steps that are read already, and yields the result of each.
   * Errors of steps are in their results, and are not thrown.
   */
  async *results(steps: readonly Step[]): AsyncGenerator<StepResult, void, void> {
    const { signal } = this.live;
    const first = this.#count + 1;
    this.#count += steps.length;
    yield* runSteps(this.live, steps, signal ? { signal } : {}, first);
  }

  /** Reads a register, or of a register a field. */
  async read(place: string, options: StepOptions = {}): Promise<bigint> {
    const { seen } = await this.do({ read: place, ...common(options) });
    return meantValue(seen!);
  }

  /** Reads a number of bytes, or of values if the place has a width. */
  async readBytes(place: string, count: number, options: StepOptions = {}): Promise<Uint8Array> {
    const { dump } = await this.do({ read: place, count: BigInt(count), ...common(options) });
    return dump!.bytes;
  }

  /** Writes a register. A value of some fields leaves the others as they are. */
  async write(
    place: string,
    value: ValueInput,
    { verify, ...options }: StepOptions & { verify?: boolean } = {},
  ): Promise<void> {
    await this.do({
      write: place,
      value: plain(value),
      ...(verify && { verify }),
      ...common(options),
    });
  }

  /** Changes some bits of a register: those of `mask`, or those of the fields in `value`. */
  async modify(
    place: string,
    value: ValueInput,
    { mask, ...options }: StepOptions & { mask?: number | bigint } = {},
  ): Promise<void> {
    await this.do({
      modify: place,
      value: plain(value),
      ...(mask !== undefined && { mask: BigInt(mask) }),
      ...common(options),
    });
  }

  /** Reads a register until a condition holds, `timeoutMs` at most; returns its value. */
  async poll(
    place: string,
    condition: ConditionInput,
    { everyMs, ...options }: StepOptions & { everyMs?: number } = {},
  ): Promise<bigint> {
    const { seen } = await this.do({
      poll: place,
      ...conditionArguments(condition),
      ...(everyMs !== undefined && { every: `${everyMs}ms` }),
      ...common(options),
    });
    return seen!.value;
  }

  /** Throws unless a condition holds of a register, of memory, or of `${EXPRESSION}`. */
  async expect(
    subject: string,
    condition: ConditionInput,
    options: StepOptions = {},
  ): Promise<void> {
    await this.do({ expect: subject, ...conditionArguments(condition), ...common(options) });
  }

  /** Gives a variable a value. */
  set(name: string, value: number | bigint): Promise<Outcome> {
    return this.do({ set: name, to: BigInt(value) });
  }

  /** Gives memory to the device, under a name. Its bytes are `session.memory(name)`. */
  async map(name: string, { iova, size, ...rest }: BufferInput): Promise<void> {
    await this.do({ "dma map": name, iova: BigInt(iova), size: BigInt(size), ...rest });
  }

  /** Takes memory back. */
  async unmap(name: string): Promise<void> {
    await this.do({ "dma unmap": name });
  }

  /** The bytes of a buffer, which the device shares. */
  memory(name: string): Uint8Array<ArrayBuffer> {
    const map = this.live.memory.maps.get(name);
    if (map === undefined) throw new RangeError(`The buffer ${name} is not mapped`);
    return map.bytes;
  }

  /** Puts data into memory, once. */
  async put(place: string, data: DataInput): Promise<void> {
    await this.do({ "dma put": place, ...dataArguments(data) });
  }

  /** Repeats data over a number of bytes of memory; by default to the end of the buffer. */
  async fill(place: string, data: DataInput, length?: number): Promise<void> {
    await this.do({
      "dma fill": place,
      ...dataArguments(data),
      ...(length !== undefined && { length: BigInt(length) }),
    });
  }

  /** Has the device signal vectors: `msix`, `msix[0]`, `msix[0-3]`. */
  async enableIrqs(irqs: string): Promise<void> {
    await this.do({ "irq enable": irqs });
  }

  /** Has the device signal vectors no more. */
  async disableIrqs(irqs: string): Promise<void> {
    await this.do({ "irq disable": irqs });
  }

  /** Masks vectors. */
  async maskIrqs(irqs: string): Promise<void> {
    await this.do({ "irq mask": irqs });
  }

  /** Unmasks vectors. */
  async unmaskIrqs(irqs: string): Promise<void> {
    await this.do({ "irq unmask": irqs });
  }

  /** Fires vectors, as if the device had. */
  async triggerIrqs(irqs: string): Promise<void> {
    await this.do({ "irq trigger": irqs });
  }

  /**
   * Waits until each of the vectors came, `count` times.
   * For a whole index, waits until any of its vectors came so often.
   */
  async waitForIrq(
    irqs: string,
    { count, ...options }: StepOptions & { count?: number } = {},
  ): Promise<void> {
    await this.do({
      "irq wait": irqs,
      ...(count !== undefined && { count: BigInt(count) }),
      ...common(options),
    });
  }

  /** Throws if one of the vectors is there, or comes within `forMs`; default 100. */
  async expectNoIrq(irqs: string, { forMs }: { forMs?: number } = {}): Promise<void> {
    await this.do({ "irq expect none": irqs, ...(forMs !== undefined && { for: `${forMs}ms` }) });
  }

  /** Gives BARs addresses and switches the device on, as firmware does. */
  async enablePci(): Promise<void> {
    await this.do({ "pci enable": null });
  }

  /** Resets the device. */
  async reset(options: StepOptions = {}): Promise<void> {
    await this.do({ reset: null, ...common(options) });
  }

  /** Takes back what was set up: interrupts and memory. The device stays connected. */
  close(options: WaitOptions = {}): Promise<void> {
    return this.live.close(options);
  }

  /** The same as `close`. */
  async [Symbol.asyncDispose](): Promise<void> {
    await this.close();
  }
}

function common({ timeoutMs }: StepOptions): RawStep {
  return timeoutMs === undefined ? {} : { timeout: `${timeoutMs}ms` };
}

/** As a file would give it: numbers are bigint. */
function plain(value: ValueInput): unknown {
  if (typeof value === "number") return BigInt(value);
  if (typeof value !== "object") return value;
  return Object.fromEntries(Object.entries(value).map(([name, each]) => [name, plain(each)]));
}

function conditionArguments(condition: ConditionInput): RawStep {
  const { atLeast, atMost, oneOf, sameAs, bytes, text, ...rest } = condition;
  const written = {
    ...rest,
    "at least": atLeast,
    "at most": atMost,
    "one of": oneOf,
    "same as": sameAs,
    "bytes": bytes?.toHex(),
    "text": text === undefined ? undefined : literal(text),
  };
  return Object.fromEntries(
    Object.entries(written).flatMap(([key, value]) =>
      value === undefined
        ? []
        : [[key, Array.isArray(value) ? value.map(plain) : plain(value as ValueInput)]]
    ),
  );
}

function dataArguments(data: DataInput): RawStep {
  if (data instanceof Uint8Array) return { bytes: data.toHex() };
  if ("text" in data) return { text: literal(data.text) };
  if ("file" in data) return { ...data };
  return Object.fromEntries(
    Object.entries(data).map(([width, numbers]) => [width, numbers.map(BigInt)]),
  );
}

/** Text in which nothing is put in. */
function literal(text: string): string {
  return text.replaceAll("${", "$${");
}
