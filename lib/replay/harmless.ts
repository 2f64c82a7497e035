/**
 * Commands that leave a device as it is.
 *
 * @module
 */

/** Commands that ask for facts, or are about memory: they are answered whenever they come. */
export const FACTS: ReadonlySet<string> = new Set([
  "VERSION",
  "DEVICE_GET_INFO",
  "DEVICE_GET_REGION_INFO",
  "DEVICE_GET_REGION_IO_FDS",
  "DEVICE_GET_IRQ_INFO",
  "DMA_MAP",
  "DMA_UNMAP",
]);

/** These, and the reads of registers. */
export const HARMLESS: ReadonlySet<string> = new Set([...FACTS, "REGION_READ"]);
