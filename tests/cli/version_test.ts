import { assertEquals, assertMatch } from "@std/assert";
import { commitOf, programVersion, versionLine } from "../../cli/version.ts";
import { runHere, runThere, temporaryFolder } from "./_cli.ts";

async function git(cwd: string, ...args: string[]): Promise<string> {
  const { code, stdout, stderr } = await new Deno.Command("git", {
    args: ["-c", "user.name=a", "-c", "user.email=a@localhost", ...args],
    cwd,
    env: { GIT_CONFIG_GLOBAL: "/dev/null", GIT_CONFIG_SYSTEM: "/dev/null" },
  }).output();
  assertEquals(code, 0, new TextDecoder().decode(stderr));
  return new TextDecoder().decode(stdout).trim();
}

Deno.test("commitOf() finds what git finds: branch, packed, detached, worktree, none", async () => {
  await using folder = temporaryFolder();
  const root = `${folder.path}/a b`;
  await Deno.mkdir(root);
  const commit = (path = root) => commitOf(new URL(`file://${encodeURI(path)}/`));
  assertEquals(commit(), undefined);
  await git(root, "init", "--quiet", "--initial-branch=topic/ä");
  assertEquals(commit(), undefined);
  await git(root, "commit", "--quiet", "--allow-empty", "--message=one");
  const first = await git(root, "rev-parse", "HEAD");
  assertEquals(commit(), first);
  await git(root, "pack-refs", "--all");
  assertEquals(commit(), first);
  await git(root, "worktree", "add", "--quiet", "../other", "-b", "other");
  const other = `${folder.path}/other`;
  assertEquals(commit(other), first);
  await git(other, "commit", "--quiet", "--allow-empty", "--message=two");
  assertEquals(commit(other), await git(other, "rev-parse", "HEAD"));
  assertEquals(commit(), first);
  await git(other, "checkout", "--quiet", "--detach");
  assertEquals(commit(other), await git(other, "rev-parse", "HEAD"));
});

Deno.test("commitOf() takes nothing else for a commit", async () => {
  await using folder = temporaryFolder();
  const root = new URL(`file://${folder.path}/`);
  await Deno.mkdir(`${folder.path}/.git/refs/heads`, { recursive: true });
  for (const head of ["", "abc", `${"g".repeat(40)}\n`, `${"a".repeat(41)}\n`, "ref: ../../a\n"]) {
    await Deno.writeTextFile(`${folder.path}/.git/HEAD`, head);
    assertEquals(commitOf(root), undefined, head);
  }
  await Deno.writeTextFile(`${folder.path}/.git/HEAD`, "ref: refs/heads/main\n");
  await Deno.writeTextFile(`${folder.path}/.git/refs/heads/main`, `${"a".repeat(64)}\n`);
  assertEquals(commitOf(root), "a".repeat(64));
});

Deno.test("vfu --version shows release, commit and Deno, and as JSON", async () => {
  const version = programVersion();
  const here = await runHere(["--version"]);
  assertEquals(here, { code: 0, out: `${versionLine(version)}\n`, err: "" });
  assertMatch(here.out, /^vfu \d+\.\d+\.\d+ \((commit [0-9a-f]{8}, )?Deno \d+\.\d+\.\d+\)\n$/);
  for (const args of [["--version", "--json"], ["--json", "-V"]]) {
    const { code, out } = await runHere(args);
    assertEquals([code, JSON.parse(out)], [0, JSON.parse(JSON.stringify(version))]);
  }
  // Without the right to read there is no commit, and no question.
  const there = await runThere(["--version"], { permissions: [] });
  assertEquals([there.code, there.err], [0, ""]);
  assertMatch(there.out, /^vfu \S+ \(Deno \S+\)\n$/);
});
