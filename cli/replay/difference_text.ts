/**
 * Differences of a replay as lines for a person.
 *
 * @module
 */

import { accessesOf, decodeMessage } from "../../lib/record/decode.ts";
import { sameBytes } from "../../lib/base/bytes.ts";
import type { RecordedEvent } from "../../lib/record/event.ts";
import type { Difference } from "../../lib/replay/difference.ts";
import type { ScriptStep } from "../../lib/replay/script.ts";
import { HEADER_SIZE } from "../../lib/wire/header.ts";
import { printable } from "../shared/printable.ts";
import { withoutColours } from "../shared/style.ts";
import type { EventText } from "../show/text.ts";

/** Steps before a difference that are shown. */
const MAX_BEFORE = 2;
/** Bytes that are shown of a difference that is further behind. */
const CONTEXT_BYTES = 8;

/** A line of bytes of a message, as describeMessage() ends it. */
const BYTES = /bytes:((?: [0-9a-f]{2})+)( …)?/;

/** Makes lines of differences; a step is shown ahead of the first of them alone. */
export class DifferenceText {
  readonly #text: EventText;
  readonly #columns: number;
  #lastShown = -1;

  /**
   * @param text makes lines of events
   * @param columns columns that a line may have, if fewer bytes make it shorter
   */
  constructor(text: EventText, columns = 80) {
    this.#text = text;
    this.#columns = columns;
  }

  /** The lines of a difference: a title, steps before, the expected and the found message. */
  lines(difference: Difference): [title: string, ...lines: string[]] {
    const { step, before, expected, found, kind, text } = difference;
    const { event } = step;
    const shown = before.filter(({ event }) => event.index > this.#lastShown).slice(-MAX_BEFORE);
    this.#lastShown = event.index;
    const isOfStep = event.kind === "message" && expected === event.bytes;
    const wanted = isOfStep || kind === "no interrupt"
      ? this.#event(step)
      : expected && `<- ${this.#text.found(expected)}`;
    // The id of a peer's own message is none of the recording: what follows is below each other.
    const [head = "<- "] = wanted === undefined ? [] : /^\S+ (#\d+ )?/.exec(wanted) ?? [];
    const own = found &&
      `${head.replace(/#\d+/, (id) => " ".repeat(id.length))}${this.#text.found(found)}`;
    const [a, b] = [wanted, own].map((line) => line && this.#fit(`            ${line}`).slice(12));
    return [
      `event ${event.index} at ${this.#time(event)}: ${printable(text)}`,
      ...shown.map((each) =>
        this.#fit(`  before    ${this.#time(each.event)} ${this.#event(each)}`)
      ),
      ...(a === undefined ? [] : [`  expected  ${a}`]),
      ...(b === undefined ? [] : [`  found     ${b}`]),
      ...(a === undefined || b === undefined ? [] : bytesThatDiffer(expected!, found!, a)),
    ];
  }

  #time({ timeNs }: RecordedEvent): string {
    return this.#text.time(timeNs).trim();
  }

  /** An event as its receiver sees it; no latency, no descriptors. */
  #event({ event, heard }: ScriptStep): string {
    const line = this.#text.brief(event, heard);
    if (event.kind !== "message") return line;
    const decoded = heard?.decoded;
    const id = decoded === undefined ? "" : `#${decoded.header.messageId} `;
    return `${line.split(" ")[0]} ${id}${this.#text.found(event.bytes)}`;
  }

  /** Leaves out bytes of a line that has too many, but for the first. */
  #fit(line: string): string {
    return line.replace(BYTES, (all, bytes: string, more: string | undefined, at: number) => {
      const column = withoutColours(line.slice(0, at)).length;
      const room = Math.floor((this.#columns - column - "bytes:".length - 2) / 3);
      const most = Math.max(1, room);
      const count = bytes.length / 3;
      if (count <= 8 || count <= (more === undefined ? room + 1 : most)) return all;
      return `bytes:${bytes.slice(0, 3 * most)} …`;
    });
  }
}

/** The first bytes that differ, if they are behind those that a line shows. */
function bytesThatDiffer(expected: Uint8Array, found: Uint8Array, line: string): string[] {
  const [a, b] = [expected, found].map(dataOf);
  if (a === undefined || b === undefined || sameBytes(a, b)) return [];
  const at = a.findIndex((byte, i) => byte !== b[i]);
  const shown = (BYTES.exec(line)?.[1]?.length ?? 0) / 3;
  if (at < shown) return [];
  const [own, its] = [a, b].map((data) =>
    [...data.subarray(at, at + CONTEXT_BYTES)].map((byte) => byte.toString(16).padStart(2, "0"))
      .join(" ")
  );
  return [`  at byte   ${at}: expected ${own}`, `            ${at}: found    ${its}`];
}

function dataOf(bytes: Uint8Array): Uint8Array | undefined {
  if (bytes.length < HEADER_SIZE) return undefined;
  return accessesOf(decodeMessage(bytes)?.payload)[0]?.data;
}
