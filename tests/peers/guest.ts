/**
 * A Linux guest under today's QEMU, with served devices attached by `vfio-user-pci`. `guest.sh`
 * brings QEMU, kernel and initramfs. A test boots a guest, runs scripts in it, and looks at what
 * they wrote:
 *
 * ```ts
 * guestTest("the disk is there", async () => {
 *   await using served = await startServe("examples/nvme.ts");
 *   await using guest = await bootGuest({ devices: [{ socket: served.path }] });
 *   assertEquals(await guest.sh("cat /sys/block/nvme0n1/size"), "32768");
 *   assertEquals(await guest.complaints(), []);
 *   assertEquals(guest.qemuSaid(), "");
 * });
 * ```
 *
 * @module
 */

import { peersCache } from "./peers.ts";
import { cpioArchive } from "./guest_image.ts";

/**
 * The time that a guest may take until it runs scripts, in milliseconds: 4 s on an idle machine.
 */
const BOOT_TIMEOUT_MS = 300_000;

/** The time that a script may take by default, in milliseconds. */
const SCRIPT_TIMEOUT_MS = 180_000;

/**
 * The time that QEMU may take to end after a signal, and to answer a QMP command, in milliseconds.
 */
const STOP_TIMEOUTS_MS = { SIGTERM: 5_000, SIGKILL: 60_000 };
const QMP_TIMEOUT_MS = 60_000;

/** The number of lines of the console that an error shows. */
const TAIL_LINES = 25;

/** The most that is kept of what QEMU and the scripts of a guest write, in UTF-16 code units. */
const MAX_TEXT_LENGTH = 4 << 20;

/**
 * Messages of the guest's kernel about its machine, whatever is attached, and about its clocks.
 * The clocks stand still while the host is busy.
 */
const MACHINE_NOISE = new RegExp(
  "ACPI: IRQ \\d override|amd_pstate|mtrr: |tsc: |TSC found unstable|hpet: |clocksource: " +
    "|APIC calibration|hrtimer: |RT throttling|hogged CPU|input overrun",
);

/** Begins each of the agent's own lines: what a script writes has none. */
const RECORD = "\x1e";
const RECORD_LINE = new RegExp(`${RECORD}(?:ready (\\S+)|done (\\S*) (\\d+))\\n`);

/** A served device that a guest gets. */
export interface GuestDevice {
  /** The socket that its server listens on. */
  readonly socket: string;
  /** Further properties of `vfio-user-pci`, such as `x-msg-timeout`. */
  readonly properties?: Readonly<Record<string, unknown>>;
}

/** The options that a guest is booted with. */
export interface GuestOptions {
  /** The devices, each behind a root port of its own: `guest.address(0)` is the first's address. */
  readonly devices?: readonly GuestDevice[];
  /**
   * The way in which the guest's memory is made. `shared`: mapped by the server, the default.
   * `plain`: all DMA by message. `huge`: shared, of pages of 2 MiB, which the machine must have.
   */
  readonly memory?: "shared" | "plain" | "huge";
  /** The size of its memory in MiB, by default 384. */
  readonly megabytes?: number;
  /** The number of its CPUs, by default 1. */
  readonly cpus?: number;
  /** True if an IOMMU stands before the devices, and the guest's kernel uses it strictly. */
  readonly iommu?: boolean;
  /** Further words on its kernel's command line. */
  readonly kernelArguments?: readonly string[];
  /** Further arguments of QEMU. */
  readonly arguments?: readonly string[];
  /** Programs and files that are put into its root, by path: `{ "bin/tool": bytes }`. */
  readonly files?: Readonly<Record<string, Uint8Array>>;
}

/** The exit status of a script, and its output. */
export interface ScriptResult {
  readonly status: number;
  readonly output: string;
}

/** A guest that can't boot, has ended, or whose script failed. It shows the console's tail. */
export class GuestError extends Error {
  override readonly name = "GuestError";
}

/** Why this machine can't boot a guest, in a sentence; `undefined` if it can. */
export function whyNoGuest(): string | undefined {
  try {
    Deno.statSync(`${peersCache()}/guest/qemu`);
    return undefined;
  } catch {
    return `no QEMU in ${peersCache()}/guest; tests/peers/setup.sh brings it on Debian (amd64)`;
  }
}

