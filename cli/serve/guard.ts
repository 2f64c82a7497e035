/**
 * Guards: they keep a server from being deaf or stalled, whatever its devices and its log do.
 *
 * @module
 */

import { ignoreFileSizeSignal, type SocketFile } from "../../lib/server/process.ts";
import { type Activity, doingName } from "../../lib/server/activity.ts";
import { type Context, type Output, untilAbort } from "../shared/context.ts";
import { tellExit } from "./exit_report.ts";
import { lostLine } from "./guard_lines.ts";
import {
  type GuardAnswer,
  type GuardMessage,
  type StreamName,
  Word,
  WORD_COUNT,
} from "./guard_words.ts";
import { countLines, MAX_WAITING, PatientWriter } from "./patient_writer.ts";

/** The time that the end waits for what is to be written. */
const FLUSH_MS = 300;
/** The interval at which the end looks whether all is written, where it can't await that. */
const POLL_MS = 5;
/** The interval at which discarded lines are reported to the writing thread. */
const LOST_REPORT_MS = 1000;

/** Guards a process that serves. Disposing waits until the log is written, for a moment at most. */
export interface Guard extends AsyncDisposable {
  /** The context, whose streams don't make the caller wait and don't fail. */
  readonly context: Context;
  /**
   * Begins.
   *
   * @returns settled when signals are heard: from then on they end the process even if this thread
   *   is held
   */
  start(): Promise<void>;
  /** Says how the devices are called, by index. */
  name(devices: readonly string[]): void;
  /** Says which files are to be removed at the end. */
  protect(sockets: readonly SocketFile[]): void;
  /** Hears when the thread enters and leaves the code of the device with this index. */
  activity(index: number): Activity | undefined;
}

/** The options of a {@linkcode Guard}. */
export interface GuardOptions {
  /** True if its reports are JSON. */
  readonly json: boolean;
  /** Text ahead of each of these; default none. */
  readonly mark?: string;
  /** The time that this thread has to end by itself after a signal, in milliseconds. */
  readonly graceMs: number;
  /** True if it has all the time that it wants while no device holds it; default false. */
  readonly onlyIfHeld?: boolean;
}

/** The guard of a process, or none for a context that shares its process with others. */
export function guardOf(context: Context, options: GuardOptions): Guard {
  return context.ownsProcess ? new ThreadGuard(context, options) : {
    context,
    start: () => Promise.resolve(),
    name() {},
    protect() {},
    activity: () => undefined,
    [Symbol.asyncDispose]: () => Promise.resolve(),
  };
}

/**
 * Does a step of the start for a device, until the signal comes. Only one is under way at a time.
 */
export async function settingUp<T>(
  guard: Guard,
  index: number,
  doing: number,
  work: () => Promise<T>,
): Promise<T> {
  const activity = guard.activity(index);
  const before = activity?.enter(doing) ?? 0;
  try {
    return await untilAbort(guard.context.signal, work());
  } finally {
    activity?.leave(before);
  }
}

/** A guard with a thread of its own, which takes 12 ms to start. Before, nothing is slower. */
class ThreadGuard implements Guard {
  readonly context: Context;
  readonly #options: GuardOptions;
  readonly #words = new Int32Array(new SharedArrayBuffer(4 * WORD_COUNT));
  readonly #early: Readonly<Record<StreamName, PatientWriter>>; // until the thread writes
  readonly #lost: Record<StreamName, number> = { out: 0, err: 0 };
  #lostTimer: ReturnType<typeof setTimeout> | undefined;
  #worker: Worker | undefined;
  readonly #hears = Promise.withResolvers<void>();
  #threadWrites = false;
  #idle: PromiseWithResolvers<void> | undefined;
  #devices: readonly string[] = [];
  #sockets: readonly SocketFile[] = [];

