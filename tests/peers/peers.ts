/**
 * Real third-party vfio-user peers: what their devices show, and how tests start and stop them.
 * `setup.sh` beside this file brings them into a cache outside the checkout.
 *
 * @module
 */

/** The time that a peer may take until it listens, in milliseconds: it takes 5 to 50. */
const START_TIMEOUT_MS = 60_000;

/** The time that a peer may take to end after SIGTERM, and after SIGKILL, in milliseconds. */
const STOP_TIMEOUT_MS = 2_000;
const KILL_TIMEOUT_MS = 60_000;

/** The time between two looks at whether a peer listens yet, in milliseconds. */
const POLL_INTERVAL_MS = 2;

/** The length of a peer's standard error that is kept, in UTF-16 code units: its end. */
const MAX_STDERR_LENGTH = 65_536;

/** The size of the disk of storage devices, in bytes. It is a sparse file. */
export const DISK_SIZE = 16 * 1024 * 1024;

/** The facts that a peer's device shows to its client. */
export interface PeerFacts {
  /** Major and minor version in the reply to a VERSION that proposes 0.1. */
  readonly version: readonly [major: number, minor: number];
  /** Vendor ID, config space offset 0. */
  readonly vendor: number;
  /** Device ID, config space offset 2. */
  readonly device: number;
  /** The number of regions in DEVICE_GET_INFO, empty ones included. */
  readonly numRegions: number;
  /** Size in bytes of each region that is not empty, by region index. */
  readonly regions: Readonly<Record<number, number>>;
  /** The regions that are I/O ports, by bit 0 of their BAR. The other BARs are memory. */
  readonly ioRegions: readonly number[];
  /** The regions with the MMAP flag. */
  readonly mmapRegions: readonly number[];
  /** Vectors of each IRQ index. */
  readonly irqs: readonly [intx: number, msi: number, msix: number, err: number, req: number];
}

/** A device of QEMU's server. */
export interface QemuDevice extends PeerFacts {
  /** The arguments that make it. The device of id `dev0` is the one that QEMU serves. */
  readonly arguments: readonly string[];
}

/** Stands for the path of the disk in the arguments of a device. */
const DISK_PLACEHOLDER = "{disk}";

const DRIVE = ["-drive", `if=none,id=d0,format=raw,file=${DISK_PLACEHOLDER}`] as const;

/** The facts that are the same for every device of QEMU 7.2's server. */
const QEMU_COMMON = { version: [0, 1], numRegions: 10, mmapRegions: [] } as const;

