/**
 * Options of commands that may serve the device that they need.
 *
 * @module
 */

import { type CommandUnknownOpts, Option } from "@commander-js/extra-typings";
import { type ChosenOption, parseOption } from "../serve/chosen_option.ts";
import { argumentList } from "../shared/argument.ts";

/** `--option`, for commands that serve a device themselves. */
export function deviceOption() {
  return new Option("--option <name=value>", "choose an option of the --serve device; repeatable")
    .argParser(argumentList(parseOption));
}

/** Ends the command with wrong usage if options are chosen of a device that it does not serve. */
export function assertServes(
  self: CommandUnknownOpts,
  { serve, option }: {
    readonly serve?: string | undefined;
    readonly option?: readonly ChosenOption[] | undefined;
  },
): void {
  if (option === undefined || serve !== undefined) return;
  self.error("error: '--option' is an option of a device, which '--serve <device>' names");
}
