/**
 * Register maps from files of hardware people: CMSIS-SVD and IP-XACT.
 *
 * @module
 */

import type { Problem } from "../../yaml/problem.ts";
import { MAX_FILE_SIZE } from "../../yaml/text.ts";
import { identifier, type Register, type RegisterMap } from "../map.ts";
import { parseMap } from "../parse.ts";
import { registerMapText } from "../write.ts";
import { Findings } from "./findings.ts";
import { finishImport, type Placement } from "./finish.ts";
import type { HardwareFile, Peripheral } from "./hardware.ts";
import { readIpXact } from "./ipxact.ts";
import { readSvd } from "./svd.ts";
import { type ReadOptions, readXml } from "./xml.ts";

export type { HardwareFile, Peripheral, Placement };

/** A map that was imported. */
export interface ImportedMap {
  readonly map: RegisterMap;
  /** The map as the text of a file. */
  readonly text: string;
  /** The parts of the file that are in the map in another way, or not at all. */
  readonly notes: readonly Problem[];
}

/** A file that was read, of which maps can be made. */
export interface Imports extends HardwareFile {
  /**
   * Makes a map of one of its peripherals.
   *
   * @param name of the map; default the peripheral's
   * @throws {FileProblems} if there are mistakes in it, or it is more than a map can hold
   */
  make(peripheral: Peripheral, place: Placement, name?: string): ImportedMap;
}

/**
 * Reads a file of CMSIS-SVD or IP-XACT. It takes `--allow-read`.
 *
 * @throws {FileProblems} if there are mistakes in it; it has them with line and column
 */
export async function readImports(path: string, options: ReadOptions = {}): Promise<Imports> {
  const { root, positionOf } = await readXml(path, options);
  const findings = new Findings(path, positionOf);
  const { hold = (work) => work() } = options;
  const readRoot = (): HardwareFile | undefined => {
    if (root.name === "device") return readSvd(root, findings);
    if (root.name === "component") return readIpXact(root, findings);
    findings.mistake(
      root.at,
      `The file begins with <${root.name}>`,
      "CMSIS-SVD begins with <device>, IP-XACT with <component>",
    );
  };
  const file = hold(() => findings.run(readRoot))!;
  return {
    ...file,
    make(peripheral, place, name = identifier(peripheral.name.toLowerCase())) {
      const { description: title } = peripheral;
      const map = findings.run(() =>
        finishImport(peripheral.members(), { name, title, place }, findings)
      );
      const text = findings.run(() => {
        // What is written is what --map will read, which is bounded.
        const refuse = (reason: string) => {
          const message = `The map of ${peripheral.name} could not be read: ${reason}`;
          findings.mistake(peripheral.at, message);
          return "";
        };
        const tooLarge = `it is larger than ${MAX_FILE_SIZE >> 20} MiB`;
        if (leastSize(map) > MAX_FILE_SIZE) return refuse(tooLarge);
        const remark = `${peripheral.name} of ${file.name}, from ${file.format}`;
        const text = registerMapText(map, remark);
        if (new TextEncoder().encode(text).length > MAX_FILE_SIZE) return refuse(tooLarge);
        const { problems: [problem] = [] } = parseMap(text, path);
        return problem === undefined ? text : refuse(problem.message);
      });
      return { map, text, notes: findings.notes };
    },
  };
}

/** The size of a map's names and descriptions: as text it has more. */
function leastSize({ registers }: RegisterMap): number {
  const sizeOf = ({ name, description = "" }: Pick<Register, "name" | "description">) =>
    name.length + description.length;
  return registers.reduce((sum, register) =>
    register.fields.reduce(
      (sum, field) =>
        [...field.enum.values()].reduce((sum, name) => sum + name.length, sum + sizeOf(field)),
      sum + sizeOf(register),
    ), 0);
}
