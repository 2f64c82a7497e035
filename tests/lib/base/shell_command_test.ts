/** Command lines of users, in which a socket's path is put. */

import { assertEquals } from "@std/assert";
import { withSocket } from "../../../lib/base/shell_command.ts";

/** Runs a line in the shell, and returns what it writes. */
async function shell(line: string): Promise<string> {
  const { stdout } = await new Deno.Command("sh", { args: ["-c", line] }).output();
  return new TextDecoder().decode(stdout);
}

Deno.test("withSocket() leaves a line with a plain path as the user would write it", () => {
  const line = `sh -c 'server {socket}' "{socket}" --at={socket}`;
  assertEquals(withSocket(line, "/tmp/a.sock"), line.replaceAll("{socket}", "/tmp/a.sock"));
});

Deno.test("withSocket() has the shell take any path as one word, within quotes and without", async () => {
  const paths = [
    "/tmp/a b/s",
    "/tmp/it's",
    '/tmp/"x"',
    "/tmp/$HOME`id`\\n;|&",
    "/tmp/ü*?[a]",
    "{socket}",
  ];
  for (const path of paths) {
    for (const form of ["{socket}", "'{socket}'", '"{socket}"', `\\"{socket}`, `'"'{socket}'"'`]) {
      const out = await shell(withSocket(`printf '%s|' ${form} "$#" end`, path));
      const around = form.startsWith("\\") ? '"' : form.startsWith("'\"") ? '"' : "";
      const after = form.endsWith("\"'") ? '"' : "";
      assertEquals(out, `${around}${path}${after}|0|end|`, `${form} ${path}`);
    }
  }
});
