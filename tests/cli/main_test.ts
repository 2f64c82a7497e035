import { assertEquals, assertMatch, assertStringIncludes } from "@std/assert";
import { Interrupted } from "../../cli/shared/context.ts";
import { COLOURED } from "../../cli/shared/style.ts";
import { assertGolden, runHere, runThere, spawn, temporaryFolder } from "./_cli.ts";
import { serveOddly } from "./_server.ts";

Deno.test("main() shows its help with --help", async () => {
  const { code, out, err } = await runHere(["--help"]);
  assertEquals([code, err], [0, ""]);
  assertGolden("help.txt", out);
});

Deno.test("each file of cli/commands is a subcommand, and the README shows it", async () => {
  const { out } = await runHere(["--help"]);
  const [, list] = /^Commands:\n(.*)/ms.exec(out)!;
  const listed = [...list!.matchAll(/^ {2}([\w-]+)/gm)].map(([, name]) => name!);
  const root = new URL("../../", import.meta.url);
  const files = [...Deno.readDirSync(new URL("cli/commands", root))];
  assertEquals(
    listed.filter((name) => name !== "help").sort(),
    files.map(({ name }) => name.replace(/\.ts$/, "")).sort(),
  );
  const readme = Deno.readTextFileSync(new URL("README.md", root));
  assertEquals(
    listed.filter((name) => name !== "help" && !RegExp(`vfu ${name}\\b|\`${name}\``).test(readme)),
    [],
  );
});

Deno.test("a file that Deno keeps from programs gets a remedy that a user of vfu has", async () => {
  const permissions = ["--allow-ffi", "--allow-read", "--allow-write"];
  assertEquals(await runThere(["show", "/dev/stdin"], { permissions }), {
    code: 1,
    out: "",
    err: 'vfu: Cannot read /dev/stdin: Requires all access to "/dev/stdin"; Deno keeps it from ' +
      "programs: name another file, or a pipe, as >(cat) or <(cat) of a shell\n",
  });
});

Deno.test("main() shows the help of a subcommand in either way", async () => {
  const { code, out, err } = await runHere(["probe", "--help"]);
  assertEquals([code, err], [0, ""]);
  assertGolden("probe-help.txt", out);
  assertEquals(await runHere(["help", "probe"]), { code, out, err });
});

Deno.test("main() shows its help as an error when nothing is asked for", async () => {
  const { code, out, err } = await runHere([]);
  assertEquals([code, out], [2, ""]);
  assertGolden("help.txt", err);
});

Deno.test("main() returns 2 and writes one line when the usage is wrong", async (t) => {
  const wrong: [args: string[], line: string][] = [
    [["prob"], "Unknown command 'prob' (Did you mean probe?)"],
    [["frobnicate"], "Unknown command 'frobnicate'"],
    [["frob\x1b[2J\u202e"], "Unknown command 'frob\\u001b[2J\\u202e'"],
    [["--verson"], "Unknown option '--verson' (Did you mean --version?)"],
    [["probe"], "Missing required argument 'socket|file'; see vfu probe --help"],
    [
      ["migrate", "save", "x"],
      "Required option '-o, --output <file>' not specified; see vfu migrate save --help",
    ],
    [["reset", "--zzzzzz", "x"], "Unknown option '--zzzzzz'; see vfu reset --help"],
    [["probe", "--jsn", "x"], "Unknown option '--jsn' (Did you mean --json?)"],
    [["probe", "x", "y"], "Several devices are shown with '--summary' or '--diff' only"],
    [
      ["probe", "x", "--json", "--lspci"],
      "Option '--json' cannot be used with option '--lspci'",
    ],
    [
      ["probe", "x", "--timeout", "soon"],
      "Cannot use 'soon' for --timeout: " +
      "Write a number and a unit, as 500ms, 2s or 1m",
    ],
  ];
  for (const [args, line] of wrong) {
    await t.step(args.join(" "), async () => {
      assertEquals(await runHere(args), { code: 2, out: "", err: `vfu: ${line}\n` });
    });
  }
});

Deno.test("main() colours headings and complaints when the style has colours", async () => {
  const { out } = await runHere(["--help"], { style: COLOURED });
  assertStringIncludes(out, "\x1b[1mUsage:\x1b[22m vfu");
  const { err } = await runHere(["prob"], { style: COLOURED });
  assertStringIncludes(err, "\x1b[31mvfu:\x1b[39m Unknown");
});

Deno.test("main() returns 130 and is silent when it is interrupted", async () => {
  await using folder = temporaryFolder();
  const path = `${folder.path}/silent.sock`;
  const controller = new AbortController();
  using _server = serveOddly(path, () => {
    controller.abort(new Interrupted("SIGINT"));
    return "silence";
  });
  const outcome = await runHere(["probe", path], { signal: controller.signal });
  assertEquals(outcome, { code: 130, out: "", err: "" });
});

Deno.test("vfu ends with 130 at Ctrl-C, with 143 at SIGTERM", async () => {
  await using folder = temporaryFolder();
  for (const [signal, code] of [["SIGINT", 130], ["SIGTERM", 143]] as const) {
    const path = `${folder.path}/${signal}.sock`;
    const connected = Promise.withResolvers<void>();
    using _server = serveOddly(path, () => {
      connected.resolve();
      return "silence";
    });
    const child = spawn(["probe", path]);
    await connected.promise;
    child.kill(signal);
    const output = await child.output();
    assertEquals([output.code, output.stdout.length, output.stderr.length], [code, 0, 0]);
  }
});

Deno.test("vfu ends quietly when nobody reads its output", async () => {
  const child = spawn(["--help"]);
  await child.stdout.cancel();
  const [{ code }, err] = await Promise.all([child.status, new Response(child.stderr).text()]);
  assertEquals([code, err], [0, ""]);
});

Deno.test("vfu says which permission it lacks", async () => {
  const { code, out, err } = await runThere(["probe", "x.sock"], { permissions: [] });
  assertEquals([code, out], [1, ""]);
  assertMatch(err, /^vfu: .*--allow-ffi.*\n$/);
});

Deno.test("vfu colours a pipe when FORCE_COLOR says so and it may look", async () => {
  const red = "\x1b[31mvfu:\x1b[39m Unknown";
  const isRed = async (env: Record<string, string>, permissions: string[]) =>
    (await runThere(["prob"], { env, permissions })).err.startsWith(red);
  const allowed = ["--allow-env=FORCE_COLOR"];
  assertEquals(
    await Promise.all([
      isRed({ FORCE_COLOR: "1" }, allowed),
      isRed({ FORCE_COLOR: "1" }, []),
      isRed({}, allowed),
    ]),
    [true, false, false],
  );
});

Deno.test("help of a command that there is not names the nearest, and returns 2", async () => {
  const { code, out, err } = await runHere(["help", "prob"]);
  assertEquals([code, out, err], [2, "", "vfu: Unknown command 'prob' (Did you mean probe?)\n"]);
  assertEquals(await runHere(["help", "help"]), await runHere(["--help"]));
  const other = await runHere(["help", "xyzzy"]);
  assertEquals([other.code, other.err], [2, "vfu: Unknown command 'xyzzy'; vfu help lists them\n"]);
});
