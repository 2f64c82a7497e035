/**
 * `examples/README.md`: every example is described there, and every command does what it should.
 */

import { assert, assertEquals } from "@std/assert";
import { DENO } from "../_deno.ts";

const ROOT = new URL("../../", import.meta.url).pathname;
const README = Deno.readTextFileSync(`${ROOT}examples/README.md`);
const QEMU_TITLE = "On QEMU's devices";

/** The section of the file about one example. */
interface Section {
  /** The example, as a path below `examples/`. */
  readonly name: string;
  /** The commands, in order. */
  readonly commands: readonly string[];
  /** The commands need a server that the peers' tests build. */
  readonly needsQemu: boolean;
}

/** The sections, one for each heading of an example. */
function sections(): Section[] {
  return README.split(/^## /m).slice(1).flatMap((chapter) =>
    chapter.split(/^### /m).slice(1).map((text) => ({
      name: text.slice(0, text.indexOf("\n")),
      commands: [...text.matchAll(/^```sh\n(.*?)^```$/gms)].flatMap(([, block]) =>
        block!.trim().split("\n")
      ),
      needsQemu: chapter.startsWith(QEMU_TITLE),
    }))
  );
}

/** The files of a folder below `examples/`, by their paths. */
function files(folder: string, extension: string): string[] {
  return [...Deno.readDirSync(`${ROOT}examples/${folder}`)]
    .filter(({ name }) => name.endsWith(extension)).map(({ name }) => folder + name);
}

/** Starts a command as a shell would, with `vfu` from this checkout and `folder` for `/tmp`. */
function start(command: string, folder: string): Deno.ChildProcess {
  const words = command.replaceAll("/tmp/", `${folder}/`).split(" ");
  const options = ["run", "--no-prompt", "--frozen"];
  const permissions = ["--allow-ffi", "--allow-read", "--allow-write"];
  if (words[0] === "vfu") words.splice(0, 1, ...permissions, "cli/main.ts");
  else assertEquals(words.splice(0, 2), ["deno", "run"], command);
  return new Deno.Command(DENO, {
    args: [...options, ...words],
    cwd: ROOT,
    env: { NO_COLOR: "1" },
    stdin: "null",
    stdout: "piped",
    stderr: "piped",
  }).spawn();
}

/** A command that serves until it is stopped. */
async function serve(command: string, folder: string): Promise<AsyncDisposable> {
  const child = start(command, folder);
  const [ready, rest] = child.stderr.tee();
  const text = new Response(rest).text();
  await child.stdout.cancel();
  let isReady = false;
  for await (const chunk of ready.pipeThrough(new TextDecoderStream())) {
    isReady = chunk.includes("Ready");
    if (isReady) break;
  }
  return {
    async [Symbol.asyncDispose]() {
      if (isReady) child.kill("SIGTERM");
      assertEquals((await child.status).code, 0, await text);
    },
  };
}

Deno.test("examples/README.md has a section for each example", () => {
  const described = sections().map(({ name }) => name).sort();
  assertEquals(described, [...files("", ".ts"), ...files("sessions/", ".yaml")].sort());
});

for (const { name, commands, needsQemu } of sections()) {
  if (needsQemu) {
    Deno.test(`tests of peers run ${name}`, () => {
      const folder = `${ROOT}tests/peers`;
      const tests = [...Deno.readDirSync(folder)].filter((each) => each.name.endsWith("_test.ts"));
      const file = name.split("/").at(-1)!;
      assert(tests.some((each) => Deno.readTextFileSync(`${folder}/${each.name}`).includes(file)));
    });
    continue;
  }
  Deno.test(`the commands of ${name} in examples/README.md work`, async () => {
    assert(commands.some((command) => command.includes(`examples/${name}`)), name);
    const folder = Deno.makeTempDirSync({ prefix: "vfu-test-" });
    try {
      await using servers = new AsyncDisposableStack();
      for (const command of commands) {
        if (command.endsWith(" &")) {
          servers.use(await serve(command.slice(0, -2), folder));
          continue;
        }
        const { code, stdout, stderr } = await start(command, folder).output();
        const decoder = new TextDecoder();
        assertEquals(code, 0, decoder.decode(stderr) + decoder.decode(stdout));
      }
    } finally {
      Deno.removeSync(folder, { recursive: true });
    }
  });
}
