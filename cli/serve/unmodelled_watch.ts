/**
 * Collects what `vfu serve --unmodelled` reports, and says when.
 *
 * @module
 */

import { Unmodelled, type UnmodelledReport } from "../../lib/define/unmodelled.ts";
import type { ServedAccess, ServedDevice } from "../../lib/server/served_device.ts";
import { DeviceFlags } from "../../lib/wire/device.ts";

/**
 * Signals that ask for a report. Documents advise the second. At the first Deno also opens a port
 * for debuggers, to which any user of the machine may connect.
 */
const ASKING = ["SIGUSR1", "SIGUSR2"] as const;

/** Calls a function at each signal that asks for a report, until disposed of. */
export function onReportAsked(report: () => void): Disposable {
  for (const signal of ASKING) Deno.addSignalListener(signal, report);
  return {
    [Symbol.dispose]() {
      for (const signal of ASKING) Deno.removeSignalListener(signal, report);
    },
  };
}

/** Collects the accesses of some devices, and tells them at the end and when asked. */
export class UnmodelledWatch implements Disposable {
  readonly #all = new Map<string, Unmodelled>();
  readonly #tell: (device: string, report: UnmodelledReport) => void;
  readonly #asked: Disposable | undefined;

  /**
   * @param tell is given the report of each device
   * @param hearsSignal whether signals are this process's
   */
  constructor(tell: (device: string, report: UnmodelledReport) => void, hearsSignal: boolean) {
    this.#tell = tell;
    if (hearsSignal) this.#asked = onReportAsked(this.report);
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
    this.#asked?.[Symbol.dispose]();
  }
}
