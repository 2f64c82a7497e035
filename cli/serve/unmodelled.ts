/**
 * The report of `vfu serve --unmodelled`: what clients used of a device that it does not model.
 *
 * @module
 */

import { littleEndian } from "../../lib/base/little_endian.ts";
import type { UnmodelledReport } from "../../lib/define/unmodelled.ts";
import { hex, jsonInteger } from "../../lib/text/hex.ts";
import { plural } from "../../lib/text/plural.ts";
import { placeText, regionNameOf } from "../../lib/wire/region.ts";

/** The event of `vfu serve --json` about accesses that a device does not model. */
export interface UnmodelledJson {
  event: "unmodelled";
  device: string;
  /** Bytes of no register. `written` is what was written last, as it stands in memory. */
  places: {
    region: string;
    offset: number;
    size: number;
    reads: number;
    writes: number;
    written: number | string | null;
  }[];
  /** Reserved bits that were written other than they are after a reset. */
  reserved: {
    region: string;
    offset: number;
    register: string;
    bits: number | string;
    writes: number;
  }[];
  /** Reads that showed the same value `count` times in a row, until the client gave up. */
  polls: {
    region: string;
    offset: number;
    size: number;
    register: string | null;
    value: number | string;
    count: number;
  }[];
  /** Accesses of further places: so many are not listed. */
  others: number;
}

/** The report as an event. */
export function unmodelledJson(device: string, report: UnmodelledReport): UnmodelledJson {
  const { isPci, places, reserved, polls, others } = report;
  // As addresses have it: bar0, region3
  const nameOf = (region: number) => regionNameOf(region, isPci).replace(" ", "");
  return {
    event: "unmodelled",
    device,
    places: places.map(({ written, region, ...rest }) => ({
      region: nameOf(region),
      ...rest,
      written: written === undefined ? null : jsonInteger(littleEndian(written)),
    })),
    reserved: reserved.map(({ region, bits, ...rest }) => ({
      region: nameOf(region),
      ...rest,
      bits: jsonInteger(bits),
    })),
    polls: polls.map(({ region, register = null, value, ...rest }) => ({
      region: nameOf(region),
      ...rest,
      register,
      value: jsonInteger(littleEndian(value)),
    })),
    others,
  };
}

/** The event as lines for people. */
export function unmodelledLines(event: UnmodelledJson): string[] {
  const { device, places, reserved, polls, others } = event;
  const at = ({ region, offset }: { region: string; offset: number }) => placeText(region, offset);
  const lines = [
    ...places.map((each) => {
      const counts = [
        ...each.reads > 0 ? [`read ${plural(each.reads, "time")}`] : [],
        ...each.writes > 0 ? [`written ${plural(each.writes, "time")}`] : [],
      ].join(" and ");
      const last = each.written === null ? "" : `, last as ${hex(BigInt(each.written))}`;
      return `${at(each)}: no register; ${plural(each.size, "byte")} ${counts}${last}`;
    }),
    ...reserved.map((each) =>
      `${at(each)}: reserved bits ${hex(BigInt(each.bits))} of ${each.register} ` +
      `written ${plural(each.writes, "time")}`
    ),
    ...polls.map((each) => {
      const what = each.register === null ? "" : `${each.register} `;
      const value = hex(BigInt(each.value));
      return `${at(each)}: ${what}polled in vain, read ${plural(each.count, "time")} as ${value}`;
    }),
    ...others === 0 ? [] : [`and ${plural(others, "access", "accesses")} of further places`],
  ];
  if (lines.length === 0) return [`Clients used nothing of ${device} that it does not model`];
  return [`Clients used of ${device} what it does not model:`, ...lines.map((line) => `  ${line}`)];
}
