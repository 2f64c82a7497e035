/**
 * Means for the tests of devices that `defineDevice` makes. A client is connected in one line, the
 * clock is the test's, and errors of the device fail the test.
 *
 * @example
 * ```ts
 * import gpio from "../../examples/gpio.ts";
 * import { testDevice } from "./mod.ts";
 *
 * await using test = await testDevice(gpio);
 * console.assert((await test.client.info()).numRegions === 9);
 * ```
 *
 * @module
 */

export {
  type ReportedError,
  TestDevice,
  testDevice,
  type TestDeviceOptions,
} from "./test_device.ts";
export { VirtualClock } from "./virtual_clock.ts";
export type { ClockCall, DeviceClock } from "../define/device_clock.ts";
