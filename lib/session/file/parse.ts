/**
 * Sessions as text.
 *
 * @module
 */

import type { Path } from "../../yaml/document.ts";
import { collectDeclarations, collectMaps } from "./declarations.ts";
import { type Definitions, meant, newDefinitions } from "./definitions.ts";
import { type SessionFile, SessionFiles } from "./files.ts";
import { parseIrqSelection } from "./irq_selection.ts";
import type { ParsedSession } from "./parsed.ts";
import type { IrqSelection, Session } from "../model.ts";
import { Parts, type Reading } from "./reading.ts";
import { parseRequirements } from "./requirements.ts";
import { parseSteps } from "./steps.ts";
import { inline } from "./inline.ts";
import { variablesSetBy } from "./words.ts";

/** Steps in all files of a session. */
const MAX_STEPS = 100_000;

/** {@linkcode parseSession}, with what it takes. */
export class SessionParser {
  readonly #files: SessionFiles;
  /** Sessions that are read, by their files; undefined: at this moment. */
  readonly #sessions = new Map<SessionFile, Session | undefined>();
  #stepCount = 0;

  /** Reads other files with `readText`. */
  constructor(readText: (file: string) => Promise<string>) {
    this.#files = new SessionFiles(readText);
  }

  /** Reads a session and checks it. */
  async parse(
    text: string,
    name: string,
    set: Readonly<Record<string, bigint>> = {},
  ): Promise<ParsedSession> {
    const file = await this.#files.open(text, name);
    const session = file && this.#build(file, set);
    const problems = this.#files.problems();
    if (session === undefined || problems.length > 0) return { problems };
    checkSet(set, session);
    return { session };
  }

  #build(file: SessionFile, set: Readonly<Record<string, bigint>> = {}): Session {
    this.#sessions.set(file, undefined);
    const { raw } = file;
    const steps = Array.isArray(raw["steps"]) ? raw["steps"] : [];
    const parameters = this.#files.parametersOf(file.name);
    const shared = newDefinitions(collectMaps(file));
    const readingOf = (each: SessionFile) => this.#reading(each, shared);
    const declarations = collectDeclarations(file, {
      changed: new Set([...parameters, ...allVariablesSetBy(steps)]),
      set,
      readingOf,
    });
    const reading = readingOf(file);
    const session: Session = {
      file: file.name,
      ...(raw["title"] !== undefined && { title: inline(raw["title"]) }),
      requires: parseRequirements(file),
      maps: shared.maps,
      ...(parameters.size > 0 && { parameters }),
      ...declarations,
      interrupts: parseInterrupts(raw["interrupts"], reading),
      steps: parseSteps(steps, ["steps"], reading),
    };
    this.#sessions.set(file, session);
    return session;
  }

  #reading(file: SessionFile, shared: Definitions): Reading {
    const { document, report, reportKey } = file;
    return {
      definitions: { ...shared, directory: file.folder },
      report,
      reportKey,
      written: (path) => document.written(path),
      source: (path) => ({ file: file.name, ...document.at(path) }),
      session: (_, target) => this.#called(file, target),
      countStep: (path) => this.#countStep(path, file),
    };
  }

  /**
   * The session that is called; undefined if it can't be read or calls itself, as reported before.
   */
  #called(caller: SessionFile, target: string): Session | undefined {
    const file = this.#files.called(caller, target);
    if (file === undefined) return undefined;
    return this.#sessions.has(file) ? this.#sessions.get(file) : this.#build(file);
  }

  #countStep(path: Path, file: SessionFile): boolean {
    if (file.problems.isFull) return false;
    if (++this.#stepCount <= MAX_STEPS) return true;
    file.report(path, `The session has more than ${MAX_STEPS} steps`, "let repeat do them again");
    return false;
  }
}

/** Values that were given for variables have to be for such as are there. */
function checkSet(set: Readonly<Record<string, bigint>>, { variables, file }: Session): void {
  const names = variables.map((each) => each.name);
  for (const name of Object.keys(set)) {
    if (names.includes(name)) continue;
    const otherwise = names.length === 0 ? "it has none" : `there are ${names.join(", ")}`;
    throw new RangeError(`"${name}" is no variable of ${file}; ${meant(name, names, otherwise)}`);
  }
}

/**
 * The variables to which steps give values, as far as their form says.
 * Variables of the steps inside the steps are included.
 */
function* allVariablesSetBy(steps: readonly unknown[]): Generator<string> {
  for (const step of steps) {
    yield* variablesSetBy(step);
    const inner = (step as Record<string, unknown> | null)?.["steps"];
    if (Array.isArray(inner)) yield* allVariablesSetBy(inner);
  }
}

function parseInterrupts(raw: unknown, reading: Reading): IrqSelection[] {
  const parts = new Parts({}, [], reading);
  const all = Array.isArray(raw) ? raw : [raw];
  return all.flatMap((each, i) => {
    if (typeof each !== "string") return []; // was complained of
    const path = Array.isArray(raw) ? ["interrupts", i] : ["interrupts"];
    const irq = parts.attempt(path, () => parseIrqSelection(each, reading.definitions));
    return irq === undefined ? [] : [{ ...irq, source: reading.source(path) }];
  });
}
