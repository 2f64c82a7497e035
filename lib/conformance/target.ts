/**
 * Servers under test: one that listens already, or one that is started as often as needed.
 *
 * @module
 */

import { monotonicMs } from "../../ffi/clock.ts";
import { SystemError } from "../../ffi/errno.ts";
import { UnixSocket } from "../../ffi/socket.ts";
import { ShellCommand, SOCKET_PLACE, withSocket } from "../base/shell_command.ts";
import { sleep } from "../base/sleep.ts";
import { socketFolder } from "../base/temporary.ts";

/** The time that a server may take until it listens, in milliseconds. */
const START_MS = 30_000;
const RETRY_MS = 5;
/** The time for which a full queue of a listener is tried, in milliseconds. */
const QUEUE_MS = 5000;
/** The time that a server for one client may take to end after it, in milliseconds. */
const LEAVE_MS = 2000;
/** The same of one that has not ended before: a crash takes a moment to be seen. */
const LINGER_MS = 100;
/** Characters of its output that are kept: the last ones. A sanitizer's report takes 10,000. */
const MAX_WORDS = 32_000;
/** The longest of its last lines. */
const MAX_LINE = 500;

/** The end of a server's process. */
export interface ServerEnd {
  /** The signal that ended it. */
  readonly signal: string | undefined;
  /** The exit code. */
  readonly code: number;
  /** The last lines that it wrote. */
  readonly words: readonly string[];
  /** The last part of its output. */
  readonly output: string;
}

/** A server under test. */
export interface Target extends AsyncDisposable {
  /** Its name for reports. */
  readonly name: string;
  /** True if it can be started anew. */
  readonly isSpawned: boolean;
  /** The process, if it is ours. */
  readonly process: number | undefined;
  /** True of a server that is known to end with its client. */
  readonly servesOne: boolean;
  /** Connects a client, starting the server before that if it has ended. */
  connect(signal: AbortSignal): Promise<UnixSocket>;
  /** Connects one more client to the server that runs; undefined if it takes none. */
  tryConnect(): UnixSocket | undefined;
  /** Takes the end of the server, if it has ended in a way that no server should. */
  takeCrash(): ServerEnd | undefined;
  /**
   * Reports whether the last connection went to a server that had served its one client before,
   * and has ended since or listens no more. A check learns nothing from such a connection.
   */
  wasSpent(signal: AbortSignal): Promise<boolean>;
  /**
   * Waits for a server that serves one client, and has ended after one before.
   *
   * @param isSuspect true of a server that did not answer: it may be about to end
   */
  left(signal: AbortSignal, isSuspect?: boolean): Promise<void>;
  /** Ends the server; `connect` starts it anew. */
  restart(): Promise<void>;
  /** The output of the server that runs; undefined if that is not known. */
  output(): ServerOutput | undefined;
}

/** The output of a server so far. */
export interface ServerOutput {
  /** Characters in all. */
  readonly length: number;
  /** The last of them. */
  readonly tail: string;
}

/** The server can't be reached. */
export class Unreachable extends Error {
  /** "Unreachable". */
  override readonly name = "Unreachable";
}

/** A server that listens at a path. */
export class ListeningTarget implements Target {
  readonly isSpawned = false;
  readonly process = undefined;
  readonly servesOne = false;

  constructor(readonly name: string) {}

  async connect(signal: AbortSignal): Promise<UnixSocket> {
    const deadline = monotonicMs() + QUEUE_MS;
    while (true) {
      let socket: UnixSocket | undefined;
      try {
        socket = UnixSocket.connect(this.name);
      } catch (cause) {
        if (!(cause instanceof SystemError)) throw cause;
        throw new Unreachable(`${cause.message}; start the server, or use --spawn`, { cause });
      }
      if (socket !== undefined) return socket;
      if (monotonicMs() > deadline) {
        throw new Unreachable(`Cannot connect to ${this.name}: the server accepts no client`);
      }
      await sleep(RETRY_MS, signal);
    }
  }

  tryConnect(): UnixSocket | undefined {
    return tryConnect(this.name);
  }

  takeCrash(): undefined {}

  wasSpent(): Promise<boolean> {
    return Promise.resolve(false);
  }

  async left(): Promise<void> {}

  async restart(): Promise<void> {}

  output(): undefined {}

  async [Symbol.asyncDispose](): Promise<void> {}
}

