import { assertEquals, assertMatch } from "@std/assert";
import type { Output } from "../../../cli/shared/context.ts";
import { bar, humanTime, Progress, spinner, transferText } from "../../../cli/shared/progress.ts";
import { PLAIN } from "../../../cli/shared/style.ts";

function recorder(isTerminal: boolean, columns = 80): Output & { text: string } {
  return {
    text: "",
    isTerminal,
    columns,
    style: PLAIN,
    write(text) {
      this.text += text;
    },
    writeBytes() {},
  };
}

const sleep = (ms: number) => new Promise((resolve) => setTimeout(resolve, ms));

Deno.test("Progress draws its line anew, and clears it at its end", async () => {
  const output = recorder(true);
  const texts = ["long text", "short", "x"];
  {
    using _progress = new Progress(output, () => texts.shift() ?? "x", {
      delayMs: 1,
      intervalMs: 1,
    });
    while (texts.length > 0) await sleep(1);
  }
  assertEquals(output.text.startsWith("\rlong text\r\rshort    \r\rx    \r"), true);
  assertEquals(output.text.endsWith("\r \r"), true);
});

Deno.test("Progress clears its line for what is written next", async () => {
  const output = recorder(true);
  using progress = new Progress(output, () => "long text", { delayMs: 0, intervalMs: 1_000_000 });
  while (output.text === "") await sleep(1);
  progress.clear();
  output.write("✘\n");
  assertEquals(output.text, `\rlong text\r\r${" ".repeat(9)}\r✘\n`);
});

Deno.test("Progress is silent when the work is done soon, or when nobody watches", async () => {
  const soon = recorder(true);
  const unwatched = recorder(false);
  {
    using _soon = new Progress(soon, () => "text");
    using _unwatched = new Progress(unwatched, () => "text", { delayMs: 0, intervalMs: 1 });
    await sleep(20);
  }
  assertEquals([soon.text, unwatched.text], ["", ""]);
});

Deno.test("Progress cuts its line to the screen", async () => {
  const output = recorder(true, 10);
  {
    using _progress = new Progress(output, () => "0123456789abc", { delayMs: 0, intervalMs: 1000 });
    await sleep(5);
  }
  assertEquals(output.text, `\r012345678\r\r${" ".repeat(9)}\r`);
});

Deno.test("transferText() shows share, rate and the time that is left", () => {
  const state = { done: 3 << 20, total: 12 << 20, elapsedMs: 2000 };
  assertEquals(
    transferText(state, 80),
    "███████▌░░░░░░░░░░░░░░░░░░░░░░  25%  3 MiB of 12 MiB  1.5 MiB/s  0:06 left",
  );
  assertEquals(transferText(state, 45), "25%  3 MiB of 12 MiB  1.5 MiB/s  0:06 left");
  assertMatch(
    transferText({ ...state, done: 0 }, 80),
    / 0% {2}0 B of 12 MiB {2}0 B\/s {2}--:-- left$/,
  );
  assertMatch(transferText({ done: 0, total: 0, elapsedMs: 0 }, 80), /100%/);
});

Deno.test("transferText() fits the screen", () => {
  for (const done of [0, 999 << 20, 2 ** 40]) {
    const text = transferText({ done, total: 2 ** 40, elapsedMs: 12_345 }, 80);
    assertEquals(text.length <= 79, true, text);
  }
});

Deno.test("bar() draws eighths of a column", () => {
  assertEquals(bar(0, 4), "");
  assertEquals(bar(0.5, 4), "██");
  assertEquals(bar(1 / 32, 4), "▏");
  assertEquals(bar(31 / 32, 4), "███▉");
  assertEquals([bar(7, 4), bar(-1, 4)], ["████", ""]);
});

Deno.test("humanTime() rounds up", () => {
  assertEquals([0, 0.1, 59.5, 754, 3723, 1e9, Infinity].map(humanTime), [
    "0:00",
    "0:01",
    "1:00",
    "12:34",
    "1:02:03",
    "--:--",
    "--:--",
  ]);
});

Deno.test("spinner() turns every tenth of a second", () => {
  assertEquals([0, 99, 100, 1000].map(spinner), ["⠋", "⠋", "⠙", "⠋"]);
});
