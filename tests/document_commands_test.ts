/** The commands of the documents for users run, and print what the documents show. */

import { assert, assertEquals } from "@std/assert";
import { main } from "../cli/main.ts";
import { programWords } from "../cli/completion/program.ts";
import { allCommands, type CommandWords } from "../cli/completion/words.ts";
import { type Context, Interrupted, type Output } from "../cli/shared/context.ts";
import { PLAIN } from "../cli/shared/style.ts";
import { libc } from "../ffi/libc.ts";
import { idle } from "../ffi/poller.ts";
import { DENO } from "./_deno.ts";
import {
  anchorsOf,
  blocksOf,
  commandsOf,
  documentText,
  fileOf,
  joinedLines,
  patternOf,
  ROOT,
  shellWords,
  steady,
  USER_DOCUMENTS,
} from "./_document.ts";
import { PATIENCE_MS } from "./_until.ts";
import { startVfu, type VfuProcess } from "./_vfu_process.ts";

libc(); // opened once for all tests, which then leave nothing open
Deno.chdir(ROOT);

/** The permissions that the documents have a user install vfu with. */
const PERMISSIONS = ["--allow-run", "--allow-env=NO_COLOR,FORCE_COLOR,TERM,HOME,XDG_STATE_HOME"];
/** Commands for a shell, in place of a call of main(). */
const SHELL = /[|<>;]|--spawn|^(?!vfu )/;

/**
 * Runs a command line in this process, on a terminal. Both outputs are one text, as on a screen.
 *
 * @param shouldEnd returns true once the screen is such that Ctrl-C is to be pressed
 */
async function runOnTerminal(
  args: string[],
  shouldEnd: (text: string) => boolean,
): Promise<string> {
  let text = "";
  const controller = new AbortController();
  const output: Output = {
    isTerminal: true,
    columns: 80,
    style: PLAIN,
    write: (more) => {
      text += more;
      if (shouldEnd(text)) controller.abort(new Interrupted("SIGINT"));
    },
    writeBytes: (bytes) => text += new TextDecoder().decode(bytes),
  };
  const context: Context = { out: output, err: output, signal: controller.signal };
  // A command that never prints the output of the document is ended all the same, and compared.
  const patience = setTimeout(() => controller.abort(new Interrupted("SIGINT")), PATIENCE_MS);
  await main(args, context);
  clearTimeout(patience);
  await idle();
  return text;
}

/** Runs a command in bash, with `vfu` from this checkout. */
async function runInShell(command: string, folder: string): Promise<string> {
  const { stdout } = await new Deno.Command("bash", {
    args: ["-c", `exec 2>&1\n${command}`],
    env: { PATH: `${folder}/.bin:${Deno.env.get("PATH")}`, NO_COLOR: "1" },
    stdin: "null",
  }).output();
  return new TextDecoder().decode(stdout);
}

/** Puts a `vfu` of this checkout into a folder. */
function installInto(folder: string): void {
  Deno.mkdirSync(`${folder}/.bin`);
  const deno = `${DENO} run --no-prompt --frozen --config ${ROOT}deno.json`;
  const allowed = ["--allow-ffi", "--allow-read", "--allow-write", ...PERMISSIONS].join(" ");
  const script = `#!/bin/sh\nexec ${deno} ${allowed} ${ROOT}cli/main.ts "$@"\n`;
  Deno.writeTextFileSync(`${folder}/.bin/vfu`, script, { mode: 0o755 });
}

