/**
 * Rights of access as hardware files have them, which both formats say in the same words.
 *
 * @module
 */

import { nearest } from "../../text/nearest.ts";
import type { RegisterAccess } from "../map.ts";
import type { Findings } from "./findings.ts";
import { wordsOf, type XmlElement } from "./xml.ts";

/** The words of a register or field; undefined where the file says nothing. */
export interface AccessWords {
  /** As `read-only`. */
  readonly access: string | undefined;
  /** The effect of a write, as `oneToClear`. */
  readonly write: string | undefined;
  /** The effect of a read, as `clear`. */
  readonly read: string | undefined;
}

/** The same as a map has it. */
export interface Access {
  readonly access: RegisterAccess;
  /** True if a read changes the device, though it clears nothing. */
  readonly readChanges: boolean;
  /** The word that a map can't say. */
  readonly unsaid: string | undefined;
}

/** The words for access, each with what a map says. */
const ACCESS: ReadonlyMap<string, RegisterAccess> = new Map([
  ["read-only", "ro"],
  ["write-only", "wo"],
  ["read-write", "rw"],
  ["writeOnce", "wo"],
  ["read-writeOnce", "rw"],
]);

/** The words for access. */
const ACCESS_WORDS: readonly string[] = [...ACCESS.keys()];

/** Effects of a write that leave the written value. */
const PLAIN_WRITES: ReadonlySet<string | undefined> = new Set([undefined, "modify"]);

/** Takes the words of a register or field together. Words that there are not count as none. */
export function accessOf({ access: word = "read-write", write, read }: AccessWords): Access {
  const access = ACCESS.get(word) ?? "rw";
  const isChanged = read !== undefined && ["clear", "set", "modify", "modifyExternal"]
    .includes(read);
  if (access === "ro") {
    const isCleared = read === "clear";
    const readChanges = isChanged && !isCleared;
    return { access: isCleared ? "rc" : "ro", readChanges, unsaid: undefined };
  }
  const readChanges = isChanged && access !== "wo";
  if (access === "wo" || PLAIN_WRITES.has(write)) return { access, readChanges, unsaid: undefined };
  if (write === "oneToClear") return { access: "w1c", readChanges, unsaid: undefined };
  if (write === "oneToSet") return { access: "w1s", readChanges, unsaid: undefined };
  return { access, readChanges, unsaid: write };
}

/** Reads the word of an `<access>`. One that is none is a mistake, but for those to be noted. */
export function readAccess(
  element: XmlElement | undefined,
  findings: Findings,
  unsaid?: string,
): string | undefined {
  const word = wordsOf(element);
  if (element === undefined || word === undefined || ACCESS.has(word)) return word;
  if (word === unsaid) {
    findings.note(element.at, `A map can't say "${word}"; it is read and written`);
    return word;
  }
  const meant = nearest(word, ACCESS_WORDS);
  findings.mistake(
    element.at,
    `"${word}" is no access`,
    meant === undefined ? `write ${ACCESS_WORDS.join(", ")}` : `did you mean "${meant}"?`,
  );
  return word;
}

/** Notes an effect of writes that a map can't say. */
export function noteUnsaid(at: number, name: string, word: string, findings: Findings): void {
  findings.note(at, `The map can't say "${word}" of ${name}: it is read and written`);
}
