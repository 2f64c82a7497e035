/**
 * A server that `vfu record` starts when a client has come.
 *
 * @module
 */

import { monotonicMs } from "../../ffi/clock.ts";
import { SystemError } from "../../ffi/errno.ts";
import { UnixSocket } from "../../ffi/socket.ts";
import { ShellCommand, SOCKET_PLACE, withSocket } from "../base/shell_command.ts";
import { sleep } from "../base/sleep.ts";
import { socketFolder } from "../base/temporary.ts";
import type { ServerSource } from "./recorder.ts";

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

/**
 * Starts a command of the shell and connects to the socket that it makes. A command that still runs
 * when the next client comes serves that one, too; one that has ended is started again.
 */
export class SpawnedServer implements ServerSource, AsyncDisposable {
  readonly name: string;
  readonly #folder: string;
  readonly #socket: string;
  #command: ShellCommand | undefined;
  #status: Deno.CommandStatus | undefined;
  #hasServed = false; // since it was started
  #servedUntilMs = 0;

  /** @param command the command, in which `{socket}` stands for the path of the socket */
  constructor(command: string) {
    this.#folder = socketFolder("vfu-record-");
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
    if (this.#command === undefined || this.#status !== undefined) await this.#start();
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
          `Cannot start the server: "${this.name}" ended with code ${this.#status.code} ` +
            `before it listened on the socket that ${SOCKET_PLACE} stands for`,
        );
      }
      if (monotonicMs() > deadline) {
        throw new Error(
          `Cannot reach the server: "${this.name}" has not listened on the socket that ` +
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
    this.#command?.signal("SIGKILL"); // what it left behind
    const line = withSocket(this.name, this.#socket);
    const command = new ShellCommand(line, { output: "inherit", deathSignal: "TERM" });
    this.#command = command;
    this.#status = undefined;
    this.#hasServed = false;
    command.process.status.then((status) => {
      if (this.#command === command) this.#status = status;
    });
  }

  /** Waits for a moment, as a server for one client ends by itself. */
  async #waitForEnd(until: number, signal?: AbortSignal): Promise<void> {
    while (this.#command !== undefined && this.#status === undefined && monotonicMs() < until) {
      await sleep(RETRY_MS, signal);
    }
  }

  /** Ends the command: by SIGTERM, then by SIGKILL. */
  async [Symbol.asyncDispose](): Promise<void> {
    for (const signal of ["SIGTERM", "SIGKILL"] as const) {
      if (this.#command === undefined || this.#status !== undefined) break;
      this.#command.signal(signal);
      await this.#waitForEnd(monotonicMs() + END_MS);
    }
    this.#command?.signal("SIGKILL"); // what it left behind
    await this.#command?.process.status;
    await Deno.remove(this.#folder, { recursive: true }).catch(() => {});
  }
}
