/**
 * Events chosen by an expression, as `command == REGION_WRITE && region == bar0 && offset < 0x40`.
 *
 * @module
 */

import { Command } from "../wire/command.ts";
import { PciIrq } from "../wire/irq.ts";
import { PciRegion } from "../wire/region.ts";
import { errnoCode } from "../../ffi/errno.ts";
import { littleEndian } from "../base/little_endian.ts";
import { RegisterLocator } from "../registers/locate.ts";
import type { Register, RegisterMap } from "../registers/map.ts";
import { decodeField } from "../registers/decode.ts";
import {
  evaluate,
  EvaluationError,
  ExpressionError,
  namesIn,
  number,
  parseExpression,
} from "../session/expression.ts";
import type { Expression } from "../session/model.ts";
import { nearest } from "../text/nearest.ts";
import type { HeardMessage } from "./conversation.ts";
import type { Access } from "./decode.ts";
import type { RecordedEvent } from "./event.ts";

/** Numbers that stand for words in an expression. */
const NUMBERED = {
  kind: ["message", "garbage", "interrupt", "ioeventfd", "open", "end", "note"],
  type: ["request", "reply", "error_reply", "other"],
  direction: ["to_server", "to_client"],
  socket: ["main", "twin"],
  origin: ["peer", "side", "recorder"],
} as const;

/** An event and, of a message, its conversation. */
interface Subject {
  readonly event: RecordedEvent;
  readonly heard: HeardMessage | undefined;
  /** The access that is looked at: a message with several is looked at several times. */
  readonly access: Access | undefined;
  readonly startNs: bigint;
}

/** Reads a field of a subject; undefined if the subject has no such field. */
type Read = (subject: Subject) => bigint | number | boolean | undefined;

function numbered(words: readonly string[], word: string | undefined): number | undefined {
  return word === undefined ? undefined : words.indexOf(word.replaceAll("-", "_"));
}

/** The fields of an expression, each with what it means. */
const FIELDS: Readonly<Record<string, readonly [what: string, read: Read]>> = {
  kind: [NUMBERED.kind.join(", "), ({ event }) => numbered(NUMBERED.kind, event.kind)],
  command: ["REGION_READ, ... or a number", ({ heard }) => heard?.decoded?.header.command],
  type: [
    "request, reply, error_reply",
    ({ heard }) => {
      const type = heard?.decoded?.type;
      return numbered(NUMBERED.type, type === "error" ? "error_reply" : type);
    },
  ],
  direction: [
    "to_server, to_client",
    ({ event }) => numbered(NUMBERED.direction, "direction" in event ? event.direction : undefined),
  ],
  region: [
    "bar0, ..., config",
    ({ access, event }) => event.kind === "ioeventfd" ? event.region : access?.region ?? undefined,
  ],
  offset: [
    "bytes from the start of the region",
    ({ access, event }) =>
      event.kind === "ioeventfd"
        ? event.offset
        : access?.space === "region"
        ? access.offset
        : undefined,
  ],
  address: [
    "of DMA, in the client's memory",
    ({ access }) => access?.space === "memory" ? access.offset : undefined,
  ],
  count: ["bytes of an access", ({ access }) => access?.count],
  value: ["the number in data of 1 to 8 bytes", ({ access }) => valueOf(access)],
  id: ["of the message", ({ heard }) => heard?.decoded?.header.messageId],
  error: [
    "errno of an error reply, as EINVAL",
    ({ heard }) => heard?.decoded?.type === "error" ? heard.decoded.header.error : undefined,
  ],
  size: ["bytes of the message", ({ event }) => "bytes" in event ? event.bytes.length : undefined],
  fds: [
    "descriptors that came along",
    ({ event }) => "descriptors" in event ? event.descriptors.length : undefined,
  ],
  latency: [
    "from request to reply: 1500 (nanoseconds), 1us, 1.5ms, 1s",
    ({ heard }) => heard?.latencyNs,
  ],
  irq: ["intx, msi, msix", ({ event }) => event.kind === "interrupt" ? event.irq : undefined],
  vector: ["of an interrupt", ({ event }) => event.kind === "interrupt" ? event.vector : undefined],
  socket: ["main, twin", ({ event }) => numbered(NUMBERED.socket, event.socket)],
  origin: [
    "peer, side, recorder",
    ({ event }) => event.kind === "message" ? numbered(NUMBERED.origin, event.origin) : undefined,
  ],
  altered: [
    "1 if the receiver got something else, or nothing",
    ({ event }) => "passedOn" in event && event.passedOn !== undefined,
  ],
  connection: ["number of the client, from 0", ({ event }) => event.connection],
  index: ["number of the event, from 0", ({ event }) => event.index],
  time: ["since the first event, as latency", ({ event, startNs }) => event.timeNs - startNs],
};

