/**
 * Words that values of options and arguments can be, where a list of them can be had without a
 * device.
 *
 * @module
 */

import { SERVER_CHECKS } from "../../lib/conformance/server/groups.ts";
import { CLIENT_CHECKS } from "../../lib/conformance/client/groups.ts";
import { INTERCEPTIONS } from "../../lib/record/intercept.ts";
import { CAPABILITY_NAMES, EXTENDED_CAPABILITY_NAMES } from "../../lib/pci/names.ts";
import { PciIrq } from "../../lib/wire/irq.ts";
import { PciRegion } from "../../lib/wire/region.ts";
import { SHIPPED_MAPS } from "../../lib/registers/load.ts";
import { BUILTIN_DEVICES } from "../serve/load.ts";
import { FAULT_KINDS, FAULTY_COMMANDS } from "../serve/fault.ts";
import { OFFER_NAMES } from "../serve/offer.ts";
import { SUBCOMMANDS } from "../subcommands.ts";
import type { CommandWords, ValueWords } from "./words.ts";

/** The words that a shell offers for a value. */
export interface Offered {
  /** Words; one that ends with `+`, `=` or `:` goes on behind it. */
  readonly words: readonly string[];
  /** True if paths of files are offered, too. */
  readonly hasFiles: boolean;
  /** Text behind the names of registers of the maps on the line; undefined if none are offered. */
  readonly registerEnd?: "" | "=";
}

const NOTHING: Offered = { words: [], hasFiles: false };
const FILES: Offered = { words: [], hasFiles: true };

const REGIONS = Object.keys(PciRegion).map((name) => name.toLowerCase());
const CAPABILITIES = [CAPABILITY_NAMES, EXTENDED_CAPABILITY_NAMES]
  .flatMap((names) => Object.values(names).flatMap(({ setpciName }) => setpciName ?? []));
const PLACES = [...REGIONS, ...CAPABILITIES].map((name) => `${name}+`);
const PLACE: Offered = { ...words(PLACES), registerEnd: "" };
const DEVICES: Offered = { words: BUILTIN_DEVICES, hasFiles: true };
const CHECKS = [...SERVER_CHECKS, ...CLIENT_CHECKS].map(({ id }) => id);

const FAULTS = FAULTY_COMMANDS.flatMap((command) =>
  FAULT_KINDS.map((kind) => `${command}:${kind}`)
);

/**
 * The words for a value, by its name in the help. A name that stands for different things is there
 * with its option, as `--offer name=value`, or its command, as `man command`. A name without an
 * entry fails a test.
 */
const VALUES: Readonly<Record<string, Offered>> = {
  "socket": FILES,
  "path": FILES,
  "file": FILES,
  "folder": FILES,
  "socket|file": FILES,
  "range=file": FILES,
  "range|name|file": { words: SHIPPED_MAPS, hasFiles: true },
  "name|file": { words: SHIPPED_MAPS, hasFiles: true },
  "device": DEVICES,
  "more": DEVICES,
  "region": { ...words(REGIONS), registerEnd: "" },
  "index": words(Object.keys(PciIrq).map((name) => name.toLowerCase())),
  "address": PLACE,
  "address=value": { ...PLACE, registerEnd: "=" },
  "condition": PLACE,
  "place": PLACE,
  "command:fault": words(FAULTS),
  "--offer name=value": words(OFFER_NAMES.map((name) => `${name}=`)),
  "kinds": words([...Object.keys(INTERCEPTIONS), "all"]),
  "id": words(CHECKS),
  "man command": words(SUBCOMMANDS.map(({ name }) => name)),
  "command": NOTHING,
  "count": NOTHING,
  "duration": NOTHING,
  "expression": NOTHING,
  "name=value": NOTHING,
  "name": NOTHING,
  "number": NOTHING,
  "range": NOTHING,
  "register": { ...NOTHING, registerEnd: "" },
  "range=content": NOTHING,
  "size": NOTHING,
  "step": NOTHING,
  "value[:mask]": NOTHING,
  "values": NOTHING,
  "vector": NOTHING,
};

/**
 * The words for a value.
 *
 * @param command the command that it is a value of
 * @param flag the option that it is the value of; undefined for an argument
 * @throws {RangeError} for a name that has no entry
 */
export function offered(command: CommandWords, value: ValueWords, flag?: string): Offered {
  if (value.choices !== undefined) return words(value.choices);
  const found = VALUES[`${flag ?? command.path.join(" ")} ${value.name}`] ??
    VALUES[value.name];
  if (found !== undefined) return found;
  throw new RangeError(`Cannot complete <${value.name}> of vfu ${command.path.join(" ")}`);
}

function words(list: readonly string[]): Offered {
  return { words: list, hasFiles: false };
}
