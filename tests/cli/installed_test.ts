/** The bundle that `deno task build` makes, in a folder of its own, run from another one. */

import { assert, assertEquals, assertMatch, assertStringIncludes } from "@std/assert";
import { build, BUNDLING } from "../../cli/installed/build.ts";
import { runBundler } from "../../cli/installed/deno.ts";
import { bundleOf, needsSources } from "../../cli/installed/vfu.ts";
import { SUBCOMMANDS } from "../../cli/subcommands.ts";
import { DENO } from "../_deno.ts";
import { DemoDevice } from "../../lib/devices/demo_device.ts";
import { SHIPPED_MAPS } from "../../lib/registers/load.ts";
import { Server } from "../../lib/server/server.ts";
import { writeRecording } from "../lib/record/_events.ts";
import { Talk } from "../lib/record/_talk.ts";
import { interrupted } from "../_interrupted.ts";
import { until } from "../_until.ts";
import { runHere, temporaryFolder } from "./_cli.ts";

const ROOT = new URL("../../", import.meta.url).pathname;
const PERMISSIONS = ["--allow-ffi", "--allow-read", "--allow-write", "--allow-run"];

/** A bundle, and a folder to run it in. */
interface Installed extends AsyncDisposable {
  /** The folder of the bundle. */
  readonly dist: string;
  /** The folder in which commands run. */
  readonly folder: string;
  /** Starts a command line. */
  spawn(...args: string[]): Deno.ChildProcess;
  /** Runs a command line to its end. */
  run(...args: string[]): Promise<{ code: number; out: string; err: string }>;
}

async function install(): Promise<Installed> {
  const place = temporaryFolder();
  const dist = `${place.path}/a b/dist`;
  const folder = `${place.path}/elsewhere`;
  await Deno.mkdir(folder);
  await build(dist);
  const spawn = (...args: string[]) =>
    new Deno.Command(DENO, {
      args: [
        ...["run", "--no-prompt", "--frozen", `--config=${ROOT}deno.json`, ...PERMISSIONS],
        ...[`${dist}/vfu.js`, ...args],
      ],
      cwd: folder,
      stdin: "null",
      stdout: "piped",
      stderr: "piped",
      env: { NO_COLOR: "", FORCE_COLOR: "" },
    }).spawn();
  return {
    dist,
    folder,
    spawn,
    async run(...args) {
      const { code, stdout, stderr } = await spawn(...args).output();
      const text = (bytes: Uint8Array) => new TextDecoder().decode(bytes);
      return { code, out: text(stdout), err: text(stderr) };
    },
    [Symbol.asyncDispose]: () => place[Symbol.asyncDispose](),
  };
}

