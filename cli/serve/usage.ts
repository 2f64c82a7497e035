/**
 * Wrong usage that only shows once a device is loaded.
 *
 * @module
 */

/** What the command line asks for does not fit the device. */
export class UsageError extends Error {
  override readonly name = "UsageError";
}
