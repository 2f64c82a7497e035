/**
 * Servers that end in the middle of a command: at its first request, at its second, and so on.
 * The command names the request each time.
 */

import { assertEquals, assertMatch } from "@std/assert";
import { DemoDevice } from "../../lib/devices/demo.ts";
import { Server } from "../../lib/server/server.ts";
import { runHere, temporaryFolder } from "./_cli.ts";

const SESSION = `
interrupts: msix
buffers: { b: { iova: 1M, size: 4K } }
steps:
  - pci enable
  - read: bar0
  - read: CAP_MSIX+2.w
  - write: { bar0+8: 1 }
  - poll: { bar0+8: 1 }
  - irq trigger: msix[0]
  - irq wait: msix[0]
  - dma map: c
    iova: 2M
    size: 4K
  - repeat: 1
    steps: [{ read: bar2, count: 16 }]
  - dma unmap: c
  - reset
`;

/** Command lines for the demo device. SOCKET and FOLDER stand for paths. */
const COMMANDS: readonly (readonly string[])[] = [
  ["probe", "SOCKET"],
  ["probe", "SOCKET", "--lspci"],
  ["read", "SOCKET", "bar0", "CAP_MSIX+2.w"],
  ["write", "SOCKET", "bar0+8=1", "bar0+8=2:3", "--verify"],
  ["poll", "SOCKET", "bar0", "--equals", "0x64756676", "--pci-enable"],
  ["dump", "SOCKET", "bar2", "-o", "FOLDER/dump", "--via", "message"],
  ["load", "SOCKET", "bar2", "FOLDER/data", "--via", "message"],
  ["dma", "SOCKET", "--map", "1M:64K", "--write", "bar0+8=1", "--pci-enable"],
  ["irq", "SOCKET", "msix", "--trigger", "1", "--count", "1"],
  ["migrate", "save", "SOCKET", "-o", "FOLDER/state"],
  ["migrate", "restore", "SOCKET", "FOLDER/saved"],
  ["migrate", "show", "SOCKET"],
  ["migrate", "state", "SOCKET", "STOP"],
  ["dirty", "SOCKET", "--range", "1M:64K"],
  ["reset", "SOCKET"],
  ["run", "FOLDER/session.yaml", "SOCKET"],
];

/** The last request at which the server ends. The longer commands then read configuration space. */
const MAX_REQUESTS = 40;

for (const args of COMMANDS) {
  Deno.test(`vfu ${args.join(" ")} says during what the server has ended`, async () => {
    await using folder = temporaryFolder();
    const names: Record<string, string> = { FOLDER: folder.path };
    const line = (socket: string) =>
      args.map((each) => each.replace("SOCKET", socket).replace("FOLDER", names["FOLDER"]!));
    Deno.writeTextFileSync(`${folder.path}/session.yaml`, SESSION);
    Deno.writeTextFileSync(`${folder.path}/data`, "some data");
    {
      using server = Server.listen(`${folder.path}/saved.sock`, new DemoDevice());
      await runHere(["migrate", "save", server.path!, "-o", `${folder.path}/saved`]);
    }
    for (let nth = 1; nth <= MAX_REQUESTS; nth++) {
      const path = `${folder.path}/${nth}.sock`;
      let hasEnded = false;
      using _server = Server.listen(path, new DemoDevice(), {
        faults: {
          rules: [{ fault: { kind: "close" }, when: { nth } }],
          onFault: () => hasEnded = true,
        },
      });
      const { code, out, err } = await runHere(line(path));
      if (!hasEnded) return assertEquals(code, 0, err);
      if (code === 0) continue; // it was about something that is left out then
      assertEquals(code, 1, `request ${nth}`);
      const lines = err.trimEnd().split("\n");
      assertEquals(lines.length, 1, err);
      // Of a session the report says it, and the error where.
      const words = /error .*/.exec(out)?.[0] ?? lines[0]!;
      assertMatch(words, /Cannot .*: (the server closed|lost) the connection/);
    }
  });
}