  constructor(context: Context, options: GuardOptions) {
    ignoreFileSizeSignal(); // the log may be a file that must not grow
    this.#options = options;
    const { json, mark } = options;
    this.#early = {
      out: new PatientWriter(Deno.stdout, { notice: (lines) => lostLine(lines, json, mark) }),
      err: new PatientWriter(Deno.stderr, { notice: (lines) => lostLine(lines, false) }),
    };
    this.context = {
      ...context,
      out: this.#output(context.out, "out"),
      err: this.#output(context.err, "err"),
    };
  }

  start(): Promise<void> {
    if (this.#worker !== undefined) return this.#hears.promise;
    globalThis.addEventListener("unload", this.#reportExit);
    const { json, mark = "", graceMs, onlyIfHeld = false } = this.#options;
    const { hangsUp: hangup = false } = this.context;
    const worker = new Worker(new URL("./guard_thread.ts", import.meta.url), { type: "module" });
    worker.onmessage = ({ data }: MessageEvent<GuardAnswer>) => {
      if (data === "idle") this.#idle?.resolve();
      else Atomics.store(this.#words, Word.PONG, data.ping);
      this.#hears.resolve();
    };
    worker.onerror = (event) => {
      event.preventDefault();
      this.#hears.resolve();
      this.#threadWrites = false;
      this.context.err.write(`The thread that guards the server has ended: ${event.message}\n`);
    };
    this.#worker = worker;
    this.#post({ setup: { words: this.#words, json, mark, hangup, graceMs, onlyIfHeld } });
    this.name(this.#devices);
    this.protect(this.#sockets);
    void this.#handOver();
    return this.#hears.promise;
  }

  name(devices: readonly string[]): void {
    this.#devices = devices;
    this.#post({ devices });
  }

  protect(sockets: readonly SocketFile[]): void {
    this.#sockets = sockets;
    this.#post({ sockets });
  }

  activity(index: number): Activity {
    const words = this.#words;
    const device = (index + 1) << 16;
    return {
      enter(doing) {
        const before = words[Word.ACTIVITY]!;
        words[Word.ACTIVITY] = device | doing;
        return before;
      },
      leave: (before) => void (words[Word.ACTIVITY] = before),
    };
  }

  async [Symbol.asyncDispose](): Promise<void> {
    globalThis.removeEventListener("unload", this.#reportExit);
    const timeout = new Promise<void>((resolve) => setTimeout(resolve, FLUSH_MS));
    await Promise.race([this.#flush(), timeout]);
  }

  /** Says whose code ends the process by `Deno.exit`, which waits for nothing and says nothing. */
  readonly #reportExit = (): void => {
    const activity = Atomics.load(this.#words, Word.ACTIVITY);
    // The command itself has come to its end
    if (activity === 0 && this.#options.onlyIfHeld) return;
    const [only, ...others] = this.#devices;
    const known = this.#devices[(activity >>> 16) - 1];
    const who = known ?? (others.length === 0 ? only : undefined) ?? "a device";
    const doing = known === undefined ? "" : doingName(activity & 0xffff);
    tellExit(this.context.err, who, doing);
    const words = [Word.OUT_WAITING, Word.ERR_WAITING];
    for (const end = performance.now() + FLUSH_MS; performance.now() < end;) {
      const word = words.find((each) => Atomics.load(this.#words, each) > 0);
      if (word === undefined) break;
      Atomics.wait(this.#words, word, Atomics.load(this.#words, word), POLL_MS);
    }
  };

  async #flush(): Promise<void> {
    while (true) {
      const { out, err } = this.#early;
      await Promise.all([out.idle, err.idle]);
      if (out.idle === undefined && err.idle === undefined) break;
    }
    if (!this.#threadWrites) return;
    this.#reportLost();
    this.#idle = Promise.withResolvers();
    this.#post("flush");
    await this.#idle.promise;
  }

  /** Has the thread write as soon as all is written that came before it. */
  async #handOver(): Promise<void> {
    const { out, err } = this.#early;
    while (out.idle !== undefined || err.idle !== undefined) {
      await Promise.all([out.idle, err.idle]);
    }
    this.#threadWrites = true;
  }

  #output(output: Output, stream: StreamName): Output {
    return { ...output, write: (text) => this.#write(stream, text) };
  }

  #write(stream: StreamName, text: string): void {
    if (!this.#threadWrites) return this.#early[stream].add(text);
    const word = stream === "out" ? Word.OUT_WAITING : Word.ERR_WAITING;
    if (Atomics.load(this.#words, word) + text.length > MAX_WAITING) {
      this.#lost[stream] += countLines(text);
      this.#lostTimer ??= setTimeout(() => this.#reportLost(), LOST_REPORT_MS);
      return;
    }
    Atomics.add(this.#words, word, text.length);
    this.#post({ stream, text, lost: this.#lost[stream] });
    this.#lost[stream] = 0;
  }

  #reportLost(): void {
    clearTimeout(this.#lostTimer);
    this.#lostTimer = undefined;
    for (const stream of ["out", "err"] as const) {
      const lost = this.#lost[stream];
      if (lost > 0) this.#post({ stream, text: "", lost });
      this.#lost[stream] = 0;
    }
  }

  #post(message: GuardMessage): void {
    this.#worker?.postMessage(message);
  }
}
