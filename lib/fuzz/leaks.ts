/**
 * Leaks of a process: descriptors and memory that grow over its connections.
 *
 * @module
 */

import { SystemError } from "../../ffi/errno.ts";
import { countDescriptors, processMemory } from "../../ffi/process_facts.ts";
import type { Observation } from "./finding.ts";

/** Samples that have to grow, one after the other. */
const GROWING = 5;
/** Samples at the start that say nothing: memory takes its size. */
const WARM_UP = 3;
/** Growth of memory that is no chance, in bytes. */
const MEMORY_GROWTH = 128 << 20;
const MEMORY_SAMPLES = 12;

/** Facts about a process between two connections. */
export interface Sample {
  readonly descriptors: number;
  /** Bytes of memory in use. */
  readonly resident: number;
}

/** Asks the kernel about a process; undefined if it does not tell. */
export function sampleOf(process: number): Sample | undefined {
  try {
    const descriptors = countDescriptors(process);
    return { descriptors, resident: processMemory(process)?.resident ?? 0 };
  } catch (error) {
    if (!(error instanceof SystemError)) throw error;
    return undefined; // it has just ended, or is another user's
  }
}

/** Samples of one process. */
export class Leaks {
  #process: number | undefined;
  readonly #samples: Sample[] = [];

  /**
   * Takes a sample between two connections.
   *
   * @returns a leak, if the last samples show one
   */
  add(process: number, sample: Sample): Observation | undefined {
    if (process !== this.#process) this.reset(process);
    this.#samples.push(sample);
    if (this.#samples.length < WARM_UP + GROWING) return undefined;
    const descriptors = this.#samples.slice(-GROWING).map((each) => each.descriptors);
    if (grows(descriptors)) {
      this.reset(process);
      return { kind: "leak", text: "the server's descriptors grow with each connection" };
    }
    const resident = this.#samples.slice(-MEMORY_SAMPLES).map((each) => each.resident);
    const growth = resident.at(-1)! - resident[0]!;
    if (resident.length === MEMORY_SAMPLES && grows(resident) && growth > MEMORY_GROWTH) {
      this.reset(process);
      return { kind: "leak", text: "the server's memory grows with each connection" };
    }
    return undefined;
  }

  /** Begins anew, with a process that may be another one. */
  reset(process?: number): void {
    this.#process = process;
    this.#samples.length = 0;
  }
}

function grows(values: readonly number[]): boolean {
  return values.every((value, at) => at === 0 || value > values[at - 1]!);
}
