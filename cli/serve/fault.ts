/**
 * Faults on the command line: `COMMAND:FAULT`, and which of the requests it is about.
 *
 * @module
 */

import { parseDuration } from "../../lib/text/duration.ts";
import { errnoText, parseErrno } from "../../lib/text/errno.ts";
import { Command, commandName } from "../../lib/wire/command.ts";
import {
  checkRule,
  type Fault,
  type FaultRule,
  type FaultTiming,
} from "../../lib/server/faults.ts";
import { nearest } from "../../lib/text/nearest.ts";
import { parseValue } from "../shared/value.ts";
import { readIndex } from "../../lib/text/integer.ts";

const FORM = "write COMMAND:FAULT[=VALUE], then @N, /N or %P, as REGION_READ:error=EIO@3";

/** The argument of each fault, behind `=`. */
const KINDS: Readonly<Record<Fault["kind"], (value: string | undefined) => Fault>> = {
  delay: (value) => {
    if (value === undefined) throw new SyntaxError("A delay says how long, as delay=50ms");
    return { kind: "delay", ms: Math.round(parseDuration(value)) };
  },
  drop: (value) => {
    if (value !== undefined) throw new SyntaxError(`A drop takes no value, such as ${value}`);
    return { kind: "drop" };
  },
  error: (value = "EIO") => ({ kind: "error", errno: parseErrno(value) }),
  garbage: (value) => ({ kind: "garbage", ...sizeOf(value) }),
  truncate: (value) => ({ kind: "truncate", ...sizeOf(value) }),
  close: (value) => ({ kind: "close", ...sizeOf(value) }),
};

/** The faults, as they are written behind a command. */
export const FAULT_KINDS: readonly string[] = Object.keys(KINDS);

/** The commands that servers answer, and `*` for any: those with faults. */
export const FAULTY_COMMANDS: readonly string[] = [
  "*",
  ...Object.keys(Command).filter((name) => name !== "DMA_READ" && name !== "DMA_WRITE"),
];

/**
 * Reads a fault: `COMMAND:FAULT[=VALUE]`, and `@N` for the Nth of these requests only, `/N` for
 * every Nth, `%P` for P of a hundred, at random. The command is the name of the specification, or
 * `*` for any.
 *
 * @throws {SyntaxError} if it is none; the message says what one looks like
 * @throws {RangeError} if a number of it is out of its range, or the command is one that servers
 * send
 *
 * @example
 * ```ts
 * import { parseFault } from "./fault.ts";
 *
 * const { fault, when } = parseFault("REGION_READ:error=EIO@3");
 * if (fault.kind !== "error" || fault.errno !== 5) throw new Error();
 * if (JSON.stringify(when) !== '{"nth":3}') throw new Error();
 * ```
 */
export function parseFault(text: string): FaultRule {
  const match = /^([^:]+):([^=@/%]+)(?:=([^@/%]+))?(?:([@/%])(.+))?$/.exec(text);
  if (match === null) {
    throw new SyntaxError(`"${text}" is no fault; ${FORM}; faults are ${FAULT_KINDS.join(", ")}`);
  }
  const [, name, kind, value, sign, count] = match;
  const parse = Object.hasOwn(KINDS, kind!) ? KINDS[kind as Fault["kind"]] : undefined;
  if (parse === undefined) throw new SyntaxError(unknown("fault", kind!, Object.keys(KINDS)));
  const rule: FaultRule = {
    ...(name !== "*" && { command: parseCommand(name!) }),
    fault: parse(value),
    ...(sign !== undefined && { when: parseTiming(sign, count!) }),
  };
  checkRule(rule);
  return rule;
}

/** The fault as it is written on the command line. */
export function faultText(fault: Fault): string {
  switch (fault.kind) {
    case "delay":
      return `delay=${fault.ms}ms`;
    case "drop":
      return "drop";
    case "error":
      return `error=${errnoText(fault.errno)}`;
    default:
      return fault.size === undefined ? fault.kind : `${fault.kind}=${fault.size}`;
  }
}

/** The rule as it is written on the command line. */
export function ruleText({ command, fault, when }: FaultRule): string {
  const name = command === undefined ? "*" : commandName(command).replace(/^command /, "");
  let timing = "";
  if (when !== undefined) {
    if ("nth" in when) timing = `@${when.nth}`;
    else if ("every" in when) timing = `/${when.every}`;
    else timing = `%${Number((when.probability * 100).toPrecision(12))}`;
  }
  return `${name}:${faultText(fault)}${timing}`;
}

function parseCommand(name: string): number {
  const found = Object.entries(Command).find(([each]) => each === name.toUpperCase());
  if (found !== undefined) return found[1];
  if (/^\d+$/.test(name)) return Number(name);
  throw new SyntaxError(unknown("command", name, FAULTY_COMMANDS));
}

function parseTiming(sign: string, count: string): FaultTiming {
  if (sign === "%") {
    const percent = /^\d+(\.\d+)?$/.test(count) ? Number(count) : NaN;
    if (!(percent > 0 && percent <= 100)) {
      throw new SyntaxError(`"${count}" is no percentage; it takes more than 0 and 100 at most`);
    }
    return { probability: percent / 100 };
  }
  const number = readIndex(count) ?? 0;
  if (number === 0) {
    throw new SyntaxError(`"${count}" is no count; requests are counted from 1, as @1 or /2`);
  }
  return sign === "@" ? { nth: number } : { every: number };
}

function sizeOf(text: string | undefined): { size?: number } {
  if (text === undefined) return {};
  return { size: Number(parseValue(text)) };
}

function unknown(what: string, word: string, words: readonly string[]): string {
  const meant = nearest(word, words);
  const hint = meant === undefined ? "" : ` did you mean "${meant}"?`;
  return `There is no ${what} "${word}";${hint} There are ${words.join(", ")}`;
}

/** Reports whether random numbers decide about any of them. */
export function isRandom({ fault, when }: FaultRule): boolean {
  return fault.kind === "garbage" || (when !== undefined && "probability" in when);
}
