/**
 * Mistakes that a schema finds in a file.
 *
 * The messages of a schema say what is expected, as "a whole number": here they become sentences
 * about what was found.
 *
 * @module
 */

import * as v from "valibot";
import type { Path, Report, YamlDocument } from "./document.ts";
import { nearest } from "../text/nearest.ts";

/** Any schema that is not asynchronous. */
export type Schema = v.GenericSchema;

/**
 * Gives every mistake in `document` to `report`: what is missing, what is of another kind, what no
 * key is.
 */
export function validate(schema: Schema, document: YamlDocument, report: Report): void {
  // First: a misspelt key says more than the one that is missing for it, if both are told at one
  // place.
  reportUnknownKeys(schema, document, report);
  for (const issue of v.safeParse(schema, document.value).issues ?? []) {
    if (issue.expected === "never") continue; // schemas report one unknown key only
    const path = (issue.path ?? []).map(({ key }) => key as string | number);
    if (issue.path?.at(-1)?.origin === "key") {
      report(document.at(path.slice(0, -1)), `"${path.at(-1)}" is missing here`);
    } else {
      const [message, hint] = complaint(issue, path.at(-1));
      report(document.at(path), message, hint);
    }
  }
}

function complaint(
  { input, message, expected }: v.BaseIssue<unknown>,
  key: string | number | undefined,
): [message: string, hint?: string] {
  const subject = typeof key === "string" ? `"${key}"` : key === undefined ? "The file" : "It";
  const words = [...(expected ?? "").matchAll(/"([^"]*)"/g)].map(([, word]) => word!);
  const meant = typeof input === "string" ? nearest(input, words) : undefined;
  const found = `${subject} is ${shown(input)}, not ${message}`;
  return meant === undefined ? [found] : [found, `did you mean "${meant}"?`];
}

/** Describes a value in few words. */
function shown(value: unknown): string {
  if (value === null || value === undefined) return "empty";
  if (Array.isArray(value)) return "a list";
  if (typeof value === "object") return "a mapping";
  const text = String(value);
  const short = text.length > 40 ? `${text.slice(0, 40)}…` : text;
  return typeof value === "string" ? JSON.stringify(short) : short;
}

/** Reports the keys of all mappings that their schemas do not have. */
function reportUnknownKeys(root: Schema, document: YamlDocument, report: Report): void {
  const visit = (schema: unknown, value: unknown, path: Path): void => {
    if (typeof value !== "object" || value === null || !isSchema(schema)) return;
    if (schema.wrapped !== undefined) return visit(schema.wrapped, value, path);
    if (Array.isArray(value)) {
      return value.forEach((each, i) => visit(schema.item, each, [...path, i]));
    }
    const { entries } = schema;
    if (entries === undefined) return;
    for (const [key, part] of Object.entries(value)) {
      if (Object.hasOwn(entries, key)) visit(entries[key], part, [...path, key]);
      else {
        const hint = hintForKey(key, Object.keys(entries));
        report(document.keyAt([...path, key]), `"${key}" is no key here`, hint);
      }
    }
  };
  visit(root, document.value, []);
}

function hintForKey(key: string, keys: readonly string[]): string {
  const meant = nearest(key, keys);
  if (meant !== undefined) return `did you mean "${meant}"?`;
  return key.includes(" ")
    ? "text with a comma takes quotes between braces"
    : `there are ${keys.join(", ")}`;
}

/** The parts of schemas of optional values, lists and mappings. */
interface Parts {
  wrapped?: unknown;
  item?: unknown;
  entries?: Record<string, unknown>;
}

function isSchema(schema: unknown): schema is Parts {
  return typeof schema === "object" && schema !== null;
}
