/**
 * The options of commands with a connection. They load no client: `vfu serve` has `-v`, too, and
 * starts faster without.
 *
 * @module
 */

import { Option } from "@commander-js/extra-typings";
import { DEFAULT_TIMEOUT_MS } from "../../lib/base/limits.ts";
import { argument } from "./argument.ts";
import { parseDuration } from "../../lib/text/duration.ts";

/** `-v` */
export function verboseOption() {
  return new Option("-v, --verbose", "show every message on standard error");
}

/** `--timeout`, which is the time for one answer of the peer in every command that has it. */
export function timeoutOption() {
  return new Option("--timeout <duration>", "wait so long for each answer, as 500ms")
    .default(DEFAULT_TIMEOUT_MS, `${DEFAULT_TIMEOUT_MS / 1000}s`)
    .argParser(argument(parseDuration));
}

/**
 * `--for`, the time that something may take in all.
 *
 * @param use what ends then
 */
export function forOption(use: string) {
  return new Option("--for <duration>", use).argParser(argument(parseDuration));
}

/** `--pci-enable` */
export function pciEnableOption() {
  return new Option(
    "--pci-enable",
    "first give addresses to BARs that have none, and switch on memory, I/O and bus mastering",
  );
}
