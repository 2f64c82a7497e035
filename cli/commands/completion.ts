/**
 * `vfu completion`: a script with which a shell completes command lines of `vfu`.
 *
 * @module
 */

import { Argument, Command, type CommandUnknownOpts } from "@commander-js/extra-typings";
import { bashScript } from "../completion/bash.ts";
import { fishScript } from "../completion/fish.ts";
import { programWords } from "../completion/program.ts";
import type { CommandWords } from "../completion/words.ts";
import { zshScript } from "../completion/zsh.ts";
import type { Context } from "../shared/context.ts";
import { examples } from "../shared/examples.ts";

/** The script of each shell. */
const SCRIPTS: Readonly<Record<"bash" | "zsh" | "fish", (program: CommandWords) => string>> = {
  bash: bashScript,
  zsh: zshScript,
  fish: fishScript,
};
const SHELLS = Object.keys(SCRIPTS) as (keyof typeof SCRIPTS)[];

const MORE_HELP = `
Where it goes:
  bash   ~/.local/share/bash-completion/completions/vfu, for new shells,
         with the package bash-completion; else the line below in ~/.bashrc
  zsh    _vfu, in one of the folders of $fpath
  fish   ~/.config/fish/completions/vfu.fish`;

/** The command's arguments and options. */
export function command(context: Context): CommandUnknownOpts {
  return new Command("completion")
    .description(
      "Writes a script that completes subcommands, options, and values that are known without a " +
        "device: regions, capabilities, maps, registers behind --map, faults, checks, paths.",
    )
    .addArgument(new Argument("<shell>", "the shell").choices(SHELLS))
    .addHelpText("after", MORE_HELP)
    .addHelpText(
      "after",
      examples(
        "source <(vfu completion bash)",
        "vfu completion zsh > ~/.zfunc/_vfu",
        "vfu completion fish > ~/.config/fish/completions/vfu.fish",
      ),
    )
    .action(async (shell) => {
      context.out.write(SCRIPTS[shell as keyof typeof SCRIPTS](await programWords(context)));
    });
}
