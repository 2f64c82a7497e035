/**
 * Maps of registers as text.
 *
 * @module
 */

import { draftMap, finishMap } from "./build.ts";
import { checkMap } from "./check.ts";
import { checkRegions } from "./check_regions.ts";
import { parseYaml, Problems, type Report, type YamlDocument } from "../yaml/document.ts";
import type { ParsedRegisterMap } from "./parsed.ts";
import type { RegisterMap } from "./map.ts";
import { registerMapSchema } from "./schema.ts";
import { validate } from "../yaml/validate.ts";

/** {@linkcode parseRegisterMap}, with what it takes. */
export function parseMap(text: string, file: string): ParsedRegisterMap {
  const problems = new Problems(file);
  const document = parseYaml(text, problems.report);
  const map = document && readMap(document, problems.report);
  const found = problems.sorted();
  return map !== undefined && found.length === 0 ? { map } : { problems: found };
}

/**
 * Makes a map of a file, or part of one. What is wrong is given to `report`, and there is no map
 * then.
 */
export function readMap(document: YamlDocument, report: Report): RegisterMap | undefined {
  let isGood = true;
  const note: Report = (...mistake) => {
    isGood = false;
    report(...mistake);
  };
  validate(registerMapSchema, document, note);
  const draft = draftMap(document.value);
  checkMap(draft, document, note);
  checkRegions(draft, document, note);
  return isGood ? finishMap(draft) : undefined;
}
