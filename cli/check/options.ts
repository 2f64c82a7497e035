/**
 * Options that `vfu check` and `vfu check-client` treat alike.
 *
 * @module
 */

import type { CommandUnknownOpts } from "@commander-js/extra-typings";
import type { Rule, RuleGroup } from "../../lib/conformance/check.ts";
import type { Context } from "../shared/context.ts";
import { type Choice, chooser, fitNothing } from "./choose.ts";
import { explain, list } from "./rules.ts";

/**
 * Answers `--explain` and `--list`, and refuses a choice that fits no check, or leaves none.
 *
 * @returns true if nothing is left to be done
 */
export function answersRules(
  context: Context,
  self: CommandUnknownOpts,
  groups: readonly RuleGroup[],
  options: Choice & {
    readonly explain?: string | undefined;
    readonly list?: true | undefined;
    readonly json?: true | undefined;
  },
): boolean {
  const checks: readonly Rule[] = groups.flatMap((group) => group.checks);
  const [nothing] = fitNothing(checks, options);
  if (nothing !== undefined) self.error(`error: no check fits '${nothing}'; --list shows all`);
  if (options.explain === undefined && !checks.some(chooser(options))) {
    self.error("error: --only, --skip and --level leave no check; --list shows all");
  }
  if (options.explain !== undefined) explain(context, self, groups, options.explain, options);
  else if (options.list) list(context, groups, options);
  else return false;
  return true;
}
