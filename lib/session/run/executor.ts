/**
 * A live session: a device with the memory, interrupts and variables that steps use.
 *
 * @module
 */

import { DEFAULT_WIDTH } from "../../client/address.ts";
import type { Device } from "../../client/device.ts";
import type { WaitOptions } from "../../client/info.ts";
import { fileError } from "../../text/file_error.ts";
import { DEFAULT_TIMEOUT_MS } from "../../base/limits.ts";
import { sleep } from "../../base/sleep.ts";
import type { Region } from "../../client/region.ts";
import type { Width } from "../../client/info.ts";
import { checkBytes, isAboutValue, meantValue, mismatch, valueText } from "./compare.ts";
import { evaluate } from "../expression.ts";
import { SessionInterrupts } from "./interrupts.ts";
import { bytesOf, fitting, readFile, SessionMemory } from "./buffers.ts";
import type {
  CallStep,
  Condition,
  DmaDumpStep,
  DmaFillStep,
  ExpectStep,
  Expression,
  ModifyStep,
  Place,
  PollStep,
  ReadStep,
  RepeatStep,
  Step,
  WriteStep,
} from "../model.ts";
import { isSilence, type Outcome, type SeenValue, StepFailure } from "./step_result.ts";
import { findTarget, offsetOf, readTarget, type Target, writeTarget } from "./target.ts";
import { render } from "../template.ts";
import { Variables } from "./variables.ts";
import { plural } from "../../text/plural.ts";

/** Options of a session's access to its device. */
export interface LiveOptions {
  /**
   * Steps `read` and `expect` read registers by the synchronous calls, which are the fastest.
   * A device that does not answer within 50 ms is waited for asynchronously. Default false.
   * Suits a server in another process only, since nothing else in this process goes on meanwhile.
   */
  blocking?: boolean;
  /** Ends whatever is waited for with its reason. */
  signal?: AbortSignal;
}

/** A step that is done in one go: all but those that are made of others. */
export type SingleStep = Exclude<Step, RepeatStep | CallStep>;

/** The parts of a step that decide how long it waits. */
type StepWait = Pick<Step, "timeoutMs" | "expectError" | "allowError">;

const NOTHING: Outcome = {};
/** The default interval between two reads of a poll, in milliseconds. */
const POLL_EVERY_MS = 1;
/** The default time in which `irq expect none` expects none, in milliseconds. */
const EXPECT_NONE_MS = 100;
/** The most bytes of a read that are shown or compared. */
const MAX_READ = 1 << 24;

/** A device with the memory, interrupts and variables that steps use. */
export class LiveSession implements AsyncDisposable {
  /** The device. */
  readonly device: Device;
  /** Memory that it was given. */
  readonly memory: SessionMemory;
  /** Interrupts that are enabled. A session that another calls has those of its caller. */
  readonly interrupts: SessionInterrupts;
  /** Variables. */
  readonly variables: Variables;
  readonly #isBlocking: boolean;
  #wait: WaitOptions = {};
  /** Regions and capabilities that places counted from. */
  readonly #bases = new Map<number | string, { readonly region: Region; readonly start: number }>();
  readonly #caller: LiveSession | undefined;

  /** A session without memory, interrupts and variables. */
  constructor(device: Device, options: LiveOptions = {}, caller?: LiveSession) {
    this.device = device;
    this.memory = new SessionMemory(device.dma);
    this.interrupts = caller?.interrupts ?? new SessionInterrupts(device);
    this.variables = new Variables(this.memory.extent);
    this.#isBlocking = options.blocking === true;
    this.#caller = caller;
    this.signal = options.signal;
  }

  /** Ends whatever is waited for with its reason. Another one counts from the next step on. */
  get signal(): AbortSignal | undefined {
    return this.#wait.signal;
  }

  set signal(signal: AbortSignal | undefined) {
    this.#wait = signal ? { signal } : {};
  }

