/**
 * The plain lines of `vfu probe`.
 *
 * @module
 */

import { DEFAULT_TIMEOUT_MS } from "../../lib/base/limits.ts";
import type { ProbeOptions } from "./run.ts";

/** The arguments of a plain line. */
export interface PlainProbe {
  /** Path of the server's socket. */
  readonly socket: string;
  /** The options, those that were not given with their defaults. */
  readonly options: ProbeOptions;
}

const DEFAULTS: ProbeOptions = { timeout: DEFAULT_TIMEOUT_MS };
const FLAGS: ReadonlyMap<string | undefined, ProbeOptions> = new Map([
  [undefined, DEFAULTS],
  ["--json", { ...DEFAULTS, json: true }],
  ["--lspci", { ...DEFAULTS, lspci: true }],
]);

/**
 * Understands `probe SOCKET`, `probe SOCKET --json` and `probe SOCKET --lspci` without commander:
 * scripts call these again and again. Commander imports node: modules, and loading those takes as
 * long as half a probe. Whatever is not exactly one of these lines, mistakes included, is
 * commander's.
 *
 * @returns undefined for other lines
 */
export function plainProbe(args: readonly string[]): PlainProbe | undefined {
  const [name, ...rest] = args;
  const [socket, ...others] = rest.filter((arg) => !arg.startsWith("-"));
  const [flag, ...otherFlags] = rest.filter((arg) => arg.startsWith("-"));
  const options = FLAGS.get(flag);
  const isPlain = name === "probe" && others.length === 0 && otherFlags.length === 0;
  return isPlain && socket !== undefined && options ? { socket, options } : undefined;
}
