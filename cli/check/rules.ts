/**
 * Rules as a list, and one of them in full.
 *
 * @module
 */

import type { CommandUnknownOpts } from "@commander-js/extra-typings";
import type { Rule, RuleGroup } from "../../lib/conformance/check.ts";
import { planOf } from "../../lib/conformance/run.ts";
import type { Context } from "../shared/context.ts";
import { jsonText } from "../shared/json.ts";
import { tableLines } from "../shared/table.ts";
import { type Choice, chooser, fits } from "./choose.ts";

/** Prints the rules that are chosen, by group. */
export function list(
  { out }: Context,
  groups: readonly RuleGroup[],
  options: Choice & { readonly json?: true | undefined },
): void {
  const plans = planOf(groups, chooser(options));
  if (options.json) {
    const checks = plans.flatMap(({ group, checks }) =>
      checks.map((each) => ruleJson(each, group))
    );
    return out.write(`${jsonText(checks, 2)}\n`);
  }
  for (const { group, checks } of plans) {
    out.write(`${out.style.bold(group.title)}\n`);
    const rows = checks.map(({ id, level, rule }) => [id, level, rule]);
    for (const line of tableLines(rows, { columns: out.columns, indent: 2 })) {
      out.write(`${line}\n`);
    }
  }
}

/** Prints each rule that a pattern of `--only` fits, with its section. None is wrong usage. */
export function explain(
  { out }: Context,
  self: CommandUnknownOpts,
  groups: readonly RuleGroup[],
  pattern: string,
  { json }: { readonly json?: true | undefined },
): void {
  const plans = planOf(groups, (check) => fits(pattern, check));
  const found = plans.flatMap(({ group, checks }) => checks.map((check) => ({ check, group })));
  if (found.length === 0) self.error(`error: no check fits '${pattern}'; --list shows all`);
  if (json) {
    const rules = found.map(({ check, group }) => ruleJson(check, group));
    // A pattern that fits one check is its id, as a rule.
    return out.write(`${jsonText(rules.length === 1 ? rules[0] : rules, 2)}\n`);
  }
  for (const [i, { check, group }] of found.entries()) {
    const [peer] = check.id.split("/");
    const notes = [
      ...(check.mayEnd ? [`The ${peer} may close the connection.`] : []),
      ...(check.isDestructive ? [`A careless ${peer} may end or hang.`] : []),
      ...(check.needsCopy ? ["The device has to copy memory: --copy says how."] : []),
    ];
    out.write(
      `${i === 0 ? "" : "\n"}${out.style.bold(check.id)}  ${group.title}\n` +
        `${check.level}: ${check.rule}\n` +
        `Section: ${check.section}\n${notes.map((note) => `${note}\n`).join("")}`,
    );
  }
}

function ruleJson(
  { id, level, section, rule, mayEnd, isDestructive, needsCopy }: Rule,
  { title }: RuleGroup,
) {
  return {
    id,
    group: title,
    level,
    section,
    rule,
    may_end_connection: mayEnd ?? false,
    destructive: isDestructive ?? false,
    needs_copy: needsCopy ?? false,
  };
}
