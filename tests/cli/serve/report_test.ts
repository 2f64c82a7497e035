import { assertEquals, assertMatch } from "@std/assert";
import type { Context, Output } from "../../../cli/shared/context.ts";
import { describeDevice } from "../../../cli/serve/describe.ts";
import { qemuLines, qemuOption } from "../../../cli/serve/qemu.ts";
import { refusalLine, reportTo, tellText } from "../../../cli/serve/report.ts";
import { PLAIN } from "../../../cli/shared/style.ts";
import { libc } from "../../../ffi/libc.ts";
import { DemoDevice } from "../../../lib/devices/demo_device.ts";
import { DeviceError } from "../../../lib/server/served_device.ts";

libc(); // opened once for all tests, which then leave nothing open

/** Returns the text that is written when a device is ready. */
async function readyText(isTerminal: boolean, socket: string | null): Promise<string> {
  let text = "";
  const err: Output = {
    isTerminal,
    columns: 80,
    style: PLAIN,
    write: (more) => void (text += more),
    writeBytes() {},
  };
  const context: Context = { out: err, err, signal: new AbortController().signal };
  const device = new DemoDevice();
  const description = await describeDevice(device);
  device.close();
  reportTo(tellText(context, false, false)).ready(
    [{ device: "demo", socket, fd: socket === null ? 3 : null, ...description, faults: [] }],
    undefined,
  );
  return text;
}

Deno.test("serve shows on a terminal how QEMU attaches, below its ready line", async () => {
  const text = await readyText(true, "/run/demo.sock");
  assertEquals(
    text.split("Ready; Ctrl-C stops it\n")[1],
    [
      "QEMU: -machine q35,memory-backend=mem \\",
      "  -object memory-backend-memfd,id=mem,size=1G,share=on \\",
      `  -device '{"driver":"vfio-user-pci","socket":{"type":"unix","path":"/run/demo.sock"}}'`,
      "",
    ].join("\n"),
  );
  assertMatch(await readyText(false, "/run/demo.sock"), /Ready; Ctrl-C stops it\n$/);
  assertMatch(await readyText(true, null), /Ready; Ctrl-C stops it\n$/);
});

Deno.test("qemuOption() is one word for a shell, with a path from the root", async () => {
  for (const path of ['/run/it\'s $HOME \\ "x".sock', "/run/\x1b[31m\x9b\u202e,id=x", "a b.sock"]) {
    const { stdout } = await new Deno.Command("sh", {
      args: ["-c", `printf '%s|' ${qemuOption(path)}`],
      cwd: "/",
    }).output();
    const [option, json, rest] = new TextDecoder().decode(stdout).split("|");
    assertEquals([option, rest], ["-device", ""]);
    const absolute = path.startsWith("/") ? path : `${Deno.cwd()}/${path}`;
    assertEquals(JSON.parse(json!), {
      driver: "vfio-user-pci",
      socket: { type: "unix", path: absolute },
    });
    assertEquals(/[\p{Cc}\p{Cf}]/u.test(qemuOption(path)), false);
  }
});

Deno.test("qemuLines() are one line for a shell", async () => {
  const lines = qemuLines(["/a.sock", "/b.sock"]).join("\n");
  const { stdout } = await new Deno.Command("sh", { args: ["-c", `echo ${lines}`] }).output();
  const text = new TextDecoder().decode(stdout);
  assertMatch(
    text,
    /^-machine .* -object .*,share=on -device \{.*a\.sock.*\} -device .*b\.sock.*\}\n$/,
  );
});

Deno.test("refusalLine() says why, on a line", () => {
  assertEquals(
    refusalLine({ command: 9, errno: 22, error: new DeviceError(22, "no\x1b such\nregister") }),
    "Refusing REGION_READ with EINVAL: no\\u001b such\\u000aregister",
  );
});
