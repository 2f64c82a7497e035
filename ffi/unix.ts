/**
 * UNIX sockets in general: their making, and their addresses.
 *
 * @module
 */

import { OwnedFd } from "./fd.ts";
import { check, libc } from "./libc.ts";
import { sockaddrUn } from "./structs.ts";

export const AF_UNIX = 1;
export const SOCK_STREAM = 1;
export const SOCK_DGRAM = 2;
export const SOCK_CLOEXEC = 0o2000000;
const SOCK_NONBLOCK = 0o4000;

/** Bytes of a socket path that fit its address, the terminating NUL left out. */
export const MAX_SOCKET_PATH = sockaddrUn.PATH_SIZE - 1;

/** A socket that does not block and is not inherited. */
export function makeSocket(doing: string, type: number): OwnedFd {
  const flags = SOCK_NONBLOCK | SOCK_CLOEXEC;
  return new OwnedFd(check(doing, "socket", libc().socket(AF_UNIX, type | flags, 0)));
}

/**
 * The address of a path.
 *
 * @throws {RangeError} if it is empty, has a NUL, or is too long
 */
export function socketAddress(path: string): Uint8Array<ArrayBuffer> {
  const bytes = new TextEncoder().encode(path);
  if (bytes.length === 0 || bytes.includes(0)) {
    throw new RangeError("A socket path is not empty and holds no NUL");
  }
  if (bytes.length > MAX_SOCKET_PATH) {
    throw new RangeError(
      `Socket path is too long: ${bytes.length} bytes, an address holds ${MAX_SOCKET_PATH}; ` +
        `use a relative path or a link to it`,
    );
  }
  const address = new Uint8Array(sockaddrUn.SIZE);
  new DataView(address.buffer).setUint16(sockaddrUn.family, AF_UNIX, true);
  address.set(bytes, sockaddrUn.path);
  return address;
}
