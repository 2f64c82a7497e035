/**
 * A device of much memory that migrates, served until killed. It says "ready" as baseline.c does.
 *
 *   memory_server.ts PATH MIB
 *
 * @module
 */

import type { ServedDevice } from "../../lib/server/served_device.ts";
import { MemoryRegion } from "../../lib/server/memory_region.ts";
import { Server } from "../../lib/server/server.ts";
import { StateReader, StateWriter } from "../../lib/server/state_stream.ts";

const MIB = 1 << 20;
const IDENTITY = { name: "bench", vendor: 0x1234, device: 1, version: 1 };
const MEMORY = 0;

/** Its state is a region of so many bytes. */
function memoryDevice(size: number): ServedDevice {
  const memory = new MemoryRegion("vfu-bench", size);
  const random = crypto.getRandomValues(new Uint8Array(65536));
  for (let at = 0; at < size; at += random.length) memory.write(at, random);
  return {
    flags: 0,
    regions: [memory],
    irqs: [],
    reset: () => {},
    migration: {
      *stopCopy() {
        const writer = new StateWriter(IDENTITY);
        yield* writer.write(MEMORY, memory.bytes);
        yield* writer.finish();
      },
      resume() {
        const sections = new Map([[MEMORY, { size, into: memory.bytes }]]);
        const reader = new StateReader(IDENTITY, sections);
        return {
          write: (data) => reader.write(data),
          commit: () => reader.finish(),
          abort: () => {},
          get hasChanged() {
            return reader.hasChanged;
          },
        };
      },
    },
  };
}

if (import.meta.main) {
  const [path = "", mib] = Deno.args;
  const server = Server.listen(path, memoryDevice(Number(mib) * MIB));
  Deno.stdout.writeSync(new TextEncoder().encode("ready\n"));
  await server.closed;
}
