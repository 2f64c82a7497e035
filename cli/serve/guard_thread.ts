/**
 * The thread that guards a server: it hears signals, watches the serving thread and writes the log.
 *
 * A hook that never returns makes the serving thread deaf. This thread runs no code of a device and
 * never blocks, so that the process ends when it is told to.
 *
 * @module
 */

import { exitNow, removeSocketFile, type SocketFile } from "../../lib/server/process.ts";
import { doingName } from "../../lib/server/activity.ts";
import { eventLine, type HoldJson, holdText, lostLine } from "./guard_lines.ts";
import { type GuardAnswer, type GuardMessage, type GuardSetup, Word } from "./guard_words.ts";
import { PatientWriter } from "./patient_writer.ts";
import { printable } from "../shared/printable.ts";

/**
 * A signal that follows the first one sooner is the same. A terminal and a wrapper such as
 * `deno task` both send it. The kernel sends the signal of a parent's end for each thread of the
 * parent.
 */
const ECHO_MS = 200;
/** The interval at which the guard looks at the serving thread. */
const TICK_MS = 500;
/** It holds the thread if it has not answered for so many ticks: more than a second. */
const HOLD_TICKS = 3;
/** A device that holds the thread again and again is reported once in so many ticks: a minute. */
const QUIET_TICKS = 120;
/** The time that the end waits for the last lines to be written. */
const FLUSH_MS = 100;

const SIGNALS = { SIGHUP: 1, SIGINT: 2, SIGTERM: 15 } as const;

const scope = globalThis as unknown as {
  onmessage: (event: MessageEvent<GuardMessage>) => void;
  postMessage(answer: GuardAnswer): void;
};

let devices: readonly string[] = [];
let sockets: readonly SocketFile[] = [];
let guard: Guard | undefined;

scope.onmessage = ({ data }) => {
  if (data === "flush") void guard?.flush().then(() => scope.postMessage("idle"));
  else if ("setup" in data) guard = new Guard(data.setup);
  else if ("devices" in data) devices = data.devices;
  else if ("sockets" in data) sockets = data.sockets;
  else guard?.write(data.stream, data.text, data.lost);
};

class Guard {
  readonly #setup: GuardSetup;
  readonly #writers: Readonly<Record<"out" | "err", PatientWriter>>;
  readonly #quietUntil = new Map<number, number>(); // by device: the tick of its next report
  #signalledMs: number | undefined; // when the first signal came
  #ping = 0;
  #ticks = 0;
  #held = 0; // ticks without an answer
  #reported: { readonly activity: number } | undefined;

  constructor(setup: GuardSetup) {
    this.#setup = setup;
    const { words, json, mark, hangup } = setup;
    const notice = (lines: number) => lostLine(lines, json, mark);
    this.#writers = {
      out: new PatientWriter(Deno.stdout, {
        notice,
        onFailure: ({ message }) =>
          this.#writers.err.add(
            `Standard output can't be written to (${message}); serving goes on without it\n`,
          ),
        onLeave: (units) => void Atomics.sub(words, Word.OUT_WAITING, units),
      }),
      err: new PatientWriter(Deno.stderr, {
        notice: (lines) => lostLine(lines, false),
        onLeave: (units) => void Atomics.sub(words, Word.ERR_WAITING, units),
      }),
    };
    this.#hear("SIGINT");
    this.#hear("SIGTERM");
    if (hangup) this.#hear("SIGHUP");
    setInterval(() => this.#tick(), TICK_MS);
    scope.postMessage({ ping: this.#ping });
  }

  write(stream: "out" | "err", text: string, lost: number): void {
    this.#writers[stream].addLost(lost);
    if (text !== "") this.#writers[stream].add(text);
  }

  async flush(): Promise<void> {
    for (const writer of Object.values(this.#writers)) await writer.idle;
  }

  #hear(signal: keyof typeof SIGNALS): void {
    Deno.addSignalListener(signal, () => {
      const end = () => {
        if (this.#setup.onlyIfHeld && this.#held === 0) this.#signalledMs = undefined;
        else void this.#end(128 + SIGNALS[signal]);
      };
      const now = performance.now();
      if (this.#signalledMs === undefined) {
        this.#signalledMs = now;
        setTimeout(end, this.#setup.graceMs);
      } else if (now - this.#signalledMs > ECHO_MS) end();
    });
  }

  /** Ends the process, which has not done so by itself, or not soon enough. */
  async #end(code: number): Promise<void> {
    try {
      for (const socket of sockets) removeSocketFile(socket);
      if (this.#held > 0) {
        const who = printable(this.#hold("busy").device ?? "a device");
        this.#writers.err.add(
          `vfu: ${who} did not let go of the thread; ended without closing it\n`,
        );
      }
      await Promise.race([this.flush(), new Promise((done) => setTimeout(done, FLUSH_MS))]);
    } finally {
      exitNow(code);
    }
  }

  #tick(): void {
    this.#ticks++;
    const { words } = this.#setup;
    if (Atomics.load(words, Word.PONG) !== this.#ping) {
      if (++this.#held === HOLD_TICKS) this.#reportHold();
      return;
    }
    if (this.#reported !== undefined) {
      this.#report(this.#hold("free", this.#reported.activity));
      this.#reported = undefined;
    }
    this.#held = 0;
    scope.postMessage({ ping: ++this.#ping });
  }

  #reportHold(): void {
    const activity = Atomics.load(this.#setup.words, Word.ACTIVITY);
    const device = activity >>> 16;
    if (this.#ticks < (this.#quietUntil.get(device) ?? 0)) return;
    this.#quietUntil.set(device, this.#ticks + QUIET_TICKS);
    this.#reported = { activity };
    this.#report(this.#hold("busy", activity));
  }

  /** Who holds the thread, as the device whose code it has entered and not left. */
  #hold(
    event: "busy" | "free",
    activity = Atomics.load(this.#setup.words, Word.ACTIVITY),
  ): HoldJson {
    const known = devices[(activity >>> 16) - 1];
    const [only, ...others] = devices;
    return {
      event,
      device: known ?? (others.length === 0 ? only : undefined) ?? null,
      doing: known === undefined ? null : doingName(activity & 0xffff),
      seconds: (this.#held - 1) * TICK_MS / 1000,
    };
  }

  #report(hold: HoldJson): void {
    const { json, mark } = this.#setup;
    if (json) this.#writers.out.add(eventLine(hold, mark));
    else this.#writers.err.add(`${holdText(hold, devices.length === 1)}\n`);
  }
}
