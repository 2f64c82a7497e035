/**
 * `vfu serve` as a process, with devices that do the worst that they can.
 */

import { assertMatch } from "@std/assert";
import { connect } from "../../../lib/client/connect.ts";
import { DENO } from "../../_deno.ts";

const ROOT = new URL("../../../", import.meta.url).pathname;
/** Deno's options, with the permissions that the documentation asks for. */
const OPTIONS = [
  ...["run", "--no-prompt", "--frozen", `--config=${ROOT}deno.json`],
  ...["--allow-ffi", "--allow-read", "--allow-write"],
];

/** The module of a device with code of a test in its hooks. `hold()` holds the thread for ever. */
export function device(
  hold: { top?: string; create?: string; write?: string; close?: string },
): string {
  return `
import { RegionFlags } from "@vfu/vfu";
function hold() { console.error("holding"); for (;;); }
function holdFor(ms: number) { for (const end = Date.now() + ms; Date.now() < end;); }
${hold.top ?? ""}
export default () => {
  ${hold.create ?? ""}
  return {
    flags: 0,
    regions: [{
      flags: RegionFlags.READ | RegionFlags.WRITE,
      size: 8,
      read: () => {},
      write() { ${hold.write ?? ""} },
    }],
    irqs: [],
    reset() {},
    close() { ${hold.close ?? ""} },
  };
};`;
}

/** The way in which a {@linkcode Served} is started. */
export interface ServedOptions {
  /** The command that starts Deno; default Deno itself. */
  wrap?: string[];
  /** More options of Deno. */
  options?: string[];
  /** The streams that are read. */
  drains?: ("stdout" | "stderr")[];
}

/** A server under test. */
export class Served implements AsyncDisposable {
  readonly folder = Deno.makeTempDirSync({ prefix: "vfu-guard-" });
  readonly path = `${this.folder}/odd.sock`;
  readonly child: Deno.ChildProcess;
  readonly texts = { stdout: "", stderr: "" };
  readonly ended: Promise<number>;
  readonly #news = new EventTarget();

  /**
   * Starts `vfu serve` with a device at `path`, and demo behind it.
   *
   * @param source the module of the first device; undefined for demo
   * @param args behind both devices. FOLDER stands for the folder
   */
  constructor(
    source: string | undefined,
    args: string[] = [],
    { wrap = [], options = [], drains = ["stdout", "stderr"] }: ServedOptions = {},
  ) {
    const first = source === undefined ? "demo" : `${this.folder}/odd.ts`;
    if (source !== undefined) Deno.writeTextFileSync(first, source);
    const line = [
      ...wrap,
      DENO,
      ...OPTIONS,
      ...options,
      ...[`${ROOT}cli/main.ts`, "serve"],
      ...[first, "--socket-path", this.path, "demo", "--socket-path", `${this.folder}/demo.sock`],
      ...args.map((arg) => arg.replaceAll("FOLDER", this.folder)),
    ];
    this.child = new Deno.Command(line[0]!, {
      args: line.slice(1),
      stdin: "null",
      stdout: "piped",
      stderr: "piped",
      env: { NO_COLOR: "1" },
    }).spawn();
    const drained = drains.map((name) => this.#drain(name));
    this.ended = Promise.all([this.child.status, ...drained]).then(([{ code }]) => code);
  }

  async #drain(name: "stdout" | "stderr"): Promise<void> {
    for await (const text of this.child[name].pipeThrough(new TextDecoderStream())) {
      this.texts[name] += text;
      this.#news.dispatchEvent(new Event("news"));
    }
  }

  /** Waits until it has said something, for a minute at most. */
  async until(pattern: RegExp, name: "stdout" | "stderr" = "stderr"): Promise<void> {
    let isOver = false;
    const end = () => {
      isOver = true;
      this.#news.dispatchEvent(new Event("news"));
    };
    const timer = setTimeout(end, 60_000);
    void this.ended.then(end);
    while (!pattern.test(this.texts[name]) && !isOver) {
      await new Promise((resolve) => this.#news.addEventListener("news", resolve, { once: true }));
    }
    clearTimeout(timer);
    assertMatch(this.texts[name], pattern);
  }

  /** The sockets that are left. */
  sockets(): string[] {
    return [...Deno.readDirSync(this.folder)].map(({ name }) => name)
      .filter((name) => name.endsWith(".sock"));
  }

  async [Symbol.asyncDispose](): Promise<void> {
    try {
      this.child.kill("SIGKILL");
    } catch { /* it has ended */ }
    for (const name of ["stdout", "stderr"] as const) {
      if (!this.child[name].locked) await this.child[name].cancel();
    }
    await this.ended;
    await Deno.remove(this.folder, { recursive: true });
  }
}

/** Connects as soon as the server listens. */
export async function connectSoon(path: string): Promise<Awaited<ReturnType<typeof connect>>> {
  for (let attempt = 0; attempt < 3000; attempt++) {
    try {
      return await connect(path);
    } catch {
      await new Promise((resolve) => setTimeout(resolve, 10));
    }
  }
  throw new Error(`No server listens at ${path}`);
}

/** The processes that a process has started, in their order. */
export function childrenIds(pid: number): number[] {
  const text = Deno.readTextFileSync(`/proc/${pid}/task/${pid}/children`).trim();
  return text === "" ? [] : text.split(" ").map(Number);
}

/** Starts `vfu`; what it writes on standard error is to be read. */
export function spawnVfu(...args: string[]): Deno.ChildProcess {
  return new Deno.Command(DENO, {
    args: [...OPTIONS, `${ROOT}cli/main.ts`, ...args],
    stdin: "null",
    stdout: "null",
    stderr: "piped",
    env: { NO_COLOR: "1" },
  }).spawn();
}
