/**
 * What the benchmark measures: one row each. A new one is a line or two here, and a mode in
 * client.ts and baseline.c.
 *
 * @module
 */

import { subjects } from "./codecs.ts";
import type { Lab, Meter } from "./lab.ts";

/** One thing that is measured. */
export interface Row {
  /** What it is; at most 36 characters. */
  readonly name: string;
  /** How often each side is measured, in turns. */
  readonly rounds: number;
  /** What is measured. */
  readonly ours: (lab: Lab) => Promise<Meter>;
  /** What it is compared with. */
  readonly theirs?: (lab: Lab) => Promise<Meter>;
  /** Whether `theirs` is the C program. */
  readonly needsC: boolean;
  /** The ratio that we aim at: ours to theirs, or less. */
  readonly aim?: number;
}

/** All of them, in the order in which they are done. */
export const rows: readonly Row[] = [
  ...Object.keys(subjects).map((name) => codec("encode", name)),
  ...Object.keys(subjects).map((name) => codec("decode", name)),
  againstC("4-byte read, round trip", 1.15, "read4", [4_200]),
  againstC("4-byte read, 32 in flight", 1.4, "pipeline", [12_600, 32]),
  againstC("4-byte write, posted", 1.4, "write-posted", [21_000]),
  againstC("4-byte write, posted and flushed", undefined, "write-flushed", [21_000]),
  againstC("1 MiB read by message", 1.2, "read-bulk", [210, 1 << 20]),
  {
    name: "cold `vfu probe`, to an empty script",
    rounds: 20,
    ours: (lab) => lab.probe(),
    theirs: (lab) => lab.emptyScript(),
    needsC: false,
    aim: 3.5,
  },
];

function codec(verb: "encode" | "decode", subject: string): Row {
  return {
    name: `${verb} ${subject}`,
    rounds: 9,
    ours: (lab) => lab.codec(verb, subject, 21_000),
    needsC: false,
  };
}

/** A mode of client.ts against that of baseline.c; `args`: how many operations, the mode's own. */
function againstC(name: string, aim: number | undefined, mode: string, args: number[]): Row {
  return {
    name,
    rounds: 41,
    ours: (lab) => lab.client(mode, ...args),
    theirs: (lab) => lab.baseline(mode, ...args),
    needsC: true,
    ...(aim !== undefined && { aim }),
  };
}
