import { assertEquals } from "@std/assert";
import type { Context } from "../../../cli/shared/context.ts";
import { PLAIN } from "../../../cli/shared/style.ts";
import { run } from "../../../cli/map/import.ts";
import { wholeProgram } from "../../../cli/completion/program.ts";
import { DENO } from "../../_deno.ts";

const HOLDING = new URL("./_holding.ts", import.meta.url).pathname;
const SVD = new URL("../../lib/registers/import/samples/timers.svd", import.meta.url).pathname;

/** Starts the command that holds its thread, and sends SIGINT once it has written a word. */
async function interruptAt(word: string, ...args: string[]) {
  const child = new Deno.Command(DENO, {
    args: ["run", "--no-prompt", "--allow-read", HOLDING, ...args],
    stdout: "piped",
    stderr: "null",
  }).spawn();
  let out = "";
  for await (const chunk of child.stdout.pipeThrough(new TextDecoderStream())) {
    out += chunk;
    if (out === `${word}\n`) child.kill("SIGINT");
  }
  const { code, signal } = await child.status;
  return { out, code, signal };
}

Deno.test("a signal ends a process at once while work holds its thread", async () => {
  const end = await interruptAt("holding");
  assertEquals(end, { out: "holding\n", code: 130, signal: "SIGINT" });
});

Deno.test("a signal is an abort again after work has held the thread", async () => {
  const end = await interruptAt("waiting", "once");
  assertEquals(end, { out: "waiting\nheard Interrupted by SIGINT\n", code: 0, signal: null });
});

Deno.test("map import holds the thread only where a signal ends it", async () => {
  let [depth, count] = [0, 0];
  const output = {
    ...{ isTerminal: false, columns: 80, style: PLAIN, writeBytes() {} },
    write: () => assertEquals(depth, 0),
  };
  const context: Context = {
    out: output,
    err: output,
    signal: new AbortController().signal,
    hold(work) {
      depth++;
      count++;
      try {
        return work();
      } finally {
        depth--;
      }
    },
  };
  const self = await wholeProgram(context);
  const region = { region: "bar0", offset: 0 };
  await run(context, SVD, { region, peripheral: "TIMER1" }, self);
  assertEquals(count, 2); // the peripherals of the file, and the map of one
});
