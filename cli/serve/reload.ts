/**
 * `vfu serve --watch`: a module that changes is loaded again, and its device takes the place of the
 * one that is served.
 *
 * @module
 */

import type { ServedDevice } from "../../lib/server/served_device.ts";
import { within } from "../../lib/base/wait.ts";
import type { Server } from "../../lib/server/server.ts";
import type { Succession } from "../../lib/server/succession.ts";
import { FileWatch } from "./file_watch.ts";
import { LOAD_MS, loadDevice, type Loaded, type Versions } from "./load.ts";
import { ModuleVersions } from "./module_versions.ts";

/** A device that is served, and what a new version of it takes. */
export interface Watched {
  /** The path of its module. */
  readonly device: string;
  readonly server: Server;
  /** Does what may hold the thread, under the device's name. */
  step<T>(work: () => Promise<T>): Promise<T>;
  /** Makes the device of a loaded module. */
  make(loaded: Loaded): Promise<ServedDevice>;
  /** Hears of the replacement; or why there is none, with the error. */
  tell(done: Succession | { readonly failed: unknown }): void;
}

/** Modules that are watched. */
export class Reloader implements Disposable {
  readonly #versions: ModuleVersions;
  readonly #files = new Map<string, Set<string>>(); // by module
  readonly #watches: FileWatch[] = [];

  private constructor(versions: ModuleVersions) {
    this.#versions = versions;
  }

  /** Begins to hear of what modules import. */
  static async begin(): Promise<Reloader> {
    return new Reloader(await ModuleVersions.begin());
  }

  /** The next version of a module, for its load. */
  versions(device: string): Versions {
    return (url) => {
      const files = new Set<string>();
      this.#files.set(device, files);
      return this.#versions.next(url, files);
    };
  }

  /** Begins to watch. */
  watch(watched: Watched): void {
    let isBusy = false;
    let isDue = false;
    const files = () => this.#files.get(watched.device)!;
    const watch = new FileWatch(files, async () => {
      isDue = true;
      if (isBusy) return;
      isBusy = true;
      while (isDue) {
        isDue = false;
        await this.#reload(watched);
        watch.learn();
      }
      isBusy = false;
    });
    this.#watches.push(watch);
  }

  /** Watches no longer. */
  [Symbol.dispose](): void {
    for (const watch of this.#watches) watch[Symbol.dispose]();
    this.#versions[Symbol.dispose]();
  }

  async #reload(watched: Watched): Promise<void> {
    const { device, server } = watched;
    const inTime = <T>(work: () => Promise<T>, doing: string) =>
      watched.step(() => within(work(), LOAD_MS, () => late(doing)));
    try {
      const load = () => loadDevice(device, { versions: this.versions(device) });
      const loaded = await inTime(load, "loaded");
      const made = new Set<ServedDevice>();
      const make = async () => {
        let making: Promise<ServedDevice> | undefined;
        const next = await inTime(() => making = watched.make(loaded), "made its device")
          .catch((error) => {
            making?.then((late) => late.close?.()).catch(() => {}); // its failure is told already
            throw error;
          });
        if (made.has(next) || next === server.device) {
          throw new Error(
            "Its module gives the same device twice; export a function that makes one",
          );
        }
        made.add(next);
        return next;
      };
      await server.replaceDevice(make, watched.tell);
    } catch (failed) {
      watched.tell({ failed });
    }
  }
}

function late(doing: string): Error {
  return new Error(`It has not ${doing} within ${LOAD_MS / 1000} s`);
}
