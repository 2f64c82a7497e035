/**
 * Documents for users, as their blocks of code.
 *
 * - `console` has commands behind `$`, each with what it prints. A line `...` stands for any lines,
 *   and `...` at the end of a line for the rest of it. `^C` as the last line is Ctrl-C.
 * - A block whose first line is a comment with a path below `/tmp/` is that file.
 * - `sh` has commands for other programs and devices, or such as run without an end.
 *
 * @module
 */

/** The project's folder, with a slash at its end. */
export const ROOT = new URL("../", import.meta.url).pathname;

/** The documents for users, as paths from the root. */
export const USER_DOCUMENTS: readonly string[] = [
  "README.md",
  "docs/README.md",
  "docs/checking.md",
  "docs/commands.md",
  "docs/device-guide.md",
  "docs/devices.md",
  "docs/getting-started.md",
  "docs/looking.md",
  "docs/migrating.md",
  "docs/protocol.md",
  "docs/recording.md",
  "docs/register-maps.md",
  "docs/serving.md",
  "docs/sessions.md",
  "docs/troubleshooting.md",
  "docs/typescript.md",
  "docs/virtual-machines.md",
];

/** A block of code. */
export interface Block {
  /** The language behind the fence. */
  readonly language: string;
  /** The line of the fence in the document, from 1. */
  readonly line: number;
  /** The lines between the fences. */
  readonly lines: readonly string[];
}

/** A command, and what it prints. */
export interface ShownCommand {
  /** The command, without `$`, on one line. */
  readonly command: string;
  /** The lines behind it. */
  readonly output: readonly string[];
}

/** Reads a document of the project. */
export function documentText(path: string): string {
  return Deno.readTextFileSync(ROOT + path);
}

/** Finds the blocks of code in a document, in order. */
export function blocksOf(text: string): Block[] {
  const blocks: Block[] = [];
  let open: { language: string; line: number; lines: string[] } | undefined;
  for (const [index, line] of text.split("\n").entries()) {
    const fence = /^```(\w*)/.exec(line);
    if (open !== undefined && line === "```") {
      blocks.push(open);
      open = undefined;
    } else if (open !== undefined) open.lines.push(line);
    else if (fence !== null) open = { language: fence[1]!, line: index + 1, lines: [] };
  }
  return blocks;
}

/** Finds the path of the file that a block is; undefined if the block is no file. */
export function fileOf({ language, lines: [first = ""] }: Block): string | undefined {
  if (!["ts", "yaml", "xml"].includes(language)) return undefined;
  return /^(?:\/\/|#|<!--) (\/tmp\/[\w.-]+)(?: -->)?$/.exec(first)?.[1];
}

/** Joins lines that end in a backslash with those behind them. */
export function joinedLines(lines: readonly string[]): string[] {
  return lines.join("\n").replaceAll(/ *\\\n\s*/g, " ").split("\n");
}

/** Finds the commands of a `console` block. */
export function commandsOf(block: Block): ShownCommand[] {
  const commands: { command: string; output: string[] }[] = [];
  // Output may end in a backslash, too.
  const text = block.lines.join("\n").replaceAll(
    /^\$ (?:.*\\\n)+.*$/gm,
    (command) => joinedLines(command.split("\n")).join(""),
  );
  for (const line of text.split("\n")) {
    if (line.startsWith("$ ")) commands.push({ command: line.slice(2), output: [] });
    else if (commands.length === 0) throw new Error(`line ${block.line}: output of no command`);
    else commands.at(-1)!.output.push(line);
  }
  return commands;
}

/** Splits a command into words as a shell does, as far as documents need it. */
export function shellWords(command: string): string[] {
  return [...command.matchAll(/(?:'[^']*'|"[^"]*"|[^\s'"])+/g)].map(([word]) =>
    word.replaceAll(/'([^']*)'|"([^"]*)"/g, (_, single, double) => single ?? double)
  );
}

/** Rewrites what differs from run to run: durations, with the blanks ahead of them. */
export function steady(text: string): string {
  return text.replaceAll(/ *\b\d+(?:\.\d+)? (?:ns|µs|ms|s)\b/g, " _")
    .replaceAll(/[ \t]+$/gm, "");
}

/** Makes the pattern of an output, of lines in which `...` stands for more. */
export function patternOf(lines: readonly string[]): RegExp {
  const escape = (text: string) => text.replaceAll(/[\\^$.*+?()[\]{}|]/g, "\\$&");
  const parts = lines.map((line) => {
    if (line === "...") return "(?:.*\\n)*?";
    const cut = /^(.*) \.\.\.$/.exec(line);
    return cut === null ? `${escape(steady(line))}\\n` : `${escape(steady(cut[1]!))}.*\\n`;
  });
  return new RegExp(`^${parts.join("")}$`);
}

/** Makes the anchors of a document's headings, as GitHub does. */
export function anchorsOf(text: string): string[] {
  const seen = new Map<string, number>();
  let isCode = false;
  return text.split("\n").flatMap((line) => {
    if (line.startsWith("```")) isCode = !isCode;
    const title = isCode ? undefined : /^#+ (.*)$/.exec(line)?.[1];
    if (title === undefined) return [];
    const anchor = title.toLowerCase().replaceAll(/[^\p{L}\p{N}_ -]/gu, "").replaceAll(" ", "-");
    const count = seen.get(anchor) ?? 0;
    seen.set(anchor, count + 1);
    return [count === 0 ? anchor : `${anchor}-${count}`];
  });
}