/** The names of an expression's fields, with what they mean. */
export const FILTER_FIELDS: readonly (readonly [name: string, what: string])[] = Object.entries(
  FIELDS,
).map(([name, [what]]) => [name, what]);

const CONSTANTS: ReadonlyMap<string, bigint> = new Map<string, bigint>([
  ...Object.values(NUMBERED).flatMap((words) =>
    words.map((word, i) => [word, BigInt(i)] as [string, bigint])
  ),
  ...Object.entries(Command).map(([name, code]) => [name, BigInt(code)] as [string, bigint]),
  ...[...Object.entries(PciRegion), ...Object.entries(PciIrq)].map(([name, index]) =>
    [name.toLowerCase(), BigInt(index)] as [string, bigint]
  ),
]);

/** Decides about events. */
export interface EventFilter {
  /** True if the event is chosen. `heard` is its message in the conversation, if it is one. */
  matches(event: RecordedEvent, heard: HeardMessage | undefined): boolean;
}

/**
 * Reads an expression. Its words are {@linkcode FILTER_FIELDS}, names of commands, regions, IRQ
 * indexes and errnos, and registers of the maps. `CSTS` alone is true of an access to CSTS, and
 * elsewhere has the value of the access. `CSTS.RDY` is the field in that value. What compares with
 * a field that an event does not have is false.
 *
 * @param locator finds the registers of `maps`; its capabilities are for the caller to place
 * @throws {SyntaxError} if it is no expression, or has a name that is unknown; the message then has
 * the nearest name
 *
 * @example
 * ```ts
 * import { parseFilter } from "./filter.ts";
 *
 * const filter = parseFilter("kind == interrupt && irq == msix && vector < 2");
 * const place = { timeNs: 0n, index: 0, connection: 0, socket: "main" } as const;
 * const signal = { irq: 2, vector: 1, count: 1n, action: "trigger" } as const;
 * const interrupt = { kind: "interrupt", ...signal } as const;
 * console.assert(filter.matches({ ...place, ...interrupt }, undefined));
 * ```
 */
export function parseFilter(
  text: string,
  maps: readonly RegisterMap[] = [],
  locator: RegisterLocator = new RegisterLocator(maps),
): EventFilter {
  const expression = readExpression(text);
  for (const { name, part } of namesIn(expression)) checkName(name, part, maps);
  let startNs: bigint | undefined;
  return {
    matches(event, heard) {
      startNs ??= event.timeNs;
      const accesses = heard === undefined || heard.accesses.length === 0
        ? [undefined]
        : heard.accesses;
      return accesses.some((access) => {
        const subject = { event, heard, access, startNs: startNs! };
        return isTrue(valueIn(expression, (name, part, isDecision) => {
          return valueOfName({ name, part, isDecision }, subject, locator, maps);
        }));
      });
    },
  };
}