/** The devices that QEMU's server can be started with, by the name that `startQemu()` takes. */
export const QEMU_DEVICES = {
  "edu": {
    ...QEMU_COMMON,
    arguments: ["-device", "edu,id=dev0"],
    vendor: 0x1234,
    device: 0x11e8,
    regions: { 0: 0x100000, 7: 0x100 },
    ioRegions: [],
    irqs: [1, 1, 0, 1, 1],
  },
  "nvme": {
    ...QEMU_COMMON,
    arguments: [...DRIVE, "-device", "nvme,drive=d0,serial=deadbeef,id=dev0"],
    vendor: 0x1b36,
    device: 0x0010,
    regions: { 0: 0x4000, 7: 0x1000 },
    ioRegions: [],
    irqs: [1, 0, 65, 1, 1],
  },
  // With a controller memory buffer and MSI-X in a BAR of its own: three 64-bit BARs.
  "nvme-cmb": {
    ...QEMU_COMMON,
    arguments: [
      ...DRIVE,
      "-device",
      "nvme,drive=d0,serial=deadbeef,cmb_size_mb=1,msix-exclusive-bar=on,id=dev0",
    ],
    vendor: 0x1b36,
    device: 0x0010,
    regions: { 0: 0x2000, 2: 0x100000, 4: 0x1000, 7: 0x1000 },
    ioRegions: [],
    irqs: [1, 0, 65, 1, 1],
  },
  // It counts two MSI vectors and has no MSI capability.
  "lsi53c895a": {
    ...QEMU_COMMON,
    arguments: [...DRIVE, "-device", "lsi53c895a,id=dev0", "-device", "scsi-hd,drive=d0"],
    vendor: 0x1000,
    device: 0x0012,
    regions: { 0: 0x100, 1: 0x400, 2: 0x2000, 7: 0x100 },
    ioRegions: [0],
    irqs: [1, 2, 0, 1, 1],
  },
  // It counts one MSI vector and has no MSI capability, as pci-testdev below.
  "e1000": {
    ...QEMU_COMMON,
    arguments: ["-device", "e1000,romfile=,id=dev0"],
    vendor: 0x8086,
    device: 0x100e,
    regions: { 0: 0x20000, 1: 0x40, 7: 0x100 },
    ioRegions: [1],
    irqs: [1, 1, 0, 1, 1],
  },
  "e1000e": {
    ...QEMU_COMMON,
    arguments: ["-device", "e1000e,romfile=,id=dev0"],
    vendor: 0x8086,
    device: 0x10d3,
    regions: { 0: 0x20000, 1: 0x20000, 2: 0x20, 3: 0x4000, 7: 0x1000 },
    ioRegions: [2],
    irqs: [1, 0, 5, 1, 1],
  },
  "pci-testdev": {
    ...QEMU_COMMON,
    arguments: ["-device", "pci-testdev,id=dev0"],
    vendor: 0x1b36,
    device: 0x0005,
    regions: { 0: 0x1000, 1: 0x100, 7: 0x100 },
    ioRegions: [1],
    irqs: [1, 1, 0, 1, 1],
  },
  "virtio-blk-pci": {
    ...QEMU_COMMON,
    arguments: [...DRIVE, "-device", "virtio-blk-pci,drive=d0,id=dev0"],
    vendor: 0x1af4,
    device: 0x1001,
    regions: { 0: 0x80, 1: 0x1000, 4: 0x4000, 7: 0x100 },
    ioRegions: [0],
    irqs: [1, 0, 2, 1, 1],
  },
  "virtio-net-pci": {
    ...QEMU_COMMON,
    arguments: ["-device", "virtio-net-pci,romfile=,id=dev0"],
    vendor: 0x1af4,
    device: 0x1000,
    regions: { 0: 0x20, 1: 0x1000, 4: 0x4000, 7: 0x100 },
    ioRegions: [0],
    irqs: [1, 0, 4, 1, 1],
  },
  "virtio-rng-pci": {
    ...QEMU_COMMON,
    arguments: ["-device", "virtio-rng-pci,id=dev0"],
    vendor: 0x1af4,
    device: 0x1005,
    regions: { 0: 0x20, 1: 0x1000, 4: 0x4000, 7: 0x100 },
    ioRegions: [0],
    irqs: [1, 0, 2, 1, 1],
  },
} as const satisfies Record<string, QemuDevice>;

/** A name of `QEMU_DEVICES`. */
export type QemuDeviceName = keyof typeof QEMU_DEVICES;

/** The device of the crate vfio_user's example `gpio`. */
export const GPIO: PeerFacts = {
  version: [0, 0],
  vendor: 0x494f,
  device: 0x0dc8,
  numRegions: 9,
  regions: { 2: 0x100, 7: 0x100 },
  ioRegions: [2],
  mmapRegions: [],
  irqs: [1, 0, 0, 0, 0],
};

/**
 * The devices of libvfio-user's sample servers, as of 2022. Their region 9 is the migration region
 * of that time's draft. Their config space has neither the READ nor the WRITE flag.
 */
export const SAMPLE_DEVICES = {
  "gpio-pci-idio-16": {
    version: [0, 1],
    vendor: 0x494f,
    device: 0x0dc8,
    numRegions: 10,
    regions: { 2: 0x100, 7: 0x100, 9: 0x2000 },
    ioRegions: [2],
    mmapRegions: [],
    irqs: [1, 0, 0, 1, 1],
  },
  // The one server here that has regions to map, with sparse areas.
  "server": {
    version: [0, 1],
    vendor: 0xdead,
    device: 0xbeef,
    numRegions: 10,
    regions: { 0: 0x8, 1: 0x3000, 7: 0x100, 9: 0x5000 },
    ioRegions: [0, 1],
    mmapRegions: [1, 9],
    irqs: [1, 0, 0, 1, 1],
  },
} as const satisfies Record<string, PeerFacts>;

/** A name of `SAMPLE_DEVICES`. */
export type SampleDeviceName = keyof typeof SAMPLE_DEVICES;

const SAMPLES = "qemu/subprojects/libvfio-user/samples";

/**
 * A program of the cache.
 * QEMU, the crate's `gpio`, our client over the crate, or a sample of libvfio-user.
 */
export type PeerProgram =
  | "qemu-system-x86_64"
  | "gpio"
  | "crate-client"
  | "client"
  | "gpio-pci-idio-16"
  | "lspci"
  | "server";

