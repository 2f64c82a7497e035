/**
 * Fuzzes a server: connection after connection, until something ends it.
 *
 * @module
 */

import { monotonicMs } from "../../ffi/clock.ts";
import type { Random } from "../base/random.ts";
import type { Facts } from "../conformance/facts.ts";
import { type Target, Unreachable } from "../conformance/target.ts";
import type { Corpus } from "./corpus.ts";
import { Coverage } from "./coverage.ts";
import type { Side } from "./fields.ts";
import { type Finding, type Observation, signatureOf } from "./finding.ts";
import { Generator } from "./generator.ts";
import type { Label } from "./label.ts";
import { Leaks, type Sample, sampleOf } from "./leaks.ts";
import { type FuzzCase, type FuzzConnection, type FuzzMessage, sizeOf } from "./message.ts";
import { minimise, type MinimiseLimits } from "./minimise.ts";
import { linesOf, type Seen, shows, Subject, UNREACHABLE } from "./subject.ts";
import type { CaseConversation } from "./case_file.ts";
import { quiet, recovery } from "./quiet.ts";
import { Waits } from "./waits.ts";

/** Connections since the start of a process that are remembered, and their messages. */
const MAX_HISTORY = 32;
const MAX_HISTORY_MESSAGES = 16_384;
/** Connections between two samples of a process. */
const SAMPLE_EVERY = 16;
/** Connections that a leak has to be seen with, one after the other. */
const LEAK_PLAYS = 4;
/** Tries of a sample, for a server that closes what it holds in its own time. */
const SAMPLE_TRIES = 20;
const SAMPLE_PAUSE_MS = 10;
/** Times that one observation is looked into. */
const MAX_REPEATS = 3;
/** Findings after which a fuzzer has told enough. */
const MAX_FINDINGS = 1000;
/** The longest wait for an answer that is known not to come, in milliseconds. */
const SHORT_TIMEOUT_MS = 1000;
/** Connections that an alteration ended, after which it is made once in so many tries. */
const CLOSES = 2;
const CLOSER_RARITY = 32;
/** Connections one after the other on which nothing is answered, until that is an error. */
const MAX_MUTE = 200;

/** Settings of {@linkcode fuzz}. */
export interface FuzzOptions {
  readonly seed: number;
  /** The offers of the server. */
  readonly facts: Facts;
  readonly timeoutMs: number;
  readonly signal: AbortSignal;
  /** Ends after so many milliseconds. */
  readonly timeMs: number;
  /** Ends after so many messages. */
  readonly messages: number;
  readonly corpus: Corpus;
  readonly minimise: MinimiseLimits;
}

/** The progress of a run. */
export class FuzzProgress {
  readonly coverage: Coverage;
  readonly #startMs = monotonicMs();
  messages = 0;
  received = 0;
  connections = 0;
  /** Connections that the server closed. */
  closed = 0;
  findings = 0;
  /** Observations of findings that were known. */
  repeats = 0;
  /** The work at the moment: "fuzzing", or a finding that is made shorter. */
  doing = "fuzzing";
  #minimisedMs = 0;

  /** @param side the side of the messages that are altered */
  constructor(side?: Side) {
    this.coverage = new Coverage(side);
  }

  /** Milliseconds since the start. */
  get elapsedMs(): number {
    return monotonicMs() - this.#startMs;
  }

  /** Milliseconds of these in which cases are made shorter. */
  get minimisedMs(): number {
    return this.#minimisedMs;
  }

  /** Messages a second, without the time in which cases are made shorter. */
  get rate(): number {
    return this.messages / Math.max(1, this.elapsedMs - this.#minimisedMs) * 1000;
  }

  /** Notes time that was no fuzzing. */
  paused(ms: number): void {
    this.#minimisedMs += ms;
  }
}

/**
 * Fuzzes a server.
 *
 * @returns findings as they are made; each is made shorter before that
 * @throws {Unreachable} if the server can't be started or reached, but for one that a finding ended
 */
export async function* fuzz(
  target: Target,
  progress: FuzzProgress,
  options: FuzzOptions,
): AsyncGenerator<Finding> {
  using run = new FuzzRun(target, progress, options);
  yield* run.all();
}

class FuzzRun implements Disposable {
  readonly #target: Target;
  readonly #progress: FuzzProgress;
  readonly #options: FuzzOptions;
  readonly #subject: Subject;
  readonly #generator: Generator;
  readonly #leaks = new Leaks();
  readonly #muted = new Set<string>();
  /** Connections that were closed for an alteration. */
  readonly #closers = new Map<string, number>();
  /** Times that each observation was looked into. */
  readonly #looked = new Map<string, number>();
  /** Findings, by what they are after they were made shorter. */
  readonly #known = new Set<string>();
  /** Connections to the process that runs. */
  readonly #history: FuzzConnection[] = [];
  #process: number | undefined;
  /** The messages that showed something new, of the connection that is played. */
  #newest: FuzzMessage | undefined;
  #mutes = 0;