/** Reads an expression, in which numbers may have units of time and words the dashes of JSON. */
function readExpression(text: string): Expression {
  try {
    return withWords(parseExpression(text, readTime));
  } catch (error) {
    // The filter is named by whoever reports the error.
    throw error instanceof ExpressionError ? new SyntaxError(error.reason) : error;
  }
}

/** Digits of a nanosecond in each unit of time. */
const TIME_DIGITS: Readonly<Record<string, number>> = { ns: 0, us: 3, "µs": 3, ms: 6, s: 9 };

/** Nanoseconds; undefined if the text has no unit of time. */
function readTime(text: string): bigint | undefined {
  const [, whole, part = "", unit] = /^(\d{1,20})(?:\.(\d{1,20}))?(ns|us|µs|ms|s)$/.exec(text) ??
    [];
  if (whole === undefined || unit === undefined) return undefined;
  const digits = TIME_DIGITS[unit]!;
  return BigInt(whole + part.slice(0, digits).padEnd(digits, "0"));
}

/** The expression with `to-server`, which reads as a difference, as the word that it is in JSON. */
function withWords(expression: Expression): Expression {
  if (expression.kind === "unary") {
    return { ...expression, operand: withWords(expression.operand) };
  }
  if (expression.kind !== "binary") return expression;
  const left = withWords(expression.left);
  const right = withWords(expression.right);
  const isDifference = expression.operator === "-" && left.kind === "name" && right.kind === "name";
  if (isDifference && left.part === undefined && right.part === undefined) {
    const name = `${left.name}_${right.name}`;
    if (CONSTANTS.has(name)) return { kind: "name", name };
  }
  return { ...expression, left, right };
}

/** Words that lines about events have, each with the name of its field. */
const OTHER_WORDS: Readonly<Record<string, string>> = {
  iova: "address",
  bytes: "count",
  client: "connection",
};

function checkName(name: string, part: string | undefined, maps: readonly RegisterMap[]): void {
  const plain = part === undefined && (Object.hasOwn(FIELDS, name) || constant(name) !== undefined);
  if (plain) return;
  const registers = registersNamed(name, part, maps);
  if (registers.length > 0) {
    const isField = part !== undefined && registers.some(({ field }) => field !== undefined);
    const isRegister = registers.some(({ field }) => field === undefined);
    if (part === undefined || isField || isRegister) return;
  }
  const known = [
    ...Object.keys(FIELDS),
    ...CONSTANTS.keys(),
    ...maps.flatMap((map) => map.registers.map((register) => register.name)),
  ];
  const register = allRegisters(maps).find((each) => same(each.name, name));
  const words = part !== undefined && register !== undefined
    ? register.fields.map((field) => field.name)
    : known;
  const unknown = part !== undefined && register !== undefined ? part : name;
  const meant = OTHER_WORDS[unknown.toLowerCase()] ?? nearest(unknown, words);
  const hint = meant === undefined
    ? `; fields are ${Object.keys(FIELDS).join(", ")}`
    : `; did you mean ${meant}?`;
  const isRegister = maps.length === 0 && (part !== undefined || /^[A-Z]/.test(name));
  const need = isRegister ? "; registers need --map" : "";
  throw new SyntaxError(`"${unknown}" is no name that a filter knows${need}${hint}`);
}

function constant(name: string): bigint | undefined {
  const known = CONSTANTS.get(name);
  if (known !== undefined) return known;
  const errno = errnoCode(name);
  return errno === undefined ? undefined : BigInt(errno);
}

function same(a: string, b: string): boolean {
  return a.toLowerCase() === b.toLowerCase();
}

function allRegisters(maps: readonly RegisterMap[]): Register[] {
  return maps.flatMap((map) => map.registers);
}

interface NamedRegister {
  readonly map: RegisterMap;
  readonly register: Register;
  /** The name of a field, if one is meant. */
  readonly field?: string;
}

