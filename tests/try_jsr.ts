/**
 * A try to take packages from JSR in place of files of ours: `deno task try-jsr [FILE...]`. It
 * changes nothing. docs/decisions.md says what does, on the day that JSR is reached.
 *
 * @module
 */

import manifest from "../deno.json" with { type: "json" };
import { runToEnd } from "../cli/installed/deno.ts";

/** A package that waits for JSR. */
interface Wanted {
  /** The name by which the sources import it. */
  readonly name: string;
  /** The name and the path in JSR. */
  readonly specifier: string;
  /** The file or package that stands for it; undefined if the sources have to change. */
  readonly ours: keyof typeof manifest.imports | undefined;
}

const WANTED: readonly Wanted[] = [
  { name: "@std/assert", specifier: "jsr:@std/assert@^1", ours: "@std/assert" },
  { name: "@std/fmt", specifier: "jsr:@std/fmt@^1/colors", ours: "@std/fmt/colors" },
  { name: "@cliffy/command", specifier: "jsr:@cliffy/command@^1", ours: undefined },
];

const ROOT = new URL("../", import.meta.url);
/** The patience with a registry, in milliseconds. */
const PATIENCE_MS = 10_000;

/** The end of a try. */
export interface Tried {
  /** The exit code: 0 if JSR is reached and what is checked fits it. */
  readonly code: number;
  /** Lines for a person. */
  readonly lines: readonly string[];
}

/**
 * Asks a registry for the packages, then has Deno check files with them.
 *
 * @param registry the registry's address
 * @param files the files to check
 * @param env variables for Deno, as DENO_DIR
 */
export async function tryJsr(
  registry: URL,
  files: readonly string[],
  env: Record<string, string> = {},
): Promise<Tried> {
  const lines: string[] = [];
  for (const { name } of WANTED) {
    try {
      lines.push(`${name} ${await newest(new URL(`${name}/meta.json`, registry))}`);
    } catch (error) {
      return {
        code: 1,
        lines: [
          `Cannot reach JSR today: ${name}: ${reasonOf(error)}`,
          "Nothing changes: tests/_assert.ts, cli/_colors.ts and commander stay in place",
        ],
      };
    }
  }
  lines.unshift("JSR is reached:");
  const { code, stderr } = await check(files, { ...env, JSR_URL: registry.href });
  if (code !== 0) return { code: 1, lines: [...lines, "deno check fails with them:", stderr] };
  return {
    code,
    lines: [
      ...lines,
      "deno check passes with them; docs/decisions.md (Dependencies) says what to change",
    ],
  };
}

/** Asks for the newest version of a package. */
async function newest(meta: URL): Promise<string> {
  const response = await fetch(meta, { signal: AbortSignal.timeout(PATIENCE_MS) });
  if (response.ok) return (await response.json()).latest;
  await response.body?.cancel();
  throw new Error(`${response.status} ${response.statusText}`);
}

/** Has Deno check files, with a map of imports that has packages of JSR. */
async function check(files: readonly string[], env: Record<string, string>) {
  const replaced = WANTED.flatMap(({ ours, specifier }) =>
    ours === undefined ? [] : [[ours, specifier]]
  );
  const kept = Object.entries(manifest.imports).filter(([, path]) => path.startsWith("npm:"));
  const map = await Deno.makeTempFile({ prefix: "vfu-jsr-", suffix: ".json" });
  try {
    const imports = Object.fromEntries([...kept, ...replaced]);
    await Deno.writeTextFile(map, JSON.stringify({ imports }));
    const config = new URL("deno.json", ROOT).pathname;
    const args = ["check", "--no-lock", `--config=${config}`, `--import-map=${map}`, ...files];
    return await runToEnd(Deno.execPath(), args, { env });
  } finally {
    await Deno.remove(map);
  }
}

/** The last of the causes: the first says that a request failed. */
function reasonOf(error: unknown): string {
  if (!(error instanceof Error)) return String(error);
  return error.cause === undefined ? error.message : reasonOf(error.cause);
}

if (import.meta.main) {
  const files = Deno.args.length > 0 ? Deno.args : [`${ROOT.pathname}cli/main.ts`, ...tests()];
  const { code, lines } = await tryJsr(new URL("https://jsr.io/"), files);
  Deno.stdout.writeSync(new TextEncoder().encode(`${lines.join("\n")}\n`));
  Deno.exitCode = code;
}

/** The tests of all commands: most of the sources, and all that imports what JSR has. */
function tests(): string[] {
  const folder = new URL("tests/cli/", ROOT);
  return [...Deno.readDirSync(folder)].filter(({ name }) => name.endsWith("_test.ts"))
    .map(({ name }) => folder.pathname + name);
}
