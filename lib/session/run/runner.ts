/**
 * Runs the steps of a session, one after the other.
 *
 * @module
 */

import type { Device } from "../../client/device.ts";
import type { WaitOptions } from "../../client/info.ts";
import { RemoteError, TimeoutError } from "../../base/errors.ts";
import { asError } from "../../base/thrown.ts";
import { nextTurn } from "../../base/turn.ts";
import { type LiveOptions, LiveSession, type SingleStep } from "./executor.ts";
import type { CallStep, RepeatStep, Session, Step } from "../model.ts";
import { InnerFailure, type Outcome, StepFailure, type StepResult } from "./step_result.ts";
import { plural } from "../../text/plural.ts";

/** Options of a session's run. */
export interface RunOptions extends LiveOptions {
  /**
   * The index, among the steps of the session, of the first step that is done.
   * Buffers and interrupts are set up in any case.
   */
  from?: number;
  /** The last step that is done. */
  until?: number;
  /** Receives each step as it begins, and the number of the step. */
  onStep?: (step: Step, number: string) => void;
  /** Receives the live session ahead of the first step: to look at it when a step has failed. */
  onBegin?: (live: LiveSession) => void;
  /** The time that taking back what was set up may take, in milliseconds a request. */
  closeTimeoutMs?: number;
}

/** The position of a step among the steps that are done. */
interface Nesting {
  readonly prefix: string;
  readonly rounds: readonly number[];
}

const TOP: Nesting = { prefix: "", rounds: [] };

/** The work before the first step and after the last. */
interface Frame {
  before(): Promise<void>;
  /** Does the work after the last step; its error counts if no step has failed. */
  after(): Promise<void>;
}

/**
 * Milliseconds for which steps without waiting keep the event loop, its signals and timers waiting.
 */
const TURN_MS = 50;

/**
 * Does the steps of a session on a device, and yields the result of each as soon as it is there.
 * Results of repeated and called steps come before that of the step that repeats or calls them.
 * After a failed step no more are done, unless the step says that the session goes on.
 *
 * Before the first step its variables are set, its buffers mapped and its interrupts enabled.
 * At the end all that was set up is taken back, also when the caller leaves early.
 * An error in taking back is thrown, unless a step had failed.
 *
 * @throws as `LiveSession.perform`, of what is done before the first step
 *
 * @example
 * ```ts
 * import { connect } from "../../client/connect.ts";
 * import { DemoDevice } from "../../devices/demo_device.ts";
 * import { Server } from "../../server/server.ts";
 * import { parseSession } from "../file/load.ts";
 * import { runSession } from "./runner.ts";
 *
 * const path = Deno.makeTempDirSync() + "/demo.sock";
 * using server = Server.listen(path, new DemoDevice());
 * using device = await connect(path);
 * const { session } = await parseSession("steps: [{ expect: { bar0.l: 0x64756676 } }]", "id.yaml");
 * for await (const { number, status } of runSession(session!, device)) {
 *   if (number !== "1" || status !== "passed") throw new Error(status);
 * }
 * ```
 */
export function runSession(
  session: Session,
  device: Device,
  options: RunOptions = {},
): AsyncGenerator<StepResult, void, void> {
  const { from = 0, until = Infinity } = options;
  const live = new LiveSession(device, options);
  options.onBegin?.(live);
  const run = new Run(options);
  return run.steps(live, session.steps.slice(from, until + 1), TOP, from + 1, {
    before: () => prepare(live, session, options),
    after: () => live.close(closeWait(options)),
  });
}

/**
 * Does steps in a live session, as {@linkcode runSession} does those of a session.
 * Nothing is taken back at the end.
 *
 * @param first the number of the first of them; default 1
 *
 * @example
 * ```ts
 * import { connect } from "../../client/connect.ts";
 * import { DemoDevice } from "../../devices/demo_device.ts";
 * import { Server } from "../../server/server.ts";
 * import { parseSession } from "../file/load.ts";
 * import { LiveSession } from "./executor.ts";
 * import { runSteps } from "./runner.ts";
 *
 * const path = Deno.makeTempDirSync() + "/demo.sock";
 * using server = Server.listen(path, new DemoDevice());
 * using device = await connect(path);
 * const { session } = await parseSession("steps: [{ read: bar0.l }]", "id.yaml");
 * const live = new LiveSession(device);
 * for await (const { status } of runSteps(live, session!.steps)) {
 *   console.assert(status === "passed");
 * }
 * await live.close();
 * ```
 */
