/**
 * Wrong usage that only shows once a device is loaded.
 *
 * @module
 */

/** An option of the command line that does not fit the device. */
export class UsageError extends Error {
  override readonly name = "UsageError";
}
