/**
 * Makes a case shorter as long as it still fails: whole messages first, then what is in them.
 *
 * @module
 */

import { monotonicMs } from "../../ffi/clock.ts";
import { HEADER_SIZE } from "../wire/header.ts";
import { rulesOf } from "./alter.ts";
import { fieldsOf } from "./fields.ts";
import type { FuzzCase, FuzzConnection, FuzzMessage } from "./message.ts";

/** Limits of the work. */
export interface MinimiseLimits {
  /** Plays. */
  readonly plays: number;
  /** Milliseconds. */
  readonly timeMs: number;
}

/** The result. */
export interface Minimised {
  readonly steps: FuzzCase;
  /** True if the case failed whenever it was played again. */
  readonly isRepeatable: boolean;
  readonly plays: number;
}

/** A message, and the connection that it belongs to. */
interface Item {
  readonly connection: number;
  readonly message: FuzzMessage;
}

/**
 * Finds a shorter case that fails.
 *
 * @param candidates cases that may fail, the shortest first
 * @param fails plays a case; throws if the work is to end
 * @returns the first of the candidates if none of them fails again
 */
export async function minimise(
  candidates: readonly FuzzCase[],
  fails: (steps: FuzzCase) => Promise<boolean>,
  limits: MinimiseLimits,
): Promise<Minimised> {
  const work = new Work(fails, limits);
  let found: FuzzCase | undefined;
  for (const candidate of candidates) {
    if (await work.fails(candidate)) {
      found = candidate;
      break;
    }
  }
  if (found === undefined) {
    return { steps: candidates[0]!, isRepeatable: false, plays: work.plays };
  }
  found = await shorter(found, work);
  found = await plainer(found, work);
  found = await simpler(found, work);
  return { steps: found, isRepeatable: true, plays: work.plays };
}

/** Plays within the limits. What is not played any more counts as no failure. */
export class Work<Case> {
  /** The plays so far. */
  plays = 0;
  readonly #fails: (steps: Case) => Promise<boolean>;
  readonly #limits: MinimiseLimits;
  readonly #deadline: number;

  constructor(fails: (steps: Case) => Promise<boolean>, limits: MinimiseLimits) {
    this.#fails = fails;
    this.#limits = limits;
    this.#deadline = monotonicMs() + limits.timeMs;
  }

  /** True once a limit is reached. */
  get isOver(): boolean {
    return this.plays >= this.#limits.plays || monotonicMs() > this.#deadline;
  }

  /** Reports whether a case fails. */
  async fails(steps: Case): Promise<boolean> {
    if (this.isOver) return false;
    this.plays++;
    return await this.#fails(steps);
  }
}

/** Removes messages. */
async function shorter(steps: FuzzCase, work: Work<FuzzCase>): Promise<FuzzCase> {
  let items = itemsOf(steps);
  const tries = (some: readonly Item[]) => work.fails(caseOf(some, steps));
  if (await tries([])) return caseOf([], steps);
  // Mostly the shortest failing prefix ends with the culprit, and that needs little before it.
  let [low, high] = [0, items.length];
  while (high - low > 1 && !work.isOver) {
    const middle = (low + high) >> 1;
    if (await tries(items.slice(0, middle))) high = middle;
    else low = middle;
  }
  items = items.slice(0, high);
  const last = items.at(-1)!;
  for (const few of [[last], [items[0]!, last], items.slice(-2), items.slice(-8)]) {
    if (few.length < items.length && await tries(few)) {
      items = few;
      break;
    }
  }
  for (let size = items.length >> 1; size >= 1 && !work.isOver;) {
    let hasRemoved = false;
    for (let at = 0; at < items.length && items.length > 1 && !work.isOver;) {
      const rest = [...items.slice(0, at), ...items.slice(at + size)];
      if (await tries(rest)) {
        items = rest;
        hasRemoved = true;
      } else at += size;
    }
    if (!hasRemoved || size > items.length) size = size === 1 ? 0 : size >> 1;
  }
  return caseOf(items, steps);
}

