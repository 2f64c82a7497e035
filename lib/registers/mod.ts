/**
 * Maps of registers: names for what is at an offset of a device, and for its bits.
 *
 * A map is a YAML file. vfu has those of {@linkcode SHIPPED_MAPS}; others are written like them:
 *
 * ```yaml
 * name: uart
 * title: A serial port
 * region: bar0
 * registers:
 *   - name: STATUS
 *     offset: 0x10
 *     width: 4
 *     access: ro
 *     fields:
 *       - { name: READY, bits: 0, enum: { 0: busy, 1: ready } }
 *       - { name: LEVEL, bits: 7:4, description: Bytes that wait }
 *   - name: FIFO
 *     offset: 0x40
 *     width: 4
 *     count: 16
 * ```
 *
 * @example Read a register of a map
 * ```ts
 * import { fieldLines, lookupRegister, parseRegisterMap } from "./mod.ts";
 *
 * const { map } = await parseRegisterMap(
 *   "{name: uart, registers: [{name: STATUS, offset: 0x10, width: 4, " +
 *     "fields: [{name: LEVEL, bits: 7:4}]}]}",
 *   "uart.yaml",
 * );
 * const { offset, register } = lookupRegister([map!], "uart.STATUS");
 * if (offset !== 0x10 || fieldLines(register, 0x30)[0] !== "  LEVEL=3") throw new Error();
 * ```
 *
 * @module
 */

export type { Address, AddressBase } from "../client/address.ts";
export type { Width } from "../client/info.ts";
export {
  type DecodedField,
  decodeField,
  decodeRegister,
  fieldLines,
  fieldText,
  fieldWords,
  registerLines,
} from "./decode.ts";
export { registerMapJsonSchema } from "./json_schema.ts";
export { loadRegisterMap, parseRegisterMap, SHIPPED_MAPS } from "./load.ts";
export type { ParsedRegisterMap } from "./parsed.ts";
export { type LocatedRegister, type PlacedCapabilities, RegisterLocator } from "./locate.ts";
export { lookupRegister, parseFieldValue, type RegisterAddress } from "./lookup.ts";
export {
  bitsText,
  fieldMask,
  isChangedByRead,
  type Register,
  REGISTER_ACCESS,
  type RegisterAccess,
  type RegisterArray,
  type RegisterField,
  type RegisterMap,
  sparedBits,
} from "./map.ts";
export { registerMapText } from "./write.ts";
export { FileProblems, type Position, type Problem, problemText } from "../yaml/problem.ts";
