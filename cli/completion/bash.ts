/**
 * Completion for bash.
 *
 * @module
 */

import { shellQuoted } from "../../lib/text/shell_word.ts";
import { type Offered, offered } from "./values.ts";
import { allCommands, type CommandWords } from "./words.ts";

/**
 * The part that knows nothing of `vfu`. Bash splits a line at `=` and `:` as well, so the words are
 * read off the line itself. The part ahead of the last such sign is taken off the answers.
 */
const ENGINE =
  `# Names of the registers of a map, or of their fields behind a register's name and a dot. A module
# is not run for that.
_vfu_registers() {
  local map=\${1/#'~/'/"$HOME/"} name
  [[ $map == [0-9]* || $map =~ \\.[cm]?[jt]sx?$ ]] && return
  while IFS= read -r name; do
    [[ $name == *.* && $2 != *.* ]] || echo "$name$3"
  done < <("\${COMP_WORDS[0]:-vfu}" map list --names -- "$map" 2>/dev/null)
}

_vfu() {
  local line=\${COMP_LINE:0:COMP_POINT} cur prev="" path="" word position=0
  local options commands taking words files registers list=()
  local -a given maps
  # Without -r: a backslash ahead of a space keeps a word together.
  read -a given <<<"$line"
  [[ $line == *[[:space:]] && $line != *\\[[:space:]] ]] && given+=("")
  cur=\${given[-1]}
  unset 'given[-1]'
  _vfu_command ""
  for word in "\${given[@]:1}"; do
    if [[ $prev == --map ]]; then maps+=("$word") prev=""
    elif [[ -n $prev ]]; then prev=""
    elif [[ $word == --map=* ]]; then maps+=("\${word#*=}")
    elif [[ $word == -* ]]; then [[ $taking == *" $word "* ]] && prev=$word
    elif [[ $commands == *" $word "* ]]; then
      path+=\${path:+ }$word
      _vfu_command "$path"
      position=0
    else ((position += 1))
    fi
  done
  COMPREPLY=()
  if [[ -z $prev && $cur == --*=* && $taking == *" \${cur%%=*} "* ]]; then
    prev=\${cur%%=*}
    cur=\${cur#*=}
  fi
  if [[ -n $prev ]]; then _vfu_value "$path" "$prev"
  elif [[ $cur == -* ]]; then words=$options files="" registers=""
  elif [[ -n $commands ]]; then words=$commands files="" registers=""
  else _vfu_value "$path" "$position"
  fi
  if [[ -n $registers ]]; then
    for word in "\${maps[@]}"; do words+=" $(_vfu_registers "$word" "$cur" "\${registers#.}")"; done
  fi
  set -f
  for word in $words; do [[ $word == "$cur"* ]] && list+=("$word"); done
  set +f
  if ((\${#list[@]} == 1)) && [[ \${list[0]} == *[+=:] ]]; then compopt -o nospace 2>/dev/null; fi
  if [[ -n $files ]]; then
    compopt -o filenames 2>/dev/null
    while IFS= read -r word; do list+=("$word"); done < <(compgen -f -- "$cur")
  fi
  local ahead=\${cur%"\${cur##*[=:]}"}
  for word in "\${list[@]}"; do COMPREPLY+=("\${word#"$ahead"}"); done
}
complete -F _vfu vfu
`;

/** Writes the script. */
export function bashScript(program: CommandWords): string {
  const all = allCommands(program);
  const commands = all.map((command) => {
    const flags = command.options.flatMap((option) => option.flags);
    const taking = command.options.filter(({ value }) => value).flatMap((option) => option.flags);
    const below = command.commands.map(({ path }) => path.at(-1)!);
    return `    ${shellQuoted(command.path.join(" "))})\n` +
      `      options=${list(flags)} taking=${list(taking)} commands=${list(below)} ;;\n`;
  });
  const values = all.flatMap((command) => valueCases(command));
  return `# Completion of vfu for bash: source it, or put it into bash-completion's folder.

_vfu_command() {
  case $1 in
${commands.join("")}  esac
}

_vfu_value() {
  words="" files="" registers=""
  case "$1 $2" in
${values.join("")}  esac
}

${ENGINE}`;
}

/** Cases of the values of a command. The last argument may be there again and again. */
function valueCases(command: CommandWords): string[] {
  const path = command.path.join(" ");
  const ofOptions = command.options.flatMap(({ flags, value }) =>
    value === undefined ? [] : [
      valueCase(
        flags.map((flag) => shellQuoted(`${path} ${flag}`)),
        offered(command, value, flags.at(-1)),
      ),
    ]
  );
  const ofArguments = command.values.map((value, i) =>
    valueCase(
      [value.isVariadic ? `${shellQuoted(path)}\\ [0-9]*` : shellQuoted(`${path} ${i}`)],
      offered(command, value),
    )
  );
  return [...ofOptions, ...ofArguments].filter((text) => text !== "");
}

function valueCase(
  patterns: readonly string[],
  { words, hasFiles, registerEnd }: Offered,
): string {
  const sets = [
    ...(words.length === 0 ? [] : [`words=${shellQuoted(words.join(" "))}`]),
    ...(hasFiles ? ["files=1"] : []),
    ...(registerEnd === undefined ? [] : [`registers=.${registerEnd}`]),
  ];
  return sets.length === 0 ? "" : `    ${patterns.join(" | ")}) ${sets.join(" ")} ;;\n`;
}

/** Words with a space around each, for a search by pattern. */
function list(words: readonly string[]): string {
  return shellQuoted(words.length === 0 ? "" : ` ${words.join(" ")} `);
}
