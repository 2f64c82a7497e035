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

/** `--timeout` */
export function timeoutOption(description = "wait so long for each answer, as 500ms") {
  return new Option("--timeout <duration>", description)
    .default(DEFAULT_TIMEOUT_MS, `${DEFAULT_TIMEOUT_MS / 1000}s`)
    .argParser(argument(parseDuration));
}

/** `--pci-enable` */
export function pciEnableOption() {
  return new Option(
    "--pci-enable",
    "first give addresses to BARs that have none, and switch on memory, I/O and bus mastering",
  );
}