const programs = new Map<string, Promise<Uint8Array>>();

/**
 * A program for the guest, compiled from `guest/NAME.c`, which stands in its `/bin`:
 * `files: await guestPrograms("pcidev")`.
 */
export async function guestPrograms(...names: string[]): Promise<Record<string, Uint8Array>> {
  const files: Record<string, Uint8Array> = {};
  for (const name of names) {
    if (!programs.has(name)) programs.set(name, compile(name));
    files[`bin/${name}`] = await programs.get(name)!;
  }
  return files;
}

async function compile(name: string): Promise<Uint8Array> {
  const program = await Deno.makeTempFile({ prefix: "vfu-guest-" });
  try {
    const source = new URL(`guest/${name}.c`, import.meta.url).pathname;
    const { success, stderr } = await new Deno.Command("gcc", {
      args: ["-static", "-O1", "-Wall", "-Wextra", "-Werror", "-o", program, source],
    }).output();
    if (!success) throw new Error(`Cannot compile ${source}: ${new TextDecoder().decode(stderr)}`);
    return await Deno.readFile(program);
  } finally {
    await Deno.remove(program);
  }
}

/**
 * A test that boots a guest. On a machine that can't, it is left out with its name and the reason.
 * In CI, where the variable `CI` is set, it fails there.
 */
export function guestTest(name: string, run: () => Promise<void>): void {
  const reason = whyNoGuest();
  const isLeftOut = reason !== undefined && !Deno.env.get("CI");
  // deno-lint-ignore no-console -- the reason is for whoever runs the tests
  if (isLeftOut) console.error(`left out: ${name}: ${reason}`);
  Deno.test({
    name: `guest: ${name}`,
    ignore: isLeftOut,
    async fn() {
      if (reason !== undefined) throw new GuestError(`Cannot boot a guest: ${reason}`);
      await run();
    },
  });
}

/**
 * Boots a guest and waits until it runs scripts.
 *
 * @throws {GuestError} If it doesn't come up.
 */
export async function bootGuest(options: GuestOptions = {}): Promise<Guest> {
  const reason = whyNoGuest();
  if (reason !== undefined) throw new GuestError(`Cannot boot a guest: ${reason}`);
  const directory = await Deno.makeTempDir({ prefix: "vfu-guest-" });
  let guest: Guest | undefined;
  try {
    const initrd = `${directory}/initramfs.cpio`;
    await Deno.copyFile(`${peersCache()}/guest/initramfs.cpio`, initrd);
    if (options.files) {
      await Deno.writeFile(initrd, cpioArchive(options.files), { append: true });
    }
    guest = new Guest(directory, qemuArguments(options, directory, initrd));
    await guest.booted();
    return guest;
  } catch (error) {
    await guest?.stop();
    await Deno.remove(directory, { recursive: true }).catch(() => {});
    throw error;
  }
}

function qemuArguments(options: GuestOptions, directory: string, initrd: string): string[] {
  const { devices = [], memory = "shared", megabytes = 384, cpus = 1, iommu = false } = options;
  // The kernel's check counts the timer's interrupts, of which a guest on a busy host misses some.
  // Its watchdogs take a host that is busy for 20 s for a CPU of the guest that hangs.
  const timers = ["no_timer_check", "nowatchdog", "rcupdate.rcu_cpu_stall_suppress=1"];
  // The clock of a guest on a busy host is unstable: the kernel warns of it if no other is named.
  timers.push("trace_clock=global");
  const machine = ["console=ttyS0", "quiet", "panic=1", ...timers];
  const kernel = [...machine, ...options.kernelArguments ?? []];
  if (iommu) kernel.push("intel_iommu=on", "iommu.strict=1");
  const backend = `memory-backend-memfd,id=mem,size=${megabytes}M,share=on`;
  const huge = memory === "huge" ? ",hugetlb=on,hugetlbsize=2M" : "";
  return [
    ...["-accel", "tcg", "-cpu", "max", "-smp", `${cpus}`, "-m", `${megabytes}M`],
    ...["-machine", memory === "plain" ? "q35" : "q35,memory-backend=mem"],
    ...memory === "plain" ? [] : ["-object", backend + huge],
    ...["-nodefaults", "-no-user-config", "-display", "none"],
    ...["-kernel", `${peersCache()}/guest/vmlinuz`, "-initrd", initrd, "-append", kernel.join(" ")],
    ...["-serial", `file:${directory}/console`],
    ...["-chardev", "stdio,id=agent,signal=off", "-serial", "chardev:agent"],
    ...["-qmp", `unix:${directory}/qmp,server=on,wait=off`],
    ...iommu ? ["-device", "intel-iommu,caching-mode=on"] : [],
    ...devices.flatMap(({ socket, properties }, index) => [
      ...["-device", `pcie-root-port,id=rp${index},chassis=${index + 1},addr=${index + 4}.0`],
      "-device",
      JSON.stringify({
        driver: "vfio-user-pci",
        id: `vfu${index}`,
        bus: `rp${index}`,
        socket: { type: "unix", path: socket },
        ...properties,
      }),
    ]),
    ...options.arguments ?? [],
  ];
}

