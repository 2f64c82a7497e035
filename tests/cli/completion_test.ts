import { assert, assertEquals, assertStringIncludes } from "@std/assert";
import { assertGolden, runHere, temporaryFolder } from "./_cli.ts";
import { writeMap } from "./_completion.ts";

/** Lines that a person types, and the words that bash offers. */
const LINES: [line: string, words: string[]][] = [
  ["vfu recor", ["record"]],
  ["vfu re", ["read", "regs", "reset", "record", "replay"]],
  ["vfu help recor", ["record"]],
  ["vfu read --form", ["--format"]],
  ["vfu read --format ", ["hex", "dec", "bin", "raw", "json"]],
  ["vfu read --format=h", ["hex"]],
  ["vfu read -v s.sock CAP_MSIX", ["CAP_MSIX+"]],
  ["vfu read s.sock bar0+4 con", ["config+"]],
  ["vfu read --map nv", ["nvme"]],
  ["vfu read --map nvme s.sock conf", ["config+"]],
  ["vfu read --timeout ", []],
  ["vfu irq s.sock m", ["msi", "msix"]],
  ["vfu migrate ", ["save", "restore", "show", "state"]],
  ["vfu migrate state s.sock PRE", ["PRE_COPY"]],
  ["vfu serve --fault REGION_READ:de", ["delay"]],
  ["vfu serve --offer twin", ["twin_socket="]],
  ["vfu record --intercept io", ["ioeventfd"]],
  ["vfu check --only server/reset/1", ["server/reset/1"]],
  ["vfu read f", ["file.sock", "folder"]],
  ["vfu serve d", ["demo"]],
  ["vfu man migr", ["migrate"]],
  ["vfu read two\\ wo", ["two", "words.sock"]],
  ["vfu read two\\ words.sock conf", ["config+"]],
  ["vfu read two\\ words.sock --map ./o\\wn.yaml SC", ["SCRATCH"]],
  ["vfu migrate state two\\ words.sock PRE", ["PRE_COPY"]],
  ["vfu nonsense --", ["--version", "--help"]],
  ["vfu read --map nvme s.sock CS", ["CSTS"]],
  ["vfu read s.sock --map=./own.yaml S", ["SCRATCH", "SLOTS[0]"]],
  ["vfu regs s.sock --map nvme --map ./own.yaml CS", ["CSTS"]],
  ["vfu regs s.sock --map nvme --map ./own.yaml SL", ["SLOTS[0]"]],
  ["vfu write s.sock --map ./own.yaml SCRATCH.", ["SCRATCH.LOW=", "SCRATCH.HIGH="]],
  ["vfu poll s.sock --map ./none.yaml S", []],
  ["vfu read s.sock --map ./odd.ts S", []],
  ["vfu dma s.sock --map 1M:64K --map demo --write SCRATCH", ["SCRATCH="]],
];

Deno.test("bash completes commands, options, and values", async () => {
  await using folder = temporaryFolder();
  await Deno.writeTextFile(`${folder.path}/file.sock`, "");
  await Deno.writeTextFile(`${folder.path}/two words.sock`, "");
  await Deno.mkdir(`${folder.path}/folder`);
  await writeMap(folder.path);
  const { out: completion } = await runHere(["completion", "bash"]);
  const script = `${completion}
for line; do
  COMP_LINE=$line COMP_POINT=\${#line} COMPREPLY=()
  _vfu
  echo "\${COMPREPLY[*]}"
done`;
  const { stdout, stderr, code } = await new Deno.Command("bash", {
    args: ["--norc", "-c", script, "bash", ...LINES.map(([line]) => line)],
    cwd: folder.path,
    env: { PATH: `${folder.path}/.bin:${Deno.env.get("PATH")}` },
  }).output();
  assertEquals([new TextDecoder().decode(stderr), code], ["", 0]);
  assert(![...Deno.readDirSync(folder.path)].some(({ name }) => name === "was-run"));
  const lines = new TextDecoder().decode(stdout).trimEnd().split("\n");
  assertEquals(
    lines.map((text, i) => [LINES[i]![0], text.split(" ").filter(Boolean).toSorted()]),
    LINES.map(([line, words]) => [line, words.toSorted()]),
  );
});

Deno.test("each shell has a script, and there are no others", async () => {
  for (const shell of ["bash", "zsh", "fish"]) {
    const { code, out } = await runHere(["completion", shell]);
    assertEquals(code, 0);
    for (const word of ["check-client", "socket-path", "CAP_MSIX+", "ioeventfd"]) {
      assertStringIncludes(out, word);
    }
    assert(!out.includes("isolated"), "an option that is not for people");
  }
  const other = await runHere(["completion", "tcsh"]);
  assertEquals(other.code, 2);
  assertStringIncludes(other.err, "Allowed choices are bash, zsh, fish");
});

Deno.test("a manual page has what the help has", async () => {
  const { code, out } = await runHere(["man", "read"]);
  assertEquals(code, 0);
  assertGolden("vfu-read.1", out);
  const program = (await runHere(["man"])).out;
  assertStringIncludes(program, "\n.B check-client\n");
  assertStringIncludes(program, "vfu\\-migrate");
  assertStringIncludes((await runHere(["man", "migrate"])).out, "vfu\\-migrate\\-save");
  const nested = await runHere(["man", "migrate", "save"]);
  assertStringIncludes(nested.out, ".TH VFU-MIGRATE-SAVE 1");
  // No line begins with a sign that man(7) would take for a command, but the commands themselves.
  for (const line of out.split("\n")) {
    assert(!/^['.]/.test(line) || /^\.(TH|SH|B|TP|PP|nf|fi|BR)( |$)/.test(line), line);
  }
});

Deno.test("man says which command is meant", async () => {
  const { code, err } = await runHere(["man", "recrd"]);
  assertEquals([code, err], [2, "vfu: There is no command 'recrd'; did you mean record?\n"]);
});
