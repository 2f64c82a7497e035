/**
 * The types of a device's registers, made from the map that it is written with.
 *
 * @module
 */

import type { InlineRegisterMap, RegisterSource } from "./register_source.ts";

/** A value of a register: a number up to 4 bytes, a bigint of 8. */
export type RegisterValue<W> = W extends 8 ? bigint : number;

/**
 * Values of fields by name. Fields wider than 53 bits are absent: they are the register's value.
 */
export type FieldValues<R> = R extends
  { readonly fields: readonly { readonly name: infer N extends string }[] } ? { [F in N]: number }
  : Record<never, number>;

/**
 * A register as the device has it. Values that the device sets are set, whatever a client may do,
 * and call no hooks. Its fields are properties: `regs.CSTS.RDY = 1`.
 */
export interface RegisterCell<V = number, F = Record<string, number>> {
  /** Its name in the map. */
  readonly name: string;
  /**
   * The register's value: a number up to 4 bytes, a bigint of 8. A value that does not fit throws a
   * RangeError.
   */
  value: V;
  /** Sets fields, and leaves the others as they are. A RangeError for a value that does not fit. */
  set(fields: Partial<F>): void;
  /** Puts it back to its reset value. */
  reset(): void;
}

/** Registers that repeat. */
export interface RegisterCells<C> {
  /** Its name in the map. */
  readonly name: string;
  /** The number of them. */
  readonly length: number;
  /** One of them. A RangeError if there is none of that index. */
  at(index: number): C;
}

/** A register with its fields as properties. */
export type CellOf<R extends { readonly width: unknown }> =
  & RegisterCell<RegisterValue<R["width"]>, FieldValues<R>>
  & FieldValues<R>;

/**
 * All registers of a map by name. For a map from a file the compiler knows no names, and takes any.
 */
export type RegistersOf<M extends RegisterSource> = M extends InlineRegisterMap ? {
    readonly [R in M["registers"][number] as R["name"]]: R extends { readonly count: number }
      ? RegisterCells<CellOf<R>>
      : CellOf<R>;
  }
  // deno-lint-ignore no-explicit-any -- as JSON.parse: the names are in a file
  : any;

/**
 * Hooks for a client's reads and writes of a register. Each may be asynchronous: only the client
 * waits.
 */
export interface RegisterHooks<V> {
  /**
   * A client reads the register, or a part of it: called once for each read that touches the
   * register, whatever bytes the read takes.
   *
   * @param index which one, of an array; else 0
   * @returns the value for the client to read; undefined: the value that the register holds
   */
  read?(index: number): V | void | Promise<V | void>;
  /**
   * A client has written the register, or a part of it. Called once for each write that touches the
   * register, after the register took the value. If the hook throws, the register holds the old
   * value again.
   *
   * @param value what the register holds now
   * @param old what it held before
   * @param index which one, of an array; else 0
   * @param written what came from the client, with zeros for bytes that it did not write
   */
  write?(value: V, old: V, index: number, written: V): void | Promise<void>;
}

/** Hooks by the names of registers. */
export type HooksOf<M extends RegisterSource> = M extends InlineRegisterMap ? {
    readonly [R in M["registers"][number] as R["name"]]?: RegisterHooks<RegisterValue<R["width"]>>;
  }
  // deno-lint-ignore no-explicit-any -- see RegistersOf
  : Readonly<Record<string, RegisterHooks<any>>>;
