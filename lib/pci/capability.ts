/**
 * The two lists of capabilities. Every pointer in them is the device's word, so each step is checked: a list
 * that leaves its bounds or returns to where it was ends there, with a note.
 *
 * @module
 */

import { CapabilityReader, type FunctionContext } from "./capability_reader.ts";
import { EXTENDED_DECODERS, type ExtendedFields } from "./extended.ts";
import { CAPABILITY_NAMES, type CapabilityName, EXTENDED_CAPABILITY_NAMES } from "./names.ts";
import {
  type NamedCapability,
  STANDARD_DECODERS,
  type StandardFields,
  type UnknownCapability,
} from "./standard.ts";
import type { ConfigView } from "./view.ts";

/** What every capability has. */
export interface CapabilityCommon extends CapabilityName {
  /** Bytes from the start of the configuration space. */
  offset: number;
  /** Its id: one byte, or two if extended. */
  id: number;
  /** Whether it is in the extended list. */
  extended: boolean;
  /** Of an extended capability, the version in its header. */
  version?: number;
  /** What is wrong with it. */
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

const STANDARD_START = 0x40;
const STANDARD_END = 0x100;
const EXTENDED_START = 0x100;
const EXTENDED_END = 0x1000;
/** The smallest capability has one dword, so lists cannot be longer than this. */
const MAX_STANDARD = (STANDARD_END - STANDARD_START) / 4;
const MAX_EXTENDED = (EXTENDED_END - EXTENDED_START) / 4;

/** First bytes of a capability that nobody decodes. */
const RAW_BYTES = 16;

function hex(value: number): string {
  return `0x${value.toString(16)}`;
}

/** Why the capability at `offset` cannot be read, if it cannot. */
function refusal(
  offset: number,
  start: number,
  end: number,
  seen: Set<number>,
): string | undefined {
  if (offset < start) return `a capability at ${hex(offset)} would be inside the header`;
  if (offset + 4 > end) return `a capability at ${hex(offset)} is past the end, ${hex(end)}`;
  if (seen.has(offset)) return `the list returns to ${hex(offset)}`;
  return undefined;
}

/**
 * Follows the list of standard capabilities that begins with the pointer at `pointerOffset` (PCI Local Bus
 * Specification, "Capabilities List").
 */
export function parseCapabilities(
  view: ConfigView,
  pointerOffset: number,
  context: FunctionContext,
): CapabilityChain {
  const chain: CapabilityChain = { capabilities: [], notes: [] };
  const seen = new Set<number>();
  const end = Math.min(view.size, STANDARD_END);
  let offset = view.u8(pointerOffset) & ~3;
  while (offset !== 0 && chain.capabilities.length < MAX_STANDARD) {
    const reason = refusal(offset, STANDARD_START, end, seen);
    if (reason) {
      chain.notes.push(`The list of capabilities is broken: ${reason}`);
      break;
    }
    seen.add(offset);
    const id = view.u8(offset);
    if (id === 0xff) {
      chain.notes.push(`The list of capabilities is broken: no capability at ${hex(offset)}`);
      break;
    }
    chain.capabilities.push(decode(view, offset, id, context));
    offset = view.u8(offset + 1) & ~3;
  }
  return chain;
}

/**
 * Follows the list of extended capabilities (PCI Express Base Specification, "PCI Express Extended
 * Capabilities"). It is empty if the space is not larger than 256 bytes.
 */
export function parseExtendedCapabilities(
  view: ConfigView,
  context: FunctionContext,
): CapabilityChain {
  const chain: CapabilityChain = { capabilities: [], notes: [] };
  const seen = new Set<number>();
  const end = Math.min(view.size, EXTENDED_END);
  if (end < EXTENDED_START + 4) return chain;
  let offset = EXTENDED_START;
  while (offset !== 0 && chain.capabilities.length < MAX_EXTENDED) {
    const reason = refusal(offset, EXTENDED_START, end, seen);
    if (reason) {
      chain.notes.push(`The list of extended capabilities is broken: ${reason}`);
      break;
    }
    seen.add(offset);
    const header = view.u32(offset);
    if (header === 0 || header === 0xffffffff) {
      // At the first place this is how a function says that it has none.
      if (offset !== EXTENDED_START) {
        chain.notes.push(
          `The list of extended capabilities is broken: no capability at ${hex(offset)}`,
        );
      }
      break;
    }
    const version = (header >>> 16) & 0xf;
    const id = header & 0xffff;
    chain.capabilities.push(decode(view, offset, id, context, version));
    offset = (header >>> 20) & ~3;
  }
  return chain;
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
  };
}
