/**
 * Does checks, one after the other, and says how each ended.
 *
 * The way of a check: the `Target` connects, starting its server first if need be. `learn` has
 * asked that server for its offers once before. A `Trial` negotiates, unless the check is raw, and
 * is handed to the check's function. That sends requests and states expectations; one that is not
 * met throws a `Deviation`. Then the trial undoes what was set up. It asks for the device's info to
 * see whether the connection is still in step. If it isn't, a new one tells if the server lives.
 *
 * @module
 */

import type { UnixSocket } from "../../ffi/socket.ts";
import type { Check, CheckGroup, Rule, RuleGroup } from "./check.ts";
import type { Copying, CopySession } from "./copying.ts";
import { ConnectionEnded, Deviation, NoCopy, NotApplicable, Silence } from "./deviation.ts";
import { type Facts, NO_FACTS } from "./facts.ts";
import { learn } from "./learn.ts";
import type { Note } from "./raw_peer.ts";
import { plural } from "../text/plural.ts";
import { endText, type ServerEnd, type Target, Unreachable, wordsText } from "./target.ts";
import { Trial } from "./trial.ts";

/** The end of a check. */
export type Verdict = "passed" | "failed" | "not applicable" | "left out";

/** The state of the server after a check. */
export type Usable = "same connection" | "new connection" | "no";

/** The result of a check. */
export interface CheckResult {
  /** The check. */
  readonly check: Rule;
  /** Its group. */
  readonly group: RuleGroup;
  /** The end of the check. */
  readonly verdict: Verdict;
  /** Why it is not applicable, or was left out. */
  readonly reason?: string;
  /** The demand of the rule, of a check that failed. */
  readonly expected?: string;
  /** The event that came instead. */
  readonly came?: string;
  /** The messages of the check. */
  readonly messages: readonly Note[];
  /** The state of the server; undefined if the check was not tried. */
  readonly usable?: Usable;
  /** The end of the server, if it did not survive. */
  readonly end?: ServerEnd;
  /** The time that it took, in milliseconds. */
  readonly timeMs: number;
}

/** Settings of {@linkcode runChecks}. */
export interface RunOptions {
  /** The longest wait for anything, in milliseconds. */
  readonly timeoutMs: number;
  readonly signal: AbortSignal;
  /** Do what may break the server, though it can't be started anew. */
  readonly isDestructive: boolean;
  /** Start the server anew for each check. */
  readonly isFresh: boolean;
  /** The steps by which the device copies memory; of the demo device they are known. */
  readonly copy?: CopySession | undefined;
}

/** A group and its chosen checks. */
export interface Plan<Each extends Rule = Check> {
  readonly group: RuleGroup<Each>;
  readonly checks: readonly Each[];
}

/** The groups with the checks that are chosen. */
export function planOf<Each extends Rule>(
  groups: readonly RuleGroup<Each>[],
  chooses: (check: Rule) => boolean,
): readonly Plan<Each>[] {
  return groups.map((group) => ({ group, checks: group.checks.filter(chooses) }))
    .filter(({ checks }) => checks.length > 0);
}

/**
 * Does checks.
 *
 * @throws {Unreachable} if the server can't be started or reached. Also if it does not answer
 *   VERSION or DEVICE_GET_INFO, or what is asked behind these so wrongly that no check applies.
 *   Also if it serves no client any more and can't be started anew
 * @throws {NoCopy} if the device does not copy by the steps of `copy`
 */
export async function* runChecks(
  target: Target,
  plans: readonly Plan[],
  options: RunOptions,
): AsyncGenerator<CheckResult> {
  const { facts, problem } = await tryToLearn(target, options);
  const isCopyNeeded = plans.some(({ checks }) => checks.some(({ needsCopy }) => needsCopy));
  const copying = isCopyNeeded ? await learnCopying(target, facts, options) : undefined;
  let [tried, untried] = [0, 0];
  for (const { group, checks } of plans) {
    await target.restart();
    target.takeCrash();
    for (const check of checks) {
      if (check.isDestructive && !target.isSpawned && !options.isDestructive) {
        const reason = "the server can't be started anew: --spawn, or --destructive";
        yield { check, group, verdict: "left out", reason, messages: [], timeMs: 0 };
        continue;
      }
      const result = await runCheck(target, group, check, { ...options, facts, copying });
      if (result.verdict === "not applicable") untried++;
      else tried++;
      yield result;
      if (result.usable === "no" && !target.isSpawned) {
        throw new Unreachable(
          `Cannot go on: ${target.name} serves no client since ${check.id}; start the server ` +
            "anew and --skip that check, or use --spawn",
        );
      }
      if (options.isFresh) await target.restart();
      target.takeCrash(); // of the restart itself
    }
  }
  if (problem === undefined || tried > 0 || untried === 0) return;
  // No check has reported the reason for which none was tried.
  throw new Unreachable(
    `Cannot try ${plural(untried, "check")}: ${target.name} answers wrongly when asked what it ` +
      `offers; expected ${problem.expected}, came ${problem.came}; the checks of negotiation and ` +
      "info tell more",
    { cause: problem },
  );
}

