import { assert, assertEquals, assertMatch, assertStringIncludes } from "@std/assert";
import { TEMPLATES } from "../../cli/new/templates.ts";
import { projectFiles } from "../../cli/new/project.ts";
import { DENO } from "../_deno.ts";
import { startServe } from "../_demo_process.ts";
import { assertGolden, runHere, temporaryFolder } from "./_cli.ts";

async function deno(cwd: string, ...args: string[]): Promise<string> {
  const { code, stdout, stderr } = await new Deno.Command(DENO, {
    args,
    cwd,
    env: { NO_COLOR: "1", DENO_NO_UPDATE_CHECK: "1" },
  }).output();
  const text = new TextDecoder().decode(stdout) + new TextDecoder().decode(stderr);
  assertEquals(code, 0, text);
  return text;
}

for (const template of Object.keys(TEMPLATES) as (keyof typeof TEMPLATES)[]) {
  Deno.test(`vfu new --template ${template}: what it makes works at once`, async () => {
    await using folder = temporaryFolder();
    const path = `${folder.path}/thing`;
    await Deno.mkdir(path);
    for (const [file, text] of Object.entries(projectFiles("thing", template))) {
      await Deno.writeTextFile(`${path}/${file}`, text);
    }
    await deno(path, "fmt", "--check", "--line-width=100", "thing.ts", "thing_test.ts");
    assertMatch(await deno(path, "task", "test"), /ok \| [1-9] passed \| 0 failed/);
    assertMatch(await deno(path, "task", "session"), /passed/);
    await using server = await startServe(`${path}/thing.ts`);
    assertEquals((await runHere(["probe", server.path])).code, 0);
    const map = ["read", server.path, "--map", `${path}/registers.yaml`, "bar0+0"];
    assertEquals((await runHere(map)).code, 0);
    assertEquals((await runHere(["run", "--check", `${path}/session.yaml`])).code, 0);
  });
}

Deno.test("vfu new makes a folder, and replaces none", async () => {
  await using folder = temporaryFolder();
  const path = `${folder.path}/my_device`;
  // The name is that of the folder as well: this one is no word.
  const refused = await runHere(["new", path]);
  assertEquals(refused.code, 2);
  assertStringIncludes(refused.err, "is no name for a device; it takes small letters");
  const word = await runHere(["new", "true"]); // which YAML takes for something else
  assertEquals(word.code, 2);
  assertStringIncludes(word.err, '"true" is no name in a register map; choose another word');
  const before = Deno.cwd();
  Deno.chdir(folder.path);
  try {
    const { code, out } = await runHere(["new", "my_device", "--json"]);
    assertEquals(code, 0);
    const { files } = JSON.parse(out);
    assertEquals(files.length, 6);
    assert(files.every((file: string) => Deno.statSync(`${path}/${file}`).isFile));
    const readme = Deno.readTextFileSync(`${path}/README.md`);
    assertStringIncludes(readme, `"path":"${Deno.cwd()}/my_device/my_device.sock"`);
    const again = await runHere(["new", "my_device"]);
    assertEquals(again.code, 1);
    assertEquals(
      again.err,
      "vfu: Cannot make my_device: it is there already; choose another name\n",
    );
  } finally {
    Deno.chdir(before);
  }
  assertGolden("new-help.txt", (await runHere(["new", "--help"])).out);
});
