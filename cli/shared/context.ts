/**
 * The surroundings of a subcommand: streams, style, and the signal that ends it.
 *
 * @module
 */

import { ignoresHangup } from "../../lib/base/hangup.ts";
import { chooseStyle, type Style } from "./style.ts";

/** A stream that text goes out on. */
export interface Output {
  /** True if a person is looking. */
  readonly isTerminal: boolean;
  /** Width of a line. That of a terminal may change. */
  readonly columns: number;
  /** Lines of the screen, if it is a terminal. */
  readonly rows?: number | undefined;
  /** The colours of this output. */
  readonly style: Style;
  /**
   * Writes all of the text before it returns.
   *
   * @throws {Deno.errors.BrokenPipe} if no process reads any more, as `head` after its last line
   * @throws {Error} if it can't be written to otherwise: the message names the stream
   */
  write(text: string): void;
  /** As `write`, for what is no text. */
  writeBytes(bytes: Uint8Array): void;
}

/** The objects that every subcommand is given. */
export interface Context {
  /** Standard output: results. */
  readonly out: Output;
  /** Standard error: everything else. */
  readonly err: Output;
  /** Aborted with an {@linkcode Interrupted} when the user or the system wants an end. */
  readonly signal: AbortSignal;
  /** True if the process is the command's alone, which may start threads and write behind. */
  readonly ownsProcess?: boolean;
  /** True if the end of the terminal (SIGHUP) aborts the signal, too: not under nohup. */
  readonly hangsUp?: boolean;
  /**
   * Does work that holds the thread, and that has nothing to clean up. A signal ends the process at
   * once meanwhile: nothing could hear of an abort. If it is left out, the work is done as it is.
   */
  readonly hold?: <T>(work: () => T) => T;
}

/** The end that a signal asked for. */
export class Interrupted extends Error {
  override readonly name = "Interrupted";
  /**
   * The exit code that a shell reports for a program ended by a signal: 128 and the signal's
   * number.
   */
  readonly exitCode: number;

  /** @param signal what came */
  constructor(signal: keyof typeof SIGNALS) {
    super(`Interrupted by ${signal}`);
    this.exitCode = 128 + SIGNALS[signal];
  }
}

/** Calls `stop` when the signal comes, unless it is disposed of before. */
export function onAbort(signal: AbortSignal, stop: () => void): Disposable {
  signal.addEventListener("abort", stop);
  return { [Symbol.dispose]: () => signal.removeEventListener("abort", stop) };
}

/**
 * The same as `work`, until the signal comes: for work that knows of no signal. It may go on
 * behind, unheard.
 */
export async function untilAbort<T>(signal: AbortSignal, work: Promise<T>): Promise<T> {
  signal.throwIfAborted();
  const aborted = Promise.withResolvers<never>();
  using _listener = onAbort(signal, () => aborted.reject(signal.reason));
  return await Promise.race([work, aborted.promise]);
}

const SIGNALS = { SIGHUP: 1, SIGINT: 2, SIGTERM: 15 } as const;

/** The width of what is not a terminal. */
const DEFAULT_COLUMNS = 80;

/**
 * The surroundings of this process. It needs no permission, and asks for none. Signals are heard
 * from the first look at `signal` on: what that takes is no part of `vfu --help`.
 */
export function processContext(): Context {
  let ends: Ends | undefined;
  return {
    out: streamOutput(Deno.stdout, "standard output"),
    err: ignoringFailures(streamOutput(Deno.stderr, "standard error")),
    get signal() {
      return (ends ??= hearSignals()).signal;
    },
    ownsProcess: true,
    get hangsUp() {
      return (ends ??= hearSignals()).hangsUp;
    },
    hold(work) {
      const listeners = ends?.listeners.filter((each) => each.isOn) ?? [];
      for (const each of listeners) each.turn(false);
      try {
        return work();
      } finally {
        for (const each of listeners) each.turn(true);
      }
    },
  };
}

/** The signals that end this process. */
interface Ends {
  readonly signal: AbortSignal;
  readonly hangsUp: boolean;
  readonly listeners: readonly SignalListener[];
}

function hearSignals(): Ends {
  const ignored = ignoresHangup(); // asked before any signal is listened for
  const hangsUp = ignored === false;
  const controller = new AbortController();
  const names = ["SIGINT", "SIGTERM", ...(hangsUp ? ["SIGHUP"] as const : [])] as const;
  const listeners = names.map((name) => new SignalListener(controller, name));
  if (ignored) Deno.addSignalListener("SIGHUP", () => {}); // Deno would end the process
  return { signal: controller.signal, hangsUp, listeners };
}

function streamOutput(stream: typeof Deno.stdout | typeof Deno.stderr, name: string): Output {
  const isTerminal = stream.isTerminal();
  const writeBytes = (bytes: Uint8Array) => {
    try {
      while (bytes.length > 0) bytes = bytes.subarray(stream.writeSync(bytes));
    } catch (cause) {
      if (cause instanceof Deno.errors.BrokenPipe) throw cause;
      throw new Error(`Cannot write to ${name}: ${(cause as Error).message}`, { cause });
    }
  };
  return {
    isTerminal,
    get columns() {
      // A terminal whose size is not set, as a serial one, says 0.
      return isTerminal ? Deno.consoleSize().columns || DEFAULT_COLUMNS : DEFAULT_COLUMNS;
    },
    get rows() {
      return isTerminal ? Deno.consoleSize().rows || undefined : undefined;
    },
    // Deno.noColor is NO_COLOR, and takes no permission.
    style: chooseStyle({ isTerminal, noColour: Deno.noColor, env: permittedEnv }),
    write: (text) => writeBytes(new TextEncoder().encode(text)),
    writeBytes,
  };
}

/** Complaints that can't be written, as on a full disk, are no reason to stop. */
function ignoringFailures(output: Output): Output {
  return {
    ...output,
    write(text) {
      try {
        output.write(text);
      } catch { /* there is no other place to complain */ }
    },
  };
}

/** A variable that may be read without asking anybody. */
function permittedEnv(variable: string): string | undefined {
  const { state } = Deno.permissions.querySync({ name: "env", variable });
  return state === "granted" ? Deno.env.get(variable) : undefined;
}

/**
 * The first signal asks for an end; a second one finds Deno's own handling, and ends the process.
 */
class SignalListener {
  /** True while it listens. */
  isOn = false;
  readonly #signal: keyof typeof SIGNALS;
  readonly #listener: () => void;

  constructor(controller: AbortController, signal: keyof typeof SIGNALS) {
    this.#signal = signal;
    this.#listener = () => {
      this.turn(false);
      controller.abort(new Interrupted(signal));
    };
    this.turn(true);
  }

  /** Begins to listen, or ends that. */
  turn(isOn: boolean): void {
    this.isOn = isOn;
    if (isOn) Deno.addSignalListener(this.#signal, this.#listener);
    else Deno.removeSignalListener(this.#signal, this.#listener);
  }
}
