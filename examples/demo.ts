/**
 * The demonstration of `deno task demo`: this process serves the demo device, and `vfu probe` looks
 * at the device.
 *
 * @module
 */

// deno-lint-ignore-file no-console -- an example talks to a person
import { main } from "../cli/main.ts";
import { DemoDevice, Server } from "../mod.ts";

const folder = Deno.makeTempDirSync({ prefix: "vfu-demo-" });
const path = `${folder}/demo.sock`;
const server = Server.listen(path, new DemoDevice());
let exitCode: number;
try {
  console.log(`$ vfu serve demo --socket-path=${path} &`);
  console.log(`$ vfu probe ${path}`);
  exitCode = await main(["probe", path]);
  console.log(
    '\nThat was the demo device, which is gone again. "Try it" in README.md installs vfu.',
  );
} finally {
  server.close();
  Deno.removeSync(folder, { recursive: true });
}
Deno.exit(exitCode);
