/**
 * Makes an npm package: `deno task pack [FOLDER]`, default `release/`.
 *
 * @module
 */

import { ROOT, runToEnd } from "./deno.ts";
import { layOut } from "./package.ts";
import { task } from "./task.ts";

/**
 * Packs vfu with `npm pack`.
 *
 * @returns the path of the tarball
 * @throws {Error} if npm is not there, or fails
 */
export async function pack(folder: string): Promise<string> {
  await Deno.mkdir(folder, { recursive: true });
  const place = await Deno.realPath(folder);
  const staged = await Deno.makeTempDir({ prefix: "vfu-pack-" });
  try {
    await Deno.chmod(staged, 0o755); // a temporary folder is the user's alone
    await layOut(staged);
    const { code, stdout, stderr } = await npm(staged, "pack", `--pack-destination=${place}`);
    if (code !== 0) throw new Error(`Cannot run npm pack:\n${stderr.trimEnd()}`);
    return `${place}/${stdout.trim().split("\n").at(-1)}`;
  } finally {
    await Deno.remove(staged, { recursive: true });
  }
}

async function npm(cwd: string, ...args: string[]) {
  try {
    return await runToEnd("npm", args, { cwd, env: { NPM_CONFIG_UPDATE_NOTIFIER: "false" } });
  } catch (error) {
    if (!(error instanceof Deno.errors.NotFound)) throw error;
    throw new Error("Cannot pack: npm is not on the path; install Node.js, which has it");
  }
}

if (import.meta.main) {
  await task(async () => {
    const [folder = new URL("release", ROOT).pathname] = Deno.args;
    return `Packed ${await pack(folder)}`;
  });
}
