/**
 * Fuzzes a client: runs it again and again, each time with a device that is changed elsewhere.
 *
 * @module
 */

import { monotonicMs } from "../../../ffi/clock.ts";
import { Unreachable } from "../../conformance/target.ts";
import { describeMessage } from "../../wire/describe.ts";
import {
  type ConversationLine,
  type FindingReport,
  type Observation,
  signatureOf,
} from "../finding.ts";
import { type Label, labelOf, labelText } from "../label.ts";
import type { MinimiseLimits } from "../minimise.ts";
import type { FuzzProgress } from "../run.ts";
import { Waits } from "../waits.ts";
import type { Change } from "./change.ts";
import { Deviser, fixedPlan, PLAIN_PLAN } from "./deviser.ts";
import { minimiseChanges } from "./minimise.ts";
import { type ClientPlayed, ClientSubject, type ClientSubjectOptions, type Said } from "./play.ts";

/** Times that one observation is looked into: it may have several causes. */
const MAX_REPEATS = 8;
/** Findings after which a fuzzer has told enough. */
const MAX_FINDINGS = 1000;
/** The longest wait for a client that is known to stay silent, in milliseconds. */
const SHORT_TIMEOUT_MS = 2000;

/** Settings of {@linkcode fuzzClient}. */
export interface ClientFuzzOptions extends ClientSubjectOptions {
  readonly seed: number;
  /** Ends after so many milliseconds. */
  readonly timeMs: number;
  /** Ends after so many messages to the client. */
  readonly messages: number;
  readonly minimise: MinimiseLimits;
}

/** A finding about a client, with the fewest changes that show it. */
export interface ClientFinding extends FindingReport {
  readonly changes: readonly Change[];
  /** The messages of the last run that showed it. */
  readonly said: readonly Said[];
}

/**
 * Fuzzes a client.
 *
 * @returns findings as they are made; each is made shorter before that
 * @throws {Unreachable} if the client can't be started, or does not suit a plain device
 */
export async function* fuzzClient(
  progress: FuzzProgress,
  options: ClientFuzzOptions,
): AsyncGenerator<ClientFinding> {
  using subject = new ClientSubject(options);
  const usual = await meetPlain(subject);
  yield* new ClientFuzzRun(subject, usual, progress, options).all();
}

/**
 * Runs the client once with a plain device, with which later runs are compared.
 *
 * @throws {Unreachable} if it asks nothing, or fails with that
 */
export async function meetPlain(subject: ClientSubject): Promise<ClientPlayed> {
  const plain = await subject.play(PLAIN_PLAN);
  const [problem] = plain.observations.filter(({ kind }) => kind === "crash");
  const came = plain.commands.length === 0 ? "it asks nothing" : problem?.text;
  if (came !== undefined) {
    throw new Unreachable(
      `Cannot fuzz the client: with a plain device ${came}; try the client with vfu serve demo`,
    );
  }
  subject.usual = plain;
  return plain;
}

class ClientFuzzRun {
  readonly #subject: ClientSubject;
  readonly #progress: FuzzProgress;
  readonly #options: ClientFuzzOptions;
  readonly #deviser: Deviser;
  readonly #muted = new Set<Label>();
  /** Times that each observation was looked into. */
  readonly #looked = new Map<string, number>();
  /** Findings, by what they are after they were made shorter. */
  readonly #known = new Set<string>();

  constructor(
    subject: ClientSubject,
    plain: ClientPlayed,
    progress: FuzzProgress,
    options: ClientFuzzOptions,
  ) {
    this.#subject = subject;
    this.#progress = progress;
    this.#options = options;
    const usual = new Map<number, number>();
    for (const command of plain.commands) usual.set(command, (usual.get(command) ?? 0) + 1);
    const isMuted = (label: Label) => this.#muted.has(label);
    this.#deviser = new Deviser({ seed: options.seed, usual, isMuted });
  }

