import { assertEquals, assertStringIncludes } from "@std/assert";
import { PassThrough } from "node:stream";
import { TerminalInput } from "../../../cli/shell/input.ts";
import { until } from "../../_until.ts";

/** A terminal of which a test is the keyboard and the screen. */
function terminal() {
  const [keyboard, screen] = [new PassThrough(), new PassThrough()];
  let shown = "";
  screen.on("data", (data) => shown += data);
  let interrupts = 0;
  const input = new TerminalInput({
    history: [],
    complete: () => ({ words: [], part: "" }),
    onInterrupt: () => void interrupts++,
    streams: { input: keyboard, output: screen },
  });
  return { input, keyboard, shown: () => shown, interrupts: () => interrupts };
}

Deno.test("lines that are pasted at once are all read, in order, and shown when they are", async () => {
  const { input, keyboard, shown } = terminal();
  using _ = input;
  input.prompt("vfu> ");
  const first = input.next();
  keyboard.write("one\ntwo\nthree\n");
  assertEquals(await first, "one");
  assertEquals([await input.next(), await input.next()], ["two", "three"]);
  assertStringIncludes(shown(), "vfu> two\nvfu> three\n");
  const next = input.next(); // waits for what is typed now
  keyboard.write("four\n");
  assertEquals(await next, "four");
  assertEquals(input.typed, ["one", "two", "three", "four"]);
});

Deno.test("!! of lines that are pasted at once is the line before, in the history as well", async () => {
  const { input, keyboard, interrupts } = terminal();
  using _ = input;
  const first = input.next();
  keyboard.write("# none\n!!\none\n!! more\n  \n!!\n");
  assertEquals(await first, "# none");
  for (const line of ["!!", "one", "!! more", "  ", "!!"]) assertEquals(await input.next(), line);
  assertEquals(input.typed, ["# none", "!!", "one", "one more", "one more"]);
  keyboard.write("last\n\x03");
  await until(() => interrupts() === 1, "the interrupt");
  const next = input.next(); // "last" was not done
  keyboard.write("!! again\n");
  assertEquals(await next, "!! again");
  assertEquals(input.typed.at(-1), "one more again");
});

Deno.test("lines before the end of the input are read, then the end", async () => {
  const { input, keyboard } = terminal();
  using _ = input;
  const first = input.next();
  keyboard.end("one\ntwo\n");
  assertEquals([await first, await input.next(), await input.next()], ["one", "two", undefined]);
});

Deno.test("Ctrl-C while a line is done forgets the lines behind it", async () => {
  const { input, keyboard, interrupts } = terminal();
  using _ = input;
  const first = input.next();
  keyboard.write("one\ntwo\n\x03");
  assertEquals(await first, "one");
  await until(() => interrupts() === 1, "the interrupt");
  const next = input.next();
  keyboard.write("three\n");
  assertEquals(await next, "three");
});
