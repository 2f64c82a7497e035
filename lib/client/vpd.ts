/**
 * Vital Product Data, read through the address and data registers of its capability.
 *
 * @module
 */

import { TimeoutError } from "../base/errors.ts";
import { MAX_VPD_SIZE, VpdExtent } from "../pci/vpd.ts";
import { hex } from "../text/hex.ts";
import type { WaitOptions } from "./info.ts";
import type { Region } from "./region.ts";

/** Offsets of the registers in the capability. */
const ADDRESS = 0x02;
const DATA = 0x04;
/** The bit of the address register that says that the data is there. */
const FLAG = 0x8000;
/** Bytes of one transfer. */
const WORD = 4;
/** The time that hardware has for one: some milliseconds; an emulated device has none. */
const TRANSFER_TIMEOUT_MS = 500;
/** The time that all of them have together: a device may use up that of each one. */
const TOTAL_TIMEOUT_MS = 60_000;

/**
 * Reads Vital Product Data up to its end tag, at most 32 KiB. Only the address register is written:
 * with the flag clear it asks for four bytes. The device sets the flag when they are there.
 *
 * @param offset of the capability in `config`
 * @param totalMs the time that all of it may take
 * @throws {TimeoutError} if the device does not set the flag within half a second, or all of it
 *   takes more than a minute
 * @throws {RemoteError} if the device refuses
 */
export async function readVpd(
  config: Region,
  offset: number,
  options: WaitOptions = {},
  totalMs = TOTAL_TIMEOUT_MS,
): Promise<Uint8Array> {
  const startMs = performance.now();
  const bytes = new Uint8Array(MAX_VPD_SIZE);
  const extent = new VpdExtent();
  let at = 0;
  while (at < extent.needed(bytes.subarray(0, at))) {
    const word = await readWord(config, offset, at, options);
    new DataView(bytes.buffer).setUint32(at, word, true);
    at += WORD;
    if (performance.now() - startMs < totalMs) continue;
    if (at < extent.needed(bytes.subarray(0, at))) throw tooSlow(at, totalMs);
  }
  return bytes.slice(0, at);
}

function tooSlow(count: number, totalMs: number): TimeoutError {
  return new TimeoutError(
    `Cannot read the VPD: the device gave ${count} bytes, and no end tag, within ${totalMs} ms`,
  );
}

async function readWord(
  config: Region,
  offset: number,
  at: number,
  options: WaitOptions,
): Promise<number> {
  await config.writeWidthAsync(offset + ADDRESS, 2, at, options);
  const isThere = (value: number | bigint) => (Number(value) & FLAG) !== 0;
  const wait = { ...options, timeoutMs: TRANSFER_TIMEOUT_MS };
  try {
    await config.pollAsync(offset + ADDRESS, 2, isThere, wait);
  } catch (error) {
    if (!(error instanceof TimeoutError)) throw error;
    throw new TimeoutError(
      `Cannot read the VPD at ${hex(at)}: the device did not set the flag of its address ` +
        `register within ${TRANSFER_TIMEOUT_MS} ms`,
      { cause: error },
    );
  }
  return Number(await config.readWidthAsync(offset + DATA, 4, options));
}
