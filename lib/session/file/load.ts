/**
 * Sessions from files.
 *
 * Reading YAML takes modules that nothing else needs; they are loaded with the first session.
 *
 * @module
 */

import { FileProblems } from "../../yaml/problem.ts";
import { readText } from "../../yaml/text.ts";
import type { Session } from "../model.ts";
import type { ParsedSession } from "./parsed.ts";

/** Options of reading a session. */
export interface SessionOptions {
  /** Values of variables in place of those that the file has. */
  readonly set?: Readonly<Record<string, bigint>>;
  /**
   * Reads a file. By default {@linkcode Deno.open} does, with a bound on the size of the file.
   * The default takes `--allow-read`.
   */
  readonly readText?: (file: string) => Promise<string>;
}

/**
 * Loads a session with all the files that it includes and calls, and checks it.
 *
 * @param file its name, which mistakes are told with
 * @throws {FileProblems} if there are mistakes; it has all of them,
 *   each with its file, line and column
 * @throws {RangeError} if `set` has a variable that is not there
 *
 * @example
 * ```ts
 * import { loadSession } from "./load.ts";
 *
 * const text = "steps: [{read: bar0+4, into: x}, {expect: '${x}', at least: 1}]";
 * const session = await loadSession("t.yaml", { readText: () => Promise.resolve(text) });
 * const [first, second, third] = session.steps;
 * if (first?.text !== "read bar0+4 into x" || !second || third) throw new Error();
 * ```
 */
export async function loadSession(file: string, options: SessionOptions = {}): Promise<Session> {
  const read = options.readText ?? readFile;
  const { session, problems } = await parseSession(await read(file), file, options);
  if (session === undefined) throw new FileProblems(file, problems);
  return session;
}

/**
 * Reads a session from YAML, and the files that it includes and calls.
 * All mistakes in all files are found in one run.
 * Only a text that is too far from YAML hides the mistakes in its rest.
 *
 * @param file name of the file in problems; other files are relative to its folder
 * @throws {RangeError} if `set` has a variable that is not there
 *
 * @example
 * ```ts
 * import { parseSession } from "./load.ts";
 *
 * const { problems } = await parseSession("steps: [{raed: bar0}, {sleep: 5}]", "t.yaml");
 * if (problems?.length !== 2) throw new Error();
 * ```
 */
export async function parseSession(
  text: string,
  file: string,
  options: SessionOptions = {},
): Promise<ParsedSession> {
  const { SessionParser } = await import("./parse.ts");
  return await new SessionParser(options.readText ?? readFile).parse(text, file, options.set);
}

function readFile(file: string): Promise<string> {
  return readText(file, file);
}