  /** A session that this one calls: with memory and variables of its own. */
  child(): LiveSession {
    const { signal } = this;
    const options = { blocking: this.#isBlocking, ...(signal && { signal }) };
    return new LiveSession(this.device, options, this);
  }

  /** The value of an expression now. */
  evaluate(expression: Expression): bigint {
    return evaluate(expression, this.variables);
  }

  /**
   * Does one step. The runner heeds `name`, `when`, `expect error`, `allow error` and
   * `continue on failure`.
   *
   * @returns the visible outcome; a promise only where waiting is needed
   * @throws {StepFailure} if what came of it is not as it has to be
   * @throws {RemoteError} if the device refuses
   * @throws {TimeoutError} if it does not answer
   * @throws {EvaluationError} if a number can't be computed, or does not fit
   */
  perform(step: SingleStep): Outcome | Promise<Outcome> {
    switch (step.word) {
      case "read":
        return this.#read(step);
      case "write":
        return this.#write(step);
      case "modify":
        return this.#modify(step);
      case "poll":
        return this.#poll(step);
      case "expect":
        return this.#expect(step);
      case "set":
        return this.#set(step);
      case "log":
        return { message: render(step.message, this.variables) };
      case "sleep":
        return this.#quietly(sleep(step.durationMs, this.signal));
      case "reset":
        return this.#quietly(this.device.reset(this.#waitFor(step)));
      case "pci enable":
        return this.#quietly(this.device.pci.enable(this.#waitFor(step)));
      case "dma map":
        return this.#quietly(this.memory.map(step.buffer, this.variables, this.#waitFor(step)));
      case "dma unmap":
        return this.#quietly(this.memory.unmap(step.buffer, this.#waitFor(step)));
      case "dma fill":
        return this.#fill(step);
      case "dma put":
        return this.#quietly(
          bytesOf(step.data, this.variables).then((bytes) => this.#put(step.place, bytes)),
        );
      case "dma load":
        return this.#quietly(readFile(step.path).then((bytes) => this.#put(step.place, bytes)));
      case "dma dump":
        return this.#dump(step);
      case "irq enable":
      case "irq disable":
      case "irq mask":
      case "irq unmask":
      case "irq trigger": {
        const action = step.word.slice("irq ".length) as "enable";
        return this.#quietly(
          this.interrupts.act(action, step.irq, this.variables, this.#waitFor(step)),
        );
      }
      case "irq wait":
        return this.interrupts.wait(step.irq, this.variables, {
          count: step.count === undefined ? 1n : this.evaluate(step.count),
          timeoutMs: step.timeoutMs ?? DEFAULT_TIMEOUT_MS,
          explain: step.expectError === undefined,
          ...this.#wait,
        }).then((message) => ({ message }));
      case "irq expect none":
        return this.#quietly(
          this.interrupts.expectNone(step.irq, this.variables, {
            forMs: step.forMs ?? EXPECT_NONE_MS,
            ...this.#wait,
          }),
        );
    }
  }

  /**
   * Takes back what was set up: memory, and interrupts unless this is a called session.
   * Continues when a request is refused, and throws the first error at the end.
   * Stops when the connection has ended or the device does not answer: nothing more can be taken
   * back.
   */
  async close(options: WaitOptions = {}): Promise<void> {
    const errors: unknown[] = [];
    if (this.#caller === undefined) errors.push(...await this.interrupts.disableAll(options));
    if (!errors.some(isSilence)) errors.push(...await this.memory.unmapAll(options));
    if (errors.length > 0) throw errors[0];
  }

  /** The same as `close`. */
  async [Symbol.asyncDispose](): Promise<void> {
    await this.close();
  }

  #read(step: ReadStep): Outcome | Promise<Outcome> {
    if (step.count !== undefined) return this.#readSeveral(step, step.count);
    const target = this.#find(step.place);
    if (!(target instanceof Promise)) return this.#readAt(step, target);
    return target.then((found) => this.#readAt(step, found));
  }

  async #readSeveral(step: ReadStep, wanted: Expression): Promise<Outcome> {
    const target = await this.#find(step.place);
    const count = this.#length(wanted, "values");
    const { width } = step.place;
    const bytes = await this.#readBytes(target, count * (width ?? 1), step, width);
    return { dump: { bytes, width: width ?? 1, start: BigInt(target.offset) } };
  }

  #readAt(step: ReadStep, target: Target): Outcome | Promise<Outcome> {
    const value = readTarget(
      target,
      this.memory,
      this.#isBlocking,
      this.#waitFor(step),
    );
    return value instanceof Promise
      ? value.then((each) => this.#keep(step, target, each))
      : this.#keep(step, target, value);
  }

