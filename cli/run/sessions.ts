/**
 * The sessions that a command line names, and which of their steps.
 *
 * @module
 */

import type { CommandUnknownOpts } from "@commander-js/extra-typings";
import { fileReason } from "../../lib/text/file_error.ts";
import { loadSession } from "../../lib/session/file/load.ts";
import type { Session } from "../../lib/session/model.ts";
import { nearest } from "../../lib/text/nearest.ts";
import { readSignedSize } from "../../lib/text/size.ts";
import { readText } from "../../lib/yaml/text.ts";
import { FileProblems, type Problem, problemText } from "../../lib/yaml/problem.ts";
import { type Context, onAbort } from "../shared/context.ts";
import { printable } from "../shared/printable.ts";
import { findStep } from "./selection.ts";
import { jsonText } from "../shared/json.ts";
import { plural } from "../../lib/text/plural.ts";

/** A variable and its value. */
export type Setting = readonly [name: string, value: bigint];

/** Options of {@linkcode loadAll}. */
export interface LoadAllOptions {
  /** Variables in place of the files' own. */
  set?: readonly Setting[] | undefined;
  /** Say of each file whether it has mistakes. */
  check?: true | undefined;
  /** Say so in JSON. */
  json?: true | undefined;
}

/** A session and which of its steps are done. */
export interface Selection {
  readonly session: Session;
  readonly from: number | undefined;
  readonly until: number | undefined;
}

/**
 * Reads `NAME=VALUE`.
 *
 * @throws {SyntaxError} if it is something else
 */
export function parseSetting(text: string): Setting {
  const match = /^([A-Za-z_]\w*)=(.+)$/.exec(text);
  const value = match && readSignedSize(match[2]!);
  if (!match || value === undefined || value === null) {
    throw new SyntaxError("Write NAME=VALUE, as queue=2 or size=64K");
  }
  return [match[1]!, value];
}

/** Loads all files. What is wrong with them is told, all of it, and is wrong usage. */
export async function loadAll(
  { out, err, signal }: Context,
  self: CommandUnknownOpts,
  files: readonly string[],
  { set = [], check, json }: LoadAllOptions,
): Promise<Session[]> {
  const sessions: Session[] = [];
  const wrong: string[] = [];
  let problemCount = 0;
  for (const file of files) {
    let problems: readonly Problem[] = [];
    try {
      const session = await unlessAborted(loadWith(file, set), signal);
      sessions.push(session);
      if (check && !json) {
        const count = plural(session.steps.length, "step");
        out.write(`${printable(file)}: no mistakes, ${count}\n`);
      }
    } catch (error) {
      signal.throwIfAborted();
      if (!(error instanceof FileProblems)) {
        self.error(`error: cannot read ${file}: ${fileReason(error)}`);
      }
      problems = error.problems;
    }
    problemCount += problems.length;
    if (problems.length > 0) wrong.push(file);
    if (json && check) out.write(`${jsonText({ file, problems })}\n`);
    else for (const each of problems) err.write(`${printable(problemText(each))}\n`);
  }
  if (problemCount > 0) {
    const count = plural(problemCount, "mistake");
    self.error(`error: there ${problemCount === 1 ? "is" : "are"} ${count} in ${wrong.join(", ")}`);
  }
  refuseUnknownSettings(self, sessions, set);
  return sessions;
}

/**
 * Awaits `work`, or throws the signal's reason: opening a pipe may take for ever, and can't be
 * cancelled.
 */
async function unlessAborted<T>(work: Promise<T>, signal: AbortSignal): Promise<T> {
  const { promise, reject } = Promise.withResolvers<never>();
  using _stop = onAbort(signal, () => reject(signal.reason));
  return await Promise.race([work, promise]);
}

/** Loads a file, with those settings that it has variables for. */
async function loadWith(file: string, settings: readonly Setting[]): Promise<Session> {
  const texts = new Map<string, string>(); // a pipe can't be read again
  const options = {
    async readText(path: string) {
      const text = texts.get(path) ?? await readText(path, path);
      texts.set(path, text);
      return text;
    },
  };
  const session = await loadSession(file, options);
  const own = settings.filter(([name]) => session.variables.some((each) => each.name === name));
  if (own.length === 0) return session;
  return await loadSession(file, { ...options, set: Object.fromEntries(own) });
}

function refuseUnknownSettings(
  self: CommandUnknownOpts,
  sessions: readonly Session[],
  set: readonly Setting[],
): void {
  const names = sessions.flatMap(({ variables }) => variables.map(({ name }) => name));
  for (const [name] of set) {
    if (names.includes(name)) continue;
    const meant = nearest(name, names);
    self.error(
      `error: option '--set <name=value>': there is no variable ${name}` +
        (meant === undefined ? "" : `; did you mean ${meant}?`),
    );
  }
}

/** Finds the steps that `--from` and `--until` mean. */
export function select(
  self: CommandUnknownOpts,
  session: Session,
  { from, until }: { from?: string | undefined; until?: string | undefined },
): Selection {
  const find = (text: string | undefined, option: string) => {
    if (text === undefined) return undefined;
    try {
      return findStep(session, text);
    } catch (error) {
      self.error(`error: option '${option} <step>': ${(error as Error).message}`);
    }
  };
  const [first, last] = [find(from, "--from"), find(until, "--until")];
  if (first !== undefined && last !== undefined && last < first) {
    self.error(
      `error: option '--until <step>': in ${session.file} step ${last + 1} is before step ${
        first + 1
      }, the first that is to be done`,
    );
  }
  return { session, from: first, until: last };
}
