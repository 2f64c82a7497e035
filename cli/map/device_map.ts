/**
 * The register map of a device that a module defines.
 *
 * @module
 */

import { exportedMap } from "../../lib/define/exported_map.ts";
import type { RegisterMap } from "../../lib/registers/map.ts";
import { Doing, doingName } from "../../lib/server/activity.ts";
import type { ServedDevice } from "../../lib/server/served_device.ts";
import type { Output } from "../shared/context.ts";
import { reportExit } from "../serve/exit_report.ts";
import { isDefinition, loadDevice, type Loaded } from "../serve/load.ts";
import { makeDevice } from "../serve/make.ts";

/**
 * Loads a module, makes its device with the options' defaults, and takes the map of its registers.
 *
 * @param device path of the module
 * @param err hears if it ends the process
 * @throws {Error} if it defines no device, or one without registers
 */
export async function deviceMap(
  device: string,
  err: Pick<Output, "write">,
): Promise<RegisterMap> {
  let doing = Doing.LOAD as number;
  using _report = reportExit(err, device, () => doingName(doing));
  const loaded = await loadDevice(device, { err });
  doing = Doing.CREATE;
  const made = await makeDevice(loaded, [], {});
  try {
    return mapOf(device, loaded, made);
  } finally {
    made.close?.();
  }
}

/**
 * The map of a device that was made.
 *
 * @param device as messages call it
 * @throws {Error} if it declares no registers
 */
export function mapOf(
  device: string,
  { name, source }: Pick<Loaded, "name" | "source">,
  made: ServedDevice,
): RegisterMap {
  const map = exportedMap(made, name, isDefinition(source) ? source.title : undefined);
  if (map !== undefined) return map;
  throw new Error(
    `Cannot take the registers of ${device}: it declares none; make its regions with registers()`,
  );
}
