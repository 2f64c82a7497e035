/**
 * A device of a module, served by another process: for clients that block this thread.
 *
 * @module
 */

import { Server } from "../lib/server/server.ts";
import type { DeviceDefinition } from "../lib/define/definition.ts";

/** A served device. */
export interface DeviceProcess {
  /** Its socket. */
  readonly path: string;
  /** Ends it, and gives what it told of errors. */
  stop(): Promise<string>;
}

/** Starts one, and waits until it listens. */
export async function startDevice(
  module: URL,
  options: Record<string, unknown> = {},
): Promise<DeviceProcess> {
  const folder = Deno.makeTempDirSync({ prefix: "vfu-test-" });
  const path = `${folder}/device.sock`;
  const child = new Deno.Command(Deno.execPath(), {
    args: [
      "run",
      "--no-prompt",
      "--allow-ffi",
      "--allow-read",
      "--allow-write",
      import.meta.url,
      path,
      module.href,
      JSON.stringify(options),
    ],
    stdin: "null",
    stdout: "piped",
    stderr: "piped",
  }).spawn();
  const errors = new Response(child.stderr).text();
  const reader = child.stdout.getReader();
  if ((await reader.read()).done) throw new Error(`The device has ended: ${await errors}`);
  return {
    path,
    async stop() {
      child.kill("SIGTERM");
      await reader.cancel();
      await child.status;
      Deno.removeSync(folder, { recursive: true });
      return await errors;
    },
  };
}

async function serve([path, module, options]: readonly string[]): Promise<void> {
  const definition: DeviceDefinition = (await import(module!)).default;
  const server = Server.listen(path!, definition.create(JSON.parse(options!)), {
    // deno-lint-ignore no-console -- read by the process that started this one
    onError: (error, doing) => console.error(doing, error),
  });
  Deno.addSignalListener("SIGTERM", () => {
    server.close();
    Deno.exit(0);
  });
  Deno.stdout.writeSync(new TextEncoder().encode("ready\n"));
}

if (import.meta.main) await serve(Deno.args);
