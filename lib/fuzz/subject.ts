/**
 * The server under test: plays connections to it, and observes what becomes of its process.
 *
 * @module
 */

import { SystemError } from "../../ffi/errno.ts";
import { processMemory } from "../../ffi/process_facts.ts";
import { type ServerEnd, type Target, Unreachable } from "../conformance/target.ts";
import { sleep } from "../base/sleep.ts";
import { describeMessage } from "../wire/describe.ts";
import type { CaseConversation, CaseReply } from "./case_file.ts";
import { Descriptors } from "./descriptors.ts";
import { type ConversationLine, type Observation, signatureOf } from "./finding.ts";
import type { OnOutcome } from "./judge.ts";
import { reportIn, withoutNumbers } from "./last_words.ts";
import type { FuzzCase, FuzzConnection, FuzzMessage } from "./message.ts";
import { type Played, Player } from "./player.ts";

/** Messages of a conversation that are kept. */
const MAX_CONVERSATION = 4096;

/** Looks at a process that closed a connection: it may be ending. */
const SETTLE_TRIES = 3;
const SETTLE_MS = 1;

/** Settings of a {@linkcode Subject}. */
export interface SubjectOptions {
  readonly timeoutMs: number;
  readonly signal: AbortSignal;
  /** A connection that does nothing but greet. */
  readonly quiet: FuzzConnection;
  readonly onOutcome?: OnOutcome;
}

/** The outcome of one connection. */
export interface Seen extends Played {
  /** Observations of the connection and of the process. */
  readonly observations: readonly Observation[];
  /** Observations of the connection before, which were seen late. */
  readonly late: readonly Observation[];
  /** The process that it was played to, if that is known. */
  readonly process: number | undefined;
}

/** The outcome of a case. */
export interface SeenCase {
  readonly observations: readonly Observation[];
  /** The messages of each connection, if they were asked for. */
  readonly conversations: readonly CaseConversation[];
}

/** A server that connections are played to. */
export class Subject implements Disposable {
  readonly target: Target;
  /** The longest wait of the plays to come, in milliseconds. */
  timeoutMs: number;
  readonly #options: SubjectOptions;
  readonly #descriptors = new Descriptors();
  readonly #player: Player;
  readonly #quietPlayer: Player;
  /** The process whose output was looked at, and how much of it. */
  #heard: { process: number | undefined; length: number } = { process: undefined, length: 0 };

  constructor(target: Target, options: SubjectOptions) {
    this.target = target;
    this.#options = options;
    this.timeoutMs = options.timeoutMs;
    this.#quietPlayer = this.#playerOf(() => this.timeoutMs);
    this.#player = this.#playerOf(() => this.timeoutMs, options.onOutcome);
  }

