/**
 * A recording, played to a server. What the client did is done again, in order, and what the server
 * does in turn is compared with what the recorded server did.
 *
 * @module
 */

import type { RecordedEvent } from "../record/event.ts";
import { sleep } from "../base/sleep.ts";
import type { IgnoredRange } from "./compare.ts";
import { PlayedConnection } from "./connection.ts";
import type { Difference, PlayCounts } from "./difference.ts";
import type { Polls } from "./polls.ts";
import { learnPolls, noRequest, Script, type ScriptStep } from "./script.ts";
import type { UnixSocket } from "../../ffi/socket.ts";

/** Differences after which a play ends, if its caller names no other number. */
export const DEFAULT_MAX_DIFFERENCES = 20;
/** Steps before a difference that are kept for its report. */
const STEPS_BEFORE = 6;

/** The result of a play. */
export interface PlayResult extends Readonly<PlayCounts> {
  /** Events of the recording that were played. */
  readonly events: number;
  /** The number of differences. */
  readonly differences: number;
  /** True if the play ended before the recording did. */
  readonly isPartial: boolean;
  /** The reason in words, if it did: "at event 7: ..."; or why there was nothing to play. */
  readonly ended?: string;
}

/** Options of {@linkcode playToServer}. */
export interface PlayOptions {
  /** Connects to the server: once for each client of the recording. */
  connect: (signal: AbortSignal | undefined) => Promise<UnixSocket>;
  /** The time in milliseconds for each reply, each DMA and each interrupt; default 5000. */
  timeoutMs?: number;
  /**
   * Opens the recording once more, to look for registers that it polls later. If left out, only
   * those that it has polled are read again, up to a bounded number of events ahead.
   */
  reopen?: () => AsyncIterable<RecordedEvent>;
  /** Keeps the pauses of the recording. */
  timing?: boolean;
  /** Parts of regions whose contents may differ. */
  ignore?: readonly IgnoredRange[];
  /** Ends the play after so many differences; default 20. */
  maxDifferences?: number;
  /** Plays this client of the recording alone. */
  client?: number;
  /** Ends the play; it then throws the signal's reason. */
  signal?: AbortSignal;
  /** Called once, with the time of the recording's first event. */
  onStart?: (startNs: bigint) => void;
  /** Called for each difference, in the order of the recording. */
  onDifference?: (difference: Difference) => void;
  /** Called with remarks: what can't be played, or can't be known. */
  onNote?: (text: string) => void;
  /** Called for each step that is played. */
  onStep?: (step: ScriptStep) => void;
}

/**
 * Plays a recording to a server.
 *
 * @param events the recording
 * @throws as the recording does when it is damaged; an Error if no connection is possible
 *
 * @example
 * ```ts
 * import { UnixSocket } from "../../ffi/socket.ts";
 * import { readRecording } from "../record/mod.ts";
 * import { playToServer } from "./player.ts";
 *
 * async function test(recording: string, socket: string): Promise<boolean> {
 *   const connect = () => Promise.resolve(UnixSocket.connect(socket)!);
 *   const { differences } = await playToServer(readRecording(recording), { connect });
 *   return differences === 0;
 * }
 * console.assert(typeof test === "function");
 * ```
 */
export async function playToServer(
  events: AsyncIterable<RecordedEvent>,
  options: PlayOptions,
): Promise<PlayResult> {
  const { signal, timing = false, maxDifferences = DEFAULT_MAX_DIFFERENCES } = options;
  await using script = new Script(events, { client: options.client, signal });
  const counts: PlayCounts = { requests: 0, replies: 0, dma: 0, interrupts: 0 };
  const before: ScriptStep[] = [];
  const notes = new Set<string>();
  const held: Difference[] = [];
  let played = 0;
  let differences = 0;
  let connection: PlayedConnection | undefined;
  let step: ScriptStep | undefined;
  let timeOffset: number | undefined;
  let isLost = false;
  let polls: Promise<Polls> | undefined;
  const host = {
    script,
    counts,
    timeoutMs: options.timeoutMs ?? 5000,
    ignore: options.ignore ?? [],
    signal,
    async mayDiffer(place: string, expected: Uint8Array, found: Uint8Array) {
      if (script.polls.mayDiffer(place, expected, found)) return true;
      if (options.reopen === undefined) return false;
      polls ??= learnPolls(options.reopen(), { client: options.client, signal });
      return (await polls).mayDiffer(place, expected, found);
    },
    note(text: string) {
      if (notes.has(text)) return;
      notes.add(text);
      options.onNote?.(text);
    },
    differ(difference: Omit<Difference, "before" | "step"> & { step?: ScriptStep }) {
      differences++;
      if (differences > maxDifferences) return;
      held.push({ step: step!, ...difference, before: [...before] });
    },
  };
  /** Reports what was found, but for steps that the play has not come to: causes come first. */
  const report = (last: number) => {
    const ready = held.filter((each) => each.step.event.index <= last);
    if (ready.length === 0) return;
    const left = held.filter((each) => each.step.event.index > last);
    held.splice(0, held.length, ...left);
    ready.sort((a, b) => a.step.event.index - b.step.event.index);
    for (const each of ready) options.onDifference?.(each);
  };
  let hasStarted = false;
  let lastIndex = 0;
  try {
    while (differences < maxDifferences) {
      signal?.throwIfAborted();
      step = await script.next();
      if (!hasStarted && script.startNs !== undefined) options.onStart?.(script.startNs);
      hasStarted = true;
      if (step === undefined) break;
      const { connection: number, timeNs, index } = step.event;
      if (connection !== undefined && connection.number !== number) {
        await connection.finish();
        connection[Symbol.dispose]();
        connection = undefined;
      }
      if (connection === undefined && step.kind === "request") {
        connection = new PlayedConnection(number, await options.connect(signal), host);
        timeOffset = undefined;
      }
      if (connection === undefined) continue;
      if (timing) {
        const at = Number(timeNs) / 1e6;
        timeOffset ??= performance.now() - at;
        const left = timeOffset + at - performance.now();
        if (left >= 1) await sleep(left, signal);
      }
      options.onStep?.(step);
      await connection.play(step);
      played++;
      lastIndex = index;
      report(index);
      before.push(step);
      if (before.length > STEPS_BEFORE) before.shift();
      if (connection.isLost || connection.isOver) {
        isLost ||= connection.isLost;
        script.drop(number);
        connection[Symbol.dispose]();
        connection = undefined;
      }
    }
    if (differences < maxDifferences) await connection?.finish();
  } finally {
    connection?.[Symbol.dispose]();
    report(Infinity);
  }
  const reason = isLost
    ? "the connection to the server is lost"
    : step !== undefined
    ? `${differences} differences are the limit`.replace(/^1 differences are/, "1 difference is")
    : undefined;
  const ended = played === 0 && reason === undefined
    ? noRequest(script, options.client)
    : reason && `at event ${lastIndex}: ${reason}`;
  const isPartial = ended !== undefined;
  return { events: played, ...counts, differences, isPartial, ...(isPartial && { ended }) };
}