/** The place of each program in the cache. */
const PROGRAMS: Readonly<Record<PeerProgram, string>> = {
  "qemu-system-x86_64": "qemu/qemu-system-x86_64",
  "gpio": "crate/bin/gpio",
  "crate-client": "client/crate-client",
  "client": `${SAMPLES}/client`,
  "gpio-pci-idio-16": `${SAMPLES}/gpio-pci-idio-16`,
  "lspci": `${SAMPLES}/lspci`,
  "server": `${SAMPLES}/server`,
};

/** A peer that runs and listens. */
export interface Peer extends AsyncDisposable {
  /** The UNIX socket that it listens on. */
  readonly socketPath: string;
  /** Its own temporary folder: socket, and for storage devices `disk`. */
  readonly directory: string;
  /** Its process id. */
  readonly pid: number;
  /** Settles when its process has ended, by itself or by `stop()`. */
  readonly exited: Promise<Deno.CommandStatus>;
  /** The end of what it has written to its standard error so far. */
  stderr(): string;
  /** Ends its process, if it still runs, and removes its folder. May be called again. */
  stop(): Promise<void>;
}

/** Options of `startQemu()`. */
export interface StartQemuOptions {
  /** Further arguments of QEMU, such as `["-trace", "vfu_*"]`, whose output goes to `stderr()`. */
  readonly arguments?: readonly string[];
}

/** The cache that `setup.sh` fills: `VFU_PEERS_CACHE`, else `.cache/vfu-peers` in `HOME`. */
export function peersCache(): string {
  return Deno.env.get("VFU_PEERS_CACHE") || `${Deno.env.get("HOME") ?? ""}/.cache/vfu-peers`;
}

/**
 * The absolute path of a program in the cache, for those that a test runs itself. They are the
 * samples `client SOCKET`, which expects the device of the sample `server` and takes 11 seconds,
 * and `lspci`. The latter prints a config space as `lspci -xxxx` does.
 *
 * @throws {Error} If the cache does not hold it.
 */
export function peerProgram(name: PeerProgram): string {
  const path = `${peersCache()}/${PROGRAMS[name]}`;
  try {
    return Deno.realPathSync(path);
  } catch (cause) {
    throw new Error(
      `Cannot find ${name} at ${path}: run deno task test:peers (or tests/peers/setup.sh) first`,
      { cause },
    );
  }
}

/**
 * Starts QEMU's server with one device. It takes a single client and exits with code 0 when that
 * one goes: start a new one for each test.
 *
 * @throws {Error} If the cache does not hold it, or it does not come to listen.
 */
export function startQemu(device: QemuDeviceName, options: StartQemuOptions = {}): Promise<Peer> {
  return start("qemu-system-x86_64", async (directory, socketPath) => {
    const disk = `${directory}/disk`;
    await Deno.writeFile(disk, new Uint8Array());
    await Deno.truncate(disk, DISK_SIZE);
    return [
      ...["-machine", "x-remote,vfio-user=on,auto-shutdown=on", "-accel", "tcg", "-m", "16M"],
      ...["-nodefaults", "-no-user-config", "-display", "none"],
      ...["-serial", "none", "-monitor", "none"],
      ...QEMU_DEVICES[device].arguments.map((text) => text.replace(DISK_PLACEHOLDER, disk)),
      ...["-object", `x-vfio-user-server,id=vfu0,type=unix,path=${socketPath},device=dev0`],
      ...options.arguments ?? [],
    ];
  });
}

/**
 * Starts the crate vfio_user's `gpio`. It takes a single client and exits with code 0 when that one
 * goes.
 *
 * @throws {Error} If the cache does not hold it, or it does not come to listen.
 */
export function startGpio(): Promise<Peer> {
  return start("gpio", (_directory, socketPath) => ["--socket-path", socketPath]);
}

/**
 * Starts a sample server of libvfio-user. `gpio-pci-idio-16` takes one client after another;
 * `server`, which tells all that it does in `stderr()`, exits with code 0 when its client goes.
 *
 * @throws {Error} If the cache does not hold it, or it does not come to listen.
 */
export function startSample(name: SampleDeviceName): Promise<Peer> {
  return start(name, (_directory, socketPath) => ["-v", socketPath]);
}

type MakeArguments = (directory: string, socketPath: string) => string[] | Promise<string[]>;

