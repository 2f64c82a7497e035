/**
 * `vfu probe FILE`: a probe, a configuration space or an expansion ROM that was saved.
 *
 * @module
 */

import { lspciDump } from "../../lib/pci/dump.ts";
import type { Context } from "../shared/context.ts";
import { decodeSaved, isRom, objectText, readBytes, savedJson, savedText } from "./file.ts";
import { romJson, romText } from "./rom.ts";
import type { SavedProbe } from "./saved_probe.ts";

/** Options of {@linkcode showSaved}, those of the command. */
export interface SavedOptions {
  /** Write JSON. */
  readonly json?: true | undefined;
  /** Write a dump for `lspci -F`. */
  readonly lspci?: true | undefined;
}

/**
 * Decodes a probe that `--json` saved whole.
 *
 * @returns undefined if there is no more in the bytes than configuration spaces
 */
export async function decodeProbe(
  path: string,
  bytes: Uint8Array,
): Promise<SavedProbe | undefined> {
  if (objectText(bytes) === undefined) return undefined;
  const { readSavedProbe } = await import("./saved_probe.ts"); // it checks with a large library
  return await readSavedProbe(path, bytes);
}

/** Decodes what is saved in a file. */
export async function showSaved(
  { out, signal }: Context,
  path: string,
  { json, lspci }: SavedOptions,
): Promise<void> {
  const bytes = await readBytes(path, signal);
  if (isRom(bytes) && !lspci) {
    return out.write(json ? romJson(path, bytes) : romText(bytes, out));
  }
  const whole = json || lspci ? undefined : await decodeProbe(path, bytes);
  if (whole !== undefined) {
    const { probeText } = await import("./text.ts");
    return out.write(probeText(`${whole.socket}, saved in ${path}`, whole.probe, out));
  }
  const saved = await decodeSaved(path, bytes);
  if (lspci) {
    for (const { slot, view } of saved) {
      out.write(lspciDump(view.config, { ...(slot !== undefined && { slot }) }));
    }
    return;
  }
  out.write(json ? savedJson(path, saved) : savedText(saved, out));
}
