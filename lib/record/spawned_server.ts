/**
 * A server that `vfu record` starts when a client has come.
 *
 * @module
 */

import { monotonicMs } from "../../ffi/clock.ts";
import { SystemError } from "../../ffi/errno.ts";
import { UnixSocket } from "../../ffi/socket.ts";
import { sleep } from "../base/sleep.ts";
import type { ServerSource } from "./recorder.ts";

/** Stands for the path of the socket in a command. */
export const SOCKET_PLACE = "{socket}";

/** The time in milliseconds that a server may take until it listens. */
const START_MS = 30_000;
/** The interval in milliseconds at which its socket is tried meanwhile. */
const RETRY_MS = 20;
/**
 * The time in milliseconds that a server for one client may take to end after its client, before
 * another connects.
 */
const LEAVE_MS = 500;
/** The time in milliseconds that a server may take to end by itself, and again after SIGTERM. */
const END_MS = 2000;

/** Has the kernel end the command with this process, where the kernel can be asked to. */
const START = "setpriv --pdeathsig TERM true 2>/dev/null && " +
  'exec setpriv --pdeathsig TERM sh -c "$1"; exec sh -c "$1"';

/**
 * Starts a command of the shell and connects to the socket that it makes. A command that still runs
 * when the next client comes serves that one, too; one that has ended is started again.
 */
export class SpawnedServer implements ServerSource, AsyncDisposable {
  readonly name: string;
  readonly #command: string;
  readonly #folder: string;
  readonly #socket: string;
  #process: Deno.ChildProcess | undefined;
  #status: Deno.CommandStatus | undefined;
  #hasServed = false; // since it was started
  #servedUntilMs = 0;

  /** @param command the command, in which `{socket}` stands for the path of the socket */
  constructor(command: string) {
    this.#command = command;
    this.#folder = Deno.makeTempDirSync({ prefix: "vfu-record-" });
    this.#socket = `${this.#folder}/server.sock`;
    this.name = command;
  }

  /**
   * Starts the command unless it runs, and waits until it listens.
   *
   * @throws {Error} if it ends before, or takes too long
   */
  async connect(signal: AbortSignal): Promise<number> {
    if (this.#hasServed) await this.#waitForEnd(this.#servedUntilMs + LEAVE_MS, signal);
    if (this.#process === undefined || this.#status !== undefined) await this.#start();
    const deadline = monotonicMs() + START_MS;
    while (true) {
      const socket = this.#try();
      if (socket !== undefined) {
        this.#hasServed = true;
        return socket.release();
      }
      if (this.#status !== undefined && this.#hasServed) await this.#start();
      else if (this.#status !== undefined) {
        throw new Error(
          `Cannot start the server: "${this.#command}" ended with code ${this.#status.code} ` +
            `before it listened on the socket that ${SOCKET_PLACE} stands for`,
        );
      }
      if (monotonicMs() > deadline) {
        throw new Error(
          `Cannot reach the server: "${this.#command}" has not listened on the socket that ` +
            `${SOCKET_PLACE} stands for within ${START_MS / 1000} s`,
        );
      }
      await sleep(RETRY_MS, signal);
    }
  }

  /** Remembers when the client left: a server for one client ends now. */
  disconnected(): void {
    this.#servedUntilMs = monotonicMs();
  }

  #try(): UnixSocket | undefined {
    try {
      return UnixSocket.connect(this.#socket);
    } catch (error) {
      const isEarly = error instanceof SystemError &&
        (error.code === "ENOENT" || error.code === "ECONNREFUSED");
      if (isEarly) return undefined;
      throw error;
    }
  }

  async #start(): Promise<void> {
    await Deno.remove(this.#socket).catch(() => {}); // of the one before
    const script = `exec ${this.#command.replaceAll(SOCKET_PLACE, this.#socket)}`;
    const child = new Deno.Command("sh", {
      args: ["-c", START, "sh", script],
      stdin: "null",
      stdout: "inherit",
      stderr: "inherit",
      detached: true, // Ctrl-C is the recorder's to hear
    }).spawn();
    this.#process = child;
    this.#status = undefined;
    this.#hasServed = false;
    child.status.then((status) => {
      if (this.#process === child) this.#status = status;
    });
  }

  /** A server that serves one client ends by itself: it gets a moment for it. */
  async #waitForEnd(until: number, signal?: AbortSignal): Promise<void> {
    while (this.#process !== undefined && this.#status === undefined && monotonicMs() < until) {
      await sleep(RETRY_MS, signal);
    }
  }

  /** Ends the command: by SIGTERM, then by SIGKILL. */
  async [Symbol.asyncDispose](): Promise<void> {
    for (const signal of ["SIGTERM", "SIGKILL"] as const) {
      if (this.#process === undefined || this.#status !== undefined) break;
      try {
        this.#process.kill(signal);
      } catch { /* it has just ended */ }
      await this.#waitForEnd(monotonicMs() + END_MS);
    }
    if (this.#process !== undefined) await this.#process.status;
    await Deno.remove(this.#folder, { recursive: true }).catch(() => {});
  }
}