export function runSteps(
  live: LiveSession,
  steps: readonly Step[],
  options: Pick<RunOptions, "onStep" | "signal"> = {},
  first = 1,
): AsyncGenerator<StepResult, void, void> {
  return new Run(options).steps(live, steps, TOP, first);
}

function closeWait({ closeTimeoutMs }: RunOptions): WaitOptions {
  return closeTimeoutMs === undefined ? {} : { timeoutMs: closeTimeoutMs };
}

/** Sets up what a session wants before its first step. */
async function prepare(
  live: LiveSession,
  session: Session,
  { signal }: LiveOptions,
): Promise<void> {
  const wait = signal ? { signal } : {};
  for (const { name, value } of session.variables) {
    if (!live.variables.has(name)) live.variables.set(name, live.evaluate(value));
  }
  for (const buffer of session.buffers) await live.memory.map(buffer, live.variables, wait);
  for (const irq of session.interrupts) {
    await live.interrupts.act("enable", irq, live.variables, wait);
  }
}

/** The steps of one run. */
class Run {
  /** True if a step has failed. */
  #hasFailed = false;
  /** True if no more steps are to be done. */
  #isOver = false;
  #turnedMs = performance.now();
  readonly #options: RunOptions;

  constructor(options: RunOptions) {
    this.#options = options;
  }

  /** Does steps until one fails. */
  async *steps(
    live: LiveSession,
    steps: readonly Step[],
    nesting: Nesting,
    first = 1,
    frame?: Frame,
  ): AsyncGenerator<StepResult, void, void> {
    const { onStep, signal } = this.#options;
    let isDone = false;
    try {
      await frame?.before();
      for (let i = 0; i < steps.length && !this.#isOver; i++) {
        if (performance.now() - this.#turnedMs > TURN_MS) await this.#turn();
        signal?.throwIfAborted();
        const step = steps[i]!;
        const number = `${nesting.prefix}${first + i}`;
        onStep?.(step, number);
        if (step.word === "repeat" || step.word === "call") {
          yield* this.#compound(live, step, number, nesting);
          continue;
        }
        const work = this.#single(live, step);
        const ending = work instanceof Promise ? await work : work;
        yield { number, rounds: nesting.rounds, step, ...ending };
      }
      isDone = !this.#hasFailed;
    } finally {
      await frame?.after().catch((error) => {
        if (isDone) throw error; // else what made it fail is more to the point
      });
    }
  }

  /** A step that is done in one go: without waiting if it needs none. */
  #single(live: LiveSession, step: SingleStep): Ending | Promise<Ending> {
    const startMs = performance.now();
    try {
      if (step.when !== undefined && live.evaluate(step.when) === 0n) return SKIPPED;
      const outcome = live.perform(step);
      if (!(outcome instanceof Promise)) return passed(step, outcome, startMs);
      return outcome.then((each) => passed(step, each, startMs))
        .catch((error) => this.#failed(step, error, startMs));
    } catch (error) {
      return this.#failed(step, error, startMs);
    }
  }

  /** A step that is made of others: their results, then its own. */
  async *#compound(
    live: LiveSession,
    step: RepeatStep | CallStep,
    number: string,
    nesting: Nesting,
  ): AsyncGenerator<StepResult, void, void> {
    const startMs = performance.now();
    const common = { number, rounds: nesting.rounds, step };
    let failed: Error | undefined;
    let done = 0;
    let ending: Ending | undefined;
    try {
      if (step.when !== undefined && live.evaluate(step.when) === 0n) {
        return yield { ...common, ...SKIPPED };
      }
      // What the steps set does not change how often they are done.
      const times = step.word === "repeat" ? live.evaluate(step.count) : 0n;
      const inner = step.word === "repeat"
        ? this.#repeat(live, step, times, number, nesting)
        : this.#call(live, step, number, nesting);
      for await (const result of inner) {
        done++;
        if (result.status === "failed") failed ??= result.error;
        yield result;
        checkTime(step, startMs);
      }
      if (failed === undefined) {
        const message = step.word === "repeat" ? plural(times, "time") : plural(done, "step");
        ending = passed(step, { message }, startMs);
      }
    } catch (error) {
      ending = this.#failed(step, error, startMs);
    }
    if (ending !== undefined) return yield { ...common, ...ending };
    // What it is made of has failed, was shown, and decided whether there is more.
    this.#isOver &&= step.continueOnFailure !== true;
    const timeMs = performance.now() - startMs;
    yield { ...common, status: "failed", outcome: {}, error: new InnerFailure(failed!), timeMs };
  }