/** Asks a server for its offers. */
export async function learnFacts(target: Target, options: RunOptions): Promise<Facts> {
  return (await tryToLearn(target, options)).facts;
}

/** Asks a server for its offers. With a `problem` not all of them are known. */
async function tryToLearn(
  target: Target,
  options: RunOptions,
): Promise<{ facts: Facts; problem?: Deviation }> {
  await using trial = new Trial(trialOptions(target, NO_FACTS, options));
  await trial.connect();
  try {
    let problem: Deviation | undefined;
    const facts = await learn(trial, (each) => problem ??= each);
    return { facts, ...(problem && { problem }) };
  } catch (error) {
    if (!(error instanceof Deviation)) throw error;
    // A server that answers, if wrongly, is one for the checks; little is known of it.
    const isMute = error instanceof ConnectionEnded || error instanceof Silence;
    if (!isMute) return { facts: NO_FACTS, problem: error };
    const end = await crashOf(target, options);
    throw new Unreachable(
      `Cannot check ${target.name}: it does not answer the first requests; expected ` +
        `${error.expected}, came ${error.came}` +
        (end === undefined ? "" : `; the server ${endText(end)}${wordsText(end)}`),
      { cause: error },
    );
  }
}

/** Has the device copy, each time with a server that is fresh if it can be. */
async function learnCopying(
  target: Target,
  facts: Facts,
  options: RunOptions,
): Promise<Copying | undefined> {
  const { copy } = options;
  if (copy === undefined && !facts.isPci) return undefined; // the demo device is no such one
  const { rehearse } = await import("./rehearsal.ts");
  try {
    return await rehearse(copy, async (act) => {
      await target.restart();
      await using trial = new Trial(trialOptions(target, facts, options));
      await trial.connect();
      await trial.negotiate();
      const result = await act(trial);
      options.signal.throwIfAborted();
      await trial.undo();
      return result;
    });
  } catch (error) {
    // The first check reports a server that takes no second client.
    const isGone = error instanceof Unreachable && !target.isSpawned;
    if (copy === undefined && isGone) return undefined;
    if (!(error instanceof Deviation || error instanceof NoCopy)) throw error;
    if (copy === undefined) return undefined;
    const end = await crashOf(target, options);
    const reason = error instanceof NoCopy
      ? error.message
      : `Cannot have the device copy by ${copy.session.file}: ${error.message}`;
    const words = end === undefined ? "" : `; the server ${endText(end)}${wordsText(end)}`;
    throw new NoCopy(`${reason}${words}`, { cause: error });
  }
}

/** Options of a run, and what the run has learnt. */
interface Known extends RunOptions {
  readonly facts: Facts;
  readonly copying: Copying | undefined;
}

/** Does a check; once more if it met a server that was ending after the client before. */
async function runCheck(
  target: Target,
  group: CheckGroup,
  check: Check,
  known: Known,
): Promise<CheckResult> {
  return await tryCheck(target, group, check, known, true) ??
    (await tryCheck(target, group, check, known, false))!;
}

