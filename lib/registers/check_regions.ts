/**
 * Mistakes in the regions of a map of registers in a file, which may be capabilities as well.
 *
 * @module
 */

import { parseAddress } from "../client/address.ts";
import { nearest } from "../text/nearest.ts";
import type { Path, Report, YamlDocument } from "../yaml/document.ts";
import type { MapDraft } from "./build.ts";
import { REGION_NAMES } from "./check.ts";

/** Gives every region of `map` that can't be to `report`. */
export function checkRegions(
  map: MapDraft,
  document: Pick<YamlDocument, "at">,
  report: Report,
): void {
  const check = (text: string, path: Path) => {
    if (isRegion(text)) return;
    const meant = nearest(text, REGION_NAMES);
    report(
      document.at(path),
      `"${text}" is no region`,
      meant === undefined
        ? "write bar0 to bar5, rom, config, vga, a region's index, or a capability as CAP_MSIX"
        : `did you mean "${meant}"?`,
    );
  };
  if (map.region !== undefined) check(map.region, ["region"]);
  for (const { region, hasRegion, path } of map.registers) {
    if (hasRegion) check(region, [...path, "region"]);
  }
}

/** Reports whether registers can count from it: the start of a region or capability. */
export function isRegion(text: string): boolean {
  if (!/^[A-Za-z0-9_]+(@\d+)?$/.test(text)) return false;
  try {
    const { base, width } = parseAddress(text);
    // Else it is a register of the configuration space
    return base.kind === "capability" || width === undefined;
  } catch {
    return false;
  }
}
