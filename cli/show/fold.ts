/**
 * Loops of the same reads, folded into one line.
 *
 * @module
 */

import type { HeardMessage } from "../../lib/record/conversation.ts";
import type { Access } from "../../lib/record/decode.ts";
import { type EventText, timeText } from "./text.ts";
import { plural } from "../../lib/text/plural.ts";

/** Reads in one round of a loop, at most. */
const MAX_PERIOD = 4;
/** Rounds of a loop, at least: fewer are shown as they are. */
const MIN_ROUNDS = 3;

/** Bytes of a read that a loop may have, at most: those of a poll are few. */
const MAX_FOLDED = 256n;

/** A read and its reply: what a loop repeats. */
interface Unit {
  /** Equal for reads of the same place with the same result. */
  readonly key: string;
  readonly access: Access;
  readonly startNs: bigint;
  readonly endNs: bigint;
  readonly lines: readonly string[];
}

/** A loop that goes on. */
interface Loop {
  readonly pattern: readonly Unit[];
  /** Whole rounds. */
  rounds: number;
  /** The end of the last whole round. */
  endNs: bigint;
  /** Units behind it. */
  partial: Unit[];
}

/**
 * Takes lines in their order and writes them on, loops of the same reads as one line. It holds a
 * few lines back until it is clear that no loop begins with them.
 */
export class Folder {
  readonly #text: EventText;
  readonly #write: (line: string) => void;
  /** A read without its reply yet. */
  #request: { readonly heard: HeardMessage; readonly line: string } | undefined;
  /** Units that a loop may have begun with. */
  #held: Unit[] = [];
  #loop: Loop | undefined;

  /** @param write takes each line that is to be shown */
  constructor(text: EventText, write: (line: string) => void) {
    this.#text = text;
    this.#write = write;
  }

  /** Takes the next line, and the message that it is of, if it is of one. */
  add(line: string, heard: HeardMessage | undefined): void {
    if (heard !== undefined && isPlainRead(heard)) {
      if (heard.decoded!.type === "request") {
        this.#flushRequest();
        this.#request = { heard, line };
        return;
      }
      const request = this.#request;
      if (request !== undefined && heard.request?.index === request.heard.event.index) {
        this.#request = undefined;
        this.#unit(unitOf(request, { heard, line }));
        return;
      }
    }
    this.flush();
    this.#write(line);
  }

  /** Shows what was held back: nothing follows, or it will take a while. */
  flush(): void {
    this.#endLoop();
    this.#release(this.#held.length);
    this.#flushRequest();
  }

  /** As {@linkcode flush}, but lets a loop go on. */
  flushIdle(): void {
    if (this.#loop === undefined) this.flush();
  }

  #flushRequest(): void {
    if (this.#request === undefined) return;
    const { line } = this.#request;
    this.#request = undefined;
    this.#endLoop();
    this.#release(this.#held.length);
    this.#write(line);
  }

  #unit(unit: Unit): void {
    const loop = this.#loop;
    if (loop !== undefined) {
      if (loop.pattern[loop.partial.length]!.key === unit.key) {
        loop.partial.push(unit);
        if (loop.partial.length < loop.pattern.length) return;
        loop.rounds++;
        loop.endNs = unit.endNs;
        loop.partial = [];
        return;
      }
      this.#endLoop();
    }
    this.#held.push(unit);
    this.#findLoop();
    if (this.#held.length > MAX_PERIOD * MIN_ROUNDS) this.#release(1);
  }

  /** Sees whether the last units are the first rounds of a loop. */
  #findLoop(): void {
    const held = this.#held;
    for (let period = 1; period <= MAX_PERIOD; period++) {
      const start = held.length - period * MIN_ROUNDS;
      if (start < 0) return;
      const repeats = held.slice(start + period).every((unit, i) =>
        unit.key === held[start + i]!.key
      );
      if (!repeats) continue;
      this.#release(start);
      const pattern = this.#held.slice(0, period);
      const endNs = this.#held.at(-1)!.endNs;
      this.#held = [];
      this.#loop = { pattern, rounds: MIN_ROUNDS, endNs, partial: [] };
      return;
    }
  }

  #endLoop(): void {
    const loop = this.#loop;
    if (loop === undefined) return;
    this.#loop = undefined;
    for (const line of this.#loopLines(loop)) this.#write(line);
    this.#held.push(...loop.partial);
  }

  #loopLines({ pattern, rounds, endNs }: Loop): string[] {
    const [first] = pattern;
    const over = timeText(Number(endNs - first!.startNs));
    const time = this.#text.time(first!.startNs);
    const words = ({ access }: Unit) => {
      const value = this.#text.value(access);
      return [this.#text.place(access), value === "" ? "" : `, ${value}`] as const;
    };
    if (pattern.length === 1) {
      const [place, value] = words(first!);
      return [`${time}<> ${place} read ${plural(rounds, "time")} over ${over}${value}`];
    }
    return [
      `${time}<> ${plural(pattern.length, "read")}, ${plural(rounds, "time")} over ${over}:`,
      ...pattern.map((unit) => `${" ".repeat(18)}${words(unit).join(" read")}`),
    ];
  }

  #release(count: number): void {
    for (const { lines } of this.#held.splice(0, count)) lines.forEach(this.#write);
  }
}

/** True for a read, or its reply, that has nothing else to show. */
function isPlainRead({ event, decoded, accesses, replaces }: HeardMessage): boolean {
  return decoded?.payload !== undefined && ["REGION_READ", "DMA_READ"].includes(decoded.name) &&
    accesses.length === 1 && accesses[0]!.count <= MAX_FOLDED && event.origin === "peer" &&
    event.passedOn === undefined &&
    event.comment === undefined && event.descriptors.length === 0 && replaces === undefined;
}

function unitOf(
  request: { readonly heard: HeardMessage; readonly line: string },
  reply: { readonly heard: HeardMessage; readonly line: string },
): Unit {
  const access = reply.heard.accesses[0]!;
  const { region, offset, data } = access;
  const { connection } = reply.heard.event;
  return {
    key: `${connection} ${region} ${offset} ${data?.toHex()}`,
    access,
    startNs: request.heard.event.timeNs,
    endNs: reply.heard.event.timeNs,
    lines: [request.line, reply.line],
  };
}
