/** `deno task try-jsr`, with a registry of ours in place of JSR. */

import { assertEquals, assertMatch, assertStringIncludes } from "@std/assert";
import { temporaryFolder } from "./cli/_cli.ts";
import { tryJsr } from "./try_jsr.ts";

/** A package of a registry: the text of its one module. */
type Packages = Readonly<Record<string, { path: string; text: string }>>;

/** Serves packages as JSR does. */
function serveJsr(packages: Packages) {
  const hex = (bytes: ArrayBuffer) =>
    [...new Uint8Array(bytes)].map((each) => each.toString(16).padStart(2, "0")).join("");
  return Deno.serve({ hostname: "127.0.0.1", port: 0, onListen() {} }, async ({ url }) => {
    const path = new URL(url).pathname;
    for (const [name, { path: exported, text }] of Object.entries(packages)) {
      const data = new TextEncoder().encode(text);
      const checksum = `sha256-${hex(await crypto.subtle.digest("SHA-256", data))}`;
      if (path === `/${name}/meta.json`) {
        return Response.json({ latest: "1.2.3", versions: { "1.2.3": {} } });
      }
      if (path === `/${name}/1.2.3_meta.json`) {
        return Response.json({
          manifest: { "/mod.ts": { size: data.length, checksum } },
          exports: { [exported]: "./mod.ts" },
        });
      }
      if (path === `/${name}/1.2.3/mod.ts`) return new Response(text);
    }
    return new Response("", { status: 404 });
  });
}

/** The declarations that cli/shared/style.ts wants. */
const COLOURS = ["bold", "dim", "red", "green", "yellow", "cyan"]
  .map((name) => `export declare const ${name}: (text: string) => string;\n`).join("");
const PACKAGES: Packages = {
  "@std/assert": { path: ".", text: "export {};\n" },
  "@std/fmt": { path: "./colors", text: COLOURS },
  "@cliffy/command": { path: ".", text: "export {};\n" },
};
const FILE = new URL("../cli/shared/style.ts", import.meta.url).pathname;

Deno.test("try-jsr says what is there, and whether it fits", async () => {
  await using folder = temporaryFolder();
  for (
    const [text, code, last] of [
      [COLOURS, 0, /^deno check passes with them/],
      ["export const bold = 1;\n", 1, /TS2739/],
    ] as const
  ) {
    await using server = serveJsr({ ...PACKAGES, "@std/fmt": { path: "./colors", text } });
    const registry = new URL(`http://127.0.0.1:${server.addr.port}/`);
    const tried = await tryJsr(registry, [FILE], { DENO_DIR: `${folder.path}/${code}` });
    assertEquals([tried.code, tried.lines[0]], [code, "JSR is reached:"], tried.lines.join("\n"));
    assertEquals(tried.lines[1], "@std/assert 1.2.3");
    assertMatch(tried.lines.at(-1)!, last);
  }
});

Deno.test("try-jsr says plainly that JSR is not reached, or lacks a package", async () => {
  const { code, lines } = await tryJsr(new URL("http://127.0.0.1:9/"), [FILE]);
  assertEquals(code, 1);
  assertStringIncludes(lines[0]!, "Cannot reach JSR today: @std/assert: ");
  assertStringIncludes(lines[1]!, "Nothing changes: ");
  await using server = serveJsr({ "@std/assert": PACKAGES["@std/assert"]! });
  const lacking = await tryJsr(new URL(`http://127.0.0.1:${server.addr.port}/`), [FILE]);
  assertEquals(lacking.code, 1);
  assertStringIncludes(lacking.lines[0]!, "@std/fmt: 404");
});
