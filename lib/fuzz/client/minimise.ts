/**
 * Finds the fewest changes of a device that still bring a client down, and makes them plainer.
 *
 * @module
 */

import type { MinimiseLimits } from "../minimise.ts";
import { Work } from "../minimise.ts";
import type { Change, Patch } from "./change.ts";

/** Bytes of a patch above which its halves are tried. */
const MIN_SPLIT = 8;

/** The result. */
export interface MinimisedChanges {
  readonly changes: readonly Change[];
  /** True if they failed whenever they were made again. */
  readonly isRepeatable: boolean;
  readonly plays: number;
}

type Changes = readonly Change[];

/**
 * Finds fewer changes.
 *
 * @param fails runs the client with these changes; throws if the work is to end
 * @returns the changes as they are if they do not fail again
 */
export async function minimiseChanges(
  all: Changes,
  fails: (changes: Changes) => Promise<boolean>,
  limits: MinimiseLimits,
): Promise<MinimisedChanges> {
  const work = new Work<Changes>(fails, limits);
  const last = all.slice(-1);
  let changes: Changes;
  // Mostly the last change is the culprit, and needs nothing before it.
  if (last.length < all.length && await work.fails(last)) changes = last;
  else if (await work.fails(all)) changes = await fewer(all, work);
  else return { changes: all, isRepeatable: false, plays: work.plays };
  changes = await plainer(changes, work);
  return { changes, isRepeatable: true, plays: work.plays };
}

/** Leaves out changes, many at a time first. */
async function fewer(changes: Changes, work: Work<Changes>): Promise<Changes> {
  for (let size = Math.max(1, changes.length >> 1); size >= 1 && !work.isOver;) {
    let hasRemoved = false;
    for (let at = 0; at < changes.length && !work.isOver;) {
      const rest = [...changes.slice(0, at), ...changes.slice(at + size)];
      if (rest.length > 0 && await work.fails(rest)) {
        changes = rest;
        hasRemoved = true;
      } else at += size;
    }
    if (!hasRemoved) size >>= 1;
  }
  return changes;
}

/** Plainer forms of a change, the plainest first. */
const FORMS: readonly ((change: Change) => readonly Change[])[] = [
  (change) => change.timing === "once" ? [] : [{ ...change, timing: "once" }],
  (change) => change.cuts.length === 0 ? [] : [{ ...change, cuts: [] }],
  (change) =>
    change.fds === undefined
      ? []
      : [undefined, [], change.fds.slice(0, 1)].filter((fds) => fds?.length !== change.fds!.length)
        .map((fds) => ({ ...change, fds })),
];

async function plainer(changes: Changes, work: Work<Changes>): Promise<Changes> {
  for (let i = 0; i < changes.length; i++) {
    const tries = async (change: Change) => {
      const next = changes.map((each, at) => at === i ? change : each);
      if (!await work.fails(next)) return false;
      changes = next;
      return true;
    };
    for (const form of FORMS) {
      for (const change of form(changes[i]!)) if (await tries(change)) break;
    }
    for (const patch of changes[i]!.patches) {
      for (const patches of withLess(changes[i]!.patches, patch)) {
        if (await tries({ ...changes[i]!, patches })) break;
      }
    }
  }
  return changes;
}

/** The patches without one of them, or with half of it. */
function withLess(patches: readonly Patch[], patch: Patch): readonly (readonly Patch[])[] {
  const { at, bytes } = patch;
  const middle = bytes.length >> 1;
  const halves = bytes.length < MIN_SPLIT ? [] : [
    { at, bytes: bytes.slice(0, middle) },
    { at: at + middle, bytes: bytes.slice(middle) },
  ];
  const replaced = (by: readonly Patch[]) =>
    patches.flatMap((each) => each === patch ? by : [each]);
  return [replaced([]), ...halves.map((half) => replaced([half]))];
}
