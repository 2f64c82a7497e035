/**
 * Checks of the conformance suite: sentences of the specification, each with a small function that
 * tries whether a peer keeps it.
 *
 * @module
 */

import type { Trial } from "./trial.ts";

/** The weight of a sentence, as the specification's words have it. */
export type Level = "MUST" | "SHOULD" | "MAY";

/** A sentence, and a function that tries it. */
export interface Check {
  /** Its name, which never changes: "server/region_read/3". */
  readonly id: string;
  /** The weight of the sentence. */
  readonly level: Level;
  /** The section of the specification. */
  readonly section: string;
  /** The sentence, in our own words. */
  readonly rule: string;
  /** Tries it; throws {@linkcode Deviation} or {@linkcode NotApplicable}. */
  readonly test: (trial: Trial) => Promise<void>;
  /** True if the connection is new: the check sends VERSION itself. */
  readonly isRaw?: boolean;
  /** True if the server may close the connection for what the check sends. */
  readonly mayEnd?: boolean;
  /** True if a careless server may end or hang; left out unless the server is a spare one. */
  readonly isDestructive?: boolean;
}

/** Checks about one subject. */
export interface CheckGroup {
  /** The middle part of the ids. */
  readonly name: string;
  /** The subject, as a heading. */
  readonly title: string;
  /** In the order in which they are done. */
  readonly checks: readonly Check[];
}

/** Properties of a check that most do not have. */
export type CheckTraits = Pick<Check, "isRaw" | "mayEnd" | "isDestructive">;

/** The fields of a check, in the order in which they are written down. */
export type CheckRow = readonly [
  number: number,
  level: Level,
  section: string,
  rule: string,
  test: (trial: Trial) => Promise<void>,
  traits?: CheckTraits,
];

/**
 * Makes a group of rows. A number is a part of an id and stays with its check; one of a check that
 * was removed is not used again.
 */
export function group(name: string, title: string, rows: readonly CheckRow[]): CheckGroup {
  const checks = rows.map(([number, level, section, rule, test, traits]): Check => ({
    id: `server/${name}/${number}`,
    level,
    section,
    rule,
    test,
    ...traits,
  }));
  return { name, title, checks };
}
