/**
 * Completion for zsh.
 *
 * @module
 */

import { shellQuoted } from "../../lib/text/shell_word.ts";
import { type Offered, offered } from "./values.ts";
import { allCommands, type CommandWords } from "./words.ts";

/** Writes the script. */
export function zshScript(program: CommandWords): string {
  return `#compdef vfu
# Completion of vfu for zsh: source it, or name it _vfu in a folder of $fpath.

# Words; behind one that ends with +, = or : no space comes.
_vfu_words() {
  local word
  local -a open closed
  for word; do
    if [[ $word == *[+=:] ]]; then open+=("$word"); else closed+=("$word"); fi
  done
  ((\${#open})) && compadd -S '' -a open
  ((\${#closed})) && compadd -a closed
}

# Names of the registers of the maps on the line, or of their fields behind a register's name and a
# dot. A module is not run for that.
_vfu_registers() {
  local map name
  local -i at
  local -a list
  for ((at = 1; at < CURRENT; at++)); do
    case $words[at] in
      --map) map=$words[at+1] ;;
      --map=*) map=\${words[at]#--map=} ;;
      *) continue ;;
    esac
    map=\${(Q)map}
    [[ $map == [0-9]* || $map == *.(c|m|)[jt]s(x|) ]] && continue
    for name in \${(f)"$(vfu map list --names -- \${map/#\\~\\//$HOME/} 2>/dev/null)"}; do
      [[ $name == *.* && $PREFIX != *.* ]] || list+=("$name$1")
    done
  done
  ((\${#list})) && _vfu_words $list
}

${allCommands(program).map(commandFunction).join("\n")}
if [[ \${funcstack[1]} == _vfu ]]; then _vfu "$@"; else compdef _vfu vfu; fi
`;
}

function commandFunction(command: CommandWords): string {
  const specs = command.options.map(({ flags, description, value }) => {
    const told = `[${escapeDescription(description)}]`;
    const taken = value === undefined
      ? ""
      : `:${escapeColons(value.name)}:${action(offered(command, value, flags.at(-1)))}`;
    const names = flags.map((flag) =>
      value !== undefined && flag.startsWith("--") ? `${flag}=` : flag
    );
    const [first] = names;
    const spec = shellQuoted(`${told}${taken}`);
    return names.length === 1 ? `'*'${first}${spec}` : `'*'{${names.join(",")}}${spec}`;
  });
  const name = functionOf(command.path);
  if (command.commands.length > 0) {
    const list = command.commands.map(({ path, summary }) =>
      shellQuoted(`${path.at(-1)}:${escapeColons(summary)}`)
    );
    const cases = command.commands.map(({ path }) =>
      `        ${path.at(-1)}) ${functionOf(path)} ;;\n`
    );
    return `${name}() {
  local curcontext=$curcontext state line
  local -a commands=(
${list.map((each) => `    ${each}\n`).join("")}  )
  _arguments -C \\
${specs.map((each) => `    ${each} \\\n`).join("")}    '1: :->command' '*:: :->rest'
  case $state in
    command) _describe command commands ;;
    rest)
      case $words[1] in
${cases.join("")}      esac ;;
  esac
}
`;
  }
  const values = command.values.map((value, i) =>
    shellQuoted(
      `${value.isVariadic ? "*" : i + 1}:${escapeColons(value.name)}:${
        action(offered(command, value))
      }`,
    )
  );
  return `${name}() {
  _arguments \\
${[...specs, ...values].map((each) => `    ${each}`).join(" \\\n")}
}
`;
}

/** The action of `_arguments` for a value. */
function action({ words, hasFiles, registerEnd }: Offered): string {
  const parts = [
    ...(words.length === 0
      ? []
      : [`_vfu_words ${words.map((word) => `"${escapeColons(word)}"`).join(" ")}`]),
    ...(registerEnd === undefined ? [] : [`_vfu_registers "${registerEnd}"`]),
    ...(hasFiles ? ["_files"] : []),
  ];
  if (parts.length === 0) return " ";
  return parts.length === 1 && hasFiles ? "_files" : `{${parts.join("; ")}}`;
}

function functionOf(path: readonly string[]): string {
  return ["_vfu", ...path].join("_").replaceAll("-", "_");
}

function escapeDescription(text: string): string {
  return text.replaceAll(/[\\[\]]/g, "\\$&").replaceAll("\n", " ");
}

function escapeColons(text: string): string {
  return text.replaceAll(/[\\:]/g, "\\$&");
}