/** A server that a command of the shell starts. */
export class SpawnedTarget implements Target {
  readonly isSpawned = true;
  readonly name: string;
  readonly #folder: string;
  #count = 0;
  #run: Run | undefined;
  /** The one before. */
  #ended: Run | undefined;
  #crash: ServerEnd | undefined;
  /** True once a server has ended by itself after its client had left. */
  #isForOne = false;
  /** True of a server that goes on when it has served its client, and takes no other. */
  #lingers = false;
  /** The server of the last connection, if another client came before that. */
  #reused: Run | undefined;

  /** @param command the command, in which `{socket}` stands for the path of the socket */
  constructor(command: string) {
    this.name = command;
    this.#folder = socketFolder("vfu-check-");
  }

  get process(): number | undefined {
    return this.#run?.pid;
  }

  get servesOne(): boolean {
    return this.#isForOne;
  }

  async connect(signal: AbortSignal): Promise<UnixSocket> {
    const deadline = monotonicMs() + START_MS;
    let run = this.#alive() ?? await this.#next(signal);
    let isOld = run.hasServed;
    let refusedMs: number | undefined;
    while (true) {
      const socket = tryConnect(run.socket);
      if (socket !== undefined) {
        this.#reused = run.hasServed ? run : undefined;
        run.hasServed = true;
        return socket;
      }
      refusedMs ??= monotonicMs();
      if (run.end !== undefined) {
        if (!isOld) {
          throw new Unreachable(
            `Cannot start the server: "${this.name}" ${endText(run.end)} before it listened on ` +
              `the socket that ${SOCKET_PLACE} stands for${wordsText(run.end)}`,
          );
        }
        this.#alive();
        run = await this.#next(signal);
        isOld = false;
      } else if (isOld && monotonicMs() > refusedMs + (this.#lingers ? LINGER_MS : LEAVE_MS)) {
        await this.restart(); // it lives, and takes no client any more
        run = this.#start();
        isOld = false;
      } else if (monotonicMs() > deadline) {
        throw new Unreachable(
          `Cannot reach the server: "${this.name}" has not listened on the socket that ` +
            `${SOCKET_PLACE} stands for within ${START_MS / 1000} s`,
        );
      }
      await sleep(RETRY_MS, signal);
    }
  }

  tryConnect(): UnixSocket | undefined {
    return this.#run && tryConnect(this.#run.socket);
  }

  takeCrash(): ServerEnd | undefined {
    this.#alive();
    const crash = this.#crash;
    this.#crash = undefined;
    return crash;
  }

  async wasSpent(signal: AbortSignal): Promise<boolean> {
    const run = this.#reused;
    if (run === undefined) return false;
    await this.#endOf(run, this.#lingers ? LINGER_MS : LEAVE_MS, signal);
    if (run.end !== undefined) return !isCrash(run.end);
    using socket = tryConnect(run.socket);
    if (socket !== undefined) return false;
    this.#lingers = true;
    if (run === this.#run) await this.restart();
    return true;
  }

  async left(signal: AbortSignal, isSuspect = false): Promise<void> {
    const run = this.#run;
    if (run === undefined) return;
    if (this.#lingers) await this.#endOf(run, LINGER_MS, signal);
    else if (this.#isForOne || isSuspect) await this.#endOf(run, LEAVE_MS, signal);
    if (this.#lingers && run.end === undefined) await this.restart();
  }

  async #endOf(run: Run, patienceMs: number, signal: AbortSignal): Promise<void> {
    const deadline = monotonicMs() + patienceMs;
    while (run.end === undefined && monotonicMs() < deadline) await sleep(RETRY_MS, signal);
  }

  async restart(): Promise<void> {
    const run = this.#run;
    if (run === undefined) return;
    this.#alive();
    this.#run = undefined;
    this.#ended = run;
    await run.stop();
  }

  output(): ServerOutput | undefined {
    return this.#run?.output;
  }

  async [Symbol.asyncDispose](): Promise<void> {
    await this.restart();
    await this.#ended?.close();
    await Deno.remove(this.#folder, { recursive: true }).catch(() => {});
  }

  /** The server that runs. One that has ended is forgotten, and its crash is kept. */
  #alive(): Run | undefined {
    const end = this.#run?.end;
    if (end === undefined) return this.#run;
    if (isCrash(end)) this.#crash ??= end;
    else this.#isForOne = true;
    this.#run?.sweep();
    this.#ended = this.#run;
    this.#run = undefined;
    return undefined;
  }

  /**
   * Starts the server anew.
   *
   * @throws {Unreachable} if the one before goes on without its command: each would be left behind
   */
  async #next(signal: AbortSignal): Promise<Run> {
    const before = this.#ended;
    this.#ended = undefined;
    // What it left behind was killed, and has yet to end.
    const deadline = monotonicMs() + LEAVE_MS;
    while (before !== undefined) {
      using socket = tryConnect(before.socket);
      if (socket === undefined) break;
      if (monotonicMs() > deadline) {
        const process = socket.peerProcess();
        throw new Unreachable(
          `Cannot start the server anew: "${this.name}" has ended, and a server that it left ` +
            `behind goes on${process === undefined ? "" : ` as process ${process}`}; have the ` +
            "command stay in the foreground",
        );
      }
      await sleep(RETRY_MS, signal);
    }
    await before?.close();
    return this.#start();
  }

  #start(): Run {
    const socket = `${this.#folder}/${++this.#count}.sock`;
    return this.#run = new Run(withSocket(this.name, socket), socket);
  }
}

/** One process of a peer: a server, or a client. */
export class Run {
  hasServed = false;
  end: ServerEnd | undefined;
  readonly #command: ShellCommand;
  readonly #over: Promise<void>;
  readonly #outputs: ReadableStreamDefaultReader<Uint8Array>[];
  readonly #reading: Promise<unknown>;
  #words = "";
  #wordsLength = 0;
  #isStopped = false;

  constructor(command: string, readonly socket: string) {
    this.#command = new ShellCommand(command, { output: "piped", deathSignal: "KILL" });
    const { stdout, stderr, status } = this.#command.process;
    this.#outputs = [stdout, stderr].map((stream) => stream.getReader());
    this.#reading = Promise.all(this.#outputs.map((output) => this.#listen(output)));
    this.#over = status.then(async ({ code, signal }) => {
      if (this.#isStopped) this.sweep();
      // A process that it left behind may hold its output open.
      const enough = new AbortController();
      const patience = sleep(LEAVE_MS, enough.signal).catch(() => {});
      await Promise.race([this.#reading, patience]);
      enough.abort();
      const output = this.#words;
      const lines = output.slice(-8 * MAX_LINE).split("\n").map((line) => line.trimEnd());
      const words = lines.filter(Boolean).slice(-8);
      this.end = { signal: signal ?? undefined, code, words, output };
    });
  }

  get pid(): number {
    return this.#command.process.pid;
  }

  /** Its output so far. */
  get output(): ServerOutput {
    return { length: this.#wordsLength, tail: this.#words };
  }

  /** Ends it: by SIGTERM, then by SIGKILL. All that it left behind ends with it. */
  async stop(): Promise<void> {
    this.#isStopped = true;
    for (const signal of ["SIGTERM", "SIGKILL"] as const) {
      if (this.end !== undefined) break;
      this.#command.signal(signal);
      const deadline = monotonicMs() + LEAVE_MS;
      while (this.end === undefined && monotonicMs() < deadline) await sleep(RETRY_MS);
    }
    this.sweep();
    await this.#over;
    await this.close();
  }

  /** Closes its output, which a process that it left behind may hold open. */
  async close(): Promise<void> {
    await Promise.all(this.#outputs.map((output) => output.cancel().catch(() => {})));
    await this.#reading;
  }

  /** Ends the processes that it left behind. */
  sweep(): void {
    this.#command.signal("SIGKILL");
  }

  async #listen(output: ReadableStreamDefaultReader<Uint8Array>): Promise<void> {
    const decoder = new TextDecoder();
    try {
      for (;;) {
        const { value: bytes, done } = await output.read();
        if (done) return;
        const text = decoder.decode(bytes, { stream: true });
        this.#words = (this.#words + text).slice(-MAX_WORDS);
        this.#wordsLength += text.length;
      }
    } catch { /* its end is all that matters */ }
  }
}

/** Describes an end: "was ended by SIGABRT". */
export function endText({ signal, code }: ServerEnd): string {
  return signal === undefined ? `ended with code ${code}` : `was ended by ${signal}`;
}

/** The last words of a server, as they follow a sentence. */
export function wordsText({ words }: ServerEnd): string {
  return words.length === 0 ? "" : `; it wrote: ${words.join(" | ")}`;
}

/** A code of 0 is an orderly end, as of a server for one client. */
function isCrash({ signal, code }: ServerEnd): boolean {
  return signal !== undefined || code !== 0;
}

function tryConnect(path: string): UnixSocket | undefined {
  try {
    return UnixSocket.connect(path);
  } catch (error) {
    if (error instanceof SystemError && EARLY.includes(error.code)) return undefined;
    throw error;
  }
}

/** Errors of a socket that is not there yet, or no more. */
const EARLY: readonly string[] = ["ENOENT", "ECONNREFUSED"];
