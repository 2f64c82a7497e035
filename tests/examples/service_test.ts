/** `examples/service/`: a unit for systemd, and an image, as far as any machine can try them. */

import { assert, assertEquals, assertMatch } from "@std/assert";
import manifest from "../../deno.json" with { type: "json" };
import { runToEnd } from "../../cli/installed/deno.ts";
import { runHere, temporaryFolder } from "../cli/_cli.ts";
import { startVfu } from "../_vfu_process.ts";

const ROOT = new URL("../../", import.meta.url);
const FOLDER = new URL("examples/service/", ROOT);
const UNIT = await Deno.readTextFile(new URL("vfu@.service", FOLDER));
const IMAGE = await Deno.readTextFile(new URL("Containerfile", FOLDER));
/** The place of vfu in the unit. */
const PROGRAM = "/usr/local/bin/vfu";

/** True if there is a program that checks units. */
async function hasSystemd(): Promise<boolean> {
  try {
    return (await runToEnd("systemd-analyze", ["--version"])).code === 0;
  } catch {
    return false;
  }
}

/** Serves by a command line that has a socket's path in it, and probes that socket. */
async function servesAt(path: string, words: readonly string[]): Promise<void> {
  const args = words.map((word) => word.replace(path, "FOLDER/a.sock"));
  assert(args.join() !== words.join(), `${words.join(" ")} has no ${path}`);
  await using server = await startVfu({ args, signal: "SIGTERM" });
  const { code, err } = await runHere(["probe", `${server.folder}/a.sock`, "--summary"]);
  assertEquals([code, err], [0, ""]);
  assertEquals(await server.end(), 0);
}

Deno.test("the unit serves a module, as its command line says", async () => {
  const [, line] = /^ExecStart=(.*)$/m.exec(UNIT)!;
  const [program, ...words] = line!.split(" ");
  assertEquals(program, PROGRAM);
  const module = new URL("examples/timer.ts", ROOT).pathname;
  await servesAt(
    "/run/vfu/timer/device.sock",
    words.map((word) =>
      word.replace("/etc/vfu/%i.ts", module).replace("%t", "/run").replaceAll("%i", "timer")
    ),
  );
  // The socket's folder is the one that systemd makes.
  assertMatch(UNIT, /^RuntimeDirectory=vfu\/%i$/m);
});

Deno.test({
  name: "systemd takes the unit, and warns of nothing in it",
  ignore: !await hasSystemd(),
  async fn() {
    await using folder = temporaryFolder();
    const verify = async (text: string) => {
      const file = `${folder.path}/vfu@.service`;
      await Deno.writeTextFile(file, text.replaceAll(PROGRAM, "/bin/sh"));
      const { code, stderr } = await runToEnd("systemd-analyze", ["verify", "--man=no", file]);
      return { code, stderr };
    };
    assertEquals(await verify(UNIT), { code: 0, stderr: "" });
    const { stderr } = await verify(UNIT.replace("UMask=", "UMaks="));
    assertMatch(stderr, /Unknown key/);
  },
});

Deno.test("the image takes the tarball of deno task pack, and serves the demo", async () => {
  const lines = IMAGE.split("\n").filter((line) => line !== "" && !line.startsWith("#"));
  const instructions = lines.map((line) => /^[A-Z]+/.exec(line)![0]);
  assertEquals(
    instructions,
    ["FROM", "COPY", "RUN", "USER", "VOLUME", "ENTRYPOINT", "CMD"],
  );
  const after = (name: string) =>
    lines.find((line) => line.startsWith(`${name} `))!.slice(name.length + 1);
  const tarball = `${manifest.name.replace("@", "").replace("/", "-")}-${manifest.version}.tgz`;
  const [pattern, place] = after("COPY").split(" ");
  assertMatch(tarball, new RegExp(`^${pattern!.replaceAll(".", "\\.").replace("*", ".*")}$`));
  assertMatch(after("RUN"), new RegExp(`^npm install --global ${place} `));
  assertEquals(JSON.parse(after("ENTRYPOINT")), ["vfu"]);
  await servesAt(`${after("VOLUME")}/demo.sock`, JSON.parse(after("CMD")));
});
