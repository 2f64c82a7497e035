/**
 * `vfu probe`: what is at the other end of a socket. It changes nothing there.
 *
 * @module
 */

import { Command, Option } from "@commander-js/extra-typings";
import { connect } from "../../lib/client.ts";
import { DEFAULT_TIMEOUT_MS } from "../../lib/limits.ts";
import { argument } from "../argument.ts";
import { type Context, onAbort } from "../context.ts";
import { parseDuration } from "../duration.ts";
import { probeDevice } from "../probe/collect.ts";
import { traceTo } from "../trace.ts";

/** Options of {@linkcode run}. */
export interface ProbeOptions {
  /** Write JSON: a `ProbeJson`. */
  json?: true | undefined;
  /** Write a dump of the configuration space for `lspci -F`. */
  lspci?: true | undefined;
  /** Show every message on standard error. */
  verbose?: true | undefined;
  /** How long the server may take to each answer, in milliseconds. */
  timeout: number;
}

/** The command's arguments and options. */
export function command(context: Context) {
  return new Command("probe")
    .description(
      "Shows what a device is: the agreed version and capabilities, its regions, its interrupts and " +
        "its PCI configuration space. It only asks and reads; the device stays as it is. What the " +
        "server refuses to tell is shown as refused.",
    )
    .argument("<socket>", "path of the server's socket")
    .addOption(new Option("--json", "write one JSON object").conflicts("lspci"))
    .option("--lspci", "write the configuration space for lspci -F FILE -vv")
    .option("-v, --verbose", "show every message on standard error")
    .addOption(
      new Option("--timeout <duration>", "wait so long for each answer, as 500ms")
        .default(DEFAULT_TIMEOUT_MS, `${DEFAULT_TIMEOUT_MS / 1000}s`)
        .argParser(argument(parseDuration)),
    )
    .action((socket, options) => run(context, socket, options));
}

/** Probes the device behind `socket` and writes what it is. */
export async function run(
  { out, err, signal }: Context,
  socket: string,
  { json, lspci, verbose, timeout }: ProbeOptions,
): Promise<void> {
  using device = await connect(socket, {
    signal,
    timeoutMs: timeout,
    ...(verbose && { trace: await traceTo(err) }),
  });
  // One listener in place of one for each of a thousand requests.
  using _closing = onAbort(signal, () => device.close());
  if (lspci) {
    const { lspciDump } = await import("../../lib/pci/dump.ts");
    const config = await device.readConfigSpace();
    return out.write(lspciDump(config, { description: `vfio-user device at ${socket}` }));
  }
  // How to show it is loaded while the server answers.
  const [probe, form] = await Promise.all([
    probeDevice(device),
    json ? import("../probe/json.ts") : import("../probe/text.ts"),
  ]);
  out.write(
    "probeJson" in form ? form.probeJson(socket, probe) : form.probeText(socket, probe, out),
  );
}
