/**
 * Mistakes in a device as it is written. Types report most of them, but modules are run without
 * their types being checked. All mistakes are found in one go, each with its place.
 *
 * @module
 */

import type { DeviceCapability } from "./capability.ts";
import type { DeviceParts, DeviceRegions, DeviceSpec } from "./spec.ts";
import {
  BOOLEAN,
  DefinitionError,
  type Form,
  type Forms,
  FUNCTION,
  isObject,
  isPlain,
  LIST,
  Mistakes,
  needed,
  NUMBER,
  OBJECT,
  oneOf,
  shown,
  TEXT,
  whole,
} from "./mistakes.ts";
import { type InterruptSpec, MAX_VECTORS } from "./index_interrupts.ts";
import type { DeviceOption, DeviceOptions } from "./option.ts";
import type { PciSpec } from "./pci.ts";
import {
  type DeviceRegion,
  isRegion,
  REGION,
  REGION_INDEX,
  type RegionName,
} from "./device_region.ts";
import type { EarlierState, StateHooks, StateStream } from "./state.ts";

/** The regions that a device may have. */
export const REGION_NAMES = Object.keys(REGION_INDEX) as readonly RegionName[];

const NAME: Form = {
  accepts: (value) => typeof value === "string" && value !== "",
  what: 'a word, as "gpio"',
};
const PCI: Form = {
  accepts: (value) => isObject(value) || typeof value === "function" || value === false,
  what: "{ vendor: 0x1234, device: 0x0001 }, a function that returns that, or false",
};
const CREATE: Form = {
  accepts: FUNCTION.accepts,
  what: "the function that makes a device",
};

const SPEC: Forms<DeviceSpec<DeviceOptions>> = {
  name: needed(NAME),
  title: TEXT,
  options: OBJECT,
  pci: needed(PCI),
  interrupts: LIST,
  resetsWithClient: BOOLEAN,
  create: needed(CREATE),
};

const PCI_SPEC: Forms<PciSpec> = {
  vendor: needed(NUMBER),
  device: needed(NUMBER),
  class: NUMBER,
  revision: NUMBER,
  subsystem: OBJECT,
  interruptPin: oneOf("A", "B", "C", "D"),
  interruptPinMasksItself: BOOLEAN,
  capabilities: LIST,
  interruptMasking: oneOf("client", "device"),
  needsBusMaster: BOOLEAN,
};

const SUBSYSTEM: Forms<NonNullable<PciSpec["subsystem"]>> = {
  vendor: needed(NUMBER),
  device: needed(NUMBER),
};

const INTERRUPT: Forms<InterruptSpec> = {
  vectors: whole(0, MAX_VECTORS),
  isMaskable: BOOLEAN,
  masksItself: BOOLEAN,
};

const NAMED: Form = { accepts: isObject, what: "{ bar0 }, the regions by their names" };
const LISTED: Form = {
  accepts: Array.isArray,
  what: "[registers(...)], the regions by their index, as the device is not on the PCI bus",
};
const STATE: Form = {
  accepts: (value) => value === false || isObject(value),
  what: "{ save, restore }, { stopCopy, resume }, or false",
};

const PARTS: Forms<DeviceParts> = {
  regions: needed(NAMED),
  reset: FUNCTION,
  connected: FUNCTION,
  disconnected: FUNCTION,
  mapped: FUNCTION,
  unmapped: FUNCTION,
  masked: FUNCTION,
  quiesce: FUNCTION,
  stop: FUNCTION,
  start: FUNCTION,
  close: FUNCTION,
  state: STATE,
};

const REGIONS: Forms<DeviceRegions> = {
  bar0: REGION,
  bar1: REGION,
  bar2: REGION,
  bar3: REGION,
  bar4: REGION,
  bar5: REGION,
  rom: REGION,
  vga: REGION,
};

