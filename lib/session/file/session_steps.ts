/**
 * Steps that are about the session and the device as a whole.
 * They are variables, repetitions, calls, pauses and resets.
 *
 * @module
 */

import { checkTemplate, constantIn, meant, setBy } from "./definitions.ts";
import { inline } from "./inline.ts";
import type {
  CallStep,
  DeviceStep,
  LogStep,
  RepeatStep,
  Session,
  SetStep,
  SleepStep,
  StepCommon,
} from "../model.ts";
import type { Parts } from "./reading.ts";
import { checkVariable, parseName } from "./register_steps.ts";
import { parseTemplate } from "../template.ts";
import { parseNumber } from "./value.ts";
import { nowhere, type ParseInner, type Word, type Words } from "./word.ts";

/** The most repetitions of steps: a day of register reads. */
const MAX_REPEAT = 10n ** 9n;

type SessionStep = SetStep | RepeatStep | CallStep | SleepStep | LogStep | DeviceStep;

/** The words of such steps, in the order in which they are listed. */
export const SESSION_WORDS: Words<SessionStep> = {
  "set": {
    description: "Give a variable a value",
    subject: "variableOrValues",
    main: "to",
    arguments: { to: { kind: "number", description: "The value" } },
    parse: parseSet,
    places: nowhere,
  },
  "reset": deviceWord("reset", "Reset the device"),
  "pci enable": deviceWord(
    "pci enable",
    "Give BARs addresses and switch the function on, as firmware does",
  ),
  "sleep": {
    description: "Do nothing for a while",
    subject: "duration",
    arguments: {},
    parse: parseSleep,
    places: nowhere,
  },
  "log": {
    description: "Show a text, which may have ${EXPRESSION}, ${EXPRESSION:x} or ${EXPRESSION:b}",
    subject: "text",
    arguments: {},
    parse: parseLog,
    places: nowhere,
  },
  "repeat": {
    description: "Do steps several times",
    subject: "number",
    arguments: {
      as: { kind: "variable", description: "The variable that counts, from 0" },
      steps: { kind: "steps", description: "The steps", isRequired: true },
    },
    parse: parseRepeat,
    places: nowhere,
  },
  "call": {
    description: "Do the steps of another file",
    subject: "file",
    arguments: {
      with: { kind: "arguments", description: "Variables there, and their values" },
      into: {
        kind: "results",
        description: "Variables here, and those there whose values they get",
      },
    },
    parse: parseCall,
    places: nowhere,
  },
};

/** A word that says all by itself. */
function deviceWord<W extends DeviceStep["word"]>(
  word: W,
  description: string,
): Word<DeviceStep & { word: W }> {
  return {
    description,
    subject: "nothing",
    arguments: {},
    parse: (_, common) => ({ word, ...common }),
    places: nowhere,
  };
}

function parseSleep(parts: Parts, common: StepCommon): SleepStep | undefined {
  const durationMs = parts.duration("sleep");
  return durationMs === undefined ? undefined : { word: "sleep", ...common, durationMs };
}

function parseLog(parts: Parts, common: StepCommon): LogStep | undefined {
  const message = parts.attempt(
    ["log"],
    () => checkTemplate(parseTemplate(parts.exact("log")), parts.definitions),
  );
  return message && { word: "log", ...common, message };
}

function parseSet(parts: Parts, common: StepCommon): SetStep | undefined {
  const { set, to } = parts.raw;
  const isSingle = typeof set === "string";
  if (isSingle !== parts.has("to")) {
    return isSingle
      ? parts.fail([], '"to" is missing here', "write the value of the variable")
      : parts.fail(["to"], '"to" says nothing beside a mapping of names to values');
  }
  const all = isSingle ? [[set, to] as const] : Object.entries(set as Record<string, unknown>);
  const assignments = all.flatMap(([name, raw]) => {
    const at = isSingle ? ["to"] : ["set", name];
    const value = parts.attempt(at, () => parseNumber(raw, parts.definitions));
    const isName = parts.attempt(
      isSingle ? ["set"] : at,
      () => checkVariable(name, parts),
      !isSingle,
    );
    if (isName === undefined) return [];
    parts.define(name);
    return value === undefined ? [] : [{ name, value }];
  });
  return { word: "set", ...common, assignments };
}

function parseRepeat(
  parts: Parts,
  common: StepCommon,
  parseInner: ParseInner,
): RepeatStep | undefined {
  const count = parts.number("repeat");
  if (count !== undefined) {
    parts.attempt(["repeat"], () => {
      const value = constantIn(count, parts.definitions);
      if (value === undefined || (value >= 0n && value <= MAX_REPEAT)) return;
      throw new RangeError(`Steps can't be repeated ${value} times: it takes 0 to ${MAX_REPEAT}`);
    });
  }
  const as = parseName("as", parts);
  if (as !== undefined) parts.define(as);
  const steps = parseInner(parts.raw["steps"] as readonly unknown[], [...parts.path, "steps"]);
  return count && {
    word: "repeat",
    ...common,
    count,
    ...(as !== undefined && { as }),
    steps,
  };
}

function parseCall(parts: Parts, common: StepCommon): CallStep | undefined {
  const { definitions, reading, path, raw } = parts;
  const session = reading.session([...path, "call"], String(raw["call"]));
  const values = Object.entries((raw["with"] ?? {}) as Record<string, unknown>);
  const results = Object.entries((raw["into"] ?? {}) as Record<string, unknown>);
  const given = values.flatMap(([name, value]) => {
    if (session) parts.attempt(["with", name], () => checkArgument(name, session), true);
    const expression = parts.attempt(["with", name], () => parseNumber(value, definitions));
    return expression === undefined ? [] : [{ name, value: expression }];
  });
  const into = results.flatMap(([name, from]) => {
    const isName = parts.attempt(["into", name], () => checkVariable(name, parts), true);
    parts.attempt(["into", name], () => checkResult(from, session));
    if (isName !== undefined) parts.define(name, { isOpaque: true });
    return isName === undefined || typeof from !== "string" ? [] : [{ name, from }];
  });
  if (session === undefined) return parts.abandon();
  return { word: "call", ...common, session, arguments: given, into };
}

/** Variables of another session can be set that it declares. */
function checkArgument(name: string, { file, variables }: Session): void {
  const names = variables.map((each) => each.name);
  if (names.includes(name)) return;
  throw new RangeError(`"${name}" is no variable of ${file}; ${meant(name, names, listed(names))}`);
}

/** Variables of another session can be asked for that it declares, or that its steps set. */
function checkResult(name: unknown, session: Session | undefined): void {
  if (typeof name !== "string") throw new SyntaxError(`${inline(name)} is no name of a variable`);
  if (session === undefined) return; // reported already: the session can't be read
  const names = [...session.variables.map((each) => each.name), ...setBy(session.steps)];
  if (names.includes(name)) return;
  throw new RangeError(
    `"${name}" is no variable of ${session.file}; ${meant(name, names, listed(names))}`,
  );
}

function listed(names: readonly string[]): string {
  return names.length === 0 ? "it has none" : `there are ${[...new Set(names)].join(", ")}`;
}