  async *#repeat(
    live: LiveSession,
    { steps, as }: RepeatStep,
    times: bigint,
    number: string,
    { rounds }: Nesting,
  ): AsyncGenerator<StepResult, void, void> {
    if (steps.length === 0) return; // empty rounds would only block the event loop
    for (let round = 0; round < times && !this.#isOver; round++) {
      if (as !== undefined) live.variables.set(as, BigInt(round));
      yield* this.steps(live, steps, { prefix: `${number}.`, rounds: [...rounds, round] });
    }
  }

  async *#call(
    live: LiveSession,
    step: CallStep,
    number: string,
    { rounds }: Nesting,
  ): AsyncGenerator<StepResult, void, void> {
    const called = live.child();
    for (const { name, value } of step.arguments) called.variables.set(name, live.evaluate(value));
    yield* this.steps(called, step.session.steps, { prefix: `${number}.`, rounds }, 1, {
      before: () => prepare(called, step.session, this.#options),
      after: () => called.close(closeWait(this.#options)),
    });
    if (this.#isOver) return;
    for (const { name, from } of step.into) {
      live.variables.set(name, called.variables.number(from), called.variables.registerOf(from));
    }
  }

  /** The end of a step that threw: as it had to, or not. */
  #failed(step: Step, thrown: unknown, startMs: number): Ending {
    const { signal } = this.#options;
    if (signal?.aborted) throw signal.reason;
    const error = asError(thrown);
    const timeMs = performance.now() - startMs;
    const outcome = error instanceof StepFailure ? error.outcome : {};
    if (isExpected(error, step.expectError) || isExpected(error, step.allowError)) {
      return { status: "passed", outcome: { message: `refused: ${errorWord(error)}` }, timeMs };
    }
    this.#hasFailed = true;
    if (step.continueOnFailure !== true) this.#isOver = true;
    return { status: "failed", outcome, error, timeMs };
  }

  async #turn(): Promise<void> {
    await nextTurn();
    this.#turnedMs = performance.now();
  }
}

/** The end of a step, without the step. */
type Ending = Pick<StepResult, "status" | "outcome" | "error" | "timeMs">;

const SKIPPED: Ending = { status: "skipped", outcome: {}, timeMs: 0 };

function passed(step: Step, outcome: Outcome, startMs: number): Ending {
  if (step.expectError !== undefined) {
    throw new StepFailure(`${step.expectError.join(" or ")}`, "that it succeeded", { outcome });
  }
  return { status: "passed", outcome, timeMs: performance.now() - startMs };
}

/** Fails if the steps of a step have taken longer than it may. */
function checkTime({ text, timeoutMs }: Step, startMs: number): void {
  if (timeoutMs === undefined || performance.now() - startMs <= timeoutMs) return;
  throw new StepFailure(`${text} to be done within ${timeoutMs} ms`, "that it took longer", {
    isTimeout: true,
  });
}

/** Tells whether a failure is one of those that a step has to, or may, end with. */
function isExpected(error: Error, expected: readonly string[] = []): boolean {
  return expected.includes(errorWord(error));
}

/** The name that a file has for a failure: of the errno, or "timeout". */
function errorWord(error: Error): string {
  if (error instanceof RemoteError) return error.code || String(error.errno);
  const isTimeout = error instanceof TimeoutError ||
    (error instanceof StepFailure && error.isTimeout);
  return isTimeout ? "timeout" : error.name;
}
