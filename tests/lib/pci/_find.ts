/**
 * Capabilities of images under test.
 *
 * @module
 */

import { assert } from "@std/assert";
import type { Capability } from "../../../lib/pci/capability.ts";
import type { RegionSizes } from "../../../lib/pci/bar.ts";
import { parseConfigSpace } from "../../../lib/pci/config_space.ts";
import { ConfigImage } from "./_images.ts";

/** A function without anything in it. */
export function blank(size: 256 | 4096 = 256): ConfigImage {
  return new ConfigImage(size, 0x1234, 0x11e8, 0x00ff00);
}

/** The first capability of this kind, which must be there. */
export function find<K extends Capability["kind"]>(
  image: ConfigImage,
  kind: K,
  regionSizes: RegionSizes = () => undefined,
): Extract<Capability, { kind: K }> {
  const space = parseConfigSpace(image.bytes, { regionSizes });
  const found = [...space.capabilities, ...space.extendedCapabilities]
    .find((capability) => capability.kind === kind);
  assert(found, `There is no capability of the kind ${kind}`);
  return found as Extract<Capability, { kind: K }>;
}