const OWN_REGION: Forms<DeviceRegion> = {
  flags: needed(NUMBER),
  size: NUMBER,
  bar: OBJECT,
  fds: LIST,
  fdOffset: NUMBER,
  capabilities: LIST,
  ioFds: LIST,
  contents: LIST,
  memory: OBJECT,
  read: FUNCTION,
  write: FUNCTION,
  view: FUNCTION,
  review: FUNCTION,
  reset: FUNCTION,
  close: FUNCTION,
};

const WHOLE: Form = { accepts: (value) => Number.isInteger(value), what: "a whole number" };
const STATE_HOOKS: Forms<StateHooks> = {
  version: WHOLE,
  bytes: {
    accepts: (value) => Array.isArray(value) && value.every((each) => each instanceof Uint8Array),
    what: "a list of Uint8Arrays",
  },
  inPlace: BOOLEAN,
  earlier: LIST,
  save: needed(FUNCTION),
  restore: needed(FUNCTION),
};

const STATE_STREAM: Forms<StateStream> = {
  preCopy: FUNCTION,
  stopCopy: needed(FUNCTION),
  saveEnded: FUNCTION,
  resume: needed(FUNCTION),
};

const EARLIER_STATE: Forms<EarlierState> = {
  version: needed(WHOLE),
  subsystem: OBJECT,
  sections: needed({
    accepts: (value) => isObject(value) && Object.values(value).every(WHOLE.accepts),
    what: "{ 0: 4096 }, the bytes of each section by its number",
  }),
  regions: {
    accepts: (value) => isObject(value) && Object.values(value).every(WHOLE.accepts),
    what: "{ config: 0, bar2: 1 }, the section that each region is in",
  },
  restore: FUNCTION,
};
const EARLIER_REGIONS: Forms<NonNullable<EarlierState["regions"]>> = {
  config: WHOLE,
  bar0: WHOLE,
  bar1: WHOLE,
  bar2: WHOLE,
  bar3: WHOLE,
  bar4: WHOLE,
  bar5: WHOLE,
  rom: WHOLE,
  vga: WHOLE,
};

/** Capabilities that a function has once. */
const SINGLE = ["PM", "MSI", "MSI-X", "PCI Express", "AER"];

/**
 * Checks what `defineDevice` is given.
 *
 * @throws {DefinitionError} with all that is wrong
 */
export function checkSpec(spec: unknown): void {
  const name = isObject(spec) && NAME.accepts(spec["name"]) ? ` ${spec["name"]}` : "";
  const doing = `Cannot define the device${name}`;
  const mistakes = new Mistakes();
  if (!isObject(spec)) {
    throw new DefinitionError(doing, [`${shown(spec)}, not { name, pci, create }`]);
  }
  mistakes.check("", spec, SPEC);
  if (isObject(spec["options"])) collectOptions(spec["options"], mistakes);
  if (isObject(spec["pci"])) collectPci(spec["pci"], mistakes);
  collectInterrupts(spec["interrupts"], spec["pci"] !== false, mistakes);
  mistakes.throwAny(doing);
}

/**
 * Checks what the `pci` of a definition returned.
 *
 * @throws {DefinitionError} with all that is wrong
 */
export function checkPci(name: string, pci: unknown): void {
  const mistakes = new Mistakes();
  if (isObject(pci)) collectPci(pci, mistakes);
  else mistakes.add("pci", `its function returned ${shown(pci)}, not { vendor, device }`);
  mistakes.throwAny(`Cannot make the device ${name}`);
}

/**
 * Checks what the `create` of a definition returned.
 *
 * @param isPci false for a device whose regions have an index and no name
 * @throws {DefinitionError} with all that is wrong
 */
