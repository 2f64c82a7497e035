/**
 * Servers that end in the middle of a command: at its first request, at its second, and so on.
 * The command names the request each time.
 */

import { assertEquals, assertMatch } from "@std/assert";
import { DemoDevice } from "../../lib/devices/demo_device.ts";
import { Server } from "../../lib/server/server.ts";
import type { VfioProxy } from "../../lib/transport/proxy.ts";
import { Command } from "../../lib/wire/command.ts";
import { RegionReadReply, RegionReadRequest } from "../../lib/wire/access.ts";
import { runHere, temporaryFolder } from "./_cli.ts";
import { withBar0 } from "./_registers.ts";
import { serveOddly } from "./_server.ts";

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
  ["migrate", "save", "SOCKET", "-o", "FOLDER/state", "--force"],
  ["migrate", "restore", "SOCKET", "FOLDER/saved"],
  ["migrate", "show", "SOCKET"],
  ["migrate", "state", "SOCKET", "STOP"],
  ["dirty", "SOCKET", "--map", "1M:64K"],
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

/** A server that panics at accesses that are not 1, 2, 4 or 8 bytes wide. */
function servePanicking(path: string): Disposable {
  const proxies: VfioProxy[] = [];
  const answer = withBar0(0x1000, (request) => {
    if (request.command !== Command.REGION_READ) {
      if (request.command !== Command.REGION_WRITE) return "default";
      proxies.at(-1)!.close();
      return "silence";
    }
    const { region, offset, count } = RegionReadRequest.decode(request.payload);
    if (![1, 2, 4, 8].includes(count)) {
      proxies.at(-1)!.close();
      return "silence";
    }
    request.reply(RegionReadReply.encode({ region, offset, data: new Uint8Array(count) }));
  });
  return serveOddly(path, answer, (proxy) => proxies.push(proxy));
}

Deno.test("dump and read --count name the width for servers that end at others", async () => {
  await using folder = temporaryFolder();
  const path = `${folder.path}/x.sock`;
  Deno.writeFileSync(`${folder.path}/data`, new Uint8Array(64));
  using _server = servePanicking(path);
  const hint = (address: string, kind = "read") =>
    "some servers know accesses of 1, 2, 4 and 8 bytes only, and end at others: " +
    `${kind} 4 at a time, as ${address} does\n`;
  const dump = await runHere(["dump", path, "bar0", "-o", `${folder.path}/dump`]);
  assertMatch(dump.err, /^vfu: Cannot read 4096 bytes of bar0 at 0x0: (the server closed|lost) /);
  assertEquals([dump.code, dump.err.endsWith(hint("bar0.l"))], [1, true], dump.err);
  const read = await runHere(["read", path, "bar0+0x10", "--count", "16"]);
  assertEquals([read.code, read.err.endsWith(hint("bar0+0x10.l"))], [1, true], read.err);
  const load = await runHere(["load", path, "bar0", `${folder.path}/data`]);
  assertEquals(load.err.includes(hint("bar0.l", "write").trimEnd()), true, load.err);
  // A register of a width that is known says only where the server ended.
  const write = await runHere(["write", path, "bar0=1"]);
  assertMatch(write.err, /^vfu: Cannot write 4 bytes of bar0 at 0x0: .* the connection[^;]*\n$/);
  // The remedy works.
  assertEquals((await runHere(["dump", path, "bar0.l", "-o", "-"])).code, 0);
});
