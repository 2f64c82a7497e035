/**
 * Checks of the conformance suite: sentences of the specification, each with a small function that
 * tries whether a peer keeps it.
 *
 * @module
 */

import type { Trial } from "./trial.ts";

/** The weight of a sentence, as the specification's words have it. */
export type Level = "MUST" | "SHOULD" | "MAY";

/** A sentence. */
export interface Rule {
  /** Its name, which never changes: "server/region_read/3". */
  readonly id: string;
  /** The weight of the sentence. */
  readonly level: Level;
  /** The section of the specification. */
  readonly section: string;
  /** The sentence, in our own words. */
  readonly rule: string;
  /** True if the peer may close the connection for what the check sends. */
  readonly mayEnd?: boolean;
  /** True if a careless peer may end or hang; left out unless the server is a spare one. */
  readonly isDestructive?: boolean;
  /** True if the device has to copy memory, in a way that a person has to say. */
  readonly needsCopy?: boolean;
}

/** Rules about one subject. */
export interface RuleGroup<Each extends Rule = Rule> {
  /** The middle part of the ids. */
  readonly name: string;
  /** The subject, as a heading. */
  readonly title: string;
  /** In the order in which they are done. */
  readonly checks: readonly Each[];
}

/** A sentence, and a function that tries it with a server. */
export interface Check extends Rule {
  /** Tries it; throws {@linkcode Deviation} or {@linkcode NotApplicable}. */
  readonly test: (trial: Trial) => Promise<void>;
  /** True if the connection is new: the check sends VERSION itself. */
  readonly isRaw?: boolean;
}

/** Checks of a server about one subject. */
export type CheckGroup = RuleGroup<Check>;

/** Properties of a check that most do not have. */
export type CheckTraits = Pick<Check, "isRaw" | "mayEnd" | "isDestructive" | "needsCopy">;

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
