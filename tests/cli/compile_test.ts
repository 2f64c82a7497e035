/** The program of one file that `deno task compile` makes, as far as there is no runtime for it. */

import { assertEquals, assertRejects } from "@std/assert";
import { compile, notEmbedded } from "../../cli/installed/compile.ts";
import { layOut } from "../../cli/installed/package.ts";
import { temporaryFolder } from "./_cli.ts";

Deno.test("deno task compile embeds all subcommands and maps, or says that there is no runtime", async () => {
  await using folder = temporaryFolder();
  const [source, file] = [`${folder.path}/package`, `${folder.path}/vfu`];
  await Deno.mkdir(source);
  await layOut(source);
  // Deno itself stands for its runtime: the files are embedded, and the program does not run.
  await compile(source, file, { DENORT_BIN: Deno.execPath() });
  assertEquals(Deno.statSync(file).size > Deno.statSync(Deno.execPath()).size, true);
  // There is none in an empty cache, if nothing can be downloaded.
  await assertRejects(
    () =>
      compile(source, `${file}2`, {
        DENO_DIR: `${folder.path}/cache`,
        HTTPS_PROXY: "http://127.0.0.1:9",
      }),
    Error,
    "Cannot compile: Deno's runtime, denort, can't be had here; set DENORT_BIN to a copy. ",
  );
});

Deno.test("notEmbedded() reads the tree of deno compile", () => {
  const listing = `
Embedded Files

vfu
├─┬ cli (1.73MB)
│ ├─┬ commands (3KB)
│ │ ├── read.ts (1KB)
│ │ └── write.ts (2KB - 1KB unique)
│ └── shared/* (163.19KB)
├── mod.ts (1B)
└─┬ lib (5.33MB)
  └── registers/maps/demo.yaml (93.46KB)

Files: 3MB
`;
  const there = [
    "cli/commands/read.ts",
    "cli/commands/write.ts",
    "cli/shared/a/b.ts",
    "mod.ts",
    "lib/registers/maps/demo.yaml",
  ];
  const missing = ["read.ts", "cli/commands/probe.ts", "lib/registers/maps/nvme.yaml", "cli/a.ts"];
  assertEquals(notEmbedded(listing, [...there, ...missing]), missing);
  assertEquals(notEmbedded("", ["mod.ts"]), ["mod.ts"]);
});
