/**
 * What `defineDevice` makes, and what `vfu serve ./device.ts` takes.
 *
 * @module
 */

import type { ServedDevice } from "../server/served_device.ts";
import type { DeviceOptions, OptionValues } from "./option.ts";

/** Where a device tells of itself. */
export interface DeviceHost {
  /** Takes lines of the device's own log. Default: they are dropped. */
  log?: (line: string) => void;
}

/** A kind of device: of it as many devices can be made as are wanted. */
export interface DeviceDefinition<O extends DeviceOptions = DeviceOptions> {
  /** Its name: a word, as "gpio". */
  readonly name: string;
  /** What it is, in a few words. */
  readonly title?: string;
  /** What can be chosen when one is made, by name. Their `parse` reads what a person writes. */
  readonly options: O;
  /**
   * Makes a device, which `Server` serves and closes.
   *
   * @param values for options; what is left out has its default
   * @throws {RangeError} if there is no such option, or a value is not possible
   * @throws {TypeError} if what the device is made of makes none; and what its own `create` throws. Memory that was made is freed
   */
  create(values?: Partial<OptionValues<O>>, host?: DeviceHost): ServedDevice;
}
