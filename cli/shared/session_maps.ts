/**
 * Register maps that a session file includes, where a command was given them with `--map`.
 *
 * @module
 */

import { STANDARD_INPUT } from "../../lib/base/input.ts";
import { shellWord } from "../../lib/text/shell_word.ts";
import { isDeviceModule } from "./map.ts";
import { printable } from "./printable.ts";

/** Maps as a session has them. */
export interface SessionMaps {
  /** The names and files for `include`. */
  readonly include: readonly string[];
  /** Lines that say what has to be done before the session runs. */
  readonly notes: readonly string[];
}

/**
 * Names maps as a session includes them. A session takes no device's module: in its place stands
 * the file of a map that `--export-map` makes of it.
 *
 * @param nameOf the name that a file has in the session
 * @throws {RangeError} if a map came by standard input
 */
export function sessionMaps(
  maps: readonly string[],
  nameOf: (file: string) => string,
): SessionMaps {
  const notes: string[] = [];
  const include = maps.map((map) => {
    if (map === STANDARD_INPUT) {
      throw new RangeError("Cannot include a map of standard input; save it, and name the file");
    }
    if (!/[/.]/.test(map)) return map;
    if (!isDeviceModule(map)) return nameOf(map);
    const exported = shellWord(mapFile(map));
    notes.push(printable(
      `It includes ${exported}, which vfu serve ${shellWord(map)} --export-map ${exported} writes`,
    ));
    return mapFile(nameOf(map));
  });
  return { include, notes };
}

/** The file of the map of a module: "./my_device.yaml" of "./my_device.ts". */
function mapFile(module: string): string {
  return module.replace(/\.\w+$/, ".yaml");
}
