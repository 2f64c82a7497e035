/**
 * Copies that a device makes for a check.
 *
 * The steps that start one run as those of any session, with a client of their own. Its messages
 * travel on the connection of the check, so that the check sees what the device asks for meanwhile.
 *
 * @module
 */

import { monotonicMs } from "../../ffi/clock.ts";
import { POLLIN } from "../../ffi/event.ts";
import { watch } from "../../ffi/poller.ts";
import { UnixSocket } from "../../ffi/socket.ts";
import { asError } from "../base/thrown.ts";
import { plural } from "../text/plural.ts";
import { Command } from "../wire/command.ts";
import { encodeMessage, MessageFlags } from "../wire/header.ts";
import type { CopySession } from "./copying.ts";
import { ConnectionEnded, Deviation } from "./deviation.ts";
import { limitsOf } from "./limits.ts";
import { type CameMessage, type Note, RawPeer } from "./raw_peer.ts";
import { capabilitiesText, versionPayload } from "./requests.ts";
import type { Trial } from "./trial.ts";

/** The time that taking back what the steps set up may take, in milliseconds a request. */
const CLOSE_MS = 1000;

/** Bytes of the widest register: steps access each at once. */
const REGISTER = 8;

/** The bytes that a copy is about. */
export interface Copied {
  /** The IOVA of the first byte that is read. */
  readonly source: bigint;
  /** The IOVA of the first byte that is written. */
  readonly destination: bigint;
  /** Bytes. */
  readonly length: number;
}

/** The end of a copy. */
export interface CopyEnd {
  /** True if all steps have passed: the device says that it has copied. */
  readonly isDone: boolean;
  /** The end in words: "done", or the step that failed, and why. */
  readonly text: string;
}

/**
 * Has the device copy, and answers what it asks for. The end is awaited as long as any answer.
 *
 * @param looksAtDevice true to look whether the device is one that the session is for
 */
export async function copy(
  t: Trial,
  description: CopySession,
  copied: Copied,
  looksAtDevice = false,
): Promise<CopyEnd> {
  const { data } = limitsOf(t.facts);
  t.need(data >= REGISTER, `the server takes ${plural(data, "byte")} of data in a message`);
  await using relay = new Relay(t, description, copied, looksAtDevice);
  try {
    await relay.pass();
  } catch (error) {
    if (!(error instanceof ConnectionEnded)) throw error;
    throw new ConnectionEnded("an end of the copy", error.came);
  }
  return relay.end!;
}

/**
 * Has the device copy until it asks for memory. The request is left to the check to answer; the
 * steps go no further.
 *
 * @param peer the connection on which the server has to ask
 */
export async function firstAsked(
  t: Trial,
  description: CopySession,
  copied: Copied,
  peer: RawPeer = t.peer,
): Promise<CameMessage> {
  await using relay = new Relay(t, description, copied);
  const message = await relay.pass(peer);
  if (message !== undefined) return message;
  throw new Deviation("a DMA_READ", `none; the copy: ${relay.end!.text}`);
}

/** Steps that run, and their messages on the connection of a check. */
class Relay implements AsyncDisposable {
  /** The end of the copy, once the steps are over. */
  end: CopyEnd | undefined;
  readonly #trial: Trial;
  readonly #steps: Promise<void>;
  /** The end of a socket pair whose other end the client of the steps has. */
  readonly #client: RawPeer;
  /** Message ids of the client, by those of its requests that the server has not answered. */
  readonly #waiting = new Map<number, number>();
  readonly #stop = new AbortController();
  readonly #deadline: number;
  #wake = () => {};
  /** The place in the session. */
  #at = "ahead of its first step";

