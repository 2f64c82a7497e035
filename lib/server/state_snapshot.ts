/**
 * The state of a device that no client is connected to, by the hooks of its migration.
 *
 * @module
 */

import { DeviceState, deviceStateName } from "../wire/feature.ts";
import { MigrationMachine } from "./migration.ts";
import type { ServedDevice } from "./served_device.ts";

/** Bytes of a chunk. */
const CHUNK_SIZE = 1 << 20;

/** Reports whether a device has the hooks for it. */
export function hasState(device: ServedDevice): boolean {
  return device.migration !== undefined;
}

/**
 * Saves the state of a device: the bytes that a client would read of it in STOP_COPY. A chunk holds
 * until the next is asked for. The device stands still afterwards.
 *
 * @throws {RangeError} if the device does not migrate, has failed, or is being restored
 * @throws what its hooks throw
 *
 * @example
 * ```ts
 * import { DemoDevice } from "../devices/demo_device.ts";
 * import { restoreState, saveState } from "./state_snapshot.ts";
 *
 * const chunks: Uint8Array[] = [];
 * for await (const chunk of saveState(new DemoDevice())) chunks.push(chunk.slice());
 * await restoreState(new DemoDevice(), chunks);
 * ```
 */
export async function* saveState(device: ServedDevice): AsyncGenerator<Uint8Array, void> {
  const machine = machineOf(device);
  await machine.setState(DeviceState.STOP);
  await machine.setState(DeviceState.STOP_COPY);
  try {
    for (let chunk; (chunk = await machine.read(CHUNK_SIZE)).length > 0;) yield chunk;
  } finally {
    await machine.setState(DeviceState.STOP);
  }
}

/**
 * Restores a state, of which chunks may be of any length. The device works afterwards, in the state
 * that it had if this throws. A device that can neither stop nor start, or that a part of the state
 * has changed, is in ERROR.
 *
 * @throws {RangeError} as `saveState`
 * @throws {DeviceError} if the device refuses the state
 * @throws what the chunks, and the device's hooks, throw
 */
export async function restoreState(
  device: ServedDevice,
  chunks: Iterable<Uint8Array> | AsyncIterable<Uint8Array>,
): Promise<void> {
  const machine = machineOf(device);
  try {
    await machine.setState(DeviceState.RESUMING);
    for await (const chunk of chunks) await machine.write(chunk);
    await machine.setState(DeviceState.STOP);
  } catch (error) {
    // A part of a state is none, whether the device or its source ended it.
    machine.forget();
    await machine.setState(DeviceState.RUNNING).catch(() => {}); // the first error says why
    throw error;
  }
  await machine.setState(DeviceState.RUNNING);
}

function machineOf(device: ServedDevice): MigrationMachine {
  const machine = MigrationMachine.of(device);
  if (machine === undefined) throw new RangeError("The device has no hooks for its migration");
  const { state } = machine;
  if (state === DeviceState.ERROR || state === DeviceState.RESUMING) {
    throw new RangeError(`The device is in the state ${deviceStateName(state)}`);
  }
  return machine;
}
