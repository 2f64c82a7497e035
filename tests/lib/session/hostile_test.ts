import { assertEquals, assertLessOrEqual, assertMatch } from "@std/assert";
import { DENO } from "../../_deno.ts";

/** For what is refused at once. Deno itself takes a third of it. */
const MAX_PEAK_MIB = 200;
/** For what is as long as a file may be. */
const MAX_PEAK_LONG_MIB = 400;

/** Loads a file in a process of its own. */
async function load(path: string): Promise<{ first: string; peakMiB: number }> {
  const script = new URL("./_load_process.ts", import.meta.url).pathname;
  const { code, stdout, stderr } = await new Deno.Command(DENO, {
    args: ["run", "--frozen", "--allow-all", script, path],
  }).output();
  assertEquals(code, 0, new TextDecoder().decode(stderr));
  return JSON.parse(new TextDecoder().decode(stdout));
}

/** Each level stands for ten of the one below. */
function aliasBomb(): string {
  const levels = Array.from(
    { length: 30 },
    (_, i) => `a${i + 1}: &a${i + 1} [${Array(10).fill(`*a${i}`).join(", ")}]`,
  );
  return `a0: &a0 x\n${levels.join("\n")}\nsteps: *a30\n`;
}

const CASES: Readonly<Record<string, [text: () => string, first: RegExp, isLong?: true]>> = {
  "100 MB": [
    () => "steps: [reset]\n#".padEnd(100_000_000, "x"),
    /:1:1: The file is larger than 4 MiB$/,
  ],
  "nested lists": [() => `steps: ${"[".repeat(100_000)}`, /More than 64 lists and mappings/],
  "nested repeats": [
    () => `steps: ${"[{repeat: 1, steps: ".repeat(100_000)}`,
    /More than 64 lists and mappings/,
  ],
  "aliases": [aliasBomb, /"\*a0" is an alias; write out what it stands for$/],
  "steps": [
    () => `steps:\n${"- reset\n".repeat(200_000)}`,
    /More than 500000 words|100000 steps/,
    true,
  ],
  "steps beyond the limit": [
    () => `steps: [${"reset,".repeat(110_000)}]`,
    /The session has more than 100000 steps; let repeat do them again$/,
    true,
  ],
  "mistakes": [() => `steps:\n${"- rest\n".repeat(50_000)}`, /"rest" is no step/, true],
  "variables": [
    () =>
      `steps: []\nvariables:\n${
        Array.from({ length: 60_000 }, (_, i) => `  v${i}: "\${v${i - 1}}"\n`).join("")
      }`,
    /"v" is no variable/,
    true,
  ],
  "an expression": [
    () => `steps: [{log: "\${${"(".repeat(1_000_000)}}"}]`,
    /More than 65536 characters|nested more than|the limit is/,
  ],
};

for (const [name, [text, first, isLong]] of Object.entries(CASES)) {
  Deno.test(`loadSession() refuses too much in little memory: ${name}`, async () => {
    const path = await Deno.makeTempFile({ suffix: ".yaml" });
    try {
      await Deno.writeTextFile(path, text());
      const found = await load(path);
      assertMatch(found.first, first);
      const limit = isLong ? MAX_PEAK_LONG_MIB : MAX_PEAK_MIB;
      assertLessOrEqual(found.peakMiB, limit, `${found.peakMiB} MiB`);
    } finally {
      await Deno.remove(path);
    }
  });
}
