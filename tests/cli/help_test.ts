/** Rules that the help of all commands keeps. */

import { assert, assertEquals } from "@std/assert";
import type { CommandUnknownOpts } from "@commander-js/extra-typings";
import { wholeProgram } from "../../cli/completion/program.ts";
import { offered } from "../../cli/completion/values.ts";
import { allCommands, wordsOf } from "../../cli/completion/words.ts";
import { PLAIN } from "../../cli/shared/style.ts";
import { runHere } from "./_cli.ts";

const QUIET = { isTerminal: false, columns: 80, style: PLAIN, write() {}, writeBytes() {} };

/** The program whose commands do nothing but say that they were called. */
async function silentProgram(called: string[]): Promise<CommandUnknownOpts> {
  const program = await wholeProgram({
    out: QUIET,
    err: QUIET,
    signal: new AbortController().signal,
  });
  const prepare = (command: CommandUnknownOpts, path: string) => {
    if (command.commands.length === 0) {
      command.action(() => {
        called.push(path);
      });
    }
    command.exitOverride().configureOutput({ writeErr: () => {} });
    for (const each of command.commands) prepare(each, `${path} ${each.name()}`.trim());
  };
  prepare(program, "");
  return program;
}

/** The words of a line, as a shell would pass them on; undefined for a line that pipes. */
function shellWords(line: string): string[] {
  const [own] = line.split(/ [|>;<] | < /);
  return [...own!.matchAll(/'([^']*)'|(\S+)/g)].map(([, quoted, bare]) => quoted ?? bare!);
}

const program = await silentProgram([]);
const leaves = allCommands(wordsOf(program)).filter(({ path, commands }) =>
  path.length > 0 && commands.length === 0
);

for (const { path, options } of leaves) {
  const name = path.join(" ");

  Deno.test(`vfu ${name} --help has three examples or more, and commander takes each`, async () => {
    const { out } = await runHere([...path, "--help"]);
    const [, section = ""] = out.split("\nExamples:\n");
    const lines = section.split("\n").filter((line) => line !== "");
    assert(lines.length >= 3, `${lines.length} examples`);
    for (const line of lines) {
      assert(line.length <= 80, line);
      if (!line.trim().startsWith("vfu ")) continue; // one for the shell itself
      const [, ...words] = shellWords(line.trim());
      const called: string[] = [];
      await (await silentProgram(called)).parseAsync(words, { from: "user" });
      const others = ["show", "completion", "man"]; // an example may go on with the next command
      assert(called[0] === name || others.includes(called[0]!), `${line}: ${called}`);
    }
  });

  Deno.test(`vfu ${name} --help fits 80 columns`, async () => {
    const { out } = await runHere([...path, "--help"]);
    assertEquals(out.split("\n").filter((line) => line.length > 80), []);
  });

  // What these write is text for other programs.
  if (["completion", "man"].includes(name)) continue;
  Deno.test(`vfu ${name} has --json`, () => {
    assertEquals(options.some(({ flags }) => flags.includes("--json")), true);
  });
}

Deno.test("each value of an option or argument has its words for a shell, or none by decision", () => {
  for (const command of allCommands(wordsOf(program))) {
    for (const { flags, value } of command.options) {
      if (value !== undefined) offered(command, value, flags.at(-1));
    }
    for (const value of command.values) offered(command, value);
  }
});
