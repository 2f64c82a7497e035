/**
 * Writes `docs/interop.md`: `vfu check` on each server that the tests have, and
 * `vfu check-client` on each client, peers across.
 * `deno task interop` runs all; with names of peers, it runs those alone, and keeps the others'
 * results of earlier runs. With `--text` it runs none, and writes the document of earlier results.
 *
 * @module
 */

// deno-lint-ignore-file no-console -- a script for people
import { DENO } from "../_deno.ts";
import {
  clientCommand,
  INTEROP_CLIENTS,
  INTEROP_PEERS,
  type InteropClient,
  type InteropPeer,
  interopText,
  resultsOf,
} from "./interop_text.ts";
import { peerProgram, peersCache, QEMU_DEVICES, type QemuDeviceName } from "./peers.ts";

const ROOT = new URL("../../", import.meta.url);
const RESULTS = `${peersCache()}/interop`;

/** The time that a server may take for each answer: a run of a silent peer is short. */
const timeoutOf = ({ program, copy }: InteropPeer) =>
  program === "vfu" ? "10s" : copy === undefined ? "500ms" : "2s"; // a copy takes a while

/** The command that serves the device of a peer at `{socket}`. */
function commandOf({ program, device }: InteropPeer, disk: string): string {
  if (program === "vfu") {
    return `${DENO} run --frozen -A cli/main.ts serve ${device} --socket-path={socket}`;
  }
  if (program === "gpio") return `${peerProgram(program)} --socket-path {socket}`;
  if (program !== "qemu-system-x86_64") return `${peerProgram(program)} -v {socket}`;
  return [
    peerProgram(program),
    "-machine x-remote,vfio-user=on,auto-shutdown=on -accel tcg -m 16M",
    "-nodefaults -no-user-config -display none -serial none -monitor none",
    ...QEMU_DEVICES[device as QemuDeviceName].arguments.map((each) => each.replace("{disk}", disk)),
    "-object x-vfio-user-server,id=vfu0,type=unix,path={socket},device=dev0",
  ].join(" ");
}

/** Checks a peer, and keeps the lines of `--json` in the cache. */
async function run(name: string, command: readonly string[]): Promise<void> {
  const { code, stdout, stderr } = await new Deno.Command(DENO, {
    args: ["run", "--frozen", "-A", "cli/main.ts", ...command, "--json"],
    cwd: ROOT,
  }).output();
  if (code > 1) throw new Error(`Cannot check ${name}: ${new TextDecoder().decode(stderr)}`);
  await Deno.mkdir(RESULTS, { recursive: true });
  const path = `${RESULTS}/${name}.json`;
  await Deno.writeFile(`${path}.part`, stdout);
  await Deno.rename(`${path}.part`, path);
}

/** The arguments of `vfu` that check a server. */
const checkServer = (peer: InteropPeer, disk: string) => [
  ...["check", "--timeout", timeoutOf(peer), "--spawn", commandOf(peer, disk)],
  ...(peer.copy === undefined ? [] : ["--copy", `examples/sessions/${peer.copy}.yaml`]),
];

/** The arguments of `vfu` that check a client. */
function checkClient({ name, command }: InteropClient, folder: string): string[] {
  const timeout = name.startsWith("vfu-") ? "60s" : "4s"; // beyond the 2 s of QEMU's own
  return [
    ...["check-client", "--socket-path", `${folder}/client.sock`, "--timeout", timeout],
    ...["--spawn", clientCommand(command)],
  ];
}

const isTextOnly = Deno.args[0] === "--text";
const chosen = isTextOnly ? [] : Deno.args;
const names = [...INTEROP_PEERS, ...INTEROP_CLIENTS].map(({ name }) => name);
const unknown = chosen.find((name) => !names.includes(name));
if (unknown !== undefined) {
  console.error(`There is no peer '${unknown}'; name ${names.join(", ")}`);
  Deno.exit(2);
}
const folder = await Deno.makeTempDir({ prefix: "vfu-interop-" });
try {
  const disk = `${folder}/disk`;
  await Deno.writeFile(disk, new Uint8Array());
  await Deno.truncate(disk, 16 * 1024 * 1024);
  const runs = [
    ...INTEROP_PEERS.map((peer) => [peer.name, checkServer(peer, disk)] as const),
    ...INTEROP_CLIENTS.map((client) => [client.name, checkClient(client, folder)] as const),
  ];
  for (const [name, command] of runs) {
    if (isTextOnly || chosen.length > 0 && !chosen.includes(name)) continue;
    const startMs = performance.now();
    await run(name, command);
    console.log(`${name}: ${((performance.now() - startMs) / 1000).toFixed(1)} s`);
  }
} finally {
  await Deno.remove(folder, { recursive: true });
}
const resultsFor = (peers: readonly { readonly name: string }[]) =>
  new Map(peers.map(({ name }) => {
    try {
      return [name, resultsOf(Deno.readTextFileSync(`${RESULTS}/${name}.json`))];
    } catch (error) {
      console.error(`Cannot take the results of ${name}: ${error}; run deno task interop ${name}`);
      Deno.exit(1);
    }
  }));
const text = interopText(resultsFor(INTEROP_PEERS), resultsFor(INTEROP_CLIENTS));
await Deno.writeTextFile(new URL("docs/interop.md", ROOT), text);
