/**
 * All commands as one document, made of their definitions: `docs/commands.md`.
 *
 * @module
 */

import { main } from "../main.ts";
import { wholeProgram } from "../completion/program.ts";
import { allCommands, type CommandWords, wordsOf } from "../completion/words.ts";
import { captured } from "../shared/captured.ts";

const HEAD = `# Commands

\`deno task docs:commands\` writes this document from the definitions of the commands. Each section is
the output of \`vfu COMMAND --help\`.

Exit codes of every command: 0 done, 1 failed, 2 wrong usage, 130 interrupted by Ctrl-C, 143
terminated, 129 hung up.
`;

/** Writes the document. */
export async function commandsDocument(): Promise<string> {
  const [whole, ...commands] = allCommands(wordsOf(await wholeProgram(captured(() => {}))));
  const rows = whole!.commands.map(({ path, summary }) => [link(path), summary] as const);
  const widths = [0, 1].map((column) => Math.max(...rows.map((row) => row[column]!.length)));
  const row = (cells: readonly string[]) =>
    `| ${cells.map((cell, column) => cell.padEnd(widths[column]!)).join(" | ")} |`;
  const sections = await Promise.all(commands.map(sectionOf));
  return [
    HEAD,
    row(["command", "what it does"]),
    row(widths.map((width) => "-".repeat(width))),
    ...rows.map(row),
    ...sections,
    "",
  ].join("\n");
}

/** The section of a command, with its help. */
async function sectionOf({ path }: CommandWords): Promise<string> {
  const words = path.join(" ");
  return `\n## vfu ${words}\n\n\`\`\`text\n${(await helpOf(path)).trimEnd()}\n\`\`\``;
}

function link(path: readonly string[]): string {
  return `[\`vfu ${path.join(" ")}\`](#vfu-${path.join("-")})`;
}

/** The output of a command with `--help`. */
async function helpOf(path: readonly string[]): Promise<string> {
  let help = "";
  await main([...path, "--help"], captured((text) => help += text));
  return help;
}

if (import.meta.main) {
  const file = new URL("../../docs/commands.md", import.meta.url);
  Deno.writeTextFileSync(file, await commandsDocument());
}
