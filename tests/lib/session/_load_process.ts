/**
 * Loads a session in a process of its own, and prints the first mistake and the most memory that it
 * took, in MiB.
 */

import { loadSession } from "../../../lib/session/file/load.ts";
import { FileProblems, problemText } from "../../../lib/yaml/problem.ts";

const [file] = Deno.args;
let first = "no mistake";
try {
  await loadSession(file!);
} catch (error) {
  if (!(error instanceof FileProblems)) throw error;
  first = problemText(error.problems[0]!);
}
const status = await Deno.readTextFile("/proc/self/status");
const peakKiB = Number(/VmHWM:\s*(\d+)/.exec(status)?.[1]);
await Deno.stdout.write(
  new TextEncoder().encode(JSON.stringify({ first, peakMiB: peakKiB >> 10 })),
);