/** Does a check. Returns undefined, if it `mayRepeat`, where the server was a spent one. */
async function tryCheck(
  target: Target,
  group: CheckGroup,
  check: Check,
  { facts, copying, ...options }: Known,
  mayRepeat: boolean,
): Promise<CheckResult | undefined> {
  const startMs = performance.now();
  let deviation: Deviation | undefined;
  let reason: string | undefined;
  let usable: Usable = "no";
  const trial = new Trial(trialOptions(target, facts, options, copying));
  try {
    await open(trial, check);
    try {
      await check.test(trial);
    } finally {
      options.signal.throwIfAborted();
      await trial.undo();
    }
  } catch (error) {
    if (error instanceof Deviation) deviation = error;
    else if (error instanceof Unreachable && !target.isSpawned) {
      deviation = new Deviation("a server that serves clients", error.message);
    } else if (error instanceof NotApplicable) reason = error.message;
    else throw error;
  }
  const hasEnded = deviation instanceof ConnectionEnded;
  const isFirst = !trial.notes.some(({ from, text }) => from === "server" && text.startsWith("#"));
  if (mayRepeat && hasEnded && isFirst && await target.wasSpent(options.signal)) {
    await trial[Symbol.asyncDispose]();
    return undefined;
  }
  const messages = [...trial.notes]; // without those of the question whether it lives
  try {
    const isTried = reason === undefined;
    if (await isInStep(trial, check)) usable = "same connection";
    else if (isTried && !check.mayEnd) {
      deviation ??= new Deviation(
        "a connection that goes on after it, in step",
        "a connection that is closed or out of step",
      );
    }
  } finally {
    await trial[Symbol.asyncDispose]();
  }
  await target.left(options.signal);
  let end = target.takeCrash();
  if (usable !== "same connection" && end === undefined) {
    // A crash takes a moment to be seen: the next connection finds out.
    if (await answersAnew(target, facts, options)) usable = "new connection";
    await target.left(options.signal, usable === "no");
    end = target.takeCrash();
    if (usable === "no" && end === undefined) await target.restart();
  }
  if (end !== undefined) {
    const expected = deviation?.expected ?? "a server that goes on";
    usable = "no";
    deviation = new Deviation(expected, `the server ${endText(end)}${wordsText(end)}`);
  } else if (usable === "no" && reason === undefined) {
    deviation ??= new Deviation("a server that serves the next client", "no answer to VERSION");
  }
  const rest = {
    check,
    group,
    messages,
    usable,
    ...(end !== undefined && { end }),
    timeMs: performance.now() - startMs,
  };
  if (deviation !== undefined) {
    return { ...rest, verdict: "failed", expected: deviation.expected, came: deviation.came };
  }
  if (reason !== undefined) return { ...rest, verdict: "not applicable", reason };
  return { ...rest, verdict: "passed" };
}

/** Connects, and negotiates unless the check does that itself. */
async function open(trial: Trial, check: Check): Promise<void> {
  await trial.connect();
  if (!check.isRaw) await trial.negotiate();
}

/** Reports whether the check's connection answers a new request, and nothing else. */
async function isInStep(trial: Trial, check: Check): Promise<boolean> {
  const peer = trial.connections.find(({ isOpen }) => isOpen);
  if (peer === undefined) return false;
  try {
    // A check of VERSION may have left a connection on which none was sent.
    if (check.isRaw && !trial.notes.some(({ from }) => from === "server")) {
      await trial.negotiate(peer);
    }
    await trial.inStep(peer);
    return true;
  } catch (error) {
    if (error instanceof Deviation) return false;
    throw error;
  }
}

/** Reports whether the server serves a new client. */
async function answersAnew(target: Target, facts: Facts, options: RunOptions): Promise<boolean> {
  await using trial = new Trial(trialOptions(target, facts, options));
  try {
    const peer = await trial.connect();
    await trial.negotiate(peer);
    await trial.inStep(peer);
    return true;
  } catch (error) {
    if (error instanceof Deviation) return false;
    if (error instanceof Unreachable && !target.isSpawned) return false;
    throw error;
  }
}

/** Waits for a server whose connection ended, so that its crash is known. */
async function crashOf(target: Target, { signal }: RunOptions): Promise<ServerEnd | undefined> {
  await target.left(signal, true);
  return target.takeCrash();
}

function trialOptions(target: Target, facts: Facts, options: RunOptions, copying?: Copying) {
  const { timeoutMs, signal } = options;
  return {
    connect: (): Promise<UnixSocket> => target.connect(signal),
    tryConnect: () => target.tryConnect(),
    wasSpent: () => target.wasSpent(signal),
    facts,
    copying,
    timeoutMs,
    signal,
    get process() {
      return target.process;
    },
  };
}
