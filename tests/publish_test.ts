/** The package that would be published to JSR, and the reference of its API. */

import { assert, assertEquals } from "@std/assert";
import manifest from "../deno.json" with { type: "json" };
import { runToEnd } from "../cli/installed/deno.ts";
import { DENO } from "./_deno.ts";

const ROOT = new URL("..", import.meta.url).pathname;

Deno.test("deno publish --dry-run has no slow types, and warns of three imports alone", async () => {
  // Types are checked by deno task check.
  const args = ["publish", "--dry-run", "--no-check", "--allow-dirty"];
  const { code, stdout, stderr } = await runToEnd(DENO, args, { cwd: ROOT });
  const text = stdout + stderr;
  assertEquals(code, 0, text);
  const findings = [...text.matchAll(/^(?:warning|error)\[(.*?)\].*\n +--> (.*?):\d+:\d+$/gm)];
  assertEquals(
    findings.map(([, rule, file]) => `${rule} ${file!.replace(ROOT, "")}`).sort(),
    [
      "unanalyzable-dynamic-import cli/serve/load.ts",
      "unanalyzable-dynamic-import cli/shared/map.ts",
      "unanalyzable-dynamic-import cli/subcommands.ts",
    ],
  );
  assertEquals(text.match(/^(?:warning|error)\b/gm)?.length, findings.length, text);
  const files = [...text.matchAll(/^ +file:\/\/(.*) \([\d.]+\w+\)$/gm)]
    .map(([, file]) => decodeURI(file!).replace(ROOT, ""));
  for (const file of [...Object.values(manifest.exports), "lib/registers/maps/nvme.yaml"]) {
    assert(files.includes(file.replace(/^\.\//, "")), `${file} is left out`);
  }
  assertEquals(files.filter((file) => /^(tests|\.ci|cli\/installed)\//.test(file)), []);
});

Deno.test("deno task doc and deno task check look at every module that is exported", () => {
  const exported = Object.values(manifest.exports).map((file) => file.replace(/^\.\//, ""));
  const { doc, check } = manifest.tasks;
  assertEquals(exported.filter((file) => !doc.command.split(" ").includes(file)), []);
  // The command line has no API that a program would use.
  const looked = check.command.split("deno doc --lint ")[1]!.split(" ");
  assertEquals(exported.filter((file) => file !== "cli/main.ts"), looked);
});
