/**
 * The work of `vfu probe`. Its line is parsed elsewhere: by commander, or, if it is a plain one,
 * without.
 *
 * @module
 */

import { lspciDump } from "../../lib/pci/dump.ts";
import { type ConnectionOptions, connectTo } from "../shared/connect.ts";
import type { Context } from "../shared/context.ts";
import { isSavedFile, probeDevice } from "./collect.ts";

/** Options of {@linkcode run}. */
export interface ProbeOptions extends ConnectionOptions {
  /** Write JSON: a `ProbeJson`. */
  json?: true | undefined;
  /** Write a dump of the configuration space for `lspci -F`. */
  lspci?: true | undefined;
  /** Read and decode Vital Product Data, and nothing else. */
  vpd?: true | undefined;
  /** Ask for the I/O descriptors of the regions, whatever the server's version. */
  ioFds?: true | undefined;
}

/** Probes the device behind `socket` and writes what it is. */
export async function run(
  context: Context,
  socket: string,
  options: ProbeOptions,
): Promise<void> {
  const { out } = context;
  const { json, lspci, ioFds, vpd } = options;
  if (vpd) {
    const { showVpd } = await import("./vpd.ts");
    return await showVpd(context, socket, options);
  }
  if (isSavedFile(socket)) {
    const { showSaved } = await import("./saved.ts");
    return await showSaved(context, socket, options);
  }
  using connection = await connectTo(context, socket, options);
  const { device } = connection;
  if (lspci) {
    const config = await device.readConfigSpace();
    return out.write(lspciDump(config, { description: `vfio-user device at ${socket}` }));
  }
  // How to show it is loaded while the server answers.
  const [probe, form] = await Promise.all([
    probeDevice(device, { sparse: !json, ioFds }),
    json ? import("./json.ts") : import("./text.ts"),
  ]);
  out.write(
    "probeJson" in form ? form.probeJson(socket, probe) : form.probeText(socket, probe, out),
  );
}
