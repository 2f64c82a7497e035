/** `vfu shell` at a terminal: keys, history, and lines as wide as the screen. */

import { assert, assertEquals } from "@std/assert";
import manifest from "../../deno.json" with { type: "json" };
import { temporaryFolder } from "../cli/_cli.ts";
import { DENO } from "../_deno.ts";
import { Terminal } from "./_terminal.ts";

const ROOT = new URL("../../", import.meta.url).pathname;
/** The permissions of an installed `vfu`, which may ask for no more. */
const GRANTED = manifest.tasks.vfu.command.split(" ").filter((word) => word.startsWith("--allow-"));
const PROMPT = "vfu> ";

/** A line that starts the shell on a demo device. */
function shellLine(granted: readonly string[], ...args: string[]): string {
  const deno = [DENO, "run", "--frozen", `--config=${ROOT}deno.json`, ...granted];
  return [...deno, `${ROOT}cli/main.ts`, "shell", "--serve", "demo", ...args].join(" ");
}

/** Deno's own folder, which is not below the home of a test. */
const DENO_DIR = Deno.env.get("DENO_DIR") ?? `${Deno.env.get("HOME")}/.cache/deno`;

/** Types lines, each at a prompt, and ends the shell. Returns what each printed. */
async function typed(terminal: Terminal, ...lines: string[]): Promise<string[]> {
  const texts: string[] = [];
  for (const line of lines) {
    await terminal.type(`${line}\r`, PROMPT);
    await terminal.see(PROMPT);
    texts.push(terminal.text);
  }
  await terminal.type("\x04", PROMPT); // Ctrl-D
  assertEquals(await terminal.ended(), 0);
  return texts;
}

Deno.test("vfu shell keeps what is typed in the user's state folder, for the next shell", async () => {
  await using home = temporaryFolder();
  const env = { HOME: home.path, DENO_DIR };
  const file = `${home.path}/.local/state/vfu/history`;
  {
    await using terminal = new Terminal(shellLine(GRANTED), env);
    const [read, again, forget, clear, nothing] = await typed(
      terminal,
      ...["read bar0.l", "!!", "forget", "clear", `save ${home.path}/x.yaml`],
    );
    assert(read!.includes("read bar0.l => 0x64756676"), read);
    assert(again!.includes("read bar0.l => 0x64756676"), again);
    assert(forget !== undefined && clear!.includes("\x1b[2J"), clear);
    assert(nothing!.includes("nothing to save"), nothing);
  }
  assertEquals(
    Deno.readTextFileSync(file),
    `read bar0.l\nforget\nclear\nsave ${home.path}/x.yaml\n`,
  );
  assertEquals(Deno.statSync(file).mode! & 0o777, 0o600);
  await using terminal = new Terminal(shellLine(GRANTED), env);
  await terminal.type("\x1b[A", PROMPT); // Up
  await terminal.type("\x1b[A\x1b[A", "x.yaml");
  await terminal.type("\x1b[A", "forget");
  await terminal.type("\r", "read bar0.l");
  await terminal.see("=> 0x64756676");
  await terminal.type("\x04", PROMPT);
  assertEquals(await terminal.ended(), 0);
  // The line is the last one now.
  assert(Deno.readTextFileSync(file).endsWith("\nread bar0.l\n"));
});

Deno.test("vfu shell keeps nothing where it may not, and where the user does not want it", async () => {
  await using home = temporaryFolder();
  const env = { HOME: home.path, DENO_DIR };
  const withoutHome = GRANTED.filter((each) => !each.startsWith("--allow-env"));
  for (const line of [shellLine(withoutHome), shellLine(GRANTED, "--no-history")]) {
    await using terminal = new Terminal(line, env);
    const [text] = await typed(terminal, "read bar0.l");
    assert(text!.includes("=> 0x64756676"), text); // and no question of Deno's
  }
  assertEquals([...Deno.readDirSync(home.path)], []);
});

Deno.test("vfu shell says that it can't keep the history, and ends well", async () => {
  await using home = temporaryFolder();
  const state = `${home.path}/file`;
  Deno.writeTextFileSync(state, "");
  await using terminal = new Terminal(shellLine(GRANTED), {
    HOME: home.path,
    XDG_STATE_HOME: state,
    DENO_DIR,
  });
  await typed(terminal, "read bar0.l");
  assert(terminal.text.includes(`history ${state}/vfu/history`), terminal.text);
});

Deno.test("vfu shell fits its lines into the width of the terminal", async () => {
  await using home = temporaryFolder();
  const columns = 50;
  const line = shellLine(GRANTED, "--no-history");
  await using terminal = new Terminal(line, { HOME: home.path, DENO_DIR }, columns);
  const texts = await typed(
    terminal,
    "nonsense",
    "read bar2 count 24",
    "expect bar0.l 1",
    "help irq wait",
  );
  for (const text of texts) {
    // The first line is the one that was typed, the last one the prompt.
    const lines = text.split(/\r?\n/).slice(1, -1);
    assert(lines.length > 1, JSON.stringify(text));
    assertEquals(lines.filter((each) => each.length > columns), []);
  }
});

Deno.test("vfu shell ends a step at Ctrl-C, and takes back a line that is half typed", async () => {
  await using home = temporaryFolder();
  const line = shellLine(GRANTED, "--no-history");
  await using terminal = new Terminal(line, { HOME: home.path, DENO_DIR });
  await terminal.type("irq enable msix\r", PROMPT);
  await terminal.see("ok ");
  await terminal.type("irq wait msix[0] timeout 1h\r", PROMPT);
  await terminal.type("\x03", "irq wait msix[0] (1 s)");
  await terminal.see("Stopped by Ctrl-C");
  await terminal.type("nonsense", PROMPT);
  await terminal.type("\x03", "nonsense");
  await terminal.see("^C");
  const [text] = await typed(terminal, "read bar0.l");
  assert(text!.includes("=> 0x64756676"), text);
});
