/**
 * The measurements of the benchmark: one row each.
 * A new row is a line or two here, and a mode in modes/ and baseline.c.
 *
 * @module
 */

import { subjects } from "./codecs.ts";
import type { Lab, Meter } from "./lab.ts";

/** One thing that is measured. */
export interface Row {
  /** The name of the row; at most 36 characters. */
  readonly name: string;
  /** The number of times that each side is measured, in turns. */
  readonly rounds: number;
  /** The side that is measured. */
  readonly ours: (lab: Lab) => Promise<Meter>;
  /** The side that `ours` is compared with. */
  readonly theirs?: (lab: Lab) => Promise<Meter>;
  /** True if `theirs` is the C program. */
  readonly needsC: boolean;
  /** The ratio that we aim at: ours to theirs, or less. */
  readonly aim?: number;
}

const MIB = 1 << 20;
const SESSION = new URL("../../examples/sessions/nvme.yaml", import.meta.url).pathname;
const GIB_IN_MIB = 1024;

/** All of them, in the order in which they are done. */
export const rows: readonly Row[] = [
  ...Object.keys(subjects).map((name) => codec("encode", name)),
  ...Object.keys(subjects).map((name) => codec("decode", name)),
  againstC("VfioProxy: 4-byte read", 1.15, "read4", [4_200]),
  againstC("VfioProxy: 4-byte read, 32 in flight", 1.4, "pipeline", [12_600, 32]),
  againstC("VfioProxy: 4-byte write, posted", 1.4, "write-posted", [21_000]),
  againstC("VfioProxy: the same, each flushed", undefined, "write-flushed", [21_000]),
  againstC("VfioProxy: 1 MiB read", 1.2, "read-bulk", [210, MIB]),
  againstC("Region: 4-byte read", 1.08, "region-read4", [4_200]),
  againstC("Region: 4-byte read, 32 in flight", 1.4, "region-pipeline", [12_600, 32]),
  againstC("Region: 4-byte write, posted", 1.4, "region-write-posted", [21_000]),
  againstC("Region: 1 MiB read by message", 1.1, "region-read-bulk", [210, MIB]),
  againstC("Region: 4-byte read, mapped", 2, "map-read4", [4_200_000]),
  againstC("Region: 4-byte write, mapped", 3, "map-write4", [4_200_000]),
  againstC("Region: 1 MiB read, mapped", 1.2, "map-copy", [420, MIB]),
  againstC("DMA: 1 MiB copy of a shared map", 1.2, "dma-copy", [420, MIB]),
  againstC("DMA: 4 KiB read by message", 1.15, "dma-read", [2_100, 4096]),
  againstC("DMA: 4 KiB write by message", 1.2, "dma-write", [2_100, 4096]),
  againstC("DMA: 1 MiB read by message", 1.15, "dma-read", [105, MIB]),
  againstC("DMA: 1 MiB write by message", 1.15, "dma-write", [105, MIB]),
  againstC("Interrupt: wait", 1.15, "interrupt", [2_100]),
  againstC("Interrupt: waitAsync", 1.5, "interrupt-async", [2_100]),
  migration("Migration: 1 GiB saved", 1.5, "save"),
  migration("Migration: 1 GiB saved and restored", 1.7, "restore"),
  servedToC("Server: 4-byte read", 1.25, "read4", [4_200]),
  servedToC("Server: 4-byte read, 32 in flight", 1.3, "pipeline", [12_600, 32]),
  servedToC("Server: 4-byte write, posted", 1.3, "write-posted", [21_000]),
  servedToC("Server: 1 MiB read by message", 1.3, "read-bulk", [210, MIB]),
  servedToC("Server: 4 KiB DMA read by message", 1.35, "dma-read", [2_100, 4096]),
  servedToC("Server: 1 MiB DMA read by message", 1.2, "dma-read", [105, MIB]),
  servedToC("Server: 1 MiB DMA write by message", 1.2, "dma-write", [105, MIB]),
  servedToC("Server: interrupt", 1.25, "interrupt", [2_100]),
  ...[1, 10, 100].map(servedBesides),
  nvme("nvme.ts: 4 KiB read, polled", 3, "read", 2_100, 1),
  nvme("nvme.ts: 4 KiB read, 32 in flight", 2.5, "read", 4_200, 32),
  nvme("nvme.ts: 4 KiB write, 32 in flight", 2.5, "write", 4_200, 32),
  recordedByC("Recorder: 4-byte read", 2.2, "read4", [4_200]),
  recordedByC("Recorder: 1 MiB read by message", 1.5, "read-bulk", [42, MIB]),
  {
    name: "session of 10,000 reads, to a loop",
    rounds: 3,
    ours: (lab) => lab.demoClient("session-read4", 210_000),
    theirs: (lab) => lab.demoClient("loop-read4", 210_000),
    needsC: false,
    aim: 1.5,
  },
  ...cold("probe", [3.3, 2.4], "probe", "SOCKET"),
  ...cold("--help", [3, 1.6], "--help"),
  ...cold("read", [4, 2.8], "read", "SOCKET", "CAP_MSIX+2.w"),
  ...cold("run --check", [8, 5], "run", "--check", SESSION),
];

