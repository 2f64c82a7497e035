/**
 * `Lab`: where the benchmark runs its processes. It has a directory of its own and the C program,
 * and takes everything with it when it is closed.
 *
 * @module
 */

import { build } from "../../cli/installed/build.ts";

/** The scripts of the benchmark, and `vfu` itself. */
const HERE = import.meta.dirname!;
const MAIN = `${HERE}/../../cli/main.ts`;

/** Options of Deno with which `vfu` is installed. */
const INSTALLED_FLAGS = ["--v8-flags=--no-lazy"];

/** The C programs that are compiled, from sources of their names. */
type Program = "baseline" | "nvme";

/** Measures once with each call. Gives nanoseconds. */
export type Meter = () => Promise<number>;

/** Runs processes, each to its end or until the lab is closed. */
export class Lab implements AsyncDisposable {
  /** The directory for sockets and whatever else; removed at the end. */
  readonly dir: string;
  readonly #programs: Record<Program, string> | undefined;
  readonly #children = new Set<Deno.ChildProcess>();
  readonly #servers = new Map<string, number>(); // process ids by path
  #note: string | undefined;
  #built: Promise<void> | undefined;
  #isClosed = false;

  private constructor(dir: string, programs: Record<Program, string> | undefined) {
    this.dir = dir;
    this.#programs = programs;
  }

  /** Makes the directory, and the C programs if there is a compiler. */
  static async open(): Promise<Lab> {
    const dir = await Deno.makeTempDir({ prefix: "vfu-bench-" });
    try {
      await Deno.writeTextFile(`${dir}/empty.ts`, "");
      const baseline = await compile(dir, "baseline");
      const nvme = baseline && await compile(dir, "nvme");
      const hasAll = baseline !== undefined && nvme !== undefined;
      return new Lab(dir, hasAll ? { baseline, nvme } : undefined);
    } catch (error) {
      await Deno.remove(dir, { recursive: true });
      throw error;
    }
  }

  /** True if there is a C compiler, and with it a baseline to compare with. */
  get hasBaseline(): boolean {
    return this.#programs !== undefined;
  }

  /** A mode of baseline.c. */
  async baseline(mode: string, ...args: number[]): Promise<Meter> {
    return this.#meterBeside(mode, await this.#serveC(), args);
  }

  /** A mode of baseline.c with a TypeScript device in place of its own server, on the same CPU. */
  async served(mode: string, ...args: number[]): Promise<Meter> {
    const path = await this.#serve([...this.#pinned, ...script("device_server")]);
    return this.#meterBeside(mode, path, args);
  }

  /**
   * A mode of baseline.c with one of the demo devices that a `vfu serve` has, on another CPU. The
   * note has the time to its start, and its memory.
   */
  async servedBesides(devices: number, mode: string, ...args: number[]): Promise<Meter> {
    const path = `${this.dir}/${this.#servers.size}.sock`;
    const paths = Array.from({ length: devices }, (_, i) => i === 0 ? path : `${path}${i}`);
    const words = paths.flatMap((each) => ["demo", `--socket-path=${each}`]);
    const start = performance.now();
    const child = this.#spawn(
      [...this.#pinned, ...deno(MAIN), "serve", "--json", ...words],
      "null",
    );
    this.#servers.set(path, child.pid);
    const { value } = await linesOf(child).read();
    if (value === undefined) throw new Error("`vfu serve` did not start");
    const started = Math.round(performance.now() - start);
    const meter = this.#meterApart(mode, path, args);
    return async () => {
      const ns = await meter();
      const status = await Deno.readTextFile(`/proc/${child.pid}/status`);
      const mib = Math.round(Number(/VmRSS:\s*(\d+)/.exec(status)![1]) / 1024);
      this.#note = `ready after ${started} ms, ${mib} MiB resident`;
      return ns;
    };
  }

  /** A mode of baseline.c with its own server on another CPU. */
  async baselineBesides(mode: string, ...args: number[]): Promise<Meter> {
    return this.#meterApart(mode, await this.#serveC(), args);
  }

