/**
 * The floors of the house (ARCHITECTURE.md): who may import whom.
 */

import { assert, assertEquals } from "@std/assert";
import {
  circles,
  imports as importsOf,
  projectGraph,
  rooms,
  sources as sourcesOf,
} from "./import_graph.ts";
import { loads } from "./_loads.ts";

const ROOT = new URL("..", import.meta.url);
const sources = (...folders: string[]) => sourcesOf(ROOT, ...folders);
const imports = (path: string) => importsOf(ROOT, path);

/** Imports of `paths` that `allowed` does not match. */
function violations(paths: string[], allowed: RegExp): string[] {
  return paths.flatMap((path) =>
    imports(path).filter((each) => !allowed.test(each)).map((each) => `${path} -> ${each}`)
  );
}

Deno.test("imports() finds what a file imports", () => {
  assertEquals(imports("mod.ts").includes("lib/client/connect.ts"), true);
  assertEquals(imports("cli/main.ts").includes("cli/probe/run.ts"), true);
});

Deno.test("ffi/ imports nothing but ffi/", () => {
  assertEquals(violations(sources("ffi"), /^ffi\//), []);
});

Deno.test("lib/ imports lib/ and ffi/ only; what reads files parsers and a checker too", () => {
  const [files, others] = [true, false].map((isFile) =>
    sources("lib").filter((path) => /^lib\/(yaml|registers|session)\//.test(path) === isFile)
  );
  assertEquals(violations(others!, /^(lib|ffi)\//), []);
  const packages =
    /^(lib\/.*|ffi\/errno\.ts|yaml|sax|valibot|@valibot\/to-json-schema|node:process)$/;
  assertEquals(violations(files!, packages), []);
});

Deno.test("lib/wire/ and lib/text/ are pure: they take errors, limits and the errnos", () => {
  assertEquals(
    violations(
      sources("lib/wire", "lib/text"),
      /^(lib\/wire\/|lib\/text\/|lib\/base\/(errors|limits)\.ts|ffi\/errno\.ts)/,
    ),
    [],
  );
  assertEquals(
    violations(["lib/base/errors.ts", "lib/base/limits.ts", "ffi/errno.ts"], /^ffi\/errno\.ts/),
    [],
  );
});

Deno.test("lib/pci/ is pure as well", () => {
  assertEquals(
    violations(sources("lib/pci"), /^(lib\/pci\/|lib\/text\/|lib\/base\/errors\.ts)/),
    [],
  );
});

Deno.test("lib/client/ is below its diagnose/ and above its migration/", () => {
  const client = sources("lib/client").filter((path) => !path.startsWith("lib/client/diagnose/"));
  assertEquals(violations(client, /^(?!lib\/client\/diagnose\/)/), []);
  assertEquals(
    violations(
      sources("lib/client/migration"),
      /^(ffi|lib\/(base|transport|wire|client\/migration))\//,
    ),
    [],
  );
});

Deno.test("mod.ts imports lib/ and ffi/ only", () => {
  assertEquals(violations(["mod.ts"], /^(lib|ffi)\//), []);
});

Deno.test("cli/ never imports ffi/", () => {
  assertEquals(violations(sources("cli"), /^(?!ffi\/)/), []);
});

Deno.test("only ffi/ calls Deno.dlopen or sees a pointer", () => {
  const outside = sources("lib", "cli").filter((path) =>
    /Deno\.(dlopen|Unsafe)/.test(Deno.readTextFileSync(new URL(path, ROOT)))
  );
  assertEquals(outside, []);
});

Deno.test("only ffi/ opens a file of another process, for which Deno wants --allow-all", () => {
  const outside = sources("lib", "cli").filter((path) =>
    /Deno\.\w+\(\s*`\/proc\/\$/.test(Deno.readTextFileSync(new URL(path, ROOT)))
  );
  assertEquals(outside, []);
});

Deno.test("nothing imports from JSR", () => {
  const all = sources("ffi", "lib", "cli", "tests", "examples");
  assertEquals(all.flatMap((path) => imports(path).filter((each) => each.startsWith("jsr:"))), []);
});

Deno.test("nothing is decided by the text of an error", () => {
  const methods = "includes|startsWith|endsWith|match|search|indexOf";
  const search = new RegExp(
    `\\bmessage\\)?\\.(${methods})\\(|\\.(test|exec)\\([^)\\n]*\\bmessage\\b`,
  );
  // The YAML package tells some mistakes apart by their words alone, which choose a hint.
  const allowed = ["lib/yaml/document.ts"];
  const found = sources("lib", "ffi", "cli", "examples").filter((path) =>
    search.test(Deno.readTextFileSync(new URL(path, ROOT)))
  );
  assertEquals(found, allowed);
});

Deno.test("no files import each other in a circle", () => {
  assertEquals(circles(projectGraph(ROOT)), []);
});

Deno.test("no folders import each other in a circle", () => {
  const all = rooms(projectGraph(ROOT));
  assert(all.length > 30);
  assertEquals(circles(new Map(all.map(({ name, imports }) => [name, new Set(imports)]))), []);
});

Deno.test("vfu serve demo loads no client, and ahead of the device only its review", async () => {
  const loaded = await loads(ROOT, "cli/commands/serve.ts");
  assert(loaded.includes("lib/server/server.ts"));
  const device = await loads(ROOT, "lib/devices/demo.ts");
  const others = /^lib\/(client|session|record)\//;
  assertEquals([...loaded, ...device].filter((path) => others.test(path)), []);
  assertEquals(loaded.filter((path) => /^lib\/(define|devices)\//.test(path)).sort(), [
    "lib/define/mistakes.ts",
    "lib/define/origin.ts",
    "lib/define/review.ts",
  ]);
});

Deno.test("no subcommand imports another one", () => {
  assertEquals(violations(sources("cli/commands"), /^(?!cli\/commands\/)/), []);
});

Deno.test("circles() finds a circle, and nothing where there is none", () => {
  const graph = (edges: Record<string, string[]>) =>
    new Map(Object.entries(edges).map(([name, to]) => [name, new Set(to)]));
  assertEquals(circles(graph({ a: ["b"], b: ["c"], c: ["b"], d: ["d"] })), [["b", "c"], ["d"]]);
  assertEquals(circles(graph({ a: ["b", "c"], b: ["c"], c: [] })), []);
});