interface PendingScript {
  readonly number: number;
  readonly script: string;
  /** The script ends by the next boot. */
  readonly isReboot: boolean;
  resolve(result: ScriptResult): void;
  reject(error: Error): void;
}

/** A guest that runs. */
export class Guest implements AsyncDisposable {
  /** Settles when QEMU has ended, by itself or by `stop()` or `kill()`. */
  readonly exited: Promise<Deno.CommandStatus>;
  readonly #child: Deno.ChildProcess;
  readonly #directory: string;
  readonly #input: WritableStreamDefaultWriter<Uint8Array>;
  readonly #drained: Promise<unknown>;
  readonly #boots: PromiseWithResolvers<void>[] = [];
  #hasEnded = false;
  #qemuText = "";
  #agentText = "";
  #bootsSeen = 0;
  #bootsAwaited = 0;
  #scripts = 0;
  #pending: PendingScript | undefined;
  #stopped: Promise<void> | undefined;

  /** Called by {@linkcode bootGuest}. */
  constructor(directory: string, qemuArguments: string[]) {
    this.#directory = directory;
    // setpriv becomes QEMU; the kernel then ends it with us, even if we are killed.
    this.#child = new Deno.Command("setpriv", {
      args: ["--pdeathsig", "KILL", "--", `${peersCache()}/guest/qemu`, ...qemuArguments],
      cwd: directory,
      stdin: "piped",
      stdout: "piped",
      stderr: "piped",
    }).spawn();
    this.#input = this.#child.stdin.getWriter();
    this.#drained = Promise.all([this.#drainQemu(), this.#drainAgent()]);
    this.exited = this.#drained.then(() => this.#child.status);
    this.exited.then(({ code, signal }) => {
      this.#hasEnded = true;
      const error = this.#error(`QEMU has ended (${signal ?? `code ${code}`})`);
      this.#pending?.reject(error);
      for (const boot of this.#boots) boot.reject(error);
    });
  }

  /** QEMU's process id. */
  get pid(): number {
    return this.#child.pid;
  }

  /** The folder of its console, initramfs and QMP socket, which `stop()` removes. */
  get directory(): string {
    return this.#directory;
  }

  /** The PCI address of a device in the guest, as sysfs names it. */
  address(index = 0): string {
    return `0000:${(index + 1).toString(16).padStart(2, "0")}:00.0`;
  }

  /** The text that QEMU has written to standard error so far: warnings and errors, trimmed. */
  qemuSaid(): string {
    return this.#qemuText.trim();
  }

  /** The text that firmware and the guest's kernel have written to the console so far. */
  console(): string {
    try {
      return Deno.readTextFileSync(`${this.#directory}/console`);
    } catch {
      return "";
    }
  }

  /**
   * Waits until the guest has booted and runs scripts. Each call waits for another boot: the one of
   * `bootGuest()` is the first, so a call after it waits for the end of a reboot.
   *
   * @throws {GuestError} If it doesn't boot in time, or QEMU ends.
   */
  async booted(): Promise<void> {
    const boot = this.#bootAt(this.#bootsAwaited++);
    await this.#within(BOOT_TIMEOUT_MS, boot.promise, "it does not boot");
  }

  /**
   * Runs a script of busybox's sh, in a shell of its own, and returns what it wrote, trimmed at its
   * end.
   *
   * @throws {GuestError} If it ends with another status than 0, or not in time; or the guest ends.
   */
  async sh(script: string, options: { timeoutMs?: number } = {}): Promise<string> {
    const { status, output } = await this.run(script, options);
    if (status === 0) return output.trimEnd();
    throw this.#error(`A script ended with status ${status}:\n${script}\nIt wrote:\n${output}`);
  }

  /**
   * Runs a script and returns its status with its output. Scripts run one after the other.
   *
   * @throws {GuestError} If it doesn't end in time; or the guest reboots or ends.
   */
  run(script: string, options: { timeoutMs?: number } = {}): Promise<ScriptResult> {
    return this.#perform(script, options.timeoutMs ?? SCRIPT_TIMEOUT_MS, false);
  }

  async #perform(script: string, ms: number, isReboot: boolean): Promise<ScriptResult> {
    if (this.#hasEnded) throw this.#error("QEMU has ended");
    if (this.#pending) throw new GuestError("Another script of this guest is running");
    const number = ++this.#scripts;
    const { promise, resolve, reject } = Promise.withResolvers<ScriptResult>();
    this.#pending = { number, script, isReboot, resolve, reject };
    this.#agentText = "";
    try {
      await this.#send(number, script);
      return await this.#within(ms, promise, `a script does not end:\n${script}`);
    } finally {
      this.#pending = undefined;
    }
  }

  /**
   * Returns the kernel's messages since boot that are warnings or worse, a line each.
   * Messages about the machine itself are left out.
   */
  async complaints(): Promise<string[]> {
    const log = await this.sh("dmesg -r");
    return log.split("\n").filter((line) => {
      const level = line.match(/^<(\d+)>/)?.[1];
      return level !== undefined && (Number(level) & 7) <= 4 && !MACHINE_NOISE.test(line);
    });
  }

  /**
   * Sends a QMP command, such as `system_reset`, on a connection of its own.
   *
   * @throws {GuestError} If QEMU refuses it, or doesn't answer in time.
   */
  async qmp(execute: string, parameters: Record<string, unknown> = {}): Promise<unknown> {
    using conn = await Deno.connect({ transport: "unix", path: `${this.#directory}/qmp` });
    const answered = (async () => {
      const commands = [{ execute: "qmp_capabilities" }, { execute, arguments: parameters, id: 1 }];
      for (const command of commands) {
        await conn.write(new TextEncoder().encode(JSON.stringify(command) + "\n"));
      }
      let text = "";
      const decoder = new TextDecoder();
      const buffer = new Uint8Array(65536);
      for (;;) {
        const count = await conn.read(buffer);
        if (count === null) throw this.#error(`QEMU closed QMP during ${execute}`);
        const lines = (text + decoder.decode(buffer.subarray(0, count), { stream: true }))
          .split("\n");
        text = lines.pop() ?? "";
        for (const line of lines) {
          const answer = JSON.parse(line);
          if (answer.id !== 1) continue;
          if (answer.error) throw this.#error(`QMP ${execute}: ${answer.error.desc}`);
          return answer.return;
        }
      }
    })();
    return await this.#within(QMP_TIMEOUT_MS, answered, `QMP ${execute} is not answered`);
  }

  /**
   * Reboots the guest, by its kernel or by QEMU's reset button, and waits until it runs scripts.
   *
   * @throws {GuestError} If it doesn't boot in time, or QEMU ends.
   */
  async reboot(by: "kernel" | "reset" = "kernel"): Promise<void> {
    if (by === "reset") await this.qmp("system_reset");
    else await this.#perform("reboot -f", BOOT_TIMEOUT_MS, true);
    await this.booted();
  }

  /** Kills QEMU with SIGKILL, as a crash would, and waits until it has ended. */
  async kill(): Promise<void> {
    this.#signal("SIGKILL");
    await this.exited;
  }

  /** Ends QEMU, if it runs, and removes its folder. May be called again. */
  stop(): Promise<void> {
    this.#stopped ??= this.#stop();
    return this.#stopped;
  }

  [Symbol.asyncDispose](): Promise<void> {
    return this.stop();
  }

  async #send(number: number, script: string): Promise<void> {
    const bytes = new TextEncoder().encode(script);
    await this.#input.write(new TextEncoder().encode(`${number} ${bytes.toBase64()}\n`));
  }

  async #stop(): Promise<void> {
    try {
      for (const signal of ["SIGTERM", "SIGKILL"] as const) {
        this.#signal(signal);
        if (await settlesWithin(STOP_TIMEOUTS_MS[signal], this.exited)) return;
      }
      const ms = STOP_TIMEOUTS_MS.SIGKILL;
      throw new GuestError(`QEMU ${this.pid} lives ${ms} ms after SIGKILL`);
    } finally {
      await this.#input.abort().catch(() => {});
      await Deno.remove(this.#directory, { recursive: true }).catch(() => {});
    }
  }

  #signal(signal: Deno.Signal): void {
    if (this.#hasEnded) return;
    try {
      this.#child.kill(signal);
    } catch (error) {
      // Deno's way to say that the process has ended and was waited for.
      if (!(error instanceof TypeError)) throw error;
    }
  }

  async #drainQemu(): Promise<void> {
    for await (const text of this.#child.stderr.pipeThrough(new TextDecoderStream())) {
      this.#qemuText = (this.#qemuText + text).slice(-MAX_TEXT_LENGTH);
    }
  }

  async #drainAgent(): Promise<void> {
    for await (const text of this.#child.stdout.pipeThrough(new TextDecoderStream())) {
      this.#agentText = (this.#agentText + text).slice(-MAX_TEXT_LENGTH);
      this.#takeRecords();
    }
  }

  #takeRecords(): void {
    for (;;) {
      const match = this.#agentText.match(RECORD_LINE);
      if (match === null) return;
      const output = this.#agentText.slice(0, match.index);
      this.#agentText = this.#agentText.slice(match.index! + match[0].length);
      if (match[1] !== undefined) {
        if (this.#pending?.isReboot) this.#pending.resolve({ status: 0, output: "" });
        else this.#pending?.reject(this.#error("The guest has booted again during a script"));
        this.#bootAt(this.#bootsSeen++).resolve();
      } else if (Number(match[2]) === this.#pending?.number) {
        this.#pending.resolve({ status: Number(match[3]), output: output.replaceAll(RECORD, "") });
      } else if (this.#pending !== undefined && !/^\d+$/.test(match[2]!)) {
        // The serial port of a guest that stood still lost the beginning of the line.
        const { number, script, reject } = this.#pending;
        this.#send(number, script).catch(reject);
      }
    }
  }

  #bootAt(index: number): PromiseWithResolvers<void> {
    for (let next = this.#boots.length; next <= index; next++) {
      const boot = Promise.withResolvers<void>();
      boot.promise.catch(() => {}); // there may be no waiter
      this.#boots.push(boot);
    }
    const boot = this.#boots[index]!;
    if (this.#hasEnded) boot.reject(this.#error("QEMU has ended"));
    return boot;
  }

  async #within<T>(ms: number, promise: Promise<T>, otherwise: string): Promise<T> {
    let timer: ReturnType<typeof setTimeout> | undefined;
    const late = new Promise<never>((_, reject) => {
      timer = setTimeout(() => reject(this.#error(`After ${ms} ms ${otherwise}`)), ms);
    });
    promise.catch(() => {}); // it may fail after its time
    try {
      return await Promise.race([promise, late]);
    } finally {
      clearTimeout(timer);
    }
  }

  /** An error with what there is to find the reason by. */
  #error(reason: string): GuestError {
    const tail = (text: string) => text.trim().split(/\r?\n/).slice(-TAIL_LINES).join("\n");
    const parts = [
      ["the console's tail", tail(this.console())],
      ["what the script wrote", tail(this.#agentText)],
      ["what QEMU said", tail(this.#qemuText)],
    ];
    const shown = parts.filter(([, text]) => text !== "")
      .map(([title, text]) => `\n--- ${title} ---\n${text}`);
    return new GuestError(reason + shown.join(""));
  }
}

async function settlesWithin(ms: number, promise: Promise<unknown>): Promise<boolean> {
  let timer: ReturnType<typeof setTimeout> | undefined;
  const late = new Promise<boolean>((resolve) => {
    timer = setTimeout(() => resolve(false), ms);
  });
  try {
    return await Promise.race([promise.then(() => true), late]);
  } finally {
    clearTimeout(timer);
  }
}
