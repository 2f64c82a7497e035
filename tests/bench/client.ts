/**
 * The modes of baseline.c, done with the library.
 *
 *   client.ts MODE PATH N [ARGUMENT]   for each line on stdin, do N operations
 *
 * @module
 */

import { connect } from "../../lib/client/connect.ts";
import { dmaModes } from "./modes/dma.ts";
import { irqModes } from "./modes/irq.ts";
import { proxyModes } from "./modes/proxy.ts";
import { regionModes } from "./modes/region.ts";
import { sessionModes } from "./modes/session.ts";
import { measureOnDemand } from "./stopwatch.ts";

const modes = { ...proxyModes, ...regionModes, ...dmaModes, ...irqModes, ...sessionModes };

if (import.meta.main) {
  const [name = "", path = "", count, argument] = Deno.args;
  const mode = modes[name];
  if (mode === undefined) throw new Error(`There is no mode "${name}"`);
  using device = await connect(path);
  await measureOnDemand(Number(count), await mode(device, Number(argument)));
}
