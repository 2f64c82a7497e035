/**
 * The files that a session is made of: its own, those that it includes, and those that it calls.
 *
 * @module
 */

import { fileReason } from "../../text/file_error.ts";
import { shellWord } from "../../text/shell_word.ts";
import { loadRegisterMap, SHIPPED_MAPS } from "../../registers/load.ts";
import type { RegisterMap } from "../../registers/map.ts";
import { readMap } from "../../registers/parse.ts";
import {
  parseYaml,
  type Path,
  Problems,
  type Report,
  type YamlDocument,
} from "../../yaml/document.ts";
import { FileProblems, type Problem } from "../../yaml/problem.ts";
import { MAX_FILE_SIZE } from "../../yaml/text.ts";
import { validate } from "../../yaml/validate.ts";
import { meant } from "./definitions.ts";
import { folderOf, resolvePath } from "./path.ts";
import { definitionsSchema, sessionSchema } from "./schema.ts";

/** Files of a session together. */
const MAX_FILES = 64;
/** Sessions that call one another in a row, the first counted. */
const MAX_CALLS = 16;

/** A file that is YAML. */
export interface SessionFile {
  /** As it was called. */
  readonly name: string;
  /** Its folder. */
  readonly folder: string;
  /** The YAML document with the positions of its values. */
  readonly document: YamlDocument;
  /** The content of the file. */
  readonly raw: Readonly<Record<string, unknown>>;
  /** The included files, in order. */
  readonly includes: Included[];
  /** Its mistakes. */
  readonly problems: Problems;
  /** Notes a mistake at a place. */
  readonly reportAt: Report;
  /** Notes a mistake in the value at `path`. */
  report(path: Path, message: string, hint?: string): void;
  /** Notes a mistake in the key at `path`. */
  reportKey(path: Path, message: string, hint?: string): void;
}

/** A file that another file includes. */
export type Included =
  | {
    readonly kind: "map";
    readonly map: RegisterMap;
    readonly from: SessionFile;
    readonly path: Path;
  }
  | { readonly kind: "definitions"; readonly file: SessionFile }
  | { readonly kind: "unreadable" };

/** The facts about a file that are known while others are read. */
interface Visit {
  readonly file: SessionFile;
  /** Sessions in a row that it calls, itself counted; undefined while that is found out. */
  height?: number;
}

/** Reads files, each once. */
export class SessionFiles {
  readonly #readText: (file: string) => Promise<string>;
  /** Mistakes of each file, in the order in which files are read. */
  readonly #problems = new Map<string, Problems>();
  readonly #texts = new Map<string, SessionFile | RegisterMap | undefined>();
  readonly #included = new Set<string>();
  readonly #sessions = new Map<string, Visit>();
  /** Variables of sessions that calls give values, by the names of the files. */
  readonly #parameters = new Map<string, Set<string>>();

  /** Files that `readText` reads. */
  constructor(readText: (file: string) => Promise<string>) {
    this.#readText = readText;
  }

  /** All mistakes, file by file. */
  problems(): Problem[] {
    return [...this.#problems.values()].flatMap((each) => each.sorted());
  }

  /** The variables of a session that some call gives a value. */
  parametersOf(name: string): ReadonlySet<string> {
    return this.#parameters.get(name) ?? new Set();
  }

  /** The session that a `call` in `caller` means, if it could be read. */
  called(caller: SessionFile, target: string): SessionFile | undefined {
    return this.#sessions.get(resolvePath(caller.folder, target))?.file;
  }

  /** Reads a session's own text, and all files that it includes and calls. */
  async open(text: string, name: string): Promise<SessionFile | undefined> {
    const file = this.#parse(text, name);
    if (file !== undefined && isMap(file)) {
      file.report([], "The file is a map of registers", "name it in the include of a session");
      return undefined;
    }
    this.#texts.set(resolvePath("", name), file);
    if (file !== undefined) await this.#visit(file, [resolvePath("", name)]);
    return file;
  }

  #problemsOf(name: string): Problems {
    let problems = this.#problems.get(name);
    if (problems === undefined) this.#problems.set(name, problems = new Problems(name));
    return problems;
  }

