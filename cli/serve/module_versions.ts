/**
 * Modules of users that are loaded again and again: each time with all files of the user's that
 * they import.
 *
 * A version is a number in the query of a module's URL, which the runtime takes for another module.
 * A hook of the loader passes the number on to what the module imports.
 *
 * @module
 */

import type { registerHooks as RegisterHooks } from "node:module";
import { isOwn } from "./blame.ts";

const QUERY = /[?&]vfu=(\d+)/;

/** The versions that were loaded of some modules, and the files of each. */
export class ModuleVersions implements Disposable {
  readonly #files = new Map<string, Set<string>>(); // by number
  readonly #hooks: { deregister(): void };
  #last = 0;

  private constructor(registerHooks: typeof RegisterHooks) {
    this.#hooks = registerHooks({
      resolve: (specifier, context, next) => {
        const found = next(specifier, context);
        const own = QUERY.exec(found.url)?.[1];
        const version = own ?? QUERY.exec(context.parentURL ?? "")?.[1];
        const files = version === undefined ? undefined : this.#files.get(version);
        if (files === undefined || !isUsers(found.url)) return found;
        const url = new URL(found.url);
        files.add(decodeURIComponent(url.pathname));
        if (own !== undefined) return found;
        url.search += `${url.search === "" ? "?" : "&"}vfu=${version}`;
        return { ...found, url: url.href };
      },
    });
  }

  /** From here on the loader passes versions on. */
  static async begin(): Promise<ModuleVersions> {
    const { registerHooks } = await import("node:module");
    return new ModuleVersions(registerHooks);
  }

  /**
   * Returns the URL by which a module is imported anew.
   *
   * @param files is given the paths of the module and of what it imports
   */
  next(url: URL, files: Set<string>): URL {
    const version = String(++this.#last);
    this.#files.set(version, files);
    files.add(decodeURIComponent(url.pathname));
    return new URL(`${url.href}${url.search === "" ? "?" : "&"}vfu=${version}`);
  }

  /** Has no further import be of a version. */
  [Symbol.dispose](): void {
    this.#hooks.deregister();
  }
}

/** Tells whether a file is the user's own: no part of vfu, and no package. */
function isUsers(url: string): boolean {
  return url.startsWith("file://") && !isOwn(url) && !url.includes("/node_modules/");
}
