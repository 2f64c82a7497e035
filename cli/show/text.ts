/**
 * Events of a recording as lines for a person.
 *
 * @module
 */

import type { HeardMessage } from "../../lib/record/conversation.ts";
import { type Access, accessesOf, decodeMessage } from "../../lib/record/decode.ts";
import type {
  RecordedDescriptor,
  RecordedEvent,
  RecordedGarbage,
  RecordedMessage,
} from "../../lib/record/event.ts";
import { littleEndian } from "../../lib/base/little_endian.ts";
import { locatedWords, type RegisterLocator } from "../../lib/registers/locate.ts";
import { hex } from "../../lib/text/hex.ts";
import { describeMessage } from "../../lib/wire/describe.ts";
import { irqName, vectorsName } from "../../lib/wire/irq.ts";
import { placeText } from "../../lib/wire/region.ts";
import { printable } from "../shared/printable.ts";
import { humanSize } from "../shared/size.ts";
import type { Style } from "../shared/style.ts";
import { plural } from "../../lib/text/plural.ts";

/** Names of the accesses of one message that are shown; a REGION_WRITE_MULTI may have many. */
const MAX_NAMED = 4;

/** Characters of a text that are shown; only a file that lies has more. `--json` has all. */
const MAX_TEXT = 2000;

/** Makes lines of events. */
export class EventText {
  readonly #style: Style;
  readonly #locator: RegisterLocator | undefined;
  #startNs = 0n;

  /** @param locator names registers */
  constructor(style: Style, locator: RegisterLocator | undefined) {
    this.#style = style;
    this.#locator = locator;
  }

  /** Times count from here. */
  start(timeNs: bigint): void {
    this.#startNs = timeNs;
  }

  /** The line of an event, without its end; a second one says what the receiver got instead. */
  line(event: RecordedEvent, heard: HeardMessage | undefined): string {
    const comment = event.comment === undefined ? "" : `  # ${shown(event.comment)}`;
    return this.time(event.timeNs) + this.#what(event, heard) + this.#style.dim(comment);
  }

  /** The first line of an event, without its time. */
  brief(event: RecordedEvent, heard: HeardMessage | undefined): string {
    return this.#what(event, heard).split("\n")[0]!;
  }

  /** A message that no recording has, with the names of its registers. */
  found(bytes: Uint8Array): string {
    const decoded = decodeMessage(bytes);
    const names = this.#names(accessesOf(decoded?.payload));
    // Its id is no peer's.
    return describeMessage(bytes).replace(/^#\d+ /, "") + names;
  }

  /** The time at the start of a line. */
  time(timeNs: bigint): string {
    const ms = Number(timeNs - this.#startNs) / 1e6;
    const text = ms.toFixed(3);
    return `${" ".repeat(Math.max(0, 11 - text.length))}${this.#style.dim(`${text} ms`)} `;
  }

  /** An access in short, as "CSTS" or "bar0+0x1c". */
  place({ region, offset, count }: Access): string {
    if (region === undefined) return `iova ${hex(offset)}`;
    return this.#locator?.at(region, offset, count)?.name ?? placeText(region, offset);
  }

  /** The meaning of the data of an access, as "RDY=1 CFS=0", a number, or bytes. */
  value({ region, offset, count, data }: Access): string {
    if (data === undefined) return "";
    const located = region === undefined ? undefined : this.#locator?.at(region, offset, count);
    const words = located === undefined ? [] : locatedWords(located, data);
    if (words.length > 0) return words.join(" ");
    if (data.length > 0 && data.length <= 8) return hex(littleEndian(data), data.length * 2);
    return humanSize(BigInt(data.length));
  }

  #what(event: RecordedEvent, heard: HeardMessage | undefined): string {
    const style = this.#style;
    switch (event.kind) {
      case "message":
        return this.#message(event, heard);
      case "garbage":
        return `${this.#arrow(event)} ${style.red("garbage:")} ${this.#bytes(event)}`;
      case "interrupt": {
        const arrow = event.action === "trigger" ? style.green("<~") : style.cyan("~>");
        const times = event.count === 1n ? "" : `, ${plural(event.count, "time")}`;
        return `${arrow} ${vectorsName(irqName(event.irq), event.vector)} ${event.action}${times}`;
      }
      case "ioeventfd": {
        const times = event.count === 1n ? "" : `, ${plural(event.count, "time")}`;
        const size = event.size === 0 ? "" : ` ${plural(event.size, "byte")}`;
        const access = { region: event.region, offset: event.offset, count: BigInt(event.size) };
        const place = this.place({ space: "region", action: "write", ...access });
        return `${style.cyan("~>")} ${place} ioeventfd${size}${times}`;
      }
      case "open": {
        const who = [event.client ?? "a client", event.server ?? "a server"].map(shown);
        return `-- client ${event.connection} ${event.socket}: ${who.join(" to ")}`;
      }
      case "end":
        return `-- client ${event.connection} ${event.socket}: the ${event.side} ${
          ENDS[event.reason]
        }${hasCause(event) ? `: ${shown(event.text)}` : ""}`;
      case "note":
        return `-- ${shown(event.text)}`;
    }
  }

  #message(event: RecordedMessage, heard: HeardMessage | undefined): string {
    const style = this.#style;
    const origin = event.origin === "peer" ? "" : style.yellow(` (${event.origin})`);
    const latency = heard?.latencyNs === undefined
      ? ""
      : style.dim(`  ${timeText(Number(heard.latencyNs))}`);
    const lost = heard?.replaces === undefined
      ? ""
      : style.yellow(`  (#${heard.replaces.decoded.header.messageId} was never answered)`);
    return `${this.#arrow(event)} ${this.#bytes(event)}${
      this.#names(heard?.accesses ?? [])
    }${origin}${latency}` +
      lost + this.#received(event);
  }

