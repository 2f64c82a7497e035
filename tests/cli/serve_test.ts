import { assertEquals, assertStringIncludes } from "@std/assert";
import { Interrupted } from "../../cli/context.ts";
import { UnixSocket } from "../../ffi/socket.ts";
import { Command } from "../../lib/wire/command.ts";
import { RawPeer } from "../_raw_peer.ts";
import { assertGolden, runHere, temporaryFolder } from "./_cli.ts";

Deno.test("serve --help is wrapped at the width of the screen", async () => {
  const { code, out } = await runHere(["serve", "--help"]);
  assertEquals(code, 0);
  assertGolden("serve-help.txt", out);
});

Deno.test("serve lets no terminal sequence of a client through", async () => {
  await using folder = temporaryFolder();
  const path = `${folder.path}/demo.sock`;
  const controller = new AbortController();
  const serving = runHere(["serve", "demo", "--socket-path", path], { signal: controller.signal });
  const socket = await connectWhenThere(path);
  {
    using peer = new RawPeer(socket);
    const json = new TextEncoder().encode("\x1b[2J\0");
    peer.command(1, Command.VERSION, new Uint8Array([0, 0, 1, 0, ...json]));
    while (await peer.receive() !== undefined); // until the server has closed
  }
  controller.abort(new Interrupted("SIGTERM"));
  const { err } = await serving;
  assertStringIncludes(err, "the JSON is not valid");
  assertEquals(err.includes("\x1b"), false);
});

/** Connects as soon as somebody listens. */
async function connectWhenThere(path: string): Promise<UnixSocket> {
  for (let attempt = 0; attempt < 200; attempt++) {
    try {
      const socket = UnixSocket.connect(path);
      if (socket) return socket;
    } catch { /* not yet */ }
    await new Promise((resolve) => setTimeout(resolve, 5));
  }
  throw new Error("Nobody listens");
}
