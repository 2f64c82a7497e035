/** The npm package that `deno task pack` makes, installed by npm into an empty folder. */

import { assert, assertEquals, assertMatch, assertStringIncludes } from "@std/assert";
import { permissions } from "../../cli/installed/package.ts";
import { pack } from "../../cli/installed/pack.ts";
import { programVersion, versionLine } from "../../cli/version.ts";
import { until } from "../_until.ts";
import { runHere, temporaryFolder } from "./_cli.ts";

/** An address where no registry answers: what is installed asks for none. */
const NOWHERE = "http://127.0.0.1:9/";

const SAMPLE = new URL("../lib/registers/import/samples/engine.xml", import.meta.url);

const DEVICE = `
import { defineDevice, registers } from "@vfu/vfu";

const ID = { name: "ID", offset: 0, width: 4, access: "ro", reset: 0x5eed } as const;

export default defineDevice({
  name: "mine",
  pci: { vendor: 0x1234, device: 0x5678 },
  create: () => ({ regions: { bar0: registers({ registers: [ID] }) } }),
});
`;

/** Runs a program to its end, with this environment and nothing else. */
async function run(program: string, args: string[], cwd: string, env: Record<string, string>) {
  const { code, stdout, stderr } = await new Deno.Command(program, {
    args,
    cwd,
    env,
    clearEnv: true,
    stdin: "null",
  }).output();
  const [out, err] = [stdout, stderr].map((bytes) => new TextDecoder().decode(bytes));
  return { code, out: out!, err: err! };
}

Deno.test("an npm package is installed by npm alone, and works without a registry", async (test) => {
  await using folder = temporaryFolder();
  const prefix = `${folder.path}/pre fix`;
  const home = `${folder.path}/home`;
  await Deno.mkdir(prefix);
  await Deno.mkdir(home);
  await pack(`${folder.path}/release`);
  const { PATH, ...others } = Deno.env.toObject();
  // README's own words: to npm, a path that does not begin with a dot is a project at GitHub.
  const readme = await Deno.readTextFile(new URL("../../README.md", import.meta.url));
  const [command] = readme.match(/^npm install --prefix .*/m)!;
  assertStringIncludes(command, " ~/.local/lib/vfu ");
  const installed = await run(
    "/bin/sh",
    ["-c", command.replace("~/.local/lib/vfu", '"$PREFIX"')],
    folder.path,
    {
      ...{ ...others, PATH: PATH!, PREFIX: prefix, NPM_CONFIG_PREFER_OFFLINE: "true" },
      ...{ NPM_CONFIG_AUDIT: "false", NPM_CONFIG_FUND: "false" },
    },
  );
  assertEquals(installed.code, 0, installed.err);
  const root = `${prefix}/node_modules/@vfu/vfu`;
  const bin = `${prefix}/node_modules/.bin`;
  let deno = "";
  // Neither Deno nor node is on the path.
  const tools = `${folder.path}/tools`;
  await Deno.mkdir(tools);
  for (const name of ["sh", "readlink"]) {
    const { out } = await run("/bin/sh", ["-c", `command -v ${name}`], home, { PATH: PATH! });
    await Deno.symlink(out.trim(), `${tools}/${name}`);
  }
  const env = {
    ...{ PATH: tools, HOME: home, NO_COLOR: "1" },
    ...{ NPM_CONFIG_REGISTRY: NOWHERE, JSR_URL: NOWHERE },
  };
  const vfu = (...args: string[]) => run(`${bin}/vfu`, args, home, env);

  await test.step("its version has the commit", async () => {
    const version = `${versionLine(programVersion())}\n`;
    const { out } = await vfu("--version");
    assertEquals(out.replace(/Deno .*/, ""), version.replace(/Deno .*/, ""));
    const { commit } = JSON.parse((await vfu("--version", "--json")).out);
    assertEquals(commit, programVersion().commit);
  });

  await test.step("serve the demo, in Deno itself, and probe it", async () => {
    await serving(["demo"], async (socket, pid) => {
      deno = await Deno.readLink(`/proc/${pid}/exe`);
      assertMatch(deno, /\/node_modules\/.*\/deno$/);
      const there = await vfu("probe", socket, "--json");
      const here = await runHere(["probe", socket, "--json"]);
      assertEquals(there, here);
      assertEquals((await vfu("read", socket, "--map", "demo", "ID")).out, "0x64756676\n");
    });
  });

  await test.step("a terminal is told nothing of a home that is read-only", async () => {
    const line = ["-qec", `${bin.replace(" ", "\\ ")}/vfu map list`, "/dev/null"];
    const there = await run("script", line, home, { ...env, PATH: PATH!, DENO_DIR: "/dev/null/x" });
    assertEquals([there.code, there.err], [0, ""]);
    assertMatch(there.out, /^MAP +REGISTERS/);
  });

  await test.step("serve a module of the user's", async () => {
    await Deno.writeTextFile(`${home}/device.ts`, DEVICE);
    await serving(["./device.ts"], async (socket) => {
      assertEquals(await vfu("read", socket, "bar0.l"), { code: 0, out: "0x00005eed\n", err: "" });
    });
  });

  await test.step("import a register map", async () => {
    await Deno.copyFile(SAMPLE, `${home}/engine.xml`);
    const { code, out, err } = await vfu("map", "import", "engine.xml");
    assertEquals([code, err], [0, ""]);
    assertMatch(out, /^name: host$/m);
    // The same from the sources, which have the parser as a module of their own
    const again = await vfu("map", "import", "engine.xml", "-o", "host.js");
    assertEquals([again.code, again.err], [0, ""]);
  });

  await test.step("completions and manual pages, as files and by command", async () => {
    const same = async (args: string[], file: string) => {
      const { code, out } = await vfu(...args);
      assertEquals(code, 0);
      assertEquals(out, await Deno.readTextFile(`${root}/dist/${file}`), file);
    };
    await same(["completion", "bash"], "completions/bash/vfu");
    await same(["man", "migrate", "save"], "man/vfu-migrate-save.1");
    const { man } = JSON.parse(await Deno.readTextFile(`${root}/package.json`));
    assert(man.includes("dist/man/vfu.1") && man.includes("dist/man/vfu-serve.1"), man.join());
  });

  await test.step("a new project, and its tests", async () => {
    assertEquals((await vfu("new", "thing")).code, 0);
    const tests = await run(deno, ["task", "test"], `${home}/thing`, env);
    assertEquals(tests.code, 0, tests.err);
    assertMatch(tests.out, /ok \| 1 passed \| 0 failed/);
  });

  await test.step("licences of what is in it, and no path of the checkout", async () => {
    const names = (await Array.fromAsync(Deno.readDir(`${root}/licences`))).map(({ name }) => name);
    assertEquals(names.sort(), [
      "commander-js-extra-typings.txt",
      "commander.txt",
      "sax.txt",
      "valibot-to-json-schema.txt",
      "valibot.txt",
      "vfu.txt",
      "yaml.txt",
    ]);
    for (const name of names) {
      const text = await Deno.readTextFile(`${root}/licences/${name}`);
      assertMatch(text, /Permission .* granted|Permission to use|Blue Oak Model License/, name);
    }
    const checkout = new URL("../../", import.meta.url).pathname;
    for (const file of ["bin/vfu", "dist/vfu.js", "dist/probe.js", "src/deno.json"]) {
      const text = await Deno.readTextFile(`${root}/${file}`);
      assertEquals(text.includes(checkout), false, file);
    }
  });

  await test.step("it finds a Deno below itself, as with npm install --global", async () => {
    await Deno.mkdir(`${root}/node_modules`);
    for (const name of ["deno", "@deno"]) {
      await Deno.rename(`${prefix}/node_modules/${name}`, `${root}/node_modules/${name}`);
    }
    assertEquals((await vfu("--version")).code, 0);
  });

  await test.step("without Deno it says what to do, and takes one of the path", async () => {
    await Deno.remove(`${root}/node_modules`, { recursive: true });
    const { code, err } = await vfu("--version");
    assertEquals(code, 1);
    assertStringIncludes(err, "vfu: Cannot find Deno: ");
    await Deno.symlink(Deno.execPath(), `${tools}/deno`);
    assertEquals((await vfu("--version")).code, 0);
  });

  /** Serves a device by the installed vfu, as long as `use` takes. */
  async function serving(
    device: string[],
    use: (socket: string, pid: number) => Promise<void>,
  ): Promise<void> {
    const socket = `${folder.path}/${crypto.randomUUID()}.sock`;
    const child = new Deno.Command(`${bin}/vfu`, {
      args: ["serve", ...device, `--socket-path=${socket}`],
      cwd: home,
      env,
      clearEnv: true,
      stdin: "null",
      stdout: "piped",
      stderr: "piped",
    }).spawn();
    const ended = child.output();
    let isOver = false;
    ended.then(() => isOver = true);
    try {
      await until(async () => isOver || (await runHere(["read", socket, "bar0.l"])).code === 0);
      assertEquals(isOver, false, `vfu serve ${device.join(" ")} has ended`);
      await use(socket, child.pid);
    } finally {
      if (!isOver) child.kill("SIGTERM");
      await ended;
    }
    assertEquals((await ended).code, 0, new TextDecoder().decode((await ended).stderr));
  }
});