  #playerOf(timeoutMs: () => number, onOutcome?: OnOutcome, onMessage?: OnMessage): Player {
    return new Player({
      timeoutMs,
      signal: this.#options.signal,
      descriptors: this.#descriptors,
      ...(onOutcome && { onOutcome }),
      ...(onMessage && { onMessage }),
    });
  }

  /**
   * Plays a connection.
   *
   * @throws {Unreachable} if the server can't be started or reached
   */
  async play(connection: FuzzConnection, player = this.#player): Promise<Seen> {
    const { target } = this;
    const { signal } = this.#options;
    let late: readonly Observation[] = [];
    for (let isFirst = true;; isFirst = false) {
      const socket = await target.connect(signal);
      late = [...late, ...this.#crashes()];
      const { process } = target;
      const played = await player.play(socket, connection);
      const isMute = played.end === "closed" && played.received === 0;
      if (isFirst && isMute && await target.wasSpent(signal)) continue;
      const isHung = played.observations.some(({ kind }) => kind === "hang");
      if (played.end === "closed") await this.#settle(process);
      await target.left(signal);
      const own = this.#crashes();
      if (isHung && own.length === 0) await target.restart();
      const observed = played.received > 0 ? played.observations : played.observations.map(mute);
      const isGone = own.length > 0;
      const living = observed.filter(({ kind }) => kind !== "hang" || !isGone);
      const observations = [...own, ...living, ...this.#reports()];
      return { ...played, observations, late, process };
    }
  }

  /**
   * Plays a case, to a server that was just started where that can be done.
   *
   * @param isFresh starts the server anew; else the one that runs is used
   */
  async playCase(
    steps: FuzzCase,
    { isFresh, timeoutMs = this.#options.timeoutMs }: { isFresh: boolean; timeoutMs?: number },
  ): Promise<SeenCase> {
    const conversations: (FuzzMessage | CaseReply)[][] = [];
    const player = this.#playerOf(() => timeoutMs, undefined, (from, bytes, message) => {
      const conversation = conversations.at(-1)!;
      if (conversation.length >= MAX_CONVERSATION) return;
      if (message !== undefined) conversation.push(message);
      else conversation.push({ from, bytes: bytes.slice(0, MAX_KEPT) });
    });
    if (isFresh) {
      await this.target.restart();
      this.target.takeCrash();
    }
    const observations: Observation[] = [];
    for (const connection of steps) {
      conversations.push([]);
      const seen = await this.play(connection, player);
      observations.push(...seen.late, ...seen.observations);
      if (seen.observations.some(({ kind }) => kind === "crash")) break;
      if (seen.end === "left") continue;
      observations.push(...await this.aftermath());
    }
    return { observations, conversations };
  }

  /** Waits for the end of a process that is ending: the kernel closes its sockets before that. */
  async #settle(process: number | undefined): Promise<void> {
    if (process === undefined) return;
    for (let i = 0; i < SETTLE_TRIES; i++) {
      if (hasEnded(process)) return await this.target.left(this.#options.signal, true);
      await sleep(SETTLE_MS, this.#options.signal);
    }
  }

  /**
   * Asks something on a connection of its own: a server that has not done all that it was sent may
   * end before that.
   */
  async aftermath(): Promise<readonly Observation[]> {
    try {
      const { late, observations } = await this.play(this.#options.quiet, this.#quietPlayer);
      return [...late, ...observations.filter(({ kind }) => kind === "crash")];
    } catch (error) {
      if (!(error instanceof Unreachable) || this.target.isSpawned) throw error;
      return [UNREACHABLE];
    }
  }

  /** The crash of the process, if it has ended in a way that no server should. */
  #crashes(): readonly Observation[] {
    const end = this.target.takeCrash();
    return end === undefined ? [] : [crashOf(end)];
  }

  /** Reports in the output of a process that goes on. */
  #reports(): readonly Observation[] {
    const { process } = this.target;
    const output = this.target.output();
    if (output === undefined) return [];
    const before = this.#heard.process === process ? this.#heard.length : 0;
    if (output.length === before) return [];
    this.#heard = { process, length: output.length };
    const report = reportIn(output.tail.slice(-(output.length - before)));
    if (report === undefined || !report.goesOn) return [];
    return [{ kind: "report", text: withoutNumbers(`${report.name}: ${report.text}`) }];
  }

  /** Closes its descriptors. The target is the caller's. */
  [Symbol.dispose](): void {
    this.#descriptors[Symbol.dispose]();
  }
}

/** Reports whether a process has no memory any more: it is gone, or its parent has not looked. */
function hasEnded(process: number): boolean {
  try {
    return processMemory(process) === undefined;
  } catch (error) {
    if (!(error instanceof SystemError)) throw error;
    return false; // the kernel does not tell
  }
}

type OnMessage = (from: "us" | "peer", bytes: Uint8Array, message?: FuzzMessage) => void;

/** Bytes of a message of the peer that are kept. */
const MAX_KEPT = 64 << 10;

/** A server that listened, and can't be connected to any more. */
export const UNREACHABLE: Observation = {
  kind: "crash",
  text: "the server can't be connected to any more",
};

/** A hang before the first reply may be the doing of the connection before. */
function mute(observation: Observation): Observation {
  return observation.kind === "hang"
    ? { ...observation, text: "the peer does not answer the first message of a connection" }
    : observation;
}

/** The crash of a process, in words without numbers. */
export function crashOf(end: ServerEnd): Observation {
  const { signal, code, output, words } = end;
  const how = signal === undefined ? `it ended with code ${code}` : `it was ended by ${signal}`;
  const report = reportIn(output);
  const why = report === undefined ? words.at(-1) ?? "" : `${report.name}: ${report.text}`;
  return { kind: "crash", text: withoutNumbers(why === "" ? how : `${how}; ${why}`), end };
}

/** A conversation as lines. */
export function linesOf(conversations: readonly CaseConversation[]): readonly ConversationLine[] {
  return conversations.flat().map((message) => {
    const fds = "fds" in message ? message.fds.length : 0;
    const text = describeMessage(message.bytes, { fds });
    const cuts = "cuts" in message && message.cuts.length > 0
      ? `, in pieces that end at ${message.cuts.join(", ")}`
      : "";
    return { from: "from" in message ? message.from : "us", text: text + cuts };
  });
}

/** Reports whether one of the observations is the same finding. */
export function shows(observations: readonly Observation[], signature: string): boolean {
  return observations.some((each) => signatureOf(each) === signature);
}