/** The files that a file of a bundle imports, each once, with itself. */
function partsOf(name: string, texts: ReadonlyMap<string, string>): string[] {
  const found = new Set([name]);
  for (const each of found) {
    const text = texts.get(each);
    assert(text !== undefined, `${each} is imported, and not there`);
    for (const [, other] of text.matchAll(/(?:from|import\(?)\s*"\.\/([\w.-]+\.js)"/g)) {
      found.add(other!);
    }
  }
  return [...found];
}

Deno.test("the bundle does what the sources do", async (test) => {
  await using installed = await install();
  const { dist, folder, run, spawn } = installed;
  const socket = `${folder}/demo.sock`;
  /** Runs a line from the bundle and from the sources, which are to do the same. */
  const same = async (...args: string[]) => {
    const here = await runHere(args.map((arg) => arg === "demo.sock" ? socket : arg));
    const there = await run(...args);
    assertEquals(
      { ...there, out: there.out.replaceAll("demo.sock", socket) },
      { ...here, out: here.out.replaceAll("demo.sock", socket) },
      args.join(" "),
    );
    return there;
  };

  await test.step("helps, the version and wrong usage", async () => {
    await same("--help");
    await same("--version");
    await same("nosuch");
    await same("help", "read");
    await same("read", "--nosuch");
    await same("completion", "bash");
    await same("man", "read");
    await same("help", "nosuch");
    for (const { name } of SUBCOMMANDS) {
      await same(name, "--help");
    }
  });

  await test.step("probe, read, run, check, migrate, with all maps", async () => {
    using _server = Server.listen(socket, new DemoDevice());
    const plain = await run("probe", "demo.sock");
    assertStringIncludes(plain.out, "1234:0de5");
    for (const flag of ["--json", "--lspci"]) {
      const { code, out } = await run("probe", "demo.sock", flag);
      assertEquals([code, out.includes("34")], [0, true]);
    }
    await same("read", "demo.sock", "CAP_MSIX+2.w", "bar2+0xff8.q");
    for (const register of ["demo.ID", "pci.COMMAND", "nvme.CAP"]) {
      await same("read", "demo.sock", "--map", register.split(".")[0]!, register);
    }
    for (const map of SHIPPED_MAPS) await same("map", "doc", map, "--json");
    await same("write", "demo.sock", "bar0+8", "1");
    await same("read", "demo.sock", "--map", "nosuch", "bar0");
    await same("run", "--check", `${ROOT}examples/sessions/nvme.yaml`);
    const session = await run("run", "demo.sock", `${ROOT}examples/sessions/demo.yaml`);
    assertEquals([session.code, session.err], [0, ""], session.out);
    await same("check", "--list");
    const check = await run("check", "demo.sock", "--only", "server/info/1");
    assertEquals(check.code, 0, check.out + check.err);
    const saved = await run("migrate", "save", "demo.sock", "-o", "state");
    assertEquals(saved.code, 0, saved.err);
    assertEquals((await run("migrate", "restore", "demo.sock", "state")).code, 0);
    const refused = await run("read", "nothing.sock", "bar0", "-v");
    assertEquals(refused.code, 1);
    assertStringIncludes(refused.err, "Cannot connect to nothing.sock: there is no such file");
  });

  await test.step("show, its page and the dissector", async () => {
    const recording = `${folder}/a.pcapng`;
    const talk = new Talk();
    talk.read(0x1cn, 1);
    writeRecording(recording, talk.events);
    for (const args of [[], ["--json"], ["--stats"], ["--map", "nvme"]]) {
      await same("show", recording, ...args);
    }
    await same("show", "--dissector");
    const page = await run("show", recording, "--map", "nvme", "--html", "page.html");
    assertEquals(page, { code: 0, out: "", err: "" });
    const here = await runHere(["show", recording, "--map", "nvme", "--html", `${folder}/b.html`]);
    assertEquals(here.code, 0);
    const program = /<script>[^]*<\/script>/.exec(await Deno.readTextFile(`${folder}/b.html`))![0];
    assertStringIncludes(await Deno.readTextFile(`${folder}/page.html`), program);
  });

  await test.step("serve: the demo device, a module, in processes of their own", async () => {
    const module = `${ROOT}examples/timer.ts`;
    for (const args of [["demo"], [module], ["--isolate", "demo"]]) {
      const served = `${folder}/${crypto.randomUUID()}.sock`;
      const child = spawn("serve", ...args, `--socket-path=${served}`);
      const ended = child.output();
      let isOver = false;
      ended.then(() => isOver = true);
      await until(async () => isOver || (await run("probe", served)).code === 0, args.join(" "));
      if (!isOver) child.kill("SIGTERM");
      const { code, stderr } = await ended;
      assertEquals(code, 0, new TextDecoder().decode(stderr));
    }
    const session = ["run", "--serve", "demo", `${ROOT}examples/sessions/demo.yaml`];
    assertEquals((await run(...session)).code, 0);
  });

  await test.step("record, through the bundle and to a file", async () => {
    using _server = Server.listen(socket, new DemoDevice());
    const args = ["--listen", "between.sock", "--connect", "demo.sock", "--output", "b.pcapng"];
    const child = spawn("record", ...args);
    const ended = child.output();
    await until(() => {
      try {
        return Deno.statSync(`${folder}/between.sock`).isSocket === true;
      } catch {
        return false;
      }
    });
    assertEquals((await run("probe", "between.sock")).code, 0);
    child.kill("SIGINT");
    await ended;
    assertMatch((await run("show", "b.pcapng", "--stats")).out, /REGION_READ/);
  });

  await test.step("all that it reads by path is in it", () => {
    const files = [...Deno.readDirSync(dist)].filter(({ isFile }) => isFile);
    const texts = new Map(
      files.map(({ name }) => [
        name,
        // Comments have examples, which import as well.
        Deno.readTextFileSync(`${dist}/${name}`).replaceAll(/^ *\/\*\*.*?\*\//gms, ""),
      ]),
    );
    for (const [name, text] of texts) {
      for (
        const [, path] of text.matchAll(/new URL\(["`](\.\/[^"`]*)["`],\s*import\.meta\.url\)/g)
      ) {
        // Threads guard devices, which run from the sources.
        if (path === "./guard_thread.ts") continue;
        const folder = path!.replace(/\/[^/]*$/, "");
        assert(Deno.statSync(`${dist}/${folder}`).isDirectory, `${name} reads ${path}`);
      }
    }
    const bundles = SUBCOMMANDS.map(({ name }) => name)
      .filter((name) => !["serve", "new", "completion", "man"].includes(name));
    const used = new Set<string>();
    for (const name of [...bundles, "rest", "vfu"]) {
      const parts = partsOf(`${name}.js`, texts);
      for (const part of parts) used.add(part);
      const text = parts.map((part) => texts.get(part)).join("\n");
      // Other modules of Node.js are asked for when they are used.
      const builtIn = [...text.matchAll(/from\s*"((?:node|npm|\.\.)[:/][^"]*)"/g)].map(([, each]) =>
        each!
      );
      assertEquals(builtIn, name === "shell" ? ["node:process", "node:readline"] : [], name);
      // The entry's way to the others, to a module of the user's in what may serve that, and to the
      // map of such a module: lines that have one run from the sources.
      const computed = [...text.matchAll(/\bimport\(([^)"]*)\)/g)].map(([, each]) => each!);
      const ways = [
        "vfu run shell map",
        "bench dirty dma doctor dump irq load map poll read record regs replay shell show write",
      ];
      const most = ways.filter((each) => each.split(" ").includes(name)).length;
      assert(computed.length <= most, `${name} imports ${computed.join(" and ")}`);
    }
    assertEquals([...texts.keys()].sort(), [...used].sort());
  });

  await test.step("completions, manual pages and licences are beside it", async () => {
    const text = (path: string) => Deno.readTextFile(`${dist}/${path}`);
    for (
      const [shell, name] of [["bash", "vfu"], ["zsh", "_vfu"], ["fish", "vfu.fish"]] as const
    ) {
      const { out } = await runHere(["completion", shell]);
      assertEquals(await text(`completions/${shell}/${name}`), out);
    }
    assertEquals(await text("man/vfu.1"), (await runHere(["man"])).out);
    for (const { name } of SUBCOMMANDS) {
      assertEquals(await text(`man/vfu-${name}.1`), (await runHere(["man", name])).out);
    }
    assertMatch(await text("licences/yaml.txt"), /^yaml \d/);
    assertEquals(await text("licences/vfu.txt"), await Deno.readTextFile(`${ROOT}LICENSE`));
  });

  await test.step("a map that is missing is named, and not the session", async () => {
    await Deno.remove(`${dist}/maps/nvme.yaml`);
    await Deno.writeTextFile(`${folder}/s.yaml`, "include: nvme\nsteps:\n- read: CSTS\n");
    const why = "it is a file of vfu, and is not there; install vfu again\n";
    const session = await run("run", "--check", "s.yaml");
    assertStringIncludes(session.err, `s.yaml:1:10: Cannot read the map "nvme": ${why}`);
    const list = await run("map", "list", "nvme");
    assertEquals(list, { code: 1, out: "", err: `vfu: Cannot read the map nvme: ${why}` });
  });

  await test.step("a second build takes the place of the first, and of nothing else", async () => {
    await Deno.writeTextFile(`${dist}/old.js`, "");
    await build(dist);
    assertEquals((await run("--version")).code, 0);
    assertEquals([...Deno.readDirSync(dist)].some(({ name }) => name === "old.js"), false);
    let refusal = "";
    await build(folder).catch((error) => refusal = error.message);
    assertStringIncludes(refusal, "it has other files");
    // As of a user's folder of programs, into which the entry was put.
    await Deno.writeTextFile(`${dist}/notes.txt`, "mine");
    refusal = "";
    await build(dist).catch((error) => refusal = error.message);
    assertStringIncludes(refusal, "it has other files");
    assertEquals(await Deno.readTextFile(`${dist}/notes.txt`), "mine");
  });
});

Deno.test("a bundle disposes of what `using` holds, where it is used but once", async () => {
  await using place = temporaryFolder();
  const path = `${place.path}/held.ts`;
  await Deno.writeTextFile(
    path,
    `class Held { value() { return 5; } [Symbol.dispose]() { console.log("disposed"); } }
    function once() { using held = new Held(); return held.value(); }
    async function later() { using held = await new Held(); return await held.value(); }
    console.log(once(), await later());`,
  );
  await runBundler([...BUNDLING, "--outdir", place.path, path]);
  const { stdout } = await new Deno.Command(DENO, { args: ["run", `${place.path}/held.js`] })
    .output();
  assertEquals(new TextDecoder().decode(stdout), "disposed\ndisposed\n5 5\n");
});

Deno.test("a build that is interrupted leaves nothing", async () => {
  await using place = temporaryFolder();
  const names = () => [...Deno.readDirSync(place.path)].map(({ name }) => name);
  const { code, out, err } = await interrupted(
    ["run", "--frozen", "-A", `${ROOT}cli/installed/build.ts`, `${place.path}/dist`],
    { TMPDIR: place.path },
    () => names().some((name) => name.startsWith(".vfu-build-")),
  );
  assertEquals([code, out, err], [130, "", "Called off by SIGINT\n"]);
  assertEquals(names(), ["dist"]); // which is empty, to be replaced
});

Deno.test("needsSources() and bundleOf() find what runs a line", () => {
  for (
    const line of [
      "serve demo",
      "help serve",
      "run --serve ./a.ts b",
      "shell --serve=demo",
      "read a --map b.ts",
    ]
  ) {
    assertEquals(needsSources(line.split(" ")), true, line);
  }
  assertEquals(needsSources(["show", "a", "--html=b\nc"]), true);
  assertEquals(needsSources(["probe", "serve.sock"]), false);
  const bundles = ["probe", "run"];
  for (
    const [line, bundle] of [
      ["probe a", "probe"],
      ["--help run", "run"],
      ["help probe", "probe"],
      ["help", "rest"],
      ["-V", "rest"],
      ["constructor", "rest"],
    ] as const
  ) {
    assertEquals(bundleOf(line.split(" "), bundles), bundle);
  }
});
