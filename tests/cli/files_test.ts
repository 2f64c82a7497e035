/** Files that commands write: one rule for those that are there already, in a table of all. */

import { assertEquals, assertStringIncludes } from "@std/assert";
import { wholeProgram } from "../../cli/completion/program.ts";
import { PLAIN } from "../../cli/shared/style.ts";
import { DENO } from "../_deno.ts";
import { startDemo } from "../_demo_process.ts";
import { writeGolden } from "../lib/record/_golden.ts";
import { type Outcome, runHere, temporaryFolder } from "./_cli.ts";

const ROOT = new URL("../../", import.meta.url).pathname;
const ENGINE = `${ROOT}tests/lib/registers/import/samples/engine.xml`;
const EARLIER = "an earlier file\n";

/** A command that writes a file, FILE; SOCKET is a demo device, FOLDER has other files. */
interface Writer {
  readonly line: string;
  /** True of output after which Ctrl-C is pressed, where the command goes on by itself. */
  readonly endWhen?: (texts: { out: string; err: string }) => boolean;
}

const SESSION = "run FOLDER/session.yaml SOCKET";
const CLIENT = `${DENO} run -A ${ROOT}cli/main.ts probe {socket}`;
const CHECK_CLIENT = "check-client --socket-path FOLDER/s --only client/info/1 --timeout 60s";

/** Options whose file is kept unless `--force` is there. */
const KEPT: Readonly<Record<string, Writer>> = {
  "migrate save --output": { line: "migrate save SOCKET -o FILE" },
  "check --save-expect": { line: "check SOCKET --only info/1 --save-expect FILE" },
  "check-client --save-expect": { line: `${CHECK_CLIENT} --save-expect FILE --spawn CLIENT` },
  "record --output": {
    line: "record --listen FOLDER/a.sock --connect SOCKET -o FILE",
    endWhen: ({ err }) => err.includes("Recording "),
  },
  "show --session": { line: "show FOLDER/edu.pcapng --session FILE" },
  "map import --output": {
    line: `map import ${ENGINE} -o FILE`,
  },
};

/** Options whose file is replaced. */
const REPLACED: Readonly<Record<string, Writer>> = {
  "dump --output": { line: "dump SOCKET bar2 -o FILE" },
  "dma --dump": { line: "dma SOCKET --map 1M:64K --dump 1M:4K=FILE" },
  "run --junit": { line: `${SESSION} --junit FILE` },
  "check --junit": { line: "check SOCKET --only info/1 --junit FILE" },
  "check-client --junit": { line: `${CHECK_CLIENT} --junit FILE --spawn CLIENT` },
  "show --chrome-trace": { line: "show FOLDER/edu.pcapng --chrome-trace FILE" },
  "show --html": { line: "show FOLDER/edu.pcapng --html FILE" },
  "replay --junit": { line: "replay FOLDER/edu.pcapng FOLDER/none --junit FILE" },
  "serve --export-map": { line: `serve ${ROOT}examples/timer.ts --export-map FILE` },
  "map doc --output": { line: "map doc demo -o FILE" },
};

/** Options that name what is read, what is added to, or what the next run goes on with. */
const OTHERS: readonly string[] = [
  "check --copy",
  "check --expect",
  "check-client --expect",
  "fuzz --again",
  "fuzz --corpus",
  "fuzz --from",
  "fuzz --output", // a folder; a finding's file has the seed and a number in its name
  "regs --diff",
  "serve --state",
  "shell --history",
];

const QUIET = { isTerminal: false, columns: 80, style: PLAIN, write() {}, writeBytes() {} };
const demo = await startDemo(); // a process of its own: check blocks this one
Deno.test.afterAll(() => demo.stop());

/** Names of all options of a command and those below it, as `map import --output`. */
function optionsOf(
  command: Awaited<ReturnType<typeof wholeProgram>>["commands"][number],
  path: string,
): { name: string; flags: string }[] {
  if (command.commands.length > 0) {
    return command.commands.flatMap((each) => optionsOf(each, `${path} ${each.name()}`.trim()));
  }
  return command.options.map(({ long, flags }) => ({ name: `${path} ${long}`, flags }));
}

Deno.test("each option that names a file has its place in the table", async () => {
  const signal = new AbortController().signal;
  const options = optionsOf(await wholeProgram({ out: QUIET, err: QUIET, signal }), "");
  const having = options.filter(({ flags }) => /<(.*=)?(file|folder)>/.test(flags));
  assertEquals(
    having.map(({ name }) => name).sort(),
    [...Object.keys(KEPT), ...Object.keys(REPLACED), ...OTHERS].sort(),
  );
  const forced = options.filter(({ flags }) => flags === "--force").map(({ name }) => name);
  const wanted = Object.keys(KEPT).map((name) => name.replace(/--.*/, "--force"));
  assertEquals(forced.sort(), wanted.sort());
});

/** Runs a command over a file that is there. */
async function overwrite({ line, endWhen }: Writer, more: string[]) {
  await using folder = temporaryFolder();
  const { path } = folder;
  const file = `${path}/out`;
  Deno.writeTextFileSync(file, EARLIER);
  Deno.writeTextFileSync(`${path}/session.yaml`, "steps: [{ read: bar0 }]\n");
  writeGolden("edu", `${path}/edu.pcapng`);
  const args = line.split(" ").map((each) =>
    each === "CLIENT" ? CLIENT : each.replace("SOCKET", demo.path).replace("FOLDER", path)
      .replace("FILE", file)
  );
  const outcome: Outcome = await runHere([...args, ...more], endWhen ? { endWhen } : {});
  return { ...outcome, text: Deno.readTextFileSync(file) };
}

for (const [name, writer] of Object.entries(KEPT)) {
  Deno.test(`vfu ${name} keeps a file with contents, unless --force replaces it`, async () => {
    const refused = await overwrite(writer, []);
    assertEquals([refused.code, refused.out, refused.text], [1, "", EARLIER]);
    assertStringIncludes(
      refused.err,
      "out: it exists already; name another file, or replace it with --force\n",
    );
    const forced = await overwrite(writer, ["--force"]);
    assertEquals(forced.text.includes(EARLIER), false, forced.err);
    assertEquals(forced.err.includes("Cannot write"), false, forced.err);
  });
}

for (const [name, writer] of Object.entries(REPLACED)) {
  Deno.test(`vfu ${name} replaces a file`, async () => {
    const { err, text } = await overwrite(writer, []);
    assertEquals(text.includes(EARLIER), false, err);
    assertEquals(text.length > 0, true, err);
  });
}
