/**
 * All maps that a command gives a device, and takes back.
 *
 * @module
 */

import { type CommandUnknownOpts, Option } from "@commander-js/extra-typings";
import type { DmaSpace } from "../../lib/client/dma.ts";
import type { DmaMapOptions } from "../../lib/client/dma_map.ts";
import type { WaitOptions } from "../../lib/client/info.ts";
import type { Context } from "../shared/context.ts";
import { MAP_NAMES, orUsage, type PlaceParser, placeParser } from "../shared/map.ts";
import { type MapArgument, parseMap } from "./range.ts";

/** A text that is no range of memory: the name of a register map, or the path of one. */
const REGISTER_MAP = /^(?:[^\d:][^:]*|\.{0,2}\/.*)$/s;

/** `--map`, of commands that map memory and name registers. */
export function memoryOption() {
  return new Option(
    "--map <range|name|file>",
    "memory: IOVA:SIZE[:ro|:wo][:file=PATH|:message]; or the register map of --write and --wait: " +
      `${MAP_NAMES}; repeatable`,
  ).argParser((text: string, previous: string[] | undefined) => [...previous ?? [], text]);
}

/** Takes values of `--map` apart: memory, and register maps, which addresses are then read with. */
export async function mapsOf(
  context: Context,
  self: CommandUnknownOpts,
  texts: readonly string[] = [],
): Promise<{ readonly maps: MapArgument[]; readonly place: PlaceParser }> {
  const names = texts.filter((text) => REGISTER_MAP.test(text));
  const maps = texts.filter((text) => !REGISTER_MAP.test(text)).map((text) =>
    orUsage(self, `option '--map <range>' argument '${text}' is invalid.`, () => parseMap(text))
  );
  if (maps.length === 0) {
    self.error("error: no memory is given; write it as --map IOVA:SIZE, as --map 1M:64K");
  }
  const place = await placeParser(context, self, names.length === 0 ? undefined : names);
  return { maps, place };
}

/**
 * Maps one after the other, until the signal comes. Throws as `DmaSpace.mapAsync`, or its reason.
 */
export async function mapAll(
  dma: DmaSpace,
  maps: readonly DmaMapOptions[],
  signal: AbortSignal,
): Promise<void> {
  for (const map of maps) {
    signal.throwIfAborted();
    await dma.mapAsync(map);
  }
}

/** Takes back all that is mapped. Throws as `DmaSpace.unmapAsync`. */
export async function unmapAll({ maps }: DmaSpace, wait: WaitOptions): Promise<void> {
  for (const map of maps) await map.unmapAsync(wait);
}
