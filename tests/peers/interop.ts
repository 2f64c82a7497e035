/**
 * Writes `docs/interop.md`: `vfu check` on each server that the tests have, peers across.
 * `deno task interop` runs all; with names of peers, it runs those alone, and keeps the others'
 * results of earlier runs.
 *
 * @module
 */

// deno-lint-ignore-file no-console -- a script for people
import { DENO } from "../_deno.ts";
import { INTEROP_PEERS, type InteropPeer, interopText, resultsOf } from "./interop_text.ts";
import { peerProgram, peersCache, QEMU_DEVICES, type QemuDeviceName } from "./peers.ts";

const ROOT = new URL("../../", import.meta.url);
const RESULTS = `${peersCache()}/interop`;

/** The time that a server may take for each answer: a run of a silent peer is short. */
const timeoutOf = ({ program }: InteropPeer) => program === "vfu" ? "10s" : "500ms";

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
async function run(peer: InteropPeer, disk: string): Promise<void> {
  const { code, stdout, stderr } = await new Deno.Command(DENO, {
    args: [
      ...["run", "--frozen", "-A", "cli/main.ts", "check", "--json", "--timeout", timeoutOf(peer)],
      ...["--spawn", commandOf(peer, disk)],
    ],
    cwd: ROOT,
  }).output();
  if (code > 1) throw new Error(`Cannot check ${peer.name}: ${new TextDecoder().decode(stderr)}`);
  await Deno.mkdir(RESULTS, { recursive: true });
  const path = `${RESULTS}/${peer.name}.json`;
  await Deno.writeFile(`${path}.part`, stdout);
  await Deno.rename(`${path}.part`, path);
}

const unknown = Deno.args.find((name) => !INTEROP_PEERS.some((peer) => peer.name === name));
if (unknown !== undefined) {
  console.error(
    `There is no peer '${unknown}'; name ${INTEROP_PEERS.map((peer) => peer.name).join(", ")}`,
  );
  Deno.exit(2);
}
const disk = await Deno.makeTempFile({ prefix: "vfu-interop-" });
try {
  await Deno.truncate(disk, 16 * 1024 * 1024);
  for (const peer of INTEROP_PEERS) {
    if (Deno.args.length > 0 && !Deno.args.includes(peer.name)) continue;
    const startMs = performance.now();
    await run(peer, disk);
    console.log(`${peer.name}: ${((performance.now() - startMs) / 1000).toFixed(1)} s`);
  }
} finally {
  await Deno.remove(disk);
}
const results = new Map<string, ReturnType<typeof resultsOf>>();
for (const { name } of INTEROP_PEERS) {
  try {
    results.set(name, resultsOf(await Deno.readTextFile(`${RESULTS}/${name}.json`)));
  } catch (error) {
    console.error(`Cannot take the results of ${name}: ${error}; run deno task interop ${name}`);
    Deno.exit(1);
  }
}
await Deno.writeTextFile(new URL("docs/interop.md", ROOT), interopText(results));
