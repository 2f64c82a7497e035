import { assert, assertEquals, assertRejects, assertStringIncludes } from "@std/assert";
import {
  GPIO,
  type Peer,
  type PeerFacts,
  peerProgram,
  QEMU_DEVICES,
  type QemuDeviceName,
  SAMPLE_DEVICES,
  type SampleDeviceName,
  startGpio,
  startQemu,
  startSample,
} from "./peers.ts";
import { DENO } from "../_deno.ts";

const HEADER_SIZE = 16;
const VERSION = 1;
const REPLY = 1;

/**
 * A VERSION request that proposes 0.1, laid out by hand: the project's own code is not judge here.
 */
function versionRequest(messageId: number): Uint8Array<ArrayBuffer> {
  const json = new TextEncoder().encode(
    '{"capabilities":{"max_msg_fds":8,"max_data_xfer_size":1048576}}\0',
  );
  const message = new Uint8Array(HEADER_SIZE + 4 + json.length);
  const view = new DataView(message.buffer);
  view.setUint16(0, messageId, true);
  view.setUint16(2, VERSION, true);
  view.setUint32(4, message.length, true);
  view.setUint16(HEADER_SIZE, 0, true);
  view.setUint16(HEADER_SIZE + 2, 1, true);
  message.set(json, HEADER_SIZE + 4);
  return message;
}

async function readExactly(conn: Deno.Conn, size: number): Promise<Uint8Array> {
  const bytes = new Uint8Array(size);
  for (let count = 0; count < size;) {
    const got = await conn.read(bytes.subarray(count));
    assert(got !== null, `The peer closed after ${count} bytes of ${size}`);
    count += got;
  }
  return bytes;
}

/** Shakes hands and returns the version that the peer answered with. */
async function negotiate(socketPath: string): Promise<[number, number]> {
  using conn = await Deno.connect({ transport: "unix", path: socketPath });
  const request = versionRequest(0x1234);
  assertEquals(await conn.write(request), request.length);
  const header = new DataView((await readExactly(conn, HEADER_SIZE)).buffer);
  assertEquals(header.getUint16(0, true), 0x1234);
  assertEquals(header.getUint16(2, true), VERSION);
  assertEquals(header.getUint32(8, true), REPLY);
  const payload = await readExactly(conn, header.getUint32(4, true) - HEADER_SIZE);
  assertEquals(payload.at(-1), 0);
  const { capabilities } = JSON.parse(new TextDecoder().decode(payload.subarray(4, -1)));
  assertEquals(capabilities.max_data_xfer_size, 1048576);
  const view = new DataView(payload.buffer);
  return [view.getUint16(0, true), view.getUint16(2, true)];
}

async function exists(path: string): Promise<boolean> {
  try {
    await Deno.stat(path);
    return true;
  } catch {
    return false;
  }
}

/** A process's state as ps shows it (T stopped by a signal), `undefined` once it has ended. */
async function processState(pid: number): Promise<string | undefined> {
  try {
    const stat = await Deno.readTextFile(`/proc/${pid}/stat`);
    const state = stat.charAt(stat.lastIndexOf(")") + 2);
    // Z has ended as well, and its parent has not asked yet.
    return state === "Z" ? undefined : state;
  } catch {
    return undefined;
  }
}

async function becomes(pid: number, state: string | undefined): Promise<boolean> {
  for (let tries = 0; tries < 6000; tries++) {
    if (await processState(pid) === state) return true;
    await new Promise((resolve) => setTimeout(resolve, 10));
  }
  return false;
}

async function assertSpeaksAndStops(peer: Peer, facts: PeerFacts): Promise<void> {
  try {
    assert((await Deno.stat(peer.socketPath)).isSocket);
    assertEquals(await negotiate(peer.socketPath), [...facts.version]);
  } finally {
    await peer.stop();
  }
  assert(!await exists(`/proc/${peer.pid}`));
  assert(!await exists(peer.directory));
}

