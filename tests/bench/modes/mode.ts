/**
 * The parts that the modes have in common.
 *
 * @module
 */

import type { Device } from "../../../lib/client/device.ts";

/** Does an operation so many times. */
export type Run = (count: number) => void | Promise<void>;

/** Sets a mode up; `argument` is the mode's own. */
export type Mode = (device: Device, argument: number) => Run | Promise<Run>;

/** Writing to these has the server of baseline.c do something. */
export const Doorbell = { READ_MEMORY: 0x1000, WRITE_MEMORY: 0x1008, INTERRUPT: 0x1010 } as const;

/** The place where data end up, so that reading them is part of the measurement. */
export const sink = new Uint32Array(1);
