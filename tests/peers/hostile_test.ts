/**
 * Clients in C that race with the server for the counter of an eventfd that both hold.
 */

import { assertEquals, assertStringIncludes } from "@std/assert";
import { startServe } from "../_demo_process.ts";
import { vfuAt } from "./_vfu.ts";

const SOURCES = new URL("./hostile/", import.meta.url).pathname;
const TRIES = 10_000;

for (const name of ["full_eventfd", "emptied_ioeventfd"]) {
  Deno.test(`vfu serve answers ${name} each of ${TRIES} times, and ends by SIGTERM`, async () => {
    await using server = await startServe("demo");
    const program = `${server.folder}/${name}`;
    const flags = ["-O2", "-pthread", "-Wall", "-Wextra", "-Werror"];
    const built = await new Deno.Command("cc", {
      args: [...flags, "-o", program, `${SOURCES}${name}.c`],
    }).output();
    assertEquals(new TextDecoder().decode(built.stderr), "");
    const client = await new Deno.Command(program, { args: [server.path, `${TRIES}`] }).output();
    assertEquals(new TextDecoder().decode(client.stdout), `${TRIES} tries\n`);
    assertStringIncludes((await vfuAt(server.path, "probe")).out, "msix");
    await server.stop();
    assertEquals(await server.ended, 0);
  });
}