export function checkParts(name: string, parts: unknown, isPci: boolean): void {
  const doing = `Cannot make the device ${name}`;
  if (parts instanceof Promise) {
    parts.catch(() => {}); // it is of no use any more
    throw new DefinitionError(doing, [
      "create: is asynchronous; await what it needs ahead of defineDevice",
    ]);
  }
  if (!isObject(parts)) {
    throw new DefinitionError(doing, [
      `create: returned ${shown(parts)}, and no regions; return { regions: { bar0 } }`,
    ]);
  }
  const mistakes = new Mistakes();
  mistakes.check("", parts, isPci ? PARTS : { ...PARTS, regions: needed(LISTED) });
  const { regions, state } = parts;
  if (isObject(state)) collectState(state, mistakes);
  const isListed = !isPci && Array.isArray(regions);
  if (isPci && isObject(regions)) mistakes.check("regions", regions, REGIONS);
  if ((isPci && isObject(regions)) || isListed) {
    for (const [key, region] of Object.entries(regions)) {
      const path = isListed ? `regions[${key}]` : `regions.${key}`;
      if (isListed && region !== undefined && !REGION.accepts(region)) {
        mistakes.add(path, `${shown(region)}, not ${REGION.what}`);
      }
      if (!isRegion(region) || !isPlain(region)) continue;
      mistakes.check(path, region, OWN_REGION);
    }
  }
  mistakes.throwAny(doing);
}

function collectInterrupts(interrupts: unknown, isPci: boolean, mistakes: Mistakes): void {
  if (!Array.isArray(interrupts)) return;
  if (isPci) {
    mistakes.add("interrupts", "on the PCI bus pci declares them; with pci: false they go here");
  }
  for (const [i, each] of interrupts.entries()) {
    if (isObject(each)) mistakes.check(`interrupts[${i}]`, each, INTERRUPT);
    else mistakes.add(`interrupts[${i}]`, `${shown(each)}, not { vectors: 1 }`);
  }
}

function collectOptions(options: Record<string, unknown>, mistakes: Mistakes): void {
  for (const [name, each] of Object.entries(options)) {
    if (isOption(each)) continue;
    mistakes.add(
      `options.${name}`,
      `${shown(each)}, not an option; ` +
        'write it as option.integer({ default: 8, description: "…" })',
    );
  }
}

function collectState(state: Record<string, unknown>, mistakes: Mistakes): void {
  if ("stopCopy" in state || "resume" in state) {
    return mistakes.check("state", state, STATE_STREAM);
  }
  mistakes.check("state", state, STATE_HOOKS);
  if (!Array.isArray(state["earlier"])) return;
  for (const [i, each] of state["earlier"].entries()) {
    const path = `state.earlier[${i}]`;
    if (!isObject(each)) {
      mistakes.add(path, `${shown(each)}, not { version, sections, restore }`);
      continue;
    }
    mistakes.check(path, each, EARLIER_STATE);
    if (isObject(each["subsystem"])) {
      mistakes.check(`${path}.subsystem`, each["subsystem"], SUBSYSTEM);
    }
    if (isObject(each["regions"])) {
      mistakes.check(`${path}.regions`, each["regions"], EARLIER_REGIONS);
    }
  }
}

function collectPci(pci: Record<string, unknown>, mistakes: Mistakes): void {
  mistakes.check("pci", pci, PCI_SPEC);
  const { subsystem, capabilities } = pci;
  if (isObject(subsystem)) mistakes.check("pci.subsystem", subsystem, SUBSYSTEM);
  if (!Array.isArray(capabilities)) return;
  const seen = new Set<string>();
  for (const [i, each] of capabilities.entries()) {
    const path = `pci.capabilities[${i}]`;
    if (!isCapability(each)) {
      mistakes.add(path, `${shown(each)}, not a capability; cap makes them, as cap.pm()`);
    } else if (SINGLE.includes(each.name) && seen.has(each.name)) {
      mistakes.add(path, `a second capability ${each.name}; a device has one`);
    } else {
      seen.add(each.name);
    }
  }
}

function isOption(value: unknown): value is DeviceOption {
  return isObject(value) && typeof value["parse"] === "function" &&
    typeof value["check"] === "function";
}

function isCapability(value: unknown): value is DeviceCapability {
  return isObject(value) && typeof value["declare"] === "function" &&
    typeof value["size"] === "number";
}
