/**
 * The prompt of the shell, which shows interrupts that came in.
 *
 * @module
 */

import type { SessionInterrupts } from "../../lib/session/run/interrupts.ts";
import type { Style } from "../shared/style.ts";

/** Interrupts that have come since the prompt last showed them, by vector. */
export class InterruptCounts {
  readonly #interrupts: SessionInterrupts;
  readonly #seen = new Map<string, bigint>();

  constructor(interrupts: SessionInterrupts) {
    this.#interrupts = interrupts;
  }

  /** The interrupts that have come, as "msix[0] 2, msix[1] 1"; empty if none has. */
  get news(): string {
    return this.#totals().flatMap(([name, total]) => {
      const count = total - (this.#seen.get(name) ?? 0n);
      return count > 0n ? [`${name} ${count}`] : [];
    }).join(", ");
  }

  /** Marks the interrupts that have come as shown. */
  forget(): void {
    this.#seen.clear();
    for (const [name, total] of this.#totals()) this.#seen.set(name, total);
  }

  #totals(): [name: string, total: bigint][] {
    return this.#interrupts.used.flatMap((irqs) =>
      irqs.enabled.map((
        vector,
      ): [string, bigint] => [`${irqs.name}[${vector}]`, irqs.total(vector)])
    );
  }
}

/** The prompt: with interrupts that came, and whether the device is gone. */
export function promptText(
  news: string,
  isConnected: boolean,
  { bold, green, red }: Style,
): string {
  const state = isConnected ? (news === "" ? "" : `${green(news)} `) : `${red("not connected")} `;
  return `${state}${bold("vfu>")} `;
}