for (const name of Object.keys(QEMU_DEVICES) as QemuDeviceName[]) {
  Deno.test(`startQemu() starts a server that speaks and stops with ${name}`, async () => {
    await assertSpeaksAndStops(await startQemu(name), QEMU_DEVICES[name]);
  });
}

for (const name of Object.keys(SAMPLE_DEVICES) as SampleDeviceName[]) {
  Deno.test(`startSample() starts a server that speaks and stops with ${name}`, async () => {
    await assertSpeaksAndStops(await startSample(name), SAMPLE_DEVICES[name]);
  });
}

Deno.test("startGpio() starts a server that speaks and stops", async () => {
  await assertSpeaksAndStops(await startGpio(), GPIO);
});

Deno.test("startQemu() leaves the server be until its first client comes and goes", async () => {
  await using peer = await startQemu("edu");
  await new Promise((resolve) => setTimeout(resolve, 100));
  assert(await exists(`/proc/${peer.pid}`));
  await negotiate(peer.socketPath);
  assertEquals((await peer.exited).code, 0);
});

Deno.test("startQemu() takes further arguments and captures what QEMU traces", async () => {
  await using peer = await startQemu("edu", { arguments: ["-trace", "vfu_*"] });
  assertStringIncludes(peer.stderr(), "vfu");
});

Deno.test("startQemu() passes on what QEMU complains of when it does not start", async () => {
  await assertRejects(
    () => startQemu("edu", { arguments: ["-device", "no-such-device"] }),
    Error,
    "Cannot start qemu-system-x86_64: it ended with code 1: ",
  );
});

Deno.test("stop() ends a peer that no client came to, and may be called again", async () => {
  const peer = await startQemu("nvme");
  assertEquals((await Deno.stat(`${peer.directory}/disk`)).size, 16777216);
  await Promise.all([peer.stop(), peer.stop()]);
  await peer.stop();
  assert(!await exists(`/proc/${peer.pid}`));
  assert(!await exists(peer.directory));
});

Deno.test("stop() kills a peer that does not heed SIGTERM", async () => {
  const peer = await startGpio();
  Deno.kill(peer.pid, "SIGSTOP");
  assert(await becomes(peer.pid, "T"));
  await peer.stop();
  assertEquals((await peer.exited).signal, "SIGKILL");
  assert(!await exists(`/proc/${peer.pid}`));
});

Deno.test("a peer does not outlive the process that started it when that is killed", async () => {
  const script = `import { startGpio } from ${JSON.stringify(import.meta.resolve("./peers.ts"))};
    const peer = await startGpio();
    await Deno.stdout.write(new TextEncoder().encode(peer.pid + " " + peer.directory));
    setInterval(() => {}, 1000);`;
  const child = new Deno.Command(DENO, {
    args: ["eval", "--no-config", script],
    stdout: "piped",
  }).spawn();
  const reader = child.stdout.getReader();
  const words = new TextDecoder().decode((await reader.read()).value).split(" ");
  const [pid, directory] = [Number(words[0]), words[1]];
  assert(directory && await processState(pid) !== undefined);
  child.kill("SIGKILL");
  await child.status;
  await reader.cancel();
  assert(await becomes(pid, undefined));
  await Deno.remove(directory, { recursive: true });
});

Deno.test("peerProgram() says how to fill the cache when it is empty", async () => {
  const before = Deno.env.get("VFU_PEERS_CACHE");
  Deno.env.set("VFU_PEERS_CACHE", "/nonexistent");
  try {
    await assertRejects(
      async () => await Promise.resolve(peerProgram("client")),
      Error,
      "run deno task test:peers (or tests/peers/setup.sh) first",
    );
  } finally {
    if (before === undefined) Deno.env.delete("VFU_PEERS_CACHE");
    else Deno.env.set("VFU_PEERS_CACHE", before);
  }
});

Deno.test("peerProgram() gives the path of a program that runs", async () => {
  const { code, stdout } = await new Deno.Command(peerProgram("lspci")).output();
  assertEquals(code, 0);
  assertStringIncludes(new TextDecoder().decode(stdout), "\n00: ");
});
