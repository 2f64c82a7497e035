/**
 * Registers as the files of hardware people have them: groups in groups, which repeat. Each format
 * is read into this form.
 *
 * @module
 */

import type { RegisterAccess } from "../map.ts";

/** Things that repeat. The name of each has `%s` where its index, or its label, belongs. */
export interface Repeat {
  /** The number of them. */
  readonly count: number;
  /** Bytes, or of a field bits, from one to the next. */
  readonly stride: bigint;
  /** The words for `%s`; undefined if they may be one array, with indexes from 0. */
  readonly labels: readonly string[] | undefined;
}

/** A field of a register. */
export interface HardwareField {
  /** Its name. */
  readonly name: string;
  /** A description in words. */
  readonly description: string | undefined;
  /** The lowest of its bits. */
  readonly low: number;
  /** The number of its bits. */
  readonly width: number;
  /** The access that it allows; undefined: as the register. */
  readonly access: RegisterAccess | undefined;
  /** Values and their names. */
  readonly values: readonly (readonly [value: bigint, name: string])[];
  /** Its place in the file. */
  readonly at: number;
}

/** The parts that registers and groups share. */
interface HardwarePart {
  /** Its name, with `%s` if it repeats. */
  readonly name: string;
  /** Bytes from the start of the group. */
  readonly offset: bigint;
  /** The repetition, if it is not a single one. */
  readonly repeat: Repeat | undefined;
  /** True if it overlaps others on purpose. */
  readonly isAlternative: boolean;
  /** Its place in the file. */
  readonly at: number;
}

/** A register. */
export interface HardwareRegister extends HardwarePart {
  readonly kind: "register";
  /** A description in words. */
  readonly description: string | undefined;
  /** The number of its bits. */
  readonly bits: number;
  /** The access that it allows. */
  readonly access: RegisterAccess;
  /** True if a read changes the device, though it clears nothing. */
  readonly readChanges: boolean;
  /** Its value after a reset, where that is fixed. */
  readonly reset: bigint | undefined;
  /** The meaning of its bits. */
  readonly fields: readonly HardwareField[];
}

/** Registers that belong together: a cluster, or a register file. */
export interface HardwareGroup extends HardwarePart {
  readonly kind: "group";
  readonly members: readonly HardwareMember[];
}

/** A part of a peripheral. */
export type HardwareMember = HardwareRegister | HardwareGroup;

/** A part of a file that makes a map: a peripheral, a memory map, or a block of one. */
export interface Peripheral {
  /** Its name. */
  readonly name: string;
  /** A description in words. */
  readonly description: string | undefined;
  /** Its place in the file. */
  readonly at: number;
  /** Its registers. Mistakes and notes go to the findings of the file. */
  members(): readonly HardwareMember[];
}

/** A file that describes hardware. */
export interface HardwareFile {
  /** Its format. */
  readonly format: "CMSIS-SVD" | "IP-XACT";
  /** The name of the device or component. */
  readonly name: string;
  /** Its peripherals, one at least. */
  readonly peripherals: readonly Peripheral[];
}