  /** A mode of baseline.c on the CPU of what is pinned. */
  #meterBeside(mode: string, path: string, args: readonly number[]): Meter {
    const { baseline } = this.#programs!;
    return this.#meter([...this.#pinned, baseline, mode, path, ...args.map(String)]);
  }

  /** A mode of baseline.c on another CPU than what is pinned. */
  #meterApart(mode: string, path: string, args: readonly number[]): Meter {
    const { baseline } = this.#programs!;
    return this.#meter([baseline, "apart", baseline, mode, path, ...args.map(String)]);
  }

  /** A mode of baseline.c with its own server, through a recorder on the same CPU. */
  async recorded(mode: string, ...args: number[]): Promise<Meter> {
    const command = [...this.#pinned, ...script("recorder"), await this.#serveC()];
    return this.#meterBeside(mode, await this.#serve(command), args);
  }

  /** The same mode of client.ts, on the same CPU, with a server of the same kind. */
  async client(mode: string, ...args: number[]): Promise<Meter> {
    const path = await this.#serveC();
    return this.#meter([...this.#pinned, ...script("client"), mode, path, ...args.map(String)]);
  }

  /**
   * A mode of client.ts with a server of the demo device.
   * Both run on one CPU as well if the C program is there to see to that.
   */
  async demoClient(mode: string, ...args: number[]): Promise<Meter> {
    const pinned = this.hasBaseline ? this.#pinned : [];
    const path = await this.#serve([...pinned, ...script("demo_server")]);
    return this.#meter([...pinned, ...script("client"), mode, path, ...args.map(String)]);
  }

  /** Encoding or decoding. */
  codec(verb: string, subject: string, count: number): Promise<Meter> {
    return Promise.resolve(this.#meter([...script("codecs"), verb, subject, String(count)]));
  }

  /** A plain copy over a socket, by C. */
  plainCopy(mib: number): Promise<Meter> {
    return Promise.resolve(this.#meter([this.#programs!.baseline, "copy", String(mib)]));
  }

  /** The state of a device of so much memory, saved or restored. */
  async migration(mode: "save" | "restore", mib: number): Promise<Meter> {
    const path = await this.#serve(script("memory_server"), String(mib));
    return this.#meter([...script("migration"), mode, path, String(this.#servers.get(path))]);
  }

  /** NVMe commands of 4 KiB by a polling driver, with examples/nvme.ts on another CPU. */
  async nvme(mode: "read" | "write", count: number, depth: number): Promise<Meter> {
    const path = await this.#serve([...this.#pinned, ...script("nvme_server")]);
    return this.#meter([this.#programs!.nvme, mode, path, String(count), String(depth)]);
  }

  /** The same with a device in C. */
  nvmeByC(mode: "read" | "write", count: number, depth: number): Promise<Meter> {
    return Promise.resolve(
      this.#meter([this.#programs!.nvme, mode, "-", String(count), String(depth)]),
    );
  }

  /** Takes the note that the last measurement left besides the time. */
  takeNote(): string | undefined {
    const note = this.#note;
    this.#note = undefined;
    return note;
  }

  /**
   * A command line of `vfu`, from start to end, in a folder of its own. Words that are SOCKET are
   * the path of a demo device's socket.
   *
   * @param isInstalled true for the bundle, false for the sources
   */
  async vfu(isInstalled: boolean, ...args: string[]): Promise<Meter> {
    const path = args.includes("SOCKET") ? await this.#serve(script("demo_server")) : "";
    const program = isInstalled ? await this.#installed() : MAIN;
    const flags = isInstalled ? INSTALLED_FLAGS : [];
    const command = [
      ...deno(program, flags),
      ...args.map((arg) => arg === "SOCKET" ? path : arg),
    ];
    return () => this.#timeProcess(command);
  }

  /** The bundle that an installed vfu runs. */
  async #installed(): Promise<string> {
    const folder = `${this.dir}/dist`;
    await (this.#built ??= build(folder));
    return `${folder}/vfu.js`;
  }

  /** Deno with nothing to do, from start to end. */
  emptyScript(): Promise<Meter> {
    return Promise.resolve(() => this.#timeProcess(deno(`${this.dir}/empty.ts`)));
  }

  /** Ends every process: the servers and meters of a row that is done. */
  async clear(): Promise<void> {
    const children = [...this.#children];
    for (const child of children) {
      try {
        child.kill("SIGKILL");
      } catch { /* it has just ended */ }
    }
    await Promise.all(children.map((child) => child.status));
  }

  /** Ends every process and removes the directory. */
  async [Symbol.asyncDispose](): Promise<void> {
    this.#isClosed = true;
    await this.clear();
    await this.#built?.catch(() => {}); // it has folders of its own
    await Deno.remove(this.dir, { recursive: true });
  }

  /** All of these run on one CPU, where no wake-up of another one is measured. */
  get #pinned(): string[] {
    return [this.#programs!.baseline, "pin"];
  }

  /** A server of baseline.c. It serves one client at a time: each has its own. */
  #serveC(): Promise<string> {
    return this.#serve([...this.#pinned, this.#programs!.baseline, "server"]);
  }

  /** Starts a server and gives its socket's path. */
  async #serve(command: string[], ...args: string[]): Promise<string> {
    const path = `${this.dir}/${this.#servers.size}.sock`;
    const child = this.#spawn([...command, path, ...args], "null");
    this.#servers.set(path, child.pid);
    const { value } = await linesOf(child).read();
    if (value !== "ready") throw new Error(`\`${command.join(" ")}\` did not start`);
    return path;
  }

  /** A process that measures for each line that it is sent. */
  #meter(command: string[]): Meter {
    const child = this.#spawn(command, "piped");
    const lines = linesOf(child);
    const writer = child.stdin.getWriter();
    return async () => {
      await writer.write(new Uint8Array([0x0a]));
      const { value } = await lines.read();
      if (value === undefined) throw new Error(`\`${command.join(" ")}\` failed`);
      const { ns, note } = JSON.parse(value);
      this.#note = note;
      return ns;
    };
  }

  async #timeProcess(command: string[]): Promise<number> {
    const start = performance.now();
    const child = this.#spawn(command, "null");
    const [, { success }] = await Promise.all([new Response(child.stdout).text(), child.status]);
    if (!success) throw new Error(`\`${command.join(" ")}\` failed`);
    return (performance.now() - start) * 1e6;
  }

  #spawn([program, ...args]: string[], stdin: "null" | "piped"): Deno.ChildProcess {
    // A row that is called off goes on to its next process.
    if (this.#isClosed) throw new Error("The lab is closed");
    const child = new Deno.Command(program!, { args, stdin, stdout: "piped" }).spawn();
    this.#children.add(child);
    child.status.finally(() => this.#children.delete(child));
    return child;
  }
}

function linesOf(child: Deno.ChildProcess): ReadableStreamDefaultReader<string> {
  const text = child.stdout.pipeThrough(new TextDecoderStream());
  return text.pipeThrough(new TextLineStream()).getReader();
}

/** Cuts text into lines. */
class TextLineStream extends TransformStream<string, string> {
  constructor() {
    let rest = "";
    super({
      transform(text, controller) {
        const lines = (rest + text).split("\n");
        rest = lines.pop()!;
        for (const line of lines) controller.enqueue(line);
      },
    });
  }
}

/** Compiles a C program. Undefined if there is no compiler. */
async function compile(dir: string, program: Program): Promise<string | undefined> {
  const path = `${dir}/${program}`;
  try {
    const args = ["-O2", "-o", path, `${HERE}/${program}.c`];
    const { success } = await new Deno.Command("cc", { args, stdout: "null" }).output();
    if (!success) throw new Error(`${program}.c does not compile`);
    return path;
  } catch (error) {
    if (error instanceof Deno.errors.NotFound) return undefined;
    throw error;
  }
}

function script(name: string): string[] {
  return deno(`${HERE}/${name}.ts`);
}

function deno(file: string, flags: readonly string[] = []): string[] {
  return [Deno.execPath(), "run", "--quiet", "--allow-all", ...flags, file];
}
