/**
 * The disk of `examples/virtio_blk.ts`, for tests.
 *
 * @module
 */

import virtioBlk from "../../examples/virtio_blk.ts";
import { testDevice, type TestDeviceOptions } from "../../lib/testing/mod.ts";

/** Its bytes. */
export const SIZE = 4 << 20;
/** Its blocks. */
export const BLOCKS = SIZE / 512;

/** Results of requests. */
export const OK = 0;
export const IOERR = 1;
export const UNSUPP = 2;

type Options = TestDeviceOptions<typeof virtioBlk.options>;

/** Connects a client to such a disk. */
export function testDisk({ options, ...rest }: Options = {}) {
  return testDevice(virtioBlk, { options: { size: SIZE, ...options }, ...rest });
}
