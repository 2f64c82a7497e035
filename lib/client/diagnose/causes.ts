/**
 * All causes that are known, in the order in which they are reported.
 *
 * @module
 */

import type { Cause } from "./cause.ts";
import { DEVICE_CAUSES } from "./device_causes.ts";
import { DMA_CAUSES } from "./dma_causes.ts";
import { INTERRUPT_CAUSES } from "./interrupt_causes.ts";
import { REGISTER_CAUSES } from "./register_causes.ts";

/** The causes. `vfu doctor` looks for all, other commands for those of a subject. */
export const CAUSES: readonly Cause[] = [
  ...DEVICE_CAUSES,
  ...REGISTER_CAUSES,
  ...INTERRUPT_CAUSES,
  ...DMA_CAUSES,
];
