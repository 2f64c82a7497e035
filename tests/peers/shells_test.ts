import { assertEquals } from "@std/assert";
import { runHere, temporaryFolder } from "../cli/_cli.ts";
import { writeMap } from "../cli/_completion.ts";

/** Lines that a person types, and the lines that zsh makes of them at the Tab key. */
const ZSH_LINES: [typed: string, completed: string][] = [
  ["vfu recor", "vfu record "],
  ["vfu help recor", "vfu help record "],
  ["vfu read s CAP_MSIX", "vfu read s CAP_MSIX+"],
  ["vfu read --form", "vfu read --format="],
  ["vfu read --format=he", "vfu read --format=hex "],
  ["vfu read --format he", "vfu read --format hex "],
  ["vfu read -v --map n", "vfu read -v --map nvme "],
  ["vfu read folder/fi", "vfu read folder/file.sock "],
  ["vfu irq s msix", "vfu irq s msix "],
  ["vfu migrate sa", "vfu migrate save "],
  ["vfu migrate state s RUN", "vfu migrate state s RUNNING "],
  ["vfu serve --offer max_m", "vfu serve --offer max_msg_fds="],
  ["vfu serve demo --fault REGION_READ:de", "vfu serve demo --fault REGION_READ:delay "],
  ["vfu read --map nvme s CS", "vfu read --map nvme s CSTS "],
  ["vfu read --map=./own.yaml s SC", "vfu read --map=./own.yaml s SCRATCH "],
  ["vfu write s --map ./own.yaml SCRATCH.L", "vfu write s --map ./own.yaml SCRATCH.LOW="],
  ["vfu read --map ./o\\wn.yaml s SC", "vfu read --map ./o\\wn.yaml s SCRATCH "],
  ["vfu read --map './own.yaml' s SC", "vfu read --map './own.yaml' s SCRATCH "],
  ["vfu man migr", "vfu man migrate "],
];

/** Lines that a person types, and the words that fish offers. */
const FISH_LINES: [typed: string, words: string[]][] = [
  ["vfu recor", ["record"]],
  ["vfu help recor", ["record"]],
  ["vfu read s CAP_MSIX", ["CAP_MSIX+"]],
  ["vfu read --form", ["--format"]],
  ["vfu read --format h", ["hex"]],
  ["vfu read -v --map n", ["nvme"]],
  ["vfu irq s m", ["msi", "msix"]],
  ["vfu migrate s", ["save", "show", "state"]],
  ["vfu serve --offer max_m", ["max_msg_fds="]],
  ["vfu serve demo --fault REGION_READ:de", ["REGION_READ:delay"]],
  ["vfu read --map nvme s CS", ["CSTS"]],
  ["vfu read --map=./own.yaml s SCRA", ["SCRATCH"]],
  ["vfu write s --map ./own.yaml SCRATCH.L", ["SCRATCH.LOW="]],
  ["vfu read --map './own.yaml' s SCRA", ["SCRATCH"]],
  ["vfu man migr", ["migrate"]],
];

/** Runs a shell in a folder that has a `vfu`. */
async function output(command: string, args: string[], cwd: string): Promise<string> {
  const env = { PATH: `${cwd}/.bin:${Deno.env.get("PATH")}` };
  const { stdout, stderr, code } = await new Deno.Command(command, { args, cwd, env }).output();
  assertEquals([new TextDecoder().decode(stderr), code], ["", 0]);
  return new TextDecoder().decode(stdout);
}

Deno.test("zsh completes commands, options, values and paths", async () => {
  await using folder = temporaryFolder();
  const { path } = folder;
  await Deno.mkdir(`${path}/folder`);
  await Deno.writeTextFile(`${path}/folder/file.sock`, "");
  await Deno.mkdir(`${path}/functions`);
  await writeMap(path);
  await Deno.writeTextFile(`${path}/functions/_vfu`, (await runHere(["completion", "zsh"])).out);
  // Control-X shows the line as it is, and empties it.
  const script = `
    zmodload zsh/zpty
    zpty z zsh -f -i
    zpty -w z 'PS1=; PROMPT_EOL_MARK=; fpath=($PWD/functions $fpath); autoload -Uz compinit
      compinit -u -D; show() { print -r -- "<$BUFFER>"; BUFFER= }; zle -N show; bindkey "^X" show
      setopt nolistbeep; print RE""ADY'
    zpty -r z out '*READY*'
    for line; do
      zpty -w -n z "$line"$'\\t\\x18'
      zpty -r z out '*<*>*'
      print -r -- "\${\${out##*<}%%>*}"
    done
    zpty -d z`;
  const out = await output(
    "zsh",
    ["-f", "-c", script, "zsh", ...ZSH_LINES.map(([line]) => line)],
    path,
  );
  const lines = out.split("\n").slice(0, -1);
  assertEquals(lines, ZSH_LINES.map(([, completed]) => completed));
});

Deno.test("fish completes commands, options and values", async () => {
  await using folder = temporaryFolder();
  const file = `${folder.path}/vfu.fish`;
  await writeMap(folder.path);
  await Deno.writeTextFile(file, (await runHere(["completion", "fish"])).out);
  const script = `source ${file}; for line in $argv; complete -C $line; echo; end`;
  const lines = FISH_LINES.map(([line]) => line);
  const out = await output("fish", ["--no-config", "-c", script, ...lines], folder.path);
  const words = out.split("\n\n").map((text) =>
    text.split("\n").filter(Boolean).map((line) => line.split("\t")[0]!)
  );
  assertEquals(words.slice(0, -1), FISH_LINES.map(([, offered]) => offered));
});
