/**
 * The choice of checks, and the file of known deviations.
 *
 * @module
 */

import type { Rule } from "../../lib/conformance/check.ts";
import type { CheckResult } from "../../lib/conformance/run.ts";
import { fileError } from "../../lib/text/file_error.ts";
import { FileProblems } from "../../lib/yaml/problem.ts";
import { readText } from "../../lib/yaml/text.ts";
import type { Destination } from "../shared/destination.ts";
import { printable } from "../shared/printable.ts";

/** Fields by which checks are chosen. */
export interface Choice {
  readonly only?: readonly string[] | undefined;
  readonly skip?: readonly string[] | undefined;
  readonly level?: string | undefined;
}

/**
 * Reports whether an id fits a pattern. A pattern is the id, its beginning up to a slash, the name
 * of its group, or text in which `*` stands for anything.
 */
export function fits(pattern: string, { id }: Rule): boolean {
  const clean = pattern.replace(/\/$/, "");
  const source = clean.split("*").map((part) => part.replace(/[.+?^${}()|[\]\\]/g, "\\$&"))
    .join(".*");
  return new RegExp(`^((server|client)/)?${source}(/.*)?$`).test(id);
}

/** Makes a function that chooses. */
export function chooser({ only, skip, level }: Choice): (check: Rule) => boolean {
  return (check) =>
    (only === undefined || only.some((pattern) => fits(pattern, check))) &&
    !(skip ?? []).some((pattern) => fits(pattern, check)) &&
    (level === undefined || check.level === level);
}

/** Finds the patterns that fit no check: a slip of the hand. */
export function fitNothing(checks: readonly Rule[], { only, skip }: Choice): string[] {
  return [...only ?? [], ...skip ?? []].filter((pattern) =>
    !checks.some((check) => fits(pattern, check))
  );
}

/**
 * Reads a file of known deviations: an id a line, then what the author likes. `#` begins a comment.
 *
 * @throws {FileProblems} if it is no text, or endless
 * @throws {Error} if it can't be read, or has an id that no check has
 */
export async function readKnown(
  path: string,
  checks: readonly Rule[],
): Promise<ReadonlySet<string>> {
  let text: string;
  try {
    text = await readText(path, path);
  } catch (cause) {
    if (cause instanceof FileProblems) throw cause;
    throw fileError(`read the known deviations ${path}`, cause);
  }
  const ids = new Set(checks.map(({ id }) => id));
  const known = new Set<string>();
  for (const [i, line] of text.split("\n").entries()) {
    const [id = ""] = line.replace(/#.*/, "").trim().split(/\s+/);
    if (id === "") continue;
    if (!ids.has(id)) {
      throw new Error(
        `Cannot use ${path}:${i + 1}: there is no check ${id}; --list shows all`,
      );
    }
    known.add(id);
  }
  return known;
}

/**
 * Writes a file that {@linkcode readKnown} reads: each check that failed, and what came.
 *
 * @throws {Error} if it can't be written
 */
export function writeKnown(destination: Destination, results: readonly CheckResult[]): void {
  const lines = results.filter(({ verdict }) => verdict === "failed")
    .map(({ check, came = "" }) => `${check.id}  # ${printable(came)}\n`);
  const text = `# Known deviations, for vfu check --expect\n${lines.join("")}`;
  destination.write(new TextEncoder().encode(text));
  destination.finish();
}