  constructor(target: Target, progress: FuzzProgress, options: FuzzOptions) {
    this.#target = target;
    this.#progress = progress;
    this.#options = options;
    const { seed, facts, corpus, timeoutMs, signal } = options;
    const isMuted = (label: Label, random: Random) => {
      const blame = blameOf(label);
      if (this.#muted.has(blame)) return true;
      return (this.#closers.get(blame) ?? 0) >= CLOSES && !random.oneIn(CLOSER_RARITY);
    };
    this.#generator = new Generator({ seed, facts, corpus: corpus.connections, isMuted });
    this.#subject = new Subject(target, {
      timeoutMs,
      signal,
      quiet: quiet(facts),
      onOutcome: (message, outcome) => {
        if (progress.coverage.add(message.label, outcome)) this.#newest = message;
      },
    });
  }

  async *all(): AsyncGenerator<Finding> {
    const { signal, timeMs, messages } = this.#options;
    const progress = this.#progress;
    while (
      progress.elapsedMs < timeMs && progress.messages < messages &&
      progress.findings < MAX_FINDINGS
    ) {
      signal.throwIfAborted();
      const connection = this.#generator.next();
      this.#newest = undefined;
      let seen: Seen;
      try {
        seen = await this.#subject.play(connection);
      } catch (error) {
        if (!(error instanceof Unreachable) || this.#history.length === 0) throw error;
        if (this.#target.isSpawned) throw error;
        yield* this.#look([UNREACHABLE], false);
        return;
      }
      this.#count(seen, connection);
      if (seen.late.length > 0) yield* this.#look(seen.late, true);
      this.#remember(connection, seen.process);
      // A crash takes a moment to be seen, and is not to be lost by what is looked into first.
      const isOver = seen.observations.length > 0 && seen.end !== "left";
      const aftermath = isOver ? await this.#subject.aftermath() : [];
      yield* this.#look([...aftermath, ...seen.observations], true);
      if (progress.connections % SAMPLE_EVERY === 0) {
        const leak = await this.#sampleLeak();
        if (leak !== undefined) yield* this.#look([leak], true);
      }
    }
    yield* this.#look(await this.#subject.aftermath(), true);
  }

  #count({ sent, received, end, closer }: Seen, connection: FuzzConnection): void {
    const progress = this.#progress;
    progress.messages += sent;
    progress.received += received;
    progress.connections++;
    if (end === "closed") progress.closed++;
    if (closer !== undefined) {
      const blame = blameOf(closer.label);
      this.#closers.set(blame, (this.#closers.get(blame) ?? 0) + 1);
    }
    this.#mutes = received === 0 ? this.#mutes + 1 : 0;
    if (this.#mutes > MAX_MUTE) {
      throw new Unreachable(
        `Cannot go on: ${this.#target.name} answers nothing on ${MAX_MUTE} connections`,
      );
    }
    const newest = this.#newest;
    if (newest === undefined) return;
    const until = connection.messages.indexOf(newest) + 1;
    if (until > 0) {
      this.#options.corpus.add({ ...connection, messages: connection.messages.slice(0, until) });
    }
  }

  #remember(connection: FuzzConnection, process: number | undefined): void {
    if (process !== this.#process) this.#history.length = 0;
    this.#process = process;
    this.#history.push(connection);
    while (
      this.#history.length > MAX_HISTORY ||
      (this.#history.length > 1 && sizeOf(this.#history) > MAX_HISTORY_MESSAGES)
    ) this.#history.shift();
  }

  /** Looks into observations that are new. */
  async *#look(observations: readonly Observation[], canPlay: boolean): AsyncGenerator<Finding> {
    const history = [...this.#history];
    for (const observation of observations) {
      const signature = signatureOf(observation);
      const looked = this.#looked.get(signature) ?? 0;
      const isSevere = observation.kind !== "wrong reply" || observation.isFinal === true;
      if (looked >= (isSevere ? MAX_REPEATS : 1)) {
        this.#progress.repeats++;
        continue;
      }
      this.#looked.set(signature, looked + 1);
      const startMs = monotonicMs();
      this.#progress.doing = `making a ${observation.kind} shorter`;
      const finding = await this.#finding(observation, history, canPlay);
      // A hang that is known is not waited for that long again.
      if (observation.kind === "hang") this.#subject.timeoutMs = this.#shortTimeoutMs;
      this.#progress.paused(monotonicMs() - startMs);
      this.#progress.doing = "fuzzing";
      const culprit = culpritOf(finding.steps);
      const blame = culprit === undefined ? "nothing" : blameOf(culprit);
      if (culprit !== undefined && culprit.way !== "" && isSevere) this.#muted.add(blame);
      const identity = `${signature} by ${blame}`;
      if (this.#known.has(identity) || (looked > 0 && !finding.isRepeatable)) {
        this.#progress.repeats++;
        continue;
      }
      this.#known.add(identity);
      this.#progress.findings++;
      const { steps } = finding;
      yield {
        ...finding,
        number: this.#progress.findings,
        size: sizeOf(steps),
        connections: steps.length,
      };
    }
  }

  get #shortTimeoutMs(): number {
    return Math.min(this.#options.timeoutMs, SHORT_TIMEOUT_MS);
  }

  /** Makes the case of an observation shorter, as far as the server lets us. */
  async #finding(
    observation: Observation,
    history: FuzzCase,
    canPlay: boolean,
  ): Promise<Omit<Finding, "number" | "size" | "connections">> {
    const signature = signatureOf(observation);
    const candidates = [history.slice(-1), history.slice(-2), history]
      .filter((steps, at, all) => at === 0 || steps.length > all[at - 1]!.length);
    const messagesBefore = sizeOf(candidates[0]!);
    let conversations: readonly CaseConversation[] = [];
    // To start a server takes long: what it answers wrongly is tried without that first.
    let isFresh = observation.kind !== "wrong reply";
    const waits = new Waits(SHORT_TIMEOUT_MS, this.#options.timeoutMs);
    const fails = async (steps: FuzzCase) => {
      if (observation.kind === "leak") return await this.#leaksAgain(steps);
      const seen = await waits.play(async (timeoutMs) => {
        // A server that ends with its client is fresh each time.
        if (!isFresh && !this.#target.servesOne) {
          await this.#subject.play(recovery(this.#options.facts));
        }
        return await this.#subject.playCase(steps, { isFresh, timeoutMs });
      });
      if (!shows(seen.observations, signature)) return false;
      conversations = seen.conversations;
      return true;
    };
    const found = { ...observation, messagesBefore, conversation: [] };
    const unable = { ...found, steps: candidates[0]!, isRepeatable: false, plays: 0 };
    if (!canPlay) return unable;
    try {
      const { plays, timeMs } = this.#options.minimise;
      const share = observation.kind === "wrong reply" ? 1 / 4 : 1;
      const limits = { plays: plays * share, timeMs: timeMs * share };
      const shorter = () =>
        waits.shorten(
          observation,
          limits,
          (limits) => minimise(candidates, fails, limits),
          ({ steps }) => fails(steps),
        );
      let result = await shorter();
      if (!result.isRepeatable && !isFresh && this.#target.isSpawned) {
        isFresh = true;
        result = await shorter();
      }
      this.#history.length = 0;
      this.#leaks.reset();
      const conversation = linesOf(conversations);
      return { ...found, ...result, conversation };
    } catch (error) {
      // Ctrl-C, or a server that can't be started any more: what was found is told all the same.
      if (this.#options.signal.aborted || error instanceof Unreachable) return unable;
      throw error;
    }
  }

  /** Asks on a connection of its own how the process is, once it has put away what was. */
  async #sample(before?: Sample): Promise<{ process: number; sample: Sample } | undefined> {
    const { process } = this.#target;
    if (process === undefined) return undefined;
    await this.#subject.play(quiet(this.#options.facts));
    if (this.#target.process !== process) return undefined; // it serves one client
    let sample = sampleOf(process);
    for (let i = 0; i < SAMPLE_TRIES && sample !== undefined; i++) {
      if (sample.descriptors <= (before?.descriptors ?? 0)) break;
      await new Promise((resolve) => setTimeout(resolve, SAMPLE_PAUSE_MS));
      const next = sampleOf(process);
      if (next === undefined || next.descriptors >= sample.descriptors) break;
      sample = next;
    }
    return sample && { process, sample };
  }

  async #sampleLeak(): Promise<Observation | undefined> {
    const now = await this.#sample();
    return now && this.#leaks.add(now.process, now.sample);
  }

  /** Reports whether a new process has more descriptors with each time that a case is played. */
  async #leaksAgain(steps: FuzzCase): Promise<boolean> {
    const play = async (isFresh: boolean) => {
      await this.#subject.playCase(steps, { isFresh });
      return (await this.#sample())?.sample.descriptors;
    };
    await play(true);
    let before = await play(false);
    for (let i = 0; i < LEAK_PLAYS; i++) {
      const now = await play(false);
      if (before === undefined || now === undefined || now <= before) return false;
      before = now;
    }
    return true;
  }

  [Symbol.dispose](): void {
    this.#subject[Symbol.dispose]();
  }
}

/** The message that is to blame: the last one that was altered. */
function culpritOf(steps: FuzzCase): Label | undefined {
  const messages = steps.flatMap((step) => step.messages);
  return (messages.findLast(({ label }) => label.way !== "") ?? messages.at(-1))?.label;
}

/** Parts of a message whose alteration means the same in all messages. */
const COMMON_PARTS: readonly string[] = [
  "id",
  "command",
  "flags",
  "error",
  "size",
  "bytes",
  "pieces",
];

/** The alteration that is to blame, without the message where that does not matter. */
function blameOf({ message, field, way }: Label): string {
  return `${COMMON_PARTS.includes(field) ? "" : message} ${field} ${way}`;
}
