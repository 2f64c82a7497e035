/**
 * The two lists of capabilities, decoded.
 *
 * @module
 */

import { CapabilityReader, type FunctionContext } from "./capability_reader.ts";
import { EXTENDED_DECODERS, type ExtendedFields } from "./extended.ts";
import { EXTENDED_LAYOUTS } from "./extended_layouts.ts";
import { type DecodedRegister, decodeLayout } from "./layout.ts";
import { CAPABILITY_NAMES, type CapabilityName, EXTENDED_CAPABILITY_NAMES } from "./names.ts";
import {
  type NamedCapability,
  STANDARD_DECODERS,
  type StandardFields,
  type UnknownCapability,
} from "./standard.ts";
import { STANDARD_LAYOUTS } from "./standard_layouts.ts";
import type { ConfigView } from "./view.ts";
import { type CapabilityWalk, walkCapabilities, walkExtendedCapabilities } from "./walk.ts";
import { hex } from "../text/hex.ts";

/** The fields of every capability. */
export interface CapabilityCommon extends CapabilityName {
  /** Bytes from the start of the configuration space. */
  offset: number;
  /** Its id: one byte, or two if extended. */
  id: number;
  /** True if it is in the extended list. */
  extended: boolean;
  /** The version in the header of an extended capability. */
  version?: number;
  /**
   * Its registers by name, those whose fields `kind` has no types for; not there if there are none.
   */
  registers?: DecodedRegister[];
  /** Mistakes found in it. */
  notes: string[];
}

/** The registers of a capability, told apart by `kind`. */
export type CapabilityFields =
  | StandardFields
  | ExtendedFields
  | NamedCapability
  | UnknownCapability;

/** A capability: where it is, what it is, and its registers, told apart by `kind`. */
export type Capability = CapabilityCommon & CapabilityFields;

/** A list of capabilities, as far as it could be followed. */
export interface CapabilityChain {
  /** In the order of the list. */
  capabilities: Capability[];
  /** Why the list ends before its own end. */
  notes: string[];
}

/** First bytes of a capability that has no typed fields. */
const RAW_BYTES = 16;

/** Follows the list of standard capabilities. It is empty if the status register says so. */
export function parseCapabilities(
  view: ConfigView,
  context: FunctionContext,
): CapabilityChain {
  return decodeAll(view, walkCapabilities(view.size), context);
}

/** Follows the list of extended capabilities, which is empty in a space of 256 bytes. */
export function parseExtendedCapabilities(
  view: ConfigView,
  context: FunctionContext,
): CapabilityChain {
  return decodeAll(view, walkExtendedCapabilities(view.size), context);
}

function decodeAll(
  view: ConfigView,
  walk: CapabilityWalk,
  context: FunctionContext,
): CapabilityChain {
  let step = walk.next();
  while (!step.done) {
    const { offset, width } = step.value;
    step = walk.next(view.uint(offset, width));
  }
  const { places, notes } = step.value;
  return {
    capabilities: places.map(({ offset, id, version }) =>
      decode(view, offset, id, context, version)
    ),
    notes: [...notes],
  };
}

function decode(
  view: ConfigView,
  offset: number,
  id: number,
  context: FunctionContext,
  version?: number,
): Capability {
  const extended = version !== undefined;
  const at = new CapabilityReader(view, offset, context);
  const names = (extended ? EXTENDED_CAPABILITY_NAMES : CAPABILITY_NAMES)[id];
  const decoder = (extended ? EXTENDED_DECODERS : STANDARD_DECODERS)[id];
  view.overrun = false;
  const layout = (extended ? EXTENDED_LAYOUTS : STANDARD_LAYOUTS)[id];
  const registers = layout === undefined ? [] : decodeLayout(at, layout);
  const fields: CapabilityFields = decoder?.(at) ??
    { kind: names ? "named" : "unknown", bytes: at.bytes(0, RAW_BYTES) };
  if (view.overrun) at.notes.push("it reaches past the end of the configuration space");
  const unknownName = `Unknown ${extended ? "extended " : ""}capability ${hex(id)}`;
  return {
    offset,
    id,
    extended,
    ...(extended ? { version } : {}),
    ...(names ?? { name: unknownName }),
    notes: at.notes,
    ...fields,
    ...(registers.length > 0 ? { registers } : {}),
  };
}
