/**
 * The result of `defineDevice`, which `vfu serve ./device.ts` takes.
 *
 * @module
 */

import type { ServedDevice } from "../server/served_device.ts";
import type { DeviceClock } from "./device_clock.ts";
import type { DeviceOptions, OptionValues } from "./option.ts";

/** The surroundings of a device: who takes its own reports, and its clock. */
export interface DeviceHost {
  /** Takes lines of the device's own log. Default: they are dropped. */
  log?: (line: string) => void;
  /** The clock of its timers. Default: that of the machine. */
  clock?: DeviceClock;
}

/** A kind of device, of which any number of devices can be made. */
export interface DeviceDefinition<O extends DeviceOptions = DeviceOptions> {
  /** Its name: a word, as "gpio". */
  readonly name: string;
  /** The device in a few words. */
  readonly title?: string;
  /**
   * Options of a device by name, chosen when the device is made. Their `parse` reads the text that
   * a user writes.
   */
  readonly options: O;
  /**
   * Makes a device, which `Server` serves and closes.
   *
   * @param values for options; what is left out has its default
   * @throws {RangeError} if there is no such option, or a value is not possible
   * @throws {DefinitionError} if the parts of the device make none; also any error of the device's
   *   own `create`. Memory that was made is freed
   */
  create(values?: Partial<OptionValues<O>>, host?: DeviceHost): ServedDevice;
}
