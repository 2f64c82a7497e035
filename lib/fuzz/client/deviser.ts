/**
 * Decides which replies are changed, and how: the same ones after the same seed and requests.
 *
 * @module
 */

import { Random } from "../../base/random.ts";
import { type Facts, NO_FACTS } from "../../conformance/facts.ts";
import type { ClientMap } from "../../conformance/client_state.ts";
import { HeaderLayout } from "../../wire/header.ts";
import { alter, type AlterationWorld, type Altered } from "../alter.ts";
import type { DescriptorName } from "../descriptors.ts";
import { type Label, labelOf } from "../label.ts";
import {
  type Change,
  type ChangeKind,
  changeOf,
  isIdle,
  type Occasion,
  occasionKey,
  type Timing,
} from "./change.ts";

import { ownMessage } from "./own_commands.ts";

/** A request and its right reply. */
export interface Turn extends Occasion {
  /** The bytes of the right reply. */
  readonly right: Uint8Array;
  /** Descriptors that go with the right reply. */
  readonly fds: number;
  /** Memory that the client has given. */
  readonly maps: readonly Pick<ClientMap, "address" | "size">[];
}

/** The decisions for one run of the client. */
export interface Plan {
  /** The changes of a turn; at most one of them is of its reply. */
  changesAt(turn: Turn): readonly Change[];
}

/** A device that changes nothing. */
export const PLAIN_PLAN: Plan = { changesAt: () => [] };

/** A plan of changes that are known. */
export function fixedPlan(changes: readonly Change[]): Plan {
  const byOccasion = Map.groupBy(changes, occasionKey);
  return { changesAt: (turn) => byOccasion.get(occasionKey(turn)) ?? [] };
}

/** Numbers of requests between two replies that are changed. */
const RATES = [2, 8, 32];
/** Ways to send a reply that is right. */
const TIMED: readonly Exclude<Timing, "once">[] = ["late", "twice", "never", "then end"];
/** Tries to find an alteration that changes something. */
const TRIES = 8;
const FACTS: Facts = NO_FACTS;

/** Settings of a {@linkcode Deviser}. */
export interface DeviserOptions {
  readonly seed: number;
  /** Requests of the client to a plain device, by command. */
  readonly usual: ReadonlyMap<number, number>;
  /** Reports alterations that are left out. */
  readonly isMuted: (label: Label) => boolean;
}

/** Makes plans. */
export class Deviser {
  readonly #options: DeviserOptions;
  #count = 0;

  constructor(options: DeviserOptions) {
    this.#options = options;
  }

  /** Makes the plan of the next run. */
  next(): Plan {
    const { seed, usual, isMuted } = this.#options;
    const own = seed + Math.imul(this.#count++, 0x9e37_79b1);
    const random = new Random(own);
    // A client that gives up at the first odd reply is brought far by one that is odd.
    const command = random.pick([...usual.keys()].sort((a, b) => a - b));
    const target = { command, nth: 1 + random.below(usual.get(command)!) };
    const rate = random.oneIn(3) ? random.pick(RATES) : Infinity;
    return {
      changesAt: (turn) => {
        const mixed = Math.imul(turn.command + 1, 0x85eb_ca6b) ^ Math.imul(turn.nth, 0xc2b2_ae35);
        const choice = new Random(own ^ mixed);
        const isTarget = turn.command === target.command && turn.nth === target.nth;
        if (!isTarget && (rate === Infinity || !choice.oneIn(rate))) return [];
        return changes(turn, choice, isMuted);
      },
    };
  }
}

function changes(turn: Turn, random: Random, isMuted: DeviserOptions["isMuted"]): Change[] {
  if (random.oneIn(6)) {
    const kind = random.oneIn(2) ? "before" : "after";
    const count = random.oneIn(4) ? 1 + random.below(16) : 1;
    return Array.from({ length: count }, () => ownChange(turn, kind, random, isMuted))
      .filter((change) => change !== undefined);
  }
  for (let i = 0; i < TRIES; i++) {
    const change = replyChange(turn, random, isMuted);
    if (change !== undefined) return [change];
  }
  return [];
}

function replyChange(
  turn: Turn,
  random: Random,
  isMuted: DeviserOptions["isMuted"],
): Change | undefined {
  const own: readonly DescriptorName[] = Array.from({ length: turn.fds }, () => "memory");
  const message: Altered = { bytes: turn.right.slice(), fds: own, cuts: [] };
  const timing = random.oneIn(10) ? random.pick(TIMED) : "once";
  let label = labelOf(turn.command, "reply", timing);
  if (timing !== "once" && isMuted(label)) return undefined;
  const count = timing !== "once" ? 0 : random.oneIn(6) ? 2 : 1;
  for (let i = 0; i < count && message.bytes.length >= 16; i++) {
    label = alter(message, worldOf(turn, "reply", random), isMuted) ?? label;
  }
  const change = toChange(turn, "reply", message, timing, label, own);
  return isIdle(change, turn.right) ? undefined : change;
}

function ownChange(
  turn: Turn,
  kind: ChangeKind,
  random: Random,
  isMuted: DeviserOptions["isMuted"],
): Change | undefined {
  const { messageId } = HeaderLayout.decode(turn.right);
  const { command, way, bytes } = ownMessage(turn.maps, messageId, random);
  let label = labelOf(command, "own", way);
  if (isMuted(label)) return undefined;
  const message: Altered = { bytes, fds: [], cuts: [] };
  if (random.oneIn(3)) {
    label = alter(message, worldOf(turn, "request", random), isMuted) ?? label;
  }
  return toChange(turn, kind, message, random.oneIn(16) ? "twice" : "once", label);
}

function toChange(
  turn: Turn,
  kind: ChangeKind,
  message: Altered,
  timing: Timing,
  label: Label,
  own?: readonly DescriptorName[],
): Change {
  const fds = message.fds === own ? undefined : message.fds;
  const before = kind === "reply" ? turn.right : new Uint8Array();
  return changeOf(turn, kind, before, { ...message, fds }, timing, label);
}

function worldOf(turn: Turn, side: "request" | "reply", random: Random): AlterationWorld {
  const { messageId } = HeaderLayout.decode(turn.right);
  return { random, facts: FACTS, side, lastId: () => messageId };
}
