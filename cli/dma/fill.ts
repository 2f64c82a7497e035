/**
 * Contents of memory before a device has it.
 *
 * @module
 */

import type { DmaSpace } from "../../lib/client/dma.ts";
import { blocks } from "../shared/pipeline.ts";
import { openFile, readExactly } from "../shared/source.ts";
import type { FillArgument } from "./range.ts";

/** A fill whose file, if it has one, is open. */
export interface Fill extends FillArgument {
  readonly file: Deno.FsFile | undefined;
}

/** Opens what each fill takes its bytes from, if that is a file. */
export async function openFills(
  fills: readonly FillArgument[],
  resources: DisposableStack,
  signal: AbortSignal,
): Promise<Fill[]> {
  const opened: Fill[] = [];
  for (const fill of fills) opened.push(await openFill(fill, resources, signal));
  return opened;
}

/** Opens what a fill takes its bytes from: a file must have enough of them. */
async function openFill(
  fill: FillArgument,
  resources: DisposableStack,
  signal: AbortSignal,
): Promise<Fill> {
  const { source, size } = fill;
  if (typeof source === "number") return { ...fill, file: undefined };
  const file = resources.use(await openFile(source, `fill with ${source}`, signal));
  const info = file.statSync();
  if (info.size < size) {
    throw new RangeError(
      `Cannot fill ${size} bytes with ${source}: it has ${info.size}`,
    );
  }
  return { ...fill, file };
}

/** Fills memory that is mapped. */
export function fillMemory(dma: DmaSpace, { iova, size, source, file }: Fill): void {
  for (const { at, count } of blocks(size)) {
    const bytes = file === undefined
      ? new Uint8Array(count).fill(Number(source))
      : readExactly(file, String(source), count);
    dma.write(iova + BigInt(at), bytes);
  }
}
