/**
 * Groups of registers as a list: registers of groups in groups, each at its place. Of several
 * repetitions in one another, one becomes an array; the others become registers of their own.
 *
 * @module
 */

import { MAX_COUNT } from "../check.ts";
import type { RegisterArray } from "../map.ts";
import type { Findings } from "./findings.ts";
import type { HardwareGroup, HardwareMember, HardwareRegister, Repeat } from "./hardware.ts";

/** A register at its place. */
export interface FlatRegister {
  /** Its name, with those of its groups ahead. */
  readonly name: string;
  /** Bytes from the start of the peripheral. */
  readonly offset: bigint;
  /** Bytes of an access. */
  readonly width: number;
  /** If it is one of many. */
  readonly array: RegisterArray | undefined;
  /** True if it, or a group of it, overlaps others on purpose. */
  readonly isAlternative: boolean;
  readonly register: HardwareRegister;
}

/** The groups around a register. */
interface Around {
  /** Ahead of its name, with `%s` if one of them repeats as an array. */
  readonly prefix: string;
  readonly offset: bigint;
  readonly repeat: Repeat | undefined;
  readonly isAlternative: boolean;
}

/** Lists the registers of members in order. */
export function flatten(members: readonly HardwareMember[], findings: Findings): FlatRegister[] {
  const found: FlatRegister[] = [];
  const around = { prefix: "", offset: 0n, repeat: undefined, isAlternative: false };
  for (const each of members) addMember(each, around, found, findings);
  return found;
}

function addMember(
  member: HardwareMember,
  around: Around,
  found: FlatRegister[],
  findings: Findings,
): void {
  const { name, offset, repeat, isAlternative } = member;
  const base = {
    ...around,
    offset: around.offset + offset,
    isAlternative: around.isAlternative || isAlternative,
  };
  const add = (name: string, place: Around) => {
    findings.count(member.at);
    if (member.kind === "register") addRegister(member, name, place, found, findings);
    else addGroup(member, name, place, found, findings);
  };
  if (repeat === undefined) return add(name, base);
  const isArray = repeat.labels === undefined && around.repeat === undefined;
  if (isArray) return add(name, { ...base, repeat });
  for (let i = 0; i < repeat.count; i++) {
    const label = repeat.labels?.[i] ?? String(i);
    add(name.replace("%s", label), { ...base, offset: base.offset + BigInt(i) * repeat.stride });
  }
}

function addGroup(
  { members }: HardwareGroup,
  name: string,
  around: Around,
  found: FlatRegister[],
  findings: Findings,
): void {
  const prefix = `${around.prefix}${name}_`;
  for (const each of members) addMember(each, { ...around, prefix }, found, findings);
}

/** Adds a register: as an array, if it can be one. */
function addRegister(
  register: HardwareRegister,
  name: string,
  { prefix, offset, repeat, isAlternative }: Around,
  found: FlatRegister[],
  findings: Findings,
): void {
  const width = widthOf(register.bits);
  const full = prefix + name;
  const one = { register, width, isAlternative, array: undefined };
  if (repeat === undefined) {
    found.push({ ...one, name: full, offset });
  } else if (width === 0) { // too wide for a map: that is told once for all of them
    found.push({ ...one, name: full.replace(/_?%s/, ""), offset });
  } else if (isArray(repeat, width)) {
    findings.count(register.at, repeat.count);
    const array = { count: repeat.count, stride: Number(repeat.stride) };
    found.push({ ...one, name: full.replace(/_?%s/, ""), offset, array });
  } else {
    for (let i = 0; i < repeat.count; i++) {
      findings.count(register.at);
      const at = offset + BigInt(i) * repeat.stride;
      found.push({ ...one, name: full.replace("%s", String(i)), offset: at });
    }
  }
}

/** Reports whether a map can have it as an array. */
function isArray({ count, stride }: Repeat, width: number): boolean {
  const isAligned = stride >= BigInt(width) && stride % BigInt(width) === 0n;
  return isAligned && stride <= 1n << 32n && count <= MAX_COUNT;
}

/** The bytes of an access that has room for so many bits; 0 if there is none. */
function widthOf(bits: number): number {
  return [1, 2, 4, 8].find((width) => width * 8 >= bits) ?? 0;
}
