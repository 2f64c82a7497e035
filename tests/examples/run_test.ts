/** The devices of `examples/`, run by themselves and by `vfu serve`, in processes of their own. */

import { assertEquals } from "@std/assert";
import { connect } from "../../mod.ts";
import { testFds } from "../_fds.ts";
import { DENO } from "../_deno.ts";

const ROOT = new URL("../../", import.meta.url).pathname;

for (const name of ["gpio", "timer", "uart", "dma_engine", "nvme", "virtio_blk"]) {
  for (
    const command of [[`examples/${name}.ts`], ["cli/main.ts", "serve", `examples/${name}.ts`]]
  ) {
    testFds(`deno run ${command.join(" ")} serves the device`, async () => {
      const folder = Deno.makeTempDirSync({ prefix: "vfu-test-" });
      const path = `${folder}/device.sock`;
      const child = new Deno.Command(DENO, {
        args: [
          "run",
          "--no-prompt",
          "--allow-ffi",
          "--allow-read",
          "--allow-write",
          ...command,
          `--socket-path=${path}`,
        ],
        cwd: ROOT,
        stdin: "null",
        stdout: "null",
        stderr: "piped",
      }).spawn();
      const [ready, rest] = child.stderr.tee();
      const text = new Response(rest).text();
      try {
        for await (const chunk of ready.pipeThrough(new TextDecoderStream())) {
          if (chunk.includes("Ready")) break;
        }
        using device = await connect(path);
        assertEquals((await device.info()).numRegions, 9);
      } finally {
        child.kill("SIGTERM");
        const { code } = await child.status;
        Deno.removeSync(folder, { recursive: true });
        assertEquals(code, 0, await text);
      }
    });
  }
}
