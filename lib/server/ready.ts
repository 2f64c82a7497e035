/**
 * Telling whoever started a server that it may be connected to now.
 *
 * @module
 */

import { OwnedFd } from "../../ffi/fd.ts";

/**
 * Writes the line READY=1 to a descriptor, as systemd's services do, and closes it.
 *
 * @param number a descriptor that this process inherited: a pipe, mostly. The descriptor is closed
 *   if it was open
 * @throws {Error} if it can't be written to
 */
export function tellReady(number: number): void {
  const fd = new OwnedFd(number);
  try {
    fd.write(new TextEncoder().encode("READY=1\n"));
  } catch (cause) {
    throw new Error(
      `Cannot tell file descriptor ${number} that the server is ready: ${(cause as Error).message}`,
      { cause },
    );
  } finally {
    fd.close();
  }
}
