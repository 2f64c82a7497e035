/**
 * The groups of checks of a server: a file of this folder each.
 *
 * @module
 */

import type { Check, CheckGroup } from "../check.ts";
import { errors } from "./errors.ts";
import { framing } from "./framing.ts";
import { info } from "./info.ts";
import { negotiation } from "./negotiation.ts";

/** In the order in which they are done. */
export const SERVER_GROUPS: readonly CheckGroup[] = [negotiation, framing, errors, info];

/** All checks, in the order of their groups. */
export const SERVER_CHECKS: readonly Check[] = SERVER_GROUPS.flatMap(({ checks }) => checks);
