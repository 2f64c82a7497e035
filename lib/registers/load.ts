/**
 * Maps of registers from files: those of vfu, and those of its users.
 *
 * Reading YAML takes modules that nothing else needs; they are loaded with the first map.
 *
 * @module
 */

import { draftMap, finishMap } from "./build.ts";
import type { RegisterMap } from "./map.ts";
import { STANDARD_INPUT } from "../base/input.ts";
import { nearest } from "../text/nearest.ts";
import { FileProblems } from "../yaml/problem.ts";
import { readText } from "../yaml/text.ts";
import type { ParsedRegisterMap } from "./parsed.ts";

/**
 * The maps that vfu has: the registers of the demo device, the controller registers of NVM Express,
 * and PCI configuration space.
 */
export const SHIPPED_MAPS = ["demo", "nvme", "pci"] as const;

/**
 * Loads a map of registers: one of {@linkcode SHIPPED_MAPS} by its name, or a file, whose name has
 * a `/` or ends in `.yaml` or `.yml`. The file "-" is standard input. It takes `--allow-read`.
 *
 * @throws {RangeError} if it is neither
 * @throws {FileProblems} if there are mistakes in the file; it has all of them, each with line and
 * column
 *
 * @example
 * ```ts
 * import { loadRegisterMap } from "./load.ts";
 *
 * const nvme = await loadRegisterMap("nvme");
 * const csts = nvme.registers.find(({ name }) => name === "CSTS");
 * if (csts?.offset !== 0x1c) throw new Error();
 * ```
 */
export async function loadRegisterMap(nameOrFile: string): Promise<RegisterMap> {
  const place = locate(nameOrFile);
  if (place instanceof URL) return finishMap(draftMap(await shippedValue(place, nameOrFile)));
  const text = await readText(place, nameOrFile);
  const { map, problems } = await parseRegisterMap(text, nameOrFile);
  if (map === undefined) throw new FileProblems(nameOrFile, problems);
  return map;
}

/**
 * Reads a map of registers from YAML. All mistakes are found in one run, unless the text is so far
 * from YAML that nothing can be said about the rest.
 *
 * @param file the name of the text, which its problems give
 * @returns the map; or, without a map, the problems, each with line and column counted from 1
 *
 * @example
 * ```ts
 * import { parseRegisterMap } from "./load.ts";
 *
 * const right = "{name: t, registers: [{name: ID, offset: 0, width: 4}]}";
 * const good = await parseRegisterMap(right, "t.yaml");
 * if (good.map?.registers[0]?.name !== "ID") throw new Error();
 * const wrong = "{name: t, registers: [{name: ID, ofset: 0, width: 3}]}";
 * const bad = await parseRegisterMap(wrong, "t.yaml");
 * if (bad.problems?.length !== 3) throw new Error();
 * ```
 */
export async function parseRegisterMap(text: string, file: string): Promise<ParsedRegisterMap> {
  const { parseMap } = await import("./parse.ts");
  return parseMap(text, file);
}

/**
 * Reads the value of a map of vfu, which tests have checked. A build has written it as JSON: YAML
 * takes ten times as long.
 *
 * @throws {Error} if it is not there
 */
async function shippedValue(place: URL, name: string): Promise<unknown> {
  const text = await readText(place, name).catch((cause) => {
    if (!(cause instanceof Deno.errors.NotFound)) throw cause;
    throw new Error("it is a file of vfu, and is not there; install vfu again", { cause });
  });
  if (text.startsWith("{")) return JSON.parse(text);
  const { parseYaml } = await import("../yaml/document.ts");
  return parseYaml(text, () => {})?.value;
}

/** The URL of a map of vfu, or the path of another. */
function locate(nameOrFile: string): string | URL {
  if (nameOrFile === STANDARD_INPUT || /\/|\.ya?ml$/.test(nameOrFile)) return nameOrFile;
  const name = SHIPPED_MAPS.find((each) => each === nameOrFile);
  if (name !== undefined) return new URL(`./maps/${name}.yaml`, import.meta.url);
  const meant = nearest(nameOrFile, SHIPPED_MAPS);
  throw new RangeError(
    `There is no map "${nameOrFile}"; ` +
      (meant === undefined
        ? `there are ${SHIPPED_MAPS.join(", ")}, and files, with a / or .yaml in their names`
        : `did you mean "${meant}"?`),
  );
}
