/**
 * The modules that a start loads, as Deno itself counts them.
 *
 * @module
 */

import { DENO } from "./_deno.ts";

/**
 * The modules that a file loads when it is imported, itself among them: paths from the root, or
 * specifiers of packages. Dynamic imports do not count, and neither do those of types.
 */
export async function loads(root: URL, path: string): Promise<string[]> {
  type Import = { readonly code?: { readonly specifier: string }; readonly isDynamic?: true };
  type Module = { readonly specifier: string; readonly dependencies?: readonly Import[] };
  const args = ["info", "--json", "--frozen", path];
  const { stdout } = await new Deno.Command(DENO, { args, cwd: root }).output();
  const { modules } = JSON.parse(new TextDecoder().decode(stdout)) as { modules: Module[] };
  const imported = new Map(modules.map(({ specifier, dependencies = [] }) => [
    specifier,
    dependencies.flatMap(({ code, isDynamic }) => isDynamic || !code ? [] : [code.specifier]),
  ]));
  const found = new Set([new URL(path, root).href]);
  for (const each of found) imported.get(each)?.forEach((next) => found.add(next));
  return [...found].map((each) => each.startsWith(root.href) ? each.slice(root.href.length) : each);
}
