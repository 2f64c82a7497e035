/**
 * The register maps of vfu, as a build has them: checked, and in the form that is read fastest.
 *
 * @module
 */

import { parseRegisterMap, SHIPPED_MAPS } from "../../lib/registers/load.ts";
import { parseYaml } from "../../lib/yaml/document.ts";
import { problemText } from "../../lib/yaml/problem.ts";
import { ROOT } from "./deno.ts";

/**
 * Writes the maps into a new folder. JSON is YAML as well, so they keep their names.
 *
 * @throws {Error} if there is a mistake in one
 */
export async function writeMaps(folder: string): Promise<void> {
  await Deno.mkdir(folder);
  for (const name of SHIPPED_MAPS) {
    const file = `${name}.yaml`;
    const text = await Deno.readTextFile(new URL(`lib/registers/maps/${file}`, ROOT));
    const { problems } = await parseRegisterMap(text, file);
    if (problems !== undefined) throw new Error(problems.map(problemText).join("\n"));
    await Deno.writeTextFile(`${folder}/${file}`, jsonOf(text));
  }
}

/** Rewrites YAML as JSON, with its integers as text, which has no limit. */
function jsonOf(yaml: string): string {
  const { value } = parseYaml(yaml, () => {})!;
  return JSON.stringify(value, (_, each) => typeof each === "bigint" ? String(each) : each);
}
