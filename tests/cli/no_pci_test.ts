/** Commands on a device that is not on the PCI bus: regions and interrupts have numbers. */

import { assertEquals, assertStringIncludes } from "@std/assert";
import { EIO } from "../../ffi/errno.ts";
import { DeviceError } from "../../lib/server/served_device.ts";
import { Server } from "../../lib/server/server.ts";
import { RegionFlags } from "../../lib/wire/region.ts";
import watchdog from "../lib/define/_watchdog.ts";
import { testFds } from "../_fds.ts";
import { runHere, temporaryFolder } from "./_cli.ts";

const MAP = `name: wd
registers:
- { name: CTRL, offset: 0, width: 4 }
- { name: FAR, region: "0", offset: 0x100, width: 4 }
`;

const SESSION = `include: map.yaml
requires: { regions: { "3": 1M }, irqs: { msi: 9 } }
steps:
- read: FAR
- read: region5
- irq enable: 3[0]
- irq enable: irq0[9]
`;

testFds("no command names a bar or msix of a device that is not on the PCI bus", async () => {
  await using folder = temporaryFolder();
  const path = `${folder.path}/wd.sock`;
  using _server = Server.listen(path, watchdog.create());
  const [map, session] = [`${folder.path}/map.yaml`, `${folder.path}/session.yaml`];
  Deno.writeTextFileSync(map, MAP);
  Deno.writeTextFileSync(session, SESSION);
  Deno.writeTextFileSync(`${folder.path}/fits.yaml`, SESSION.replace(/requires.*\n/, ""));
  const LINES: readonly [line: string, ...texts: string[]][] = [
    [`regs ${path} --map ${map}`, "region0+0x0", "region0+0x100  outside the region"],
    [`read ${path} region0+0x100`, "4 bytes of region 0 at 0x100: it has 0x20 bytes"],
    [`read ${path} 7`, "the info of region 7: the server answered EINVAL"],
    [`dump ${path} region3 -o ${folder.path}/out`],
    [`dump ${path} region2 -o ${folder.path}/out`, "region 2"],
    [`irq ${path} irq1 --trigger 0 --count 1`, "irq1[0]  count 1"],
    [`irq ${path} 0 --vectors 5`, "Cannot use irq0[5]: the device has irq0[0]"],
    [`run ${session} ${path}`, "region 3", "irq 1"],
    [
      `run ${folder.path}/fits.yaml ${path}`,
      "FAR is outside region 0, which has 0x20 bytes",
      "the info of region 5",
      "no vectors of irq 3",
      "the device has irq0[0]",
    ],
  ];
  for (const [line, ...texts] of LINES) {
    const { out, err } = await runHere(line.split(" "));
    for (const text of texts) assertStringIncludes(out + err, text, line);
    assertEquals(/\b(bar\d|config|intx|msix?|err|rom|vga)\b/.exec(out + err), null, out + err);
  }
});

testFds(
  "doctor names regions of a device that is not on the PCI bus by their numbers",
  async () => {
    await using folder = temporaryFolder();
    const path = `${folder.path}/wd.sock`;
    const region = {
      flags: RegionFlags.READ,
      size: 32,
      read() {
        throw new DeviceError(EIO, "broken");
      },
      write() {},
    };
    using _server = Server.listen(path, { flags: 0, regions: [region], irqs: [], reset() {} });
    const { out } = await runHere(["doctor", path]);
    assertStringIncludes(out, "region 0 is to be read (flags 0x1)");
    assertStringIncludes(out, `Run: vfu read ${path} region0+0x0.l`);
  },
);
