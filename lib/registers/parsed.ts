/**
 * A register map as its file says it, with the mistakes in it.
 *
 * @module
 */

import type { RegisterMap } from "./map.ts";
import type { Problem } from "../yaml/problem.ts";

/** A map, or what is wrong with its text. */
export type ParsedRegisterMap =
  | { readonly map: RegisterMap; readonly problems?: never }
  | { readonly problems: readonly Problem[]; readonly map?: never };
