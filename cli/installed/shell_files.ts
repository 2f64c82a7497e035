/**
 * Files for the user's shell: completions, and manual pages.
 *
 * @module
 */

import { wholeProgram } from "../completion/program.ts";
import { allCommands, wordsOf } from "../completion/words.ts";
import { main } from "../main.ts";
import { captured } from "../shared/captured.ts";

/** The name of the completions for each shell, as the shell looks for it. */
const COMPLETIONS = { bash: "vfu", zsh: "_vfu", fish: "vfu.fish" } as const;

/** Writes the completions, into a folder for each shell. */
export async function writeCompletions(folder: string): Promise<void> {
  for (const [shell, name] of Object.entries(COMPLETIONS)) {
    await Deno.mkdir(`${folder}/${shell}`, { recursive: true });
    await Deno.writeTextFile(`${folder}/${shell}/${name}`, await outputOf("completion", shell));
  }
}

/** Writes the manual page of the program and of each command, into a new folder. */
export async function writeManual(folder: string): Promise<void> {
  await Deno.mkdir(folder);
  const commands = allCommands(wordsOf(await wholeProgram(captured(() => {}))));
  for (const { path } of commands) {
    const name = ["vfu", ...path].join("-");
    await Deno.writeTextFile(`${folder}/${name}.1`, await outputOf("man", ...path));
  }
}

async function outputOf(...args: string[]): Promise<string> {
  let output = "";
  const code = await main(args, captured((text) => output += text));
  if (code !== 0) throw new Error(`Cannot write vfu ${args.join(" ")}: ${output}`);
  return output;
}