/** Removes carriage returns and lines that a terminal writes over, as counters of progress. */
function onScreen(text: string): string {
  return text.replaceAll(/[^\n]*\r(?!\n)(?:\p{Cc}\[K)?/gu, "");
}

for (const document of USER_DOCUMENTS) {
  const blocks = blocksOf(documentText(document));
  if (!blocks.some(({ language }) => language === "console")) continue;

  Deno.test(`the commands of ${document} print what it shows`, async () => {
    const folder = Deno.makeTempDirSync({ dir: "/tmp", prefix: "vfu-doc-" });
    const here = (text: string) => text.replaceAll("/tmp/", `${folder}/`);
    const there = (text: string) => text.replaceAll(`${folder}/`, "/tmp/");
    const servers: VfuProcess[] = [];
    const mismatches: string[] = [];
    try {
      installInto(folder);
      for (const block of blocks) {
        const file = fileOf(block);
        if (file !== undefined) Deno.writeTextFileSync(here(file), block.lines.join("\n") + "\n");
        if (block.language !== "console") continue;
        for (const { command, output } of commandsOf(block)) {
          const place = `${document}:${block.line}: ${command}`;
          if (command.endsWith(" &")) {
            const args = shellWords(here(command.slice(0, -2))).slice(1);
            servers.push(await startVfu({ args, permissions: PERMISSIONS, signal: "SIGINT" }));
            assertEquals(output, [], place);
            continue;
          }
          const killed = /^kill %(\d+)$/.exec(command)?.[1];
          if (killed !== undefined) {
            await servers[Number(killed) - 1]!.end();
            continue;
          }
          const isEnded = output.at(-1) === "^C";
          const pattern = patternOf(isEnded ? output.slice(0, -1) : output);
          const shouldEnd = (text: string) => isEnded && pattern.test(steady(there(text)));
          const found = SHELL.test(command)
            ? await runInShell(here(command), folder)
            : await runOnTerminal(shellWords(here(command)).slice(1), shouldEnd);
          const text = onScreen(there(found));
          if (!pattern.test(steady(text))) mismatches.push(`${place}\n${text}`);
        }
      }
    } finally {
      for (const server of servers) await server.stop();
      await idle();
      Deno.removeSync(folder, { recursive: true });
    }
    assertEquals(mismatches, []);
  });
}

const QUIET: Output = { isTerminal: false, columns: 80, style: PLAIN, write() {}, writeBytes() {} };
const program = allCommands(
  await programWords({ out: QUIET, err: QUIET, signal: new AbortController().signal }),
);

/** Finds the command that words call, the deepest that there is. */
function calledBy(words: readonly string[]): CommandWords | undefined {
  return program.filter(({ path }) =>
    path.length > 0 && path.every((word, index) => words[index] === word)
  ).sort((a, b) => b.path.length - a.path.length)[0];
}

for (const document of USER_DOCUMENTS) {
  Deno.test(`${document} calls commands and options that there are`, () => {
    const lines = blocksOf(documentText(document)).flatMap(({ language, lines }) =>
      language === "sh" ? joinedLines(lines) : []
    );
    const wrong = lines.filter((line) => /^vfu /.test(line)).filter((line) => {
      const [own] = line.replace(/ +# .*/, "").split(/ [|>;] /);
      const words = shellWords(own!).slice(1);
      const command = calledBy(words);
      if (command === undefined) return !words[0]!.startsWith("-");
      const flags = command.options.flatMap((option) => option.flags);
      return words.filter((word) => /^--?[a-z]/.test(word))
        .some((word) => !flags.includes(word.replace(/=.*/, "")));
    });
    assertEquals(wrong, []);
  });

  Deno.test(`the languages of ${document}'s blocks are those that tests know`, () => {
    const known = ["console", "sh", "ts", "yaml", "xml", "json", "text"];
    const unknown = blocksOf(documentText(document)).filter(({ language }) =>
      !known.includes(language)
    );
    assertEquals(unknown.map(({ line, language }) => `${document}:${line}: ${language}`), []);
  });
}

/** Every document that has links, as paths from the root. */
const LINKED = [
  ...["README.md", "ARCHITECTURE.md", "CHANGELOG.md", "CONTRIBUTING.md", "SECURITY.md"],
  "examples/README.md",
  ...[...Deno.readDirSync(`${ROOT}docs`)].filter(({ name }) => name.endsWith(".md"))
    .map(({ name }) => `docs/${name}`).sort(),
];

/** Finds the links of a document that lead nowhere. */
function brokenLinks(document: string, text: string): string[] {
  const prose = text.replaceAll(/^```.*?^```$/gms, "").replaceAll(/`[^`\n]*`/g, "code");
  return [...prose.matchAll(/\]\(\s*([^)\s]+)\s*\)/g)].map(([, link]) => link!).filter((link) => {
    if (/^https?:/.test(link)) return false;
    const [path = "", anchor] = link.split("#");
    const file = path === "" ? document : new URL(path, `file:///${document}`).pathname.slice(1);
    try {
      if (anchor === undefined) return !Deno.statSync(ROOT + file).isFile;
      return !anchorsOf(file === document ? text : documentText(file)).includes(anchor);
    } catch (error) {
      if (error instanceof Deno.errors.NotFound) return true;
      throw error;
    }
  });
}

for (const document of LINKED) {
  Deno.test(`the links of ${document} lead to files and headings that there are`, () => {
    assertEquals(brokenLinks(document, documentText(document)), []);
  });
}

Deno.test("brokenLinks() finds a file and a heading that are not there", () => {
  const text = [
    "# A `b`, c",
    "[a](#a-b-c) [b](#a-b) [c](docs/README.md) [d](docs/no.md#x) [e](LICENSE) [f](lib)",
    "`[g](no.md)` [h](https://example.org/#x)",
    "```",
    "[i](no.md)",
    "```",
  ].join("\n");
  assertEquals(brokenLinks("README.md", text), ["#a-b", "docs/no.md#x", "lib"]);
});

Deno.test("docs/README.md and USER_DOCUMENTS have every document", () => {
  const index = documentText("docs/README.md");
  const names = LINKED.filter((path) => path.startsWith("docs/")).map((path) => path.slice(5));
  assertEquals(
    names.filter((name) => name !== "README.md" && !index.includes(`](${name})`)),
    [],
  );
  const forMaintainers = ["decisions", "fuzzing", "interop", "peers", "performance", "replay"];
  assertEquals(
    names.filter((name) =>
      !USER_DOCUMENTS.includes(`docs/${name}`) && !forMaintainers.includes(name.slice(0, -3))
    ),
    [],
  );
});

Deno.test("patternOf() takes the lines and durations that differ, and nothing else", () => {
  const pattern = patternOf(["ok  1    5.14 ms  read", "...", "end ..."]);
  const matches = (text: string) => pattern.test(steady(text));
  assert(matches("ok  1  123.4 ms  read\nend of it\n"));
  assert(matches("ok  1  1 ms  read\nmore\nand more\nend \n"));
  assert(!matches("ok  2  1 ms  read\nend of it\n"));
  assert(!matches("ok  1  1 ms  read\nend of it\nmore\n"));
});