/** Removes odd answers and the flow of many requests at once. */
async function plainer(steps: FuzzCase, work: Work<FuzzCase>): Promise<FuzzCase> {
  for (let i = 0; i < steps.length; i++) {
    const { answers } = steps[i]!;
    if (answers.length > 0) {
      const plain = withConnection(steps, i, { answers: [] });
      if (await work.fails(plain)) steps = plain;
      else {
        for (let at = 0; at < answers.length; at++) {
          if (steps[i]!.answers[at] === "right") continue;
          const fewer = steps[i]!.answers.map((name, each) => each === at ? "right" : name);
          const next = withConnection(steps, i, { answers: fewer });
          if (await work.fails(next)) steps = next;
        }
      }
    }
    if (steps[i]!.window !== 1 && steps[i]!.messages.length > 0) {
      const slow = withConnection(steps, i, { window: 1 });
      if (await work.fails(slow)) steps = slow;
    }
  }
  return steps;
}

/** Makes messages simpler: whole, without descriptors, with zeros in fields and data. */
async function simpler(steps: FuzzCase, work: Work<FuzzCase>): Promise<FuzzCase> {
  for (let i = 0; i < steps.length; i++) {
    for (let at = 0; at < steps[i]!.messages.length && !work.isOver; at++) {
      for (const change of CHANGES) {
        for (const message of change(steps[i]!.messages[at]!)) {
          const next = withMessage(steps, i, at, message);
          if (await work.fails(next)) {
            steps = next;
            break;
          }
        }
      }
      steps = await simplerFields(steps, i, at, work);
    }
  }
  return steps;
}

/** Simpler forms of a message, the simplest first. */
const CHANGES: readonly ((message: FuzzMessage) => readonly FuzzMessage[])[] = [
  (message) => message.cuts.length === 0 ? [] : [{ ...message, cuts: [] }],
  (message) =>
    message.fds.length === 0
      ? []
      : [0, 1].filter((count) => count < message.fds.length).map((count) => ({
        ...message,
        fds: message.fds.slice(0, count),
      })),
  (message) => shortened(message),
];

/** The message with less data. */
function shortened(message: FuzzMessage): readonly FuzzMessage[] {
  const { bytes } = message;
  if (message.isLast || bytes.length <= HEADER_SIZE + 32) return [];
  return [HEADER_SIZE + 32, HEADER_SIZE + 64, bytes.length >> 1].filter((size) =>
    size < bytes.length
  ).map((size) => {
    const short = bytes.slice(0, size);
    new DataView(short.buffer).setUint32(4, size, true);
    return { ...message, bytes: short };
  });
}

async function simplerFields(
  steps: FuzzCase,
  connection: number,
  at: number,
  work: Work<FuzzCase>,
): Promise<FuzzCase> {
  const { bytes } = steps[connection]!.messages[at]!;
  if (bytes.length < HEADER_SIZE) return steps;
  const command = bytes[2]! | bytes[3]! << 8;
  const header = [{ name: "flags", at: 8, width: 4 }, { name: "error", at: 12, width: 4 }];
  const places = [...header, ...fieldsOf(command, bytes)];
  const end = Math.max(...places.map((place) => place.at + place.width));
  const rest = [{ name: "rest", at: end, width: bytes.length - end }];
  for (const place of [...places, ...rest]) {
    if (work.isOver) break;
    const message = steps[connection]!.messages[at]!;
    const part = message.bytes.subarray(place.at, place.at + place.width);
    if (part.every((byte) => byte === 0)) continue;
    const zeroed = message.bytes.slice();
    zeroed.fill(0, place.at, place.at + place.width);
    const next = withMessage(steps, connection, at, {
      ...message,
      bytes: zeroed,
      ...rulesOf(zeroed),
    });
    if (await work.fails(next)) steps = next;
  }
  return steps;
}

function itemsOf(steps: FuzzCase): readonly Item[] {
  return steps.flatMap(({ messages }, connection) =>
    messages.map((message) => ({ connection, message }))
  );
}

/** The case with these messages alone. The last connection stays, even if it has none. */
function caseOf(items: readonly Item[], steps: FuzzCase): FuzzCase {
  return steps.map((step, i): FuzzConnection => ({
    ...step,
    messages: items.filter(({ connection }) => connection === i).map(({ message }) => message),
  })).filter(({ messages }, i) => messages.length > 0 || i === steps.length - 1);
}

function withConnection(
  steps: FuzzCase,
  index: number,
  change: Partial<FuzzConnection>,
): FuzzCase {
  return steps.map((step, i) => i === index ? { ...step, ...change } : step);
}

function withMessage(
  steps: FuzzCase,
  index: number,
  at: number,
  message: FuzzMessage,
): FuzzCase {
  const messages = steps[index]!.messages.map((each, i) => i === at ? message : each);
  return withConnection(steps, index, { messages });
}