/** Registers that `CSTS`, `CSTS.RDY` or `nvme.CSTS` may mean. */
function registersNamed(
  name: string,
  part: string | undefined,
  maps: readonly RegisterMap[],
): NamedRegister[] {
  return maps.flatMap((map) =>
    map.registers.flatMap((register): NamedRegister[] => {
      if (part !== undefined && same(map.name, name) && same(register.name, part)) {
        return [{ map, register }];
      }
      if (!same(register.name, name)) return [];
      if (part === undefined) return [{ map, register }];
      const field = register.fields.find((each) => same(each.name, part));
      return field === undefined ? [] : [{ map, register, field: field.name }];
    })
  );
}

/** A name of an expression, where it stands. */
interface PlacedName {
  readonly name: string;
  readonly part: string | undefined;
  /** True if it decides alone, or with `&&`, `||` and `!`; false if it is an operand. */
  readonly isDecision: boolean;
}

function valueOfName(
  { name, part, isDecision }: PlacedName,
  subject: Subject,
  locator: RegisterLocator,
  maps: readonly RegisterMap[],
): bigint | undefined {
  if (part === undefined) {
    const field = Object.hasOwn(FIELDS, name) ? FIELDS[name] : undefined;
    if (field !== undefined) {
      const value = field[1](subject);
      return value === undefined ? undefined : BigInt(value);
    }
    const known = constant(name);
    if (known !== undefined) return known;
  }
  const { access } = subject;
  if (access?.region === undefined) return undefined;
  const located = locator.at(access.region, access.offset, access.count);
  if (located === undefined) return undefined;
  const meant = registersNamed(name, part, maps)
    .find(({ register }) => register === located.register);
  if (meant === undefined) return undefined;
  if (meant.field === undefined && isDecision) return 1n;
  const value = located.isWhole ? valueOf(access) : undefined;
  if (meant.field === undefined) return value;
  const field = located.register.fields.find((each) => each.name === meant.field);
  if (value === undefined || field === undefined) return undefined;
  return decodeField(field, value).value;
}

function valueOf(access: Access | undefined): bigint | undefined {
  const data = access?.data;
  if (data === undefined || data.length === 0 || data.length > 8) return undefined;
  return littleEndian(data);
}

const COMPARISONS: ReadonlySet<string> = new Set(["==", "!=", "<", "<=", ">", ">="]);

function isTrue(value: bigint | undefined): boolean {
  return value !== undefined && value !== 0n;
}

/** As `evaluate`, of names that may have no value. */
function valueIn(
  expression: Expression,
  lookup: (name: string, part: string | undefined, isDecision: boolean) => bigint | undefined,
  isDecision = true,
): bigint | undefined {
  switch (expression.kind) {
    case "number":
      return expression.value;
    case "name":
      return lookup(expression.name, expression.part, isDecision);
    case "unary": {
      const operand = valueIn(expression.operand, lookup, expression.operator === "!");
      if (operand === undefined) return expression.operator === "!" ? 1n : undefined;
      return calculated({ ...expression, operand: number(operand) });
    }
    case "below":
      return undefined; // sessions alone have these
    case "binary": {
      const { operator } = expression;
      const decides = operator === "&&" || operator === "||";
      const left = valueIn(expression.left, lookup, decides);
      if (operator === "&&" && !isTrue(left)) return 0n;
      if (operator === "||" && isTrue(left)) return 1n;
      const right = valueIn(expression.right, lookup, decides);
      if (decides) return isTrue(right) ? 1n : 0n;
      if (left === undefined || right === undefined) {
        return COMPARISONS.has(operator) ? 0n : undefined;
      }
      return calculated({ ...expression, left: number(left), right: number(right) });
    }
  }
}

/** The value of a calculation with numbers; undefined if it has none, as of a division by zero. */
function calculated(expression: Expression): bigint | undefined {
  try {
    return evaluate(expression, { number: () => 0n });
  } catch (error) {
    if (error instanceof EvaluationError) return undefined;
    throw error;
  }
}