Deno.test("the package has the permissions of deno task vfu, and the documents as well", async () => {
  const words = permissions().join(" ");
  assertStringIncludes(words, "--allow-ffi --allow-read");
  const [document, launcher] = await Promise.all(
    ["docs/getting-started.md", "cli/installed/vfu.sh"].map((path) =>
      Deno.readTextFile(new URL(`../../${path}`, import.meta.url))
    ),
  );
  assertStringIncludes(document!, `--v8-flags=--no-lazy ${words} dist/vfu.js`);
  assertStringIncludes(launcher!, "--v8-flags=--no-lazy ");
});

Deno.test("the launcher finds its own folder, whatever CDPATH and the path are", async () => {
  await using folder = temporaryFolder();
  const launcher = await Deno.readTextFile(new URL("../../cli/installed/vfu.sh", import.meta.url));
  const root = `${folder.path}/a [b] c`;
  for (const each of [root, `${folder.path}/other/a [b] c`]) {
    await Deno.mkdir(`${each}/bin`, { recursive: true });
    await Deno.mkdir(`${each}/node_modules/deno`, { recursive: true });
    await Deno.writeTextFile(`${each}/bin/vfu`, launcher, { mode: 0o755 });
    await Deno.writeTextFile(`${each}/node_modules/deno/deno`, '#!/bin/sh\nprintf "%s\\n" "$@"', {
      mode: 0o755,
    });
  }
  await Deno.symlink("a [b] c/bin/vfu", `${folder.path}/link`);
  const env = { PATH: "/usr/bin:/bin", CDPATH: `${folder.path}/other` };
  for (const path of ["a [b] c/bin/vfu", "./a [b] c/bin/vfu", "./link"]) {
    const { out, err } = await run(
      "/bin/sh",
      ["-c", 'exec "$0" "$@"', path, "x y"],
      folder.path,
      env,
    );
    const lines = out.trimEnd().split("\n");
    assertEquals([lines.at(-2), lines.at(-1), err], [`${root}/dist/vfu.js`, "x y", ""], path);
  }
});