  #keep({ into, place }: ReadStep, target: Target, value: number | bigint): Outcome {
    const seen = seenAt(target, BigInt(value));
    if (into !== undefined) {
      if (place.field === undefined) this.variables.set(into, seen.value, place.register);
      else this.variables.set(into, meantValue(seen));
    }
    return { seen };
  }

  async #write({ assignments, verify, ...step }: WriteStep): Promise<Outcome> {
    // All are found before any is written.
    const targets: Target[] = [];
    for (const { place } of assignments) targets.push(await this.#find(place));
    const options = this.#waitFor(step);
    let outcome = NOTHING;
    for (const [i, target] of targets.entries()) {
      const { value: { expression, mask } } = assignments[i]!;
      const value = this.evaluate(expression);
      const written = await writeTarget(target, this.memory, { value, mask }, options);
      if (verify) await this.#verify(target, fitting(value, target.width), mask, options);
      outcome = { seen: { ...seenAt(target, written), isWritten: true } };
    }
    return assignments.length === 1 ? outcome : NOTHING;
  }

  async #verify(target: Target, value: bigint, mask: bigint | undefined, options: WaitOptions) {
    const found = BigInt(await readTarget(target, this.memory, false, options));
    if ((mask === undefined ? found : found & mask) === value) return;
    const under = mask === undefined ? "" : ` under the mask ${valueText(mask, target.width)}`;
    throw new StepFailure(
      `${target.place.text} to be ${valueText(value, target.width)}${under} after the write`,
      valueText(found, target.width),
      { outcome: { seen: seenAt(target, found) } },
    );
  }

  async #modify({ place, value, mask, ...step }: ModifyStep): Promise<Outcome> {
    const target = await this.#find(place);
    const bits = mask === undefined
      ? value.mask
      : fitting(this.evaluate(mask), target.width) & (value.mask ?? -1n);
    const wanted = fitting(this.evaluate(value.expression), target.width);
    const written = await writeTarget(
      target,
      this.memory,
      { value: bits === undefined ? wanted : wanted & bits, mask: bits },
      this.#waitFor(step),
    );
    return { seen: { ...seenAt(target, written), isWritten: true } };
  }

  async #poll({ place, condition, everyMs = POLL_EVERY_MS, ...step }: PollStep): Promise<Outcome> {
    const target = await this.#find(place);
    const timeoutMs = step.timeoutMs ?? DEFAULT_TIMEOUT_MS;
    const deadline = performance.now() + timeoutMs;
    for (;;) {
      this.signal?.throwIfAborted();
      // A device that is gone is told by its connection. The timeout is for the value.
      const value = BigInt(
        await readTarget(
          target,
          this.memory,
          false,
          this.#waitFor({
            ...(step.expectError && { expectError: step.expectError }),
            ...(step.allowError && { allowError: step.allowError }),
          }),
        ),
      );
      const seen = seenAt(target, value);
      const wrong = mismatch(condition, seen, this.variables);
      if (wrong === undefined) return { seen };
      const remaining = deadline - performance.now();
      if (remaining <= 0) {
        const isExplained = step.expectError === undefined;
        throw new StepFailure(
          `${place.text} ${wrong.expected} within ${timeoutMs} ms`,
          wrong.found,
          {
            isTimeout: true,
            outcome: { seen },
            why: isExplained ? await this.#standstill(seen) : undefined,
          },
        );
      }
      await sleep(Math.min(everyMs, remaining), this.signal);
    }
  }

  /** Reasons why a register did not become as wanted, as far as the device tells. */
  async #standstill({ value, width }: SeenValue): Promise<string | undefined> {
    const { standstillText } = await import("../../client/diagnose/diagnose.ts");
    return await standstillText(this.device, value, width);
  }

  async #expect({ subject, subjectText, condition, ...step }: ExpectStep): Promise<Outcome> {
    if ("kind" in subject) {
      const value = this.evaluate(subject);
      return this.#judge(subjectText, condition, { value, width: 8, isComputed: true });
    }
    const target = await this.#find(subject);
    await this.#expectBytes(target, condition, step);
    if (!isAboutValue(condition)) return NOTHING;
    const blocking = this.#isBlocking;
    const value = await readTarget(target, this.memory, blocking, this.#waitFor(step));
    return this.#judge(subjectText, condition, seenAt(target, BigInt(value)));
  }

  #judge(subject: string, condition: Condition, seen: SeenValue): Outcome {
    const wrong = mismatch(condition, seen, this.variables);
    if (wrong === undefined) return { seen };
    throw new StepFailure(`${subject} ${wrong.expected}`, wrong.found, { outcome: { seen } });
  }

  async #expectBytes(
    target: Target,
    { bytes, textAt, sameAs }: Condition,
    step: StepWait,
  ): Promise<void> {
    const { text } = target.place;
    const texts = textAt && new TextEncoder().encode(render(textAt, this.variables));
    for (const expected of [bytes, texts]) {
      if (expected === undefined) continue;
      checkBytes(text, expected, await this.#readBytes(target, expected.length, step));
    }
    if (sameAs === undefined) return;
    const length = this.#length(sameAs.length, "bytes");
    const other = await this.#find(sameAs.place);
    const [found, expected] = await Promise.all(
      [target, other].map((each) => this.#readBytes(each, length, step)),
    );
    checkBytes(`${text} as ${sameAs.place.text}`, expected!, found!);
  }

  #set({ assignments }: Extract<Step, { word: "set" }>): Outcome {
    let message: string | undefined;
    for (const { name, value } of assignments) {
      const number = this.evaluate(value);
      const isCopy = value.kind === "name" && value.part === undefined;
      this.variables.set(name, number, isCopy ? this.variables.registerOf(value.name) : undefined);
      message = `${number} (${valueText(number, 1)})`;
    }
    return message === undefined || assignments.length > 1 ? NOTHING : { message };
  }

  async #fill({ place, data, length }: DmaFillStep): Promise<Outcome> {
    const iova = await this.#iova(place);
    const bytes = await bytesOf(data, this.variables);
    const size = length === undefined ? this.memory.rest(iova) : this.#memoryLength(length);
    this.memory.fill(iova, bytes, size);
    return NOTHING;
  }

  async #put(place: Place, bytes: Uint8Array): Promise<void> {
    this.memory.put(await this.#iova(place), bytes);
  }

  async #dump({ place, length, path }: DmaDumpStep): Promise<Outcome> {
    const iova = await this.#iova(place);
    const size = length === undefined ? this.memory.rest(iova) : this.#memoryLength(length);
    if (path === undefined) {
      const bytes = this.memory.read(iova, Math.min(size, MAX_READ));
      return { dump: { bytes, width: 1, start: iova } };
    }
    await Deno.writeFile(path, this.memory.view(iova, size)).catch((cause) => {
      throw fileError(`write ${path}`, cause, true);
    });
    return { message: `${plural(size, "byte")} into ${path}` };
  }

  async #iova(place: Place): Promise<bigint> {
    const { region, offset } = await this.#find(place);
    if (region === undefined) return BigInt(offset);
    throw new RangeError(`${place.text} is no memory; write the name of a buffer, or dma+IOVA`);
  }

  /** Finds a place: at once if what it counts from is known, as it is after the first time. */
  #find(place: Place): Target | Promise<Target> {
    const base = this.#bases.get(baseKey(place));
    if (base === undefined) return this.#findSlowly(place);
    const { width = DEFAULT_WIDTH } = place;
    const offset = base.start + offsetOf(place, this.evaluate(place.offset));
    return { place, width, region: base.region, offset };
  }

  async #findSlowly(place: Place): Promise<Target> {
    const target = await findTarget(place, {
      device: this.device,
      memory: this.memory,
      scope: this.variables,
    }, this.#wait);
    const { region, offset } = target;
    if (region !== undefined) {
      const start = Number(offset) - Number(this.evaluate(place.offset));
      this.#bases.set(baseKey(place), { region, start });
    }
    return target;
  }

  async #readBytes(
    { region, offset }: Target,
    length: number,
    step: StepWait,
    width?: Width,
  ): Promise<Uint8Array<ArrayBuffer>> {
    if (region === undefined) return this.memory.read(BigInt(offset), length);
    return await region.readAsync(offset, length, {
      ...this.#waitFor(step),
      ...(width && { chunkSize: width }), // registers mind the width of an access
    });
  }

  #length(expression: Expression, what: string): number {
    const length = this.evaluate(expression);
    if (length >= 0n && length <= MAX_READ) return Number(length);
    throw new RangeError(`Cannot read ${length} ${what}: from 0 to ${MAX_READ} are possible`);
  }

  #memoryLength(expression: Expression): number {
    const length = this.evaluate(expression);
    if (length >= 0n && length <= Number.MAX_SAFE_INTEGER) return Number(length);
    throw new RangeError(`${length} is no length`);
  }

  /** The time that a step waits. A refusal that the step has to end with is not looked into. */
  #waitFor(
    { timeoutMs, expectError, allowError = expectError }: StepWait,
  ): WaitOptions & { explain?: boolean } {
    if (timeoutMs === undefined && allowError === undefined) return this.#wait;
    return {
      ...this.#wait,
      ...(timeoutMs !== undefined && { timeoutMs }),
      ...(allowError !== undefined && { explain: false }),
    };
  }

  #quietly(work: Promise<unknown>): Promise<Outcome> {
    return work.then(() => NOTHING);
  }
}

/**
 * The key that tells regions, by their numbers, and capabilities from one another.
 * Memory has an empty key: memory may be unmapped, and is found each time.
 */
function baseKey({ base }: Place): number | string {
  if (base.kind === "region") return base.index;
  return base.kind === "capability" ? `${base.name}@${base.instance}` : "";
}

function seenAt({ place: { register, field }, width }: Target, value: bigint): SeenValue {
  return {
    value,
    width,
    ...(register && { register }),
    ...(field && { field }),
  };
}
