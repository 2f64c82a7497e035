/**
 * Names for the tests of places, values and lines.
 */

import { loadRegisterMap } from "../../../lib/registers/mod.ts";
import { type Definitions, newDefinitions } from "../../../lib/session/file/definitions.ts";

const maps = [await loadRegisterMap("nvme"), await loadRegisterMap("pci")];

/** The shipped maps; `tail`, which steps change; `k`, which is 3; and `queue`, 4 KiB at 1 MiB. */
export function someDefinitions(): Definitions {
  return newDefinitions({
    maps,
    variables: new Map([["tail", { registers: [] }], ["k", { registers: [], constant: 3n }]]),
    buffers: new Map([["queue", {
      source: { file: "t", line: 1, column: 1 },
      name: "queue",
      iova: { kind: "number", value: 0x10_0000n },
      size: { kind: "number", value: 0x1000n },
      access: "rw",
      share: "memfd",
    }]]),
  });
}