/** The start and end of `vfu`, against that of a script with nothing in it. */
function cold(name: string, aims: readonly [number, number], ...args: string[]): Row[] {
  return [false, true].map((isInstalled) => ({
    name: `cold \`vfu ${name}\`${isInstalled ? ", installed" : ""}`,
    rounds: 15,
    ours: (lab: Lab) => lab.vfu(isInstalled, ...args),
    theirs: (lab: Lab) => lab.emptyScript(),
    needsC: false,
    aim: aims[isInstalled ? 1 : 0],
  }));
}

function codec(verb: "encode" | "decode", subject: string): Row {
  return {
    name: `${verb} ${subject}`,
    rounds: 9,
    ours: (lab) => lab.codec(verb, subject, 21_000),
    needsC: false,
  };
}

/**
 * A mode of the library against that of baseline.c; `args`: how many operations, the mode's own.
 */
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

/**
 * The state of a device of 1 GiB against a plain copy of as much.
 * Each process runs on any CPU.
 */
function migration(name: string, aim: number | undefined, mode: "save" | "restore"): Row {
  return {
    name,
    rounds: 7,
    ours: (lab) => lab.migration(mode, GIB_IN_MIB),
    theirs: (lab) => lab.plainCopy(GIB_IN_MIB),
    needsC: true,
    ...(aim !== undefined && { aim }),
  };
}

/** A mode of baseline.c with a device of ours, against the same with its own server. */
function servedToC(name: string, aim: number | undefined, mode: string, args: number[]): Row {
  return {
    name,
    rounds: 41,
    ours: (lab) => lab.served(mode, ...args),
    theirs: (lab) => lab.baseline(mode, ...args),
    needsC: true,
    ...(aim !== undefined && { aim }),
  };
}

/**
 * A read of one of the devices that a `vfu serve` has, against a server in C. The client has
 * another CPU than the server, as in use; a wake-up of that CPU is most of the time.
 */
function servedBesides(devices: number): Row {
  return {
    name: `vfu serve, ${devices} demo: 4-byte read`,
    rounds: 11,
    ours: (lab) => lab.servedBesides(devices, "read4", 4_200),
    theirs: (lab) => lab.baselineBesides("read4", 4_200),
    needsC: true,
  };
}

/**
 * Commands of a polling NVMe driver to examples/nvme.ts, against those to a device in C. Driver and
 * device have a CPU each.
 */
function nvme(
  name: string,
  aim: number,
  mode: "read" | "write",
  count: number,
  depth: number,
): Row {
  return {
    name,
    rounds: 21,
    ours: (lab) => lab.nvme(mode, count, depth),
    theirs: (lab) => lab.nvmeByC(mode, count, depth),
    needsC: true,
    aim,
  };
}

/** A mode of baseline.c through a recorder that writes to /dev/null, against the same without. */
function recordedByC(name: string, aim: number, mode: string, args: number[]): Row {
  return {
    name,
    rounds: 21,
    ours: (lab) => lab.recorded(mode, ...args),
    theirs: (lab) => lab.baseline(mode, ...args),
    needsC: true,
    aim,
  };
}
