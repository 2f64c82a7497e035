/**
 * Modules of users that are loaded again and again: each time with all files of the user's that
 * they import.
 *
 * A version is a number in the query of a module's URL, which the runtime takes for another module.
 * A hook of the loader passes the number on to what the module imports. A register map that a
 * version loads is one of its files: the stack of the call has the number.
 *
 * @module
 */

import type { registerHooks as RegisterHooks } from "node:module";
import { resolve } from "node:path";
import { onRead } from "../../lib/yaml/text.ts";
import { pathOf } from "../shared/file_url.ts";
import { isOwn } from "./blame.ts";

const QUERY = /[?&]vfu=(\d+)/;

/** The versions that were loaded of some modules, and the files of each. */
export class ModuleVersions implements Disposable {
  readonly #files = new Map<string, Set<string>>(); // by number
  readonly #hooks: { deregister(): void };
  readonly #reads: Disposable;
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
        files.add(pathOf(url.pathname));
        if (own !== undefined) return found;
        url.search += `${url.search === "" ? "?" : "&"}vfu=${version}`;
        return { ...found, url: url.href };
      },
    });
    this.#reads = onRead((path) => {
      const version = QUERY.exec(new Error().stack ?? "")?.[1];
      if (version !== undefined) this.#files.get(version)?.add(resolve(path));
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
   * @param files is given the paths of the module, of what it imports, and of its register maps
   */
  next(url: URL, files: Set<string>): URL {
    const version = String(++this.#last);
    this.#files.set(version, files);
    files.add(pathOf(url.pathname));
    return new URL(`${url.href}${url.search === "" ? "?" : "&"}vfu=${version}`);
  }

  /** Has no further import be of a version. */
  [Symbol.dispose](): void {
    this.#hooks.deregister();
    this.#reads[Symbol.dispose]();
  }
}

/** Tells whether a file is the user's own: no part of vfu, and no package. */
function isUsers(url: string): boolean {
  return url.startsWith("file://") && !isOwn(url) && !url.includes("/node_modules/");
}
