/**
 * The commands of vfio-user by number and name.
 *
 * @module
 */

/** Command numbers, as in the specification's table of commands. */
export const Command = {
  /** Negotiates the protocol version and the capabilities. */
  VERSION: 1,
  /** Tells the server of memory of the client. */
  DMA_MAP: 2,
  /** Takes memory back. */
  DMA_UNMAP: 3,
  /** Asks how many regions and IRQ indexes the device has. */
  DEVICE_GET_INFO: 4,
  /** Asks about one region. */
  DEVICE_GET_REGION_INFO: 5,
  /** Asks for the eventfds that stand in for parts of a region. */
  DEVICE_GET_REGION_IO_FDS: 6,
  /** Asks about one IRQ index. */
  DEVICE_GET_IRQ_INFO: 7,
  /** Sets up, masks or fires interrupts. */
  DEVICE_SET_IRQS: 8,
  /** Reads a region. */
  REGION_READ: 9,
  /** Writes a region. */
  REGION_WRITE: 10,
  /** The server reads memory of the client. */
  DMA_READ: 11,
  /** The server writes memory of the client. */
  DMA_WRITE: 12,
  /** Resets the device. */
  DEVICE_RESET: 13,
  /** A command of the drafts of 2021; the number is reserved. */
  DIRTY_PAGES: 14,
  /** Several small region writes in one message. */
  REGION_WRITE_MULTI: 15,
  /** Gets, sets or probes a feature, as migration. */
  DEVICE_FEATURE: 16,
  /** Reads migration data of the device. */
  MIG_DATA_READ: 17,
  /** Writes migration data to the device. */
  MIG_DATA_WRITE: 18,
} as const;

/** The name of a command: a key of {@linkcode Command}. */
export type CommandName = keyof typeof Command;

const NAMES = new Map<number, string>(Object.entries(Command).map(([name, code]) => [code, name]));

/**
 * The name of a command number.
 *
 * @param code the number in a header, 0 to 65535
 * @returns "DMA_MAP" and the like; "command 99" for a number that the specification does not give
 *
 * @example
 * ```ts
 * import { Command, commandName } from "./command.ts";
 *
 * console.assert(commandName(Command.DMA_MAP) === "DMA_MAP");
 * console.assert(commandName(99) === "command 99");
 * ```
 */
export function commandName(code: number): string {
  return NAMES.get(code) ?? `command ${code}`;
}
