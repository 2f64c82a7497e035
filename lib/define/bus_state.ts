/**
 * The state of a device that the kit keeps: what the bus defines, and no register of the device.
 *
 * @module
 */

import { EINVAL } from "../../ffi/errno.ts";
import { joined } from "../base/bytes.ts";
import type { ConfigRegion } from "../server/config.ts";
import { DeviceError } from "../server/served_device.ts";

/** Configuration space, MSI-X's table and pending bits, and levels of pins. */
export interface BusState {
  /** Returns a copy of it. */
  save(): Uint8Array<ArrayBuffer>;
  /**
   * Takes it, from a device of the same definition.
   *
   * @throws {DeviceError} EINVAL if it is that of another device: nothing is changed then
   */
  restore(state: Uint8Array): void;
}

/** The state in the bytes that hold it. */
export class KeptState implements BusState {
  readonly #config: ConfigRegion;
  readonly #contents: readonly Uint8Array[];

  /** @param others what there is besides configuration space */
  constructor(config: ConfigRegion, others: readonly Uint8Array[]) {
    this.#config = config;
    this.#contents = [config.bytes, ...others];
  }

  /** As {@linkcode BusState.save}. */
  save(): Uint8Array<ArrayBuffer> {
    return joined(this.#contents);
  }

  /** As {@linkcode BusState.restore}. */
  restore(state: Uint8Array): void {
    const size = this.#contents.reduce((sum, { length }) => sum + length, 0);
    if (state.length !== size) {
      throw new DeviceError(EINVAL, `Cannot restore ${state.length} bytes: ${size} were saved`);
    }
    if (!this.#config.mayBecome(state.subarray(0, this.#config.size))) {
      throw new DeviceError(
        EINVAL,
        "Cannot restore: what is read-only in its configuration space is another device's",
      );
    }
    let at = 0;
    for (const bytes of this.#contents) {
      bytes.set(state.subarray(at, at + bytes.length));
      at += bytes.length;
    }
  }
}
