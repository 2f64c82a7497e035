/**
 * The demo device, served by another process: for tests of calls that block this thread.
 *
 * @module
 */

const CLI = new URL("../cli/main.ts", import.meta.url).pathname;

/** A served device. */
export interface DemoProcess {
  /** Its socket. */
  readonly path: string;
  /** Ends it. */
  stop(): Promise<void>;
}

/** Starts `vfu serve demo` as a user would, and waits until it listens. */
export async function startDemo(): Promise<DemoProcess> {
  const folder = Deno.makeTempDirSync({ prefix: "vfu-test-" });
  const path = `${folder}/demo.sock`;
  const child = new Deno.Command(Deno.execPath(), {
    args: [
      "run",
      "--no-prompt",
      "--allow-ffi",
      "--allow-read",
      "--allow-write",
      CLI,
      "serve",
      "demo",
      "--socket-path",
      path,
    ],
    stdin: "null",
    stdout: "null",
    stderr: "piped",
  }).spawn();
  const reader = child.stderr.getReader();
  const { value } = await reader.read();
  if (value === undefined) throw new Error("vfu serve demo has ended");
  const drained = (async () => {
    while (!(await reader.read()).done);
  })();
  return {
    path,
    async stop() {
      child.kill("SIGTERM");
      await drained;
      await child.status;
      Deno.removeSync(folder, { recursive: true });
    },
  };
}
