/**
 * The first tasks of a new user, from an empty home: commands, and the seconds that each takes.
 */

import { assertEquals, assertStringIncludes } from "@std/assert";
import { temporaryFolder } from "../cli/_cli.ts";
import { DENO } from "../_deno.ts";
import { startServe } from "../_demo_process.ts";
import { bootGuest, guestTest } from "./guest.ts";
import { startQemu } from "./peers.ts";

const ROOT = new URL("../../", import.meta.url).pathname;
const DENO_DIR = Deno.env.get("DENO_DIR") ?? `${Deno.env.get("HOME")}/.cache/deno`;

/** A user with an empty home, which is also the working directory. */
class NewUser implements AsyncDisposable {
  readonly #folder = temporaryFolder();
  readonly home = this.#folder.path;

  /** Runs a command, and says how long it took. Returns what it printed. */
  async vfu(...args: string[]): Promise<string> {
    const startMs = performance.now();
    const { code, stdout, stderr } = await new Deno.Command(DENO, {
      args: ["run", "--frozen", `--config=${ROOT}deno.json`, "-A", `${ROOT}cli/main.ts`, ...args],
      cwd: this.home,
      env: { HOME: this.home, DENO_DIR, NO_COLOR: "1" },
    }).output();
    this.say(`vfu ${args.join(" ")}`, startMs);
    const decoder = new TextDecoder();
    assertEquals([code, decoder.decode(stderr)], [0, ""]);
    return decoder.decode(stdout);
  }

  /** Prints a command with its seconds. */
  say(command: string, startMs: number): void {
    const seconds = ((performance.now() - startMs) / 1000).toFixed(1);
    const line = `${seconds.padStart(6)} s  ${command.replaceAll(this.home, "~")}\n`;
    Deno.stdout.writeSync(new TextEncoder().encode(line));
  }

  async [Symbol.asyncDispose](): Promise<void> {
    await this.#folder[Symbol.asyncDispose]();
  }
}

Deno.test("a new user looks at QEMU's nvme", async () => {
  await using user = new NewUser();
  await using peer = await startQemu("nvme");
  const out = await user.vfu("probe", peer.socketPath);
  assertStringIncludes(out, "1b36:0010");
});

Deno.test("a new user writes a session for QEMU's edu", async () => {
  await using user = new NewUser();
  await using peer = await startQemu("edu");
  Deno.writeTextFileSync(
    `${user.home}/edu.yaml`,
    [
      "title: factorial",
      "steps:",
      "  - pci enable",
      "  - write: {bar0+8: 5}",
      "  - poll: bar0+0x20.l",
      "    equals: 0",
      "    mask: 1",
      "  - expect: {bar0+8: 120}",
      "",
    ].join("\n"),
  );
  await user.vfu("run", "--check", "edu.yaml");
  assertStringIncludes(await user.vfu("run", "edu.yaml", peer.socketPath), "4 passed");
});

guestTest("a new user makes a device, and finds it in a guest", async () => {
  await using user = new NewUser();
  await user.vfu("new", "my_device");
  const file = `${user.home}/my_device/my_device.ts`;
  await user.vfu("serve", file, "--check");
  await using served = await startServe(file);
  assertStringIncludes(await user.vfu("probe", served.path), "1234:0001");
  const startMs = performance.now();
  await using guest = await bootGuest({ devices: [{ socket: served.path }] });
  assertStringIncludes(await guest.sh("lspci -n"), "1234:0001");
  user.say("qemu-system-x86_64 … -device vfio-user-pci; lspci -n in the guest", startMs);
});