  #parse(text: string, name: string): SessionFile | undefined {
    const problems = this.#problemsOf(name);
    const { report } = problems;
    if (text.length > MAX_FILE_SIZE) {
      report({ line: 1, column: 1 }, `The file is larger than ${MAX_FILE_SIZE >> 20} MiB`);
      return undefined;
    }
    const document = parseYaml(text, report);
    if (document === undefined) return undefined;
    const { value } = document;
    const isMapping = typeof value === "object" && value !== null && !Array.isArray(value);
    return {
      name,
      folder: folderOf(name),
      document,
      raw: isMapping ? value as Record<string, unknown> : {},
      includes: [],
      problems,
      reportAt: report,
      report: (path, ...what) => report(document.at(path), ...what),
      reportKey: (path, ...what) => report(document.keyAt(path), ...what),
    };
  }

  /** Goes through a session; `chain` has the sessions that call one another up to it. */
  async #visit(file: SessionFile, chain: readonly string[]): Promise<number> {
    const visit: Visit = { file };
    this.#sessions.set(chain.at(-1)!, visit);
    validate(sessionSchema, file.document, file.reportAt);
    await this.#include(file, [chain.at(-1)!]);
    let height = 1;
    for (const { path, target, names } of callsIn(file.raw["steps"], ["steps"])) {
      height = Math.max(height, 1 + await this.#call(file, path, target, names, chain));
    }
    visit.height = height;
    return height;
  }

  /** Goes through a session that is called. Gives how many call one another from it on. */
  async #call(
    file: SessionFile,
    path: Path,
    target: string,
    names: readonly string[],
    chain: readonly string[],
  ): Promise<number> {
    const key = resolvePath(file.folder, target);
    const parameters = this.#parameters.get(key) ?? new Set();
    names.forEach((name) => parameters.add(name));
    this.#parameters.set(key, parameters);
    if (chain.includes(key)) {
      file.report(path, `The session calls itself: ${loopText(chain, key)}`);
      return 0;
    }
    const height = this.#sessions.get(key)?.height;
    if (chain.length + (height ?? 1) > MAX_CALLS) {
      file.report(path, `More than ${MAX_CALLS} sessions call one another`);
      return 0;
    }
    if (height !== undefined) return height;
    const called = await this.#read(key, file, path);
    if (called === undefined) return 0;
    if ("registers" in called) {
      file.report(path, `"${target}" is a map of registers`, "include it instead");
      return 0;
    }
    return await this.#visit(called, [...chain, key]);
  }

  /** Reads what a file includes. */
  async #include(file: SessionFile, chain: readonly string[]): Promise<void> {
    const { include } = file.raw;
    const all = Array.isArray(include) ? include : include === undefined ? [] : [include];
    for (const [i, target] of all.entries()) {
      if (typeof target !== "string") continue; // its kind was complained of
      const path = Array.isArray(include) ? ["include", i] : ["include"];
      const included = await this.#includeOne(file, path, target, chain);
      file.includes.push(included ?? { kind: "unreadable" });
    }
  }

  async #includeOne(
    file: SessionFile,
    path: Path,
    target: string,
    chain: readonly string[],
  ): Promise<Included | undefined> {
    if ((SHIPPED_MAPS as readonly string[]).includes(target)) {
      try {
        return { kind: "map", map: await loadRegisterMap(target), from: file, path };
      } catch (error) {
        file.report(path, `Cannot read the map "${target}": ${fileReason(error)}`);
        return undefined;
      }
    }
    if (!/\/|\.(ya?ml|json)$/.test(target)) {
      const otherwise = `there are ${
        SHIPPED_MAPS.join(" and ")
      }, and files, with a / or .yaml in their names`;
      file.report(path, `There is no map "${target}"`, meant(target, SHIPPED_MAPS, otherwise));
      return undefined;
    }
    if (/\.[cm]?[jt]sx?$/.test(target)) {
      file.report(
        path,
        `"${target}" is a device's module`,
        `include its map, which vfu serve ${shellWord(target)} --export-map FILE writes`,
      );
      return undefined;
    }
    const key = resolvePath(file.folder, target);
    if (chain.includes(key)) {
      file.report(path, `The file includes itself: ${loopText(chain, key)}`);
      return undefined;
    }
    const found = await this.#read(key, file, path);
    if (found === undefined) return undefined;
    if ("registers" in found) return { kind: "map", map: found, from: file, path };
    if (this.#included.has(key)) return { kind: "definitions", file: found };
    this.#included.add(key);
    if (found.raw["steps"] !== undefined) {
      found.reportKey(
        ["steps"],
        "A file that is included has no steps",
        `write "call: ${target}" as a step`,
      );
    } else {
      validate(definitionsSchema, found.document, found.reportAt);
    }
    await this.#include(found, [...chain, key]);
    return { kind: "definitions", file: found };
  }

  /** Reads a file, unless it was. That it can't be read is a mistake of who names it. */
  async #read(
    name: string,
    from: SessionFile,
    path: Path,
  ): Promise<SessionFile | RegisterMap | undefined> {
    if (this.#texts.has(name)) return this.#texts.get(name);
    if (this.#texts.size >= MAX_FILES) {
      from.report(path, `The session takes more than ${MAX_FILES} files`);
      return undefined;
    }
    const text = await this.#readOrReport(name, from, path);
    const file = text === undefined ? undefined : this.#parse(text, name);
    const found = file !== undefined && isMap(file) ? readMap(file.document, file.reportAt) : file;
    this.#texts.set(name, found);
    return found;
  }

  async #readOrReport(name: string, from: SessionFile, path: Path): Promise<string | undefined> {
    try {
      return await this.#readText(name);
    } catch (error) {
      if (error instanceof FileProblems) {
        const { report } = this.#problemsOf(name);
        for (const { message, ...at } of error.problems) report(at, message);
      } else if (error instanceof Deno.errors.NotFound) {
        from.report(
          path,
          `There is no file "${name}"`,
          "names are relative to the file that has them",
        );
      } else {
        from.report(path, `Cannot read "${name}": ${fileReason(error)}`);
      }
      return undefined;
    }
  }
}

/**
 * Tests a file for a map of registers.
 * Such a map has a name and registers, and nothing that a session has.
 */
function isMap({ raw }: SessionFile): boolean {
  return typeof raw["name"] === "string" && Array.isArray(raw["registers"]);
}

function loopText(chain: readonly string[], key: string): string {
  return [...chain.slice(chain.indexOf(key)), key].join(" -> ");
}

interface RawCall {
  readonly path: Path;
  readonly target: string;
  /** The variables that get values. */
  readonly names: readonly string[];
}

/** The calls among steps, as far as their form says. */
function* callsIn(steps: unknown, path: Path): Generator<RawCall> {
  if (!Array.isArray(steps)) return;
  for (const [i, step] of steps.entries()) {
    if (typeof step !== "object" || step === null) continue;
    const { call, with: values, steps: inner } = step as Record<string, unknown>;
    if (typeof call === "string") {
      const names = typeof values === "object" && values !== null ? Object.keys(values) : [];
      yield { path: [...path, i, "call"], target: call, names };
    }
    yield* callsIn(inner, [...path, i, "steps"]);
  }
}
