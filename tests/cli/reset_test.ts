import { assertEquals, assertMatch } from "@std/assert";
import { Interrupted } from "../../cli/shared/context.ts";
import { Command } from "../../lib/wire/command.ts";
import { startDemo } from "../_demo_process.ts";
import { assertGolden, runHere, temporaryFolder } from "./_cli.ts";
import { assertFailures, runOdd } from "./_registers.ts";
import { type Answer, serveOddly } from "./_server.ts";

const demo = await startDemo();
Deno.test.afterAll(() => demo.stop());

const silent: Answer = ({ command }) => command === Command.DEVICE_RESET ? "silence" : "default";

Deno.test("reset shows its help", async () => {
  assertGolden("reset-help.txt", (await runHere(["reset", "--help"])).out);
});

Deno.test("reset puts registers back, and says nothing", async () => {
  await runHere(["write", demo.path, "bar0+8=0x1234"]);
  assertEquals(await runHere(["reset", demo.path]), { code: 0, out: "", err: "" });
  assertEquals((await runHere(["read", demo.path, "bar0+8"])).out, "0x00000000\n");
});

Deno.test("reset returns 1 when the server refuses, or takes too long", async () => {
  const refused = await runOdd(() => "default", "reset");
  assertEquals(refused, {
    code: 1,
    out: "",
    err: "vfu: Cannot reset the device: the server answered EINVAL (Invalid argument)\n",
  });
  const { code, err } = await runOdd(silent, "reset", "--timeout", "50ms");
  assertEquals(code, 1);
  assertMatch(err, /^vfu: Cannot reset the device: [^\n]+ 50 ms\n$/);
});

Deno.test("reset ends at Ctrl-C", async () => {
  await using folder = temporaryFolder();
  const path = `${folder.path}/silent.sock`;
  const controller = new AbortController();
  using _server = serveOddly(path, (request) => {
    if (request.command === Command.DEVICE_RESET) controller.abort(new Interrupted("SIGINT"));
    return silent(request);
  });
  const outcome = await runHere(["reset", path], { signal: controller.signal });
  assertEquals(outcome, { code: 130, out: "", err: "" });
});

Deno.test("reset returns 2 when the usage is wrong", async (t) => {
  await assertFailures(t, "/nonexistent/socket", 2, [
    [
      ["reset", "--timeout", "x"],
      "Cannot use 'x' for --timeout: Write a number and a unit, as 500ms, 2s or 1m",
    ],
  ]);
});

Deno.test("reset --json has the time that it took", async () => {
  const { code, out } = await runHere(["reset", demo.path, "--json"]);
  const { reset, elapsed_ms } = JSON.parse(out);
  assertEquals([code, reset, Number.isInteger(elapsed_ms)], [0, true, true]);
});
