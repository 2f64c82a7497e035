/**
 * A session as its files say it, with the mistakes in them.
 *
 * @module
 */

import type { Problem } from "../../yaml/problem.ts";
import type { Session } from "../model.ts";

/** A session, or what is wrong with its files. */
export type ParsedSession =
  | { readonly session: Session; readonly problems?: never }
  | { readonly problems: readonly Problem[]; readonly session?: never };
