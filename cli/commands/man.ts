/**
 * `vfu man`: manual pages, made of the definitions of the commands.
 *
 * @module
 */

import { Command, type CommandUnknownOpts } from "@commander-js/extra-typings";
import manifest from "../../deno.json" with { type: "json" };
import { wholeProgram } from "../completion/program.ts";
import { manualPage, type Page } from "../man/page.ts";
import type { Context } from "../shared/context.ts";
import { nearest } from "../../lib/text/nearest.ts";

const MORE_HELP = `
Examples:
  vfu man | man -l -
  vfu man record > vfu-record.1
  vfu man migrate save`;

/** The command's arguments and options. */
export function command(context: Context): CommandUnknownOpts {
  return new Command("man")
    .description("Writes the manual page of vfu, or of one of its commands, for man(1).")
    .argument("[command...]", "the command, as read or migrate save")
    .addHelpText("after", MORE_HELP)
    .action(async (words, _options, self) => {
      const program = await wholeProgram(context);
      let found: CommandUnknownOpts = program;
      for (const word of words) {
        const below = found.commands.find((each) => each.name() === word);
        if (below === undefined) {
          const meant = nearest(word, found.commands.map((each) => each.name()));
          const hint = meant === undefined ? "vfu --help lists them" : `did you mean ${meant}?`;
          return self.error(`error: there is no command '${word}'; ${hint}`);
        }
        found = below;
      }
      const name = ["vfu", ...words].join("-");
      const page: Page = {
        words: ["vfu", ...words],
        version: manifest.version,
        seeAlso: words.length === 0 || found.commands.length > 0
          ? found.commands.map((each) => `${name}-${each.name()}`)
          : [["vfu", ...words.slice(0, -1)].join("-")],
      };
      context.out.write(manualPage(found, page));
    });
}
