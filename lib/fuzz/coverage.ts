/**
 * Coverage of a fuzzer: which messages, fields and ways were sent, and how they were answered.
 *
 * @module
 */

import { type Messages, messages } from "../wire/messages.ts";
import { allFieldsOf, type Side } from "./fields.ts";
import type { Outcome } from "./judge.ts";
import type { Label } from "./label.ts";

/** Numbers of the replies to messages. */
export interface Answered {
  sent: number;
  success: number;
  error: number;
  /** Without a reply: posted, or never answered. */
  none: number;
}

/** Coverage of one message. */
export interface MessageCoverage extends Answered {
  /** The name of its command. */
  readonly name: string;
  /** Fields of its struct that were altered, of how many. */
  readonly fields: number;
  readonly allFields: number;
  /** Ways in which it was altered, counted once for each field. */
  readonly ways: number;
  /** The errnos that came. */
  readonly errnos: readonly number[];
}

/** Errnos of a message that are told apart. */
const MAX_ERRNOS = 256;

interface Row extends Answered {
  readonly labels: Set<number>;
  readonly fields: Set<string>;
  readonly errnos: Set<number>;
}

/** Counts what was sent, and how it was answered. */
export class Coverage {
  readonly #side: Side;
  readonly #rows = new Map<string, Row>();
  /** Pairs of a label and an outcome that were seen. */
  readonly #seen = new Set<number>();

  /** @param side the side of the messages that are altered */
  constructor(side: Side = "request") {
    this.#side = side;
  }

  /**
   * Counts an answer.
   *
   * @returns true if no message with this label was answered in this way before
   */
  add({ message, field, index }: Label, outcome: Outcome): boolean {
    let row = this.#rows.get(message);
    if (row === undefined) this.#rows.set(message, row = emptyRow());
    row.sent++;
    if (outcome === "success") row.success++;
    else if (outcome === "none") row.none++;
    else {
      row.error++;
      if (row.errnos.size < MAX_ERRNOS) row.errnos.add(outcome);
    }
    const code = outcome === "success" ? 1023 : outcome === "none" ? 1022 : outcome & 511;
    const key = index * 1024 + code;
    if (this.#seen.has(key)) return false;
    this.#seen.add(key);
    row.labels.add(index);
    if (field !== "") row.fields.add(field);
    return true;
  }

  /** The messages in the order of their numbers; those of the server, and unknown ones, last. */
  rows(): readonly MessageCoverage[] {
    const names = [...Object.keys(messages), "unknown command"];
    return names.map((name) => {
      const { labels, fields, errnos, ...counts } = this.#rows.get(name) ?? emptyRow();
      const known = messages[name as keyof Messages];
      const all = known === undefined ? [] : allFieldsOf(known.command, this.#side);
      return {
        name,
        ...counts,
        fields: all.filter((field) => fields.has(field)).length,
        allFields: all.length,
        ways: labels.size,
        errnos: [...errnos].sort((a, b) => a - b),
      };
    });
  }

  /** The number of different answers that were seen. */
  get behaviours(): number {
    return this.#seen.size;
  }
}

function emptyRow(): Row {
  return {
    sent: 0,
    success: 0,
    error: 0,
    none: 0,
    labels: new Set(),
    fields: new Set(),
    errnos: new Set(),
  };
}
