/**
 * The form of a cause: a reason why a device does not do what a client waits for.
 *
 * @module
 */

import type { Examination } from "./examination.ts";

/** The things that a client waits for in vain. */
export const SUBJECTS: readonly Subject[] = ["registers", "intx", "msi", "msix", "dma"];

/** A thing that a client waits for in vain. */
export type Subject = "registers" | "intx" | "msi" | "msix" | "dma";

/** The states of a migration in which a device does nothing. */
export const STOPPED: ReadonlySet<string> = new Set(["STOP", "STOP_COPY", "RESUMING", "ERROR"]);

/** A sign of a cause. */
export interface Clue {
  /** The fault, with the register or the answer that shows it. */
  readonly evidence: string;
  /** The step with which the user mends it. */
  readonly remedy?: string;
  /**
   * A line of vfu that mends it or shows it, as "write SOCKET COMMAND=0:0x400". SOCKET stands for
   * the path of the server's socket.
   */
  readonly command?: string;
}

/** A cause that was found. */
export interface Finding extends Clue {
  /** The `id` of the cause. */
  readonly cause: string;
}

/** A reason why nothing happens, and the look that finds it. */
export interface Cause {
  /** Its name, as "bus-master-off". */
  readonly id: string;
  /** The condition in a few words. */
  readonly title: string;
  /** The things that it prevents. */
  readonly subjects: readonly Subject[];
  /** Looks for it. Reads that fail are no sign. */
  find(look: Examination): Promise<Clue[]>;
}

/** The line that does what firmware does: addresses for BARs, decoding, bus master. */
export const ENABLE = "doctor SOCKET --pci-enable";

/** A clue in one line: "MSI-X is off (CAP_MSIX+2.w is 0x0003): set its bit 15". */
export function clueText({ evidence, remedy }: Clue): string {
  return remedy === undefined ? evidence : `${evidence}: ${remedy}`;
}
