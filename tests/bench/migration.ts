/**
 * The state of a device, as `vfu migrate` moves it.
 *
 *   migration.ts save|restore PATH PID   for each line on stdin, move it once; PID is the server's
 *
 * @module
 */

import { connect } from "../../lib/client/connect.ts";
import type { Device } from "../../lib/client/device.ts";

const MIB = 1 << 20;

/** Reads all of the state; each chunk is done with when the next one comes. */
async function save({ migration }: Device): Promise<void> {
  for await (const chunk of migration.save({ reuseChunks: true })) void chunk;
}

/** Memory of a process that is no file's, in bytes. */
function memoryOf(pid: string): number {
  const status = Deno.readTextFileSync(`/proc/${pid}/status`);
  return Number(/^RssAnon:\s+(\d+) kB$/m.exec(status)?.[1]) * 1024;
}

/**
 * Saves one part after another, and restores all of them into the same device.
 * The state is held in between.
 */
async function saveAndRestore({ migration }: Device): Promise<void> {
  const chunks: Uint8Array[] = [];
  for await (const chunk of migration.save()) chunks.push(chunk);
  const writer = migration.restore().getWriter();
  for (const chunk of chunks) await writer.write(chunk);
  await writer.close();
}

if (import.meta.main) {
  const [mode, path = "", pid = ""] = Deno.args;
  const run = mode === "save" ? save : saveAndRestore;
  using device = await connect(path);
  await run(device);
  const before = [memoryOf(pid), memoryOf("self")];
  const line = new Uint8Array(1);
  while (Deno.stdin.readSync(line) === 1) { // blocks: nothing else is running
    const start = performance.now();
    await run(device);
    const ns = (performance.now() - start) * 1e6;
    const [server, client] = [memoryOf(pid), memoryOf("self")].map((bytes, i) =>
      ((bytes - before[i]!) / MIB).toFixed(1)
    );
    const note = `memory grew by ${server} MiB in the server, ${client} MiB in the client`;
    Deno.stdout.writeSync(new TextEncoder().encode(JSON.stringify({ ns, note }) + "\n"));
  }
}
