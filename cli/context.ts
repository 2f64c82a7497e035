/**
 * What a subcommand has of its surroundings: streams, style, and the signal that ends it.
 *
 * @module
 */

import { chooseStyle, type Style } from "./style.ts";

/** A stream that text goes out on. */
export interface Output {
  /** Whether a person is looking. */
  readonly isTerminal: boolean;
  /** Width of a line. */
  readonly columns: number;
  /** How to colour what is written here. */
  readonly style: Style;
  /**
   * Writes all of the text before it returns.
   *
   * @throws {Deno.errors.BrokenPipe} if nobody reads any more, as `head` does after its last line
   */
  write(text: string): void;
  /** As `write`, for what is no text. */
  writeBytes(bytes: Uint8Array): void;
}

/** What every subcommand is given. */
export interface Context {
  /** Standard output: results. */
  readonly out: Output;
  /** Standard error: everything else. */
  readonly err: Output;
  /** Aborted with an {@linkcode Interrupted} when the user or the system wants an end. */
  readonly signal: AbortSignal;
}

/** The end that a signal asked for. */
export class Interrupted extends Error {
  override readonly name = "Interrupted";
  /** What a shell says of a program that a signal ended: 128 and the signal's number. */
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

/** The same as `work`, until the signal comes: for work that knows of no signal. It may go on behind, unheard. */
export async function untilAbort<T>(signal: AbortSignal, work: Promise<T>): Promise<T> {
  signal.throwIfAborted();
  const aborted = Promise.withResolvers<never>();
  using _listener = onAbort(signal, () => aborted.reject(signal.reason));
  return await Promise.race([work, aborted.promise]);
}

const SIGNALS = { SIGINT: 2, SIGTERM: 15 } as const;

/** The width of what is not a terminal. */
const DEFAULT_COLUMNS = 80;

/** The surroundings of this process. It needs no permission, and asks for none. */
export function processContext(): Context {
  return {
    out: streamOutput(Deno.stdout),
    err: ignoringBrokenPipe(streamOutput(Deno.stderr)),
    signal: interruptSignal(),
  };
}

function streamOutput(stream: typeof Deno.stdout | typeof Deno.stderr): Output {
  const isTerminal = stream.isTerminal();
  const writeBytes = (bytes: Uint8Array) => {
    while (bytes.length > 0) bytes = bytes.subarray(stream.writeSync(bytes));
  };
  return {
    isTerminal,
    columns: isTerminal ? Deno.consoleSize().columns : DEFAULT_COLUMNS,
    // Deno.noColor is NO_COLOR, and takes no permission.
    style: chooseStyle({ isTerminal, noColour: Deno.noColor, env: permittedEnv }),
    write: (text) => writeBytes(new TextEncoder().encode(text)),
    writeBytes,
  };
}

/** Complaints that nobody reads are no reason to stop. */
function ignoringBrokenPipe(output: Output): Output {
  return {
    ...output,
    write(text) {
      try {
        output.write(text);
      } catch (error) {
        if (!(error instanceof Deno.errors.BrokenPipe)) throw error;
      }
    },
  };
}

/** A variable that may be read without asking anybody. */
function permittedEnv(variable: string): string | undefined {
  const { state } = Deno.permissions.querySync({ name: "env", variable });
  return state === "granted" ? Deno.env.get(variable) : undefined;
}

/** The first signal asks for an end; a second one finds Deno's own handling, and ends the process. */
function interruptSignal(): AbortSignal {
  const controller = new AbortController();
  for (const signal of Object.keys(SIGNALS) as (keyof typeof SIGNALS)[]) {
    const onSignal = () => {
      Deno.removeSignalListener(signal, onSignal);
      controller.abort(new Interrupted(signal));
    };
    Deno.addSignalListener(signal, onSignal);
  }
  return controller.signal;
}