  constructor(t: Trial, { session }: CopySession, copied: Copied, looksAtDevice = false) {
    this.#trial = t;
    this.#deadline = monotonicMs() + t.timeoutMs;
    const [client, far] = UnixSocket.pair();
    const { signal } = t;
    const timeoutMs = () => t.timeoutMs;
    this.#client = new RawPeer(client, { timeoutMs, signal, notes: [], from: "client" });
    this.#steps = this.#run(far.release(), session, copied, looksAtDevice).then((end) => {
      this.end = end;
      this.#wake();
    });
  }

  /**
   * Passes messages on until the steps are over, or the server sends a command to `asked`.
   *
   * @returns that command
   * @throws {ConnectionEnded} if the server ends the connection
   */
  async pass(asked?: RawPeer): Promise<CameMessage | undefined> {
    const t = this.#trial;
    const peers = [...new Set([asked ?? t.peer, t.peer])];
    while (true) {
      t.signal.throwIfAborted();
      const request = this.#client.receiveNow();
      if (request !== undefined) await this.#send(request);
      let isIdle = request === undefined;
      for (const peer of peers) {
        const came = peer.receiveNow();
        if (came === undefined) continue;
        if (peer === asked && typeOf(came) === MessageFlags.COMMAND) return came;
        await this.#take(came, peer, asked);
        isIdle = false;
      }
      if (!isIdle) continue;
      if (this.end !== undefined) return undefined;
      if (peers.some(({ isOpen }) => !isOpen)) {
        throw new ConnectionEnded("the copy to go on", "the end of the connection");
      }
      if (monotonicMs() >= this.#deadline) this.#stop.abort();
      await this.#wait([this.#client, ...peers]);
    }
  }

  /** Ends the steps where they are. Answers to their requests may still come. */
  async [Symbol.asyncDispose](): Promise<void> {
    this.#stop.abort();
    this.#client[Symbol.dispose]();
    await this.#steps;
    for (const id of this.#waiting.keys()) this.#trial.abandon(id);
  }

  /** Does the steps. */
  async #run(
    fd: number,
    session: CopySession["session"],
    copied: Copied,
    looksAtDevice: boolean,
  ): Promise<CopyEnd> {
    const t = this.#trial;
    const signal = AbortSignal.any([t.signal, this.#stop.signal]);
    try {
      const { connect } = await import("../client/connect.ts");
      const { runSession } = await import("../session/run/runner.ts");
      using device = await connect(fd, { twinSocket: false, timeoutMs: t.timeoutMs, signal });
      if (looksAtDevice) {
        const { lacks } = await import("../session/run/requirements.ts");
        const [lack] = await lacks(session.requires, device, { signal });
        if (lack !== undefined) {
          const text = `${lack.what} is ${lack.found}, not ${lack.expected}`;
          return { isDone: false, text };
        }
      }
      const results = runSession(session, device, {
        signal,
        closeTimeoutMs: CLOSE_MS,
        onBegin: ({ variables }) => {
          const { source, destination, length } = copied;
          for (const [name, value] of Object.entries({ source, destination, length })) {
            variables.set(name, BigInt(value));
          }
        },
        onStep: ({ text }, number) => this.#at = `step ${number} (${text})`,
      });
      let failure: string | undefined;
      for await (const { status, error } of results) {
        if (status === "failed") failure ??= `${this.#at}: ${error!.message}`;
      }
      return { isDone: failure === undefined, text: failure ?? "done" };
    } catch (error) {
      const text = this.#stop.signal.aborted
        ? `it has not ended within ${t.timeoutMs / 1000} s`
        : asError(error).message;
      return { isDone: false, text: `${this.#at}: ${text}` };
    }
  }

  /** Passes on a request of the client. Its VERSION is answered here: the check has sent one. */
  async #send({ command, payload, fds, flags, messageId }: CameMessage): Promise<void> {
    const t = this.#trial;
    if (command === Command.VERSION) {
      const limits = limitsOf(t.facts);
      const json = capabilitiesText({
        max_msg_fds: limits.fds,
        max_data_xfer_size: limits.data,
        pgsizes: Number(limits.page),
      });
      const reply = { messageId, command, flags: MessageFlags.REPLY };
      await this.#client.send(encodeMessage(reply, versionPayload(0, 0, json)));
      return;
    }
    const id = await t.send({ command, payload, fds, flags });
    if ((flags & MessageFlags.NO_REPLY) === 0) this.#waiting.set(id, messageId);
  }

  /** Passes a reply on to the client, or answers a request of the server. */
  async #take(came: CameMessage, peer: RawPeer, asked: RawPeer | undefined): Promise<void> {
    const { messageId: id, command, flags, error, payload, fds } = came;
    const messageId = this.#waiting.get(id);
    if (typeOf(came) === MessageFlags.REPLY && messageId !== undefined) {
      this.#waiting.delete(id);
      const reply = encodeMessage({ messageId, command, flags, error }, payload);
      await this.#client.send(reply, fds).catch(() => {}); // a client that has left needs none
      foldLast(this.#trial.notes);
    } else if (asked !== undefined || !await this.#trial.answer(came, peer)) {
      throw new Deviation(asked === undefined ? "a reply" : "a request elsewhere", came.text);
    }
  }

  /** Waits until a peer has something, the steps are over, or the time is. */
  async #wait(peers: readonly RawPeer[]): Promise<void> {
    const { promise, resolve } = Promise.withResolvers<void>();
    this.#wake = resolve;
    const { signal } = this.#trial;
    signal.addEventListener("abort", this.#wake, { once: true });
    const watches = peers.filter(({ isOpen }) => isOpen).map(({ fd }) => {
      const each = watch(fd, POLLIN, () => {
        each.close();
        resolve();
      });
      if (!this.#stop.signal.aborted) each.deadline = this.#deadline;
      return each;
    });
    try {
      await promise;
    } finally {
      for (const each of watches) each.close();
      signal.removeEventListener("abort", this.#wake);
    }
  }
}

function typeOf({ flags }: CameMessage): number {
  return flags & MessageFlags.TYPE_MASK;
}

/** Drops a request and its reply from the end if both came just before: a poll repeats them. */
function foldLast(notes: Note[]): void {
  const [first, second, third, fourth] = notes.slice(-4).map(({ text }) =>
    text.replace(/^#\d+ /, "")
  );
  if (fourth !== undefined && first === third && second === fourth) notes.length -= 2;
}
