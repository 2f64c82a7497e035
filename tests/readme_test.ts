/**
 * Compares the README with the project that it describes.
 */

import { assertEquals, assertStringIncludes } from "@std/assert";
import { runServing } from "./cli/_cli.ts";

const ROOT = new URL("../", import.meta.url);

Deno.test("the README's session is the one in examples/sessions, and prints what it shows", async () => {
  const readme = await Deno.readTextFile(new URL("README.md", ROOT));
  const file = "examples/sessions/first.yaml";
  const session = await Deno.readTextFile(new URL(file, ROOT));
  assertStringIncludes(readme, `\`\`\`yaml\n${session}\`\`\`\n`);

  const command = `vfu run --serve demo ${file}`;
  const [, shown] = new RegExp(`\\$ ${command}\n(.*?)\`\`\``, "s").exec(readme)!;
  const { out } = await runServing(["run", new URL(file, ROOT).pathname]);
  const plain = (text: string) =>
    text.replaceAll(/[\d.]+ ms/g, "_ ms").replaceAll(/ +_ ms/g, " _ ms")
      .replace(/^(A first session) .*/, "$1");
  assertEquals(plain(out), plain(shown!));
});
