/**
 * The description of the demo device's copy engine, which checks know by themselves.
 *
 * @module
 */

import type { Session } from "../session/model.ts";

/** As a file would say it. */
const DESCRIPTION = {
  requires: { vendor: 0x1234, device: 0x0de5 },
  variables: { source: 0, destination: 0, length: "64K" },
  steps: [
    { write: "config+4.w", value: 6 }, // memory and bus master
    {
      write: {
        "bar0+0x40.l": "${source & 0xffffffff}",
        "bar0+0x44.l": "${source >> 32}",
        "bar0+0x48.l": "${destination & 0xffffffff}",
        "bar0+0x4c.l": "${destination >> 32}",
        "bar0+0x50.l": "${length}",
        "bar0+0x60.l": 1,
      },
    },
    { poll: "bar0+0x58.l", mask: 0x8000_0000, equals: 0, every: "5ms", timeout: "1h" }, // BUSY
    { expect: "bar0+0x58.l", equals: 1 }, // DONE
  ],
};

/** Reads it. */
export async function demoCopy(): Promise<Session> {
  const { parseSession } = await import("../session/file/load.ts");
  const { session, problems } = await parseSession(JSON.stringify(DESCRIPTION), "the demo's copy");
  if (session === undefined) throw new Error(JSON.stringify(problems));
  return session;
}