  async *all(): AsyncGenerator<ClientFinding> {
    const { signal, timeMs, messages } = this.#options;
    const progress = this.#progress;
    while (
      progress.elapsedMs < timeMs && progress.messages < messages &&
      progress.findings < MAX_FINDINGS
    ) {
      signal.throwIfAborted();
      const played = await this.#subject.play(this.#deviser.next());
      this.#count(played);
      for (const observation of played.observations) yield* this.#look(observation, played);
    }
  }

  #count({ commands, changes, connections, hasLeft, end }: ClientPlayed): void {
    const progress = this.#progress;
    progress.messages += commands.length;
    progress.received += commands.length;
    progress.connections += connections;
    if (hasLeft) progress.closed++;
    const changed = new Set(
      changes.filter(({ change }) => change.kind === "reply").map(({ requests }) => requests - 1),
    );
    for (const [i, command] of commands.entries()) {
      if (!changed.has(i)) progress.coverage.add(labelOf(command), "success");
    }
    for (const { change, requests } of changes) {
      const goesOn = commands.length > requests;
      progress.coverage.add(change.label, goesOn ? "success" : end?.code ?? "none");
    }
  }

  /** Looks into an observation, if it is new. */
  async *#look(observation: Observation, played: ClientPlayed): AsyncGenerator<ClientFinding> {
    const signature = signatureOf(observation);
    const looked = this.#looked.get(signature) ?? 0;
    const progress = this.#progress;
    if (looked >= MAX_REPEATS) {
      progress.repeats++;
      return;
    }
    this.#looked.set(signature, looked + 1);
    const startMs = monotonicMs();
    progress.doing = `making a ${observation.kind} shorter`;
    const finding = await this.#finding(observation, signature, played);
    progress.paused(monotonicMs() - startMs);
    progress.doing = "fuzzing";
    const culprit = finding.changes.at(-1)?.label;
    if (culprit !== undefined) this.#muted.add(culprit);
    const identity = `${signature} by ${culprit === undefined ? "nothing" : partOf(culprit)}`;
    if (this.#known.has(identity) || (looked > 0 && !finding.isRepeatable)) {
      progress.repeats++;
      return;
    }
    this.#known.add(identity);
    yield { ...finding, number: ++progress.findings };
  }

  /** Finds the fewest changes of an observation, as far as the client lets us. */
  async #finding(
    observation: Observation,
    signature: string,
    { changes: made, conversation }: ClientPlayed,
  ): Promise<ClientFinding> {
    const { minimise, timeoutMs, signal } = this.#options;
    const all = made.map(({ change }) => change);
    let said = conversation;
    const waits = new Waits(SHORT_TIMEOUT_MS, timeoutMs);
    const fails = async (changes: readonly Change[]) => {
      const again = await waits.play((waitMs) => this.#subject.play(fixedPlan(changes), waitMs));
      if (!again.observations.some((each) => signatureOf(each) === signature)) return false;
      said = again.conversation;
      return true;
    };
    let result = { changes: all as readonly Change[], isRepeatable: false, plays: 0 };
    try {
      result = await waits.shorten(
        observation,
        minimise,
        (limits) => minimiseChanges(all, fails, limits),
        ({ changes }) => fails(changes),
      );
    } catch (error) {
      // Ctrl-C, or a client that can't be started any more: what was found is told all the same.
      if (!signal.aborted && !(error instanceof Unreachable)) throw error;
    }
    const label = result.changes.at(-1)?.label;
    return {
      ...observation,
      ...result,
      ...(label && { label }),
      number: 0,
      size: result.changes.length,
      connections: 1,
      messagesBefore: all.length,
      said,
      conversation: linesOfSaid(said),
    };
  }
}

/** The part of a message that a label is about. */
function partOf({ message, field }: Label): string {
  return `${message} ${field}`;
}

/** A conversation as lines. */
export function linesOfSaid(conversation: readonly Said[]): readonly ConversationLine[] {
  return conversation.map(({ from, bytes, fds, change }) => {
    const text = bytes.length === 0 ? "nothing" : describeMessage(bytes, { fds });
    return { from, text: change === undefined ? text : `${text} (${labelText(change.label)})` };
  });
}
