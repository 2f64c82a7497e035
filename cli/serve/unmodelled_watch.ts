/**
 * Collects what `vfu serve --unmodelled` reports, and says when.
 *
 * @module
 */

import { Unmodelled, type UnmodelledReport } from "../../lib/define/unmodelled.ts";
import type { ServedAccess, ServedDevice } from "../../lib/server/served_device.ts";
import { DeviceFlags } from "../../lib/wire/device.ts";

/**
 * Collects the accesses of some devices, and tells them at the end and on SIGUSR2. At SIGUSR1 Deno
 * opens a port for debuggers, to which any user of the machine may connect.
 */
export class UnmodelledWatch implements Disposable {
  readonly #all = new Map<string, Unmodelled>();
  readonly #tell: (device: string, report: UnmodelledReport) => void;
  readonly #hearsSignal: boolean;

  /**
   * @param tell is given the report of each device
   * @param hearsSignal whether SIGUSR2 is this process's
   */
  constructor(tell: (device: string, report: UnmodelledReport) => void, hearsSignal: boolean) {
    this.#tell = tell;
    this.#hearsSignal = hearsSignal;
    if (hearsSignal) Deno.addSignalListener("SIGUSR2", this.report);
  }

  /** Returns what a server tells its accesses to. */
  of(name: string, { flags }: ServedDevice): (access: ServedAccess) => void {
    const unmodelled = new Unmodelled((flags & DeviceFlags.PCI) !== 0);
    this.#all.set(name, unmodelled);
    return (access) => unmodelled.saw(access);
  }

  /** Forgets what was seen of a device: there is a new version of it. */
  clear(device: string): void {
    this.#all.get(device)?.clear();
  }

  /** Tells all of it. */
  readonly report = (): void => {
    for (const [device, unmodelled] of this.#all) this.#tell(device, unmodelled.report());
  };

  /** Hears no signal any more. */
  [Symbol.dispose](): void {
    if (this.#hearsSignal) Deno.removeSignalListener("SIGUSR2", this.report);
  }
}
