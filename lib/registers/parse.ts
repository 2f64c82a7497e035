/**
 * Maps of registers as text.
 *
 * @module
 */

import { draftMap, finishMap } from "./build.ts";
import { checkMap } from "./check.ts";
import { parseYaml, Problems } from "../yaml/document.ts";
import type { ParsedRegisterMap } from "./load.ts";
import { registerMapSchema } from "./schema.ts";
import { validate } from "../yaml/validate.ts";

/** {@linkcode parseRegisterMap}, with what it takes. */
export function parseMap(text: string, file: string): ParsedRegisterMap {
  const problems = new Problems(file);
  const document = parseYaml(text, problems.report);
  if (document === undefined) return { problems: problems.sorted() };
  validate(registerMapSchema, document, problems.report);
  const draft = draftMap(document.value);
  checkMap(draft, document, problems.report);
  const found = problems.sorted();
  return found.length === 0 ? { map: finishMap(draft) } : { problems: found };
}