  #arrow({ direction, socket }: RecordedMessage | RecordedGarbage): string {
    const isOut = direction === "to-server";
    const arrow = socket === "twin" ? (isOut ? "=>" : "<=") : (isOut ? "->" : "<-");
    return isOut ? this.#style.cyan(arrow) : this.#style.green(arrow);
  }

  #bytes({ bytes, descriptors }: RecordedMessage | RecordedGarbage): string {
    const fds = descriptors.map(descriptorText);
    const list = fds.length === 0 ? "" : ` (${fds.join(", ")})`;
    return describeMessage(bytes, { fds: descriptors.length }) + list;
  }

  #names(accesses: readonly Access[]): string {
    if (this.#locator === undefined) return "";
    const named = accesses.flatMap((access) => {
      if (access.region === undefined) return [];
      const located = this.#locator!.at(access.region, access.offset, access.count);
      if (located === undefined) return [];
      const words = access.data === undefined ? [] : locatedWords(located, access.data);
      const { register: { fields, width }, isWhole } = located;
      if (fields.length === 0 && isWhole && access.data?.length === width) {
        return [`${located.name}=${hex(littleEndian(access.data))}`];
      }
      return [[located.name, ...words].join(" ")];
    });
    if (named.length === 0) return "";
    const more = named.length > MAX_NAMED ? [`${named.length - MAX_NAMED} more`] : [];
    return `  ${this.#style.bold([...named.slice(0, MAX_NAMED), ...more].join("; "))}`;
  }

  #received({ passedOn }: RecordedMessage): string {
    if (passedOn === undefined) return "";
    if (passedOn === null) return this.#style.yellow("  (not passed on)");
    const got = `\n${" ".repeat(15)}passed on as ${describeMessage(passedOn)}`;
    return this.#style.yellow(got);
  }
}

function shown(text: string): string {
  return text.length <= MAX_TEXT ? printable(text) : `${printable(text.slice(0, MAX_TEXT))} …`;
}

const ENDS = {
  left: "left",
  cut: "left in the middle of a message",
  failed: "failed",
  stopped: "stopped",
} as const;

/** True if the text of an end says more than the reason does: those meant by a side do not. */
function hasCause({ reason, text }: Extract<RecordedEvent, { kind: "end" }>): boolean {
  return text !== "" && (reason === "cut" || reason === "failed");
}

const FATES = { passed: "", replaced: ", replaced", withheld: ", withheld" } as const;

/** A descriptor in words, as "memfd 512 MiB, withheld". */
export function descriptorText({ kind, size, seals, fate }: RecordedDescriptor): string {
  const bytes = size === null ? "" : ` ${humanSize(size)}`;
  const sealed = seals.length === 0 ? "" : `, sealed ${seals.join(" ")}`;
  return `${kind}${bytes}${sealed}${FATES[fate]}`;
}

/** A time with three digits and its unit; below zero where a clock went back. */
export function timeText(ns: number): string {
  if (ns < 0) return `-${timeText(-ns)}`;
  const [value, unit] = ns < 1e3
    ? [ns, "ns"]
    : ns < 1e6
    ? [ns / 1e3, "µs"]
    : ns < 1e9
    ? [ns / 1e6, "ms"]
    : [ns / 1e9, "s"];
  return `${
    value.toFixed(value < 10 && unit !== "ns" ? 2 : value < 100 && unit !== "ns" ? 1 : 0)
  } ${unit}`;
}
