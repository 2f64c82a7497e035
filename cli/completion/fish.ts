/**
 * Completion for fish.
 *
 * @module
 */

import { type Offered, offered } from "./values.ts";
import { allCommands, type CommandWords } from "./words.ts";

/** Writes the script. */
export function fishScript(program: CommandWords): string {
  const all = allCommands(program);
  const leaves = all.filter(({ path }) => path.length > 0);
  const paths = leaves.map(({ path }) => quote(path.join(" ")));
  return `# Completion of vfu for fish: source it, or put it into ~/.config/fish/completions as vfu.fish.

# True if the command that is being typed is this one.
function __vfu_at
    set -l known ${paths.join(" ")}
    set -l path
    for word in (commandline -opc)[2..-1]
        if contains -- (string join -- ' ' $path $word) $known
            set path $path $word
        end
    end
    test "$path" = "$argv[1]"
end

# Names of the registers of the maps on the line, or of their fields behind a register's name and a
# dot. A module is not run for that.
function __vfu_registers
    set -l words (commandline -opc)
    set -l cur (commandline -ct)
    for at in (seq (count $words))
        set -l map
        switch $words[$at]
            case --map
                set map $words[(math $at + 1)]
            case '--map=*'
                set map (string replace -- --map= '' $words[$at])
        end
        if test -z "$map"; or string match -qr -- '^[0-9]|\\.[cm]?[jt]sx?$' $map
            continue
        end
        set -l names (vfu map list --names -- (string replace -r '^~/' "$HOME/" -- $map) 2>/dev/null)
        string match -q -- '*.*' "$cur"; or set names (string match -v -- '*.*' $names)
        string join \\n -- $names$argv[1]
    end
end

complete -c vfu -f
${all.map(commandLines).join("\n")}`;
}

function commandLines(command: CommandWords): string {
  const at = `complete -c vfu -n ${quote(`__vfu_at ${quote(command.path.join(" "))}`)}`;
  const lines = command.commands.map(({ path, summary }) =>
    `${at} -a ${quote(path.at(-1)!)} -d ${quote(summary)}`
  );
  for (const { flags, description, value } of command.options) {
    const names = flags.map((flag) =>
      flag.startsWith("--") ? `-l ${flag.slice(2)}` : `-s ${flag.slice(1)}`
    );
    const taken = value === undefined ? "" : ` -r ${values(offered(command, value, flags.at(-1)))}`;
    lines.push(`${at} ${names.join(" ")}${taken} -d ${quote(description.replaceAll("\n", " "))}`);
  }
  for (const value of command.values) {
    const offer = offered(command, value);
    if (offer.words.length > 0 || offer.hasFiles || offer.registerEnd !== undefined) {
      lines.push(`${at} ${values(offer)}`);
    }
  }
  return lines.map((line) => `${line}\n`).join("");
}

function values({ words, hasFiles, registerEnd }: Offered): string {
  const registers = registerEnd === undefined ? "" : ` (__vfu_registers ${quote(registerEnd)})`;
  const list = `${words.join(" ")}${registers}`.trimStart();
  const own = list === "" ? [] : [`-a ${quote(list)}`];
  return [...own, hasFiles ? "-F" : "-f"].join(" ");
}

function quote(text: string): string {
  return `'${text.replaceAll("\\", "\\\\").replaceAll("'", "\\'")}'`;
}