async function start(program: PeerProgram, makeArguments: MakeArguments): Promise<Peer> {
  const path = peerProgram(program);
  const directory = await Deno.makeTempDir({ prefix: "vfu-peer-" });
  try {
    const socketPath = `${directory}/socket`;
    const peerArguments = await makeArguments(directory, socketPath);
    const peer = new PeerProcess(path, peerArguments, directory, socketPath);
    try {
      await listening(peer);
    } catch (error) {
      await peer.stop();
      throw error;
    }
    return peer;
  } catch (cause) {
    await removeDirectory(directory);
    throw new Error(`Cannot start ${program}: ${(cause as Error).message}`, { cause });
  }
}

/** Waits until the peer listens, without connecting: QEMU exits when its first client goes. */
async function listening(peer: Peer): Promise<void> {
  let ended: Deno.CommandStatus | undefined;
  peer.exited.then((status) => ended = status);
  const deadline = performance.now() + START_TIMEOUT_MS;
  while (!await isListening(peer.socketPath)) {
    if (ended) throw new Error(`it ended with code ${ended.code}: ${peer.stderr().trim()}`);
    if (performance.now() > deadline) {
      throw new Error(`no socket after ${START_TIMEOUT_MS} ms: ${peer.stderr().trim()}`);
    }
    await new Promise((resolve) => setTimeout(resolve, POLL_INTERVAL_MS));
  }
}

/** Asks the kernel's table of UNIX sockets, where a socket that listens has the ACCEPTCON flag. */
async function isListening(socketPath: string): Promise<boolean> {
  const table = await Deno.readTextFile("/proc/net/unix");
  return table.split("\n").some((line) =>
    line.endsWith(` ${socketPath}`) && line.includes(" 00010000 ")
  );
}

class PeerProcess implements Peer {
  readonly exited: Promise<Deno.CommandStatus>;
  readonly #child: Deno.ChildProcess;
  readonly #drained: Promise<void>;
  #stderr = "";
  #stopped: Promise<void> | undefined;

  constructor(
    path: string,
    peerArguments: string[],
    readonly directory: string,
    readonly socketPath: string,
  ) {
    // setpriv becomes the peer; the kernel then ends it with us, even if we are killed.
    this.#child = new Deno.Command("setpriv", {
      args: ["--pdeathsig", "KILL", "--", path, ...peerArguments],
      cwd: directory,
      stdin: "null",
      stdout: "null",
      stderr: "piped",
    }).spawn();
    this.#drained = this.#drain();
    // The end of standard error is in hand before anybody learns that the peer has ended.
    this.exited = this.#drained.then(() => this.#child.status);
  }

  get pid(): number {
    return this.#child.pid;
  }

  stderr(): string {
    return this.#stderr;
  }

  stop(): Promise<void> {
    this.#stopped ??= this.#stop();
    return this.#stopped;
  }

  [Symbol.asyncDispose](): Promise<void> {
    return this.stop();
  }

  async #drain(): Promise<void> {
    for await (const text of this.#child.stderr.pipeThrough(new TextDecoderStream())) {
      this.#stderr = (this.#stderr + text).slice(-MAX_STDERR_LENGTH);
    }
  }

  async #stop(): Promise<void> {
    try {
      if (await this.#endsAfter("SIGTERM", STOP_TIMEOUT_MS)) return;
      if (await this.#endsAfter("SIGKILL", KILL_TIMEOUT_MS)) return;
      throw new Error(`Cannot stop peer ${this.pid}: it lives ${KILL_TIMEOUT_MS} ms after SIGKILL`);
    } finally {
      await removeDirectory(this.directory);
    }
  }

  async #endsAfter(signal: Deno.Signal, timeoutMs: number): Promise<boolean> {
    try {
      this.#child.kill(signal);
    } catch (error) {
      // Deno's way to say that the process has ended and was waited for.
      if (!(error instanceof TypeError)) throw error;
    }
    return await settlesWithin(this.exited, timeoutMs);
  }
}

async function settlesWithin(promise: Promise<unknown>, timeoutMs: number): Promise<boolean> {
  let timer: ReturnType<typeof setTimeout> | undefined;
  const timeout = new Promise<boolean>((resolve) => {
    timer = setTimeout(() => resolve(false), timeoutMs);
  });
  try {
    return await Promise.race([promise.then(() => true), timeout]);
  } finally {
    clearTimeout(timer);
  }
}

async function removeDirectory(path: string): Promise<void> {
  try {
    await Deno.remove(path, { recursive: true });
  } catch (error) {
    if (!(error instanceof Deno.errors.NotFound)) throw error;
  }
}
