/**
 * Two sockets and what is passed on between them, both ways, until both ways have ended.
 *
 * @module
 */

import { monotonicMs } from "../../ffi/clock.ts";
import { describeErrno } from "../../ffi/errno.ts";
import { POLLIN, POLLOUT } from "../../ffi/event.ts";
import { type Watch, watch } from "../../ffi/poller.ts";
import type { UnixSocket } from "../../ffi/socket.ts";
import { Guesses } from "../../ffi/speculative_receive.ts";
import { HEADER_SIZE, RECORD_DRAIN_MS, SERVE_SEND_BUFFER } from "../base/limits.ts";
import type { RecordedEnd } from "./event.ts";
import { Relay, type RelayEnd, type RelayHooks } from "./relay.ts";

/** The end of a link: who ended it, and why. */
export type LinkEnd = Pick<RecordedEnd, "side" | "reason" | "text">;

/** Reports of a link, and decisions about what passes. */
export interface LinkHooks {
  /** About the messages of the client. */
  readonly toServer: RelayHooks;
  /** About the messages of the server. */
  readonly toClient: RelayHooks;
  /** Called when something was passed on. */
  onTurn?: (() => void) | undefined;
  /** Called once, when both sockets are closed. */
  onEnd(end: LinkEnd): void;
}

/**
 * The number of times that the link looks for an answer at once before it goes back to the poll.
 */
const LOOKS = 15;

/**
 * The number of receives that take what a side said before it learned that the other one is gone.
 */
const LAST_TURNS = 64;

/**
 * The interval in milliseconds at which the link looks at a side that it does not poll. Such a side
 * only ended its direction, or its messages are not taken by the other side. It may close silently.
 */
const HALF_OPEN_MS = 500;

/**
 * In the place of events: the receiver has room for bytes, but too many descriptors are under way.
 * No poll reports the end of that.
 */
const CROWDED = -1;

/** The interval in milliseconds at which descriptors that are too many are sent again. */
const CROWDED_MS = 10;

/** One way through a link. */
interface Way {
  readonly relay: Relay;
  readonly from: UnixSocket;
  readonly to: UnixSocket;
  readonly sender: "client" | "server";
  readonly receiver: "client" | "server";
  watch: Watch | undefined;
  /** The events that are watched: POLLIN at the sender, POLLOUT at the receiver, or CROWDED. */
  events: number;
  /** The message that the deadline of `watch` is for, and how long the message may take. */
  awaited: number;
  patienceMs: number | undefined;
  /** The deadline by which the receiver takes the last bytes of a sender that is gone. */
  drainBy: number;
  isFinished: boolean;
}

/** Passes on what two sockets say. It owns both. */
export class Link {
  readonly #hooks: LinkHooks;
  readonly #drainMs: number;
  readonly #toServer: Way;
  readonly #toClient: Way;
  readonly #guesses = new Guesses<Link>();
  #next: Way; // the one on which something is expected
  #first: LinkEnd | undefined; // of the way that ended first
  #halfOpen: Watch | undefined;
  #isClosed = false;

  /**
   * Takes over two connected sockets, and passes on from now on.
   *
   * @param drainMs the time in milliseconds that a side has for what the other one left
   */
  constructor(
    client: UnixSocket,
    server: UnixSocket,
    hooks: LinkHooks,
    drainMs: number = RECORD_DRAIN_MS,
  ) {
    this.#hooks = hooks;
    this.#drainMs = drainMs;
    for (const socket of [client, server]) socket.setSendBuffer(SERVE_SEND_BUFFER);
    this.#toServer = way(client, server, "client", "server", hooks.toServer);
    this.#toClient = way(server, client, "server", "client", hooks.toClient);
    this.#next = this.#toServer;
    this.#update(this.#toServer);
    this.#update(this.#toClient);
  }

  /** The way to the server. */
  get toServer(): Relay {
    return this.#toServer.relay;
  }

  /** The way to the client. */
  get toClient(): Relay {
    return this.#toClient.relay;
  }

  /** True until both sockets are closed. */
  get isOpen(): boolean {
    return !this.#isClosed;
  }

  /** Sends a message of the recorder's own to the server. */
  inject(message: Uint8Array<ArrayBuffer>): void {
    this.#toServer.relay.inject(message);
    this.#next = this.#toClient;
    this.#update(this.#toServer);
  }

  /** Goes on with commands of the client that were held back. */
  resume(): void {
    this.#toServer.relay.resume();
    this.#next = this.#toClient;
    this.#update(this.#toServer);
  }

  /** Ends both directions, at once. */
  close(end: LinkEnd): void {
    this.#first ??= end;
    this.#end();
  }

  /** Looks for what is expected next. Called when the thread has yielded the CPU to the peers. */
  readonly guess = (): boolean => {
    const way = this.#next;
    return !this.#isClosed && this.#turn(way);
  };

  #turn(way: Way): boolean {
    const came = way.relay.turn();
    this.#update(way);
    if (!came) return false;
    this.#next = way.relay.isInLargeMessage ? way : this.#backOf(way);
    this.#hooks.onTurn?.();
    return true;
  }

  #backOf(way: Way): Way {
    return way === this.#toServer ? this.#toClient : this.#toServer;
  }

  #onReady(way: Way): void {
    if (this.#isClosed) return;
    const { relay } = way;
    if (way.events === POLLOUT) {
      const isDone = relay.flush();
      this.#update(way);
      if (isDone) this.#hooks.onTurn?.();
      return;
    }
    if (this.#turn(way)) this.#lookAhead();
  }

  /** Looks for the answer to what was just passed on, before the thread goes back to the poll. */
  #lookAhead(): void {
    const guesses = this.#guesses;
    guesses.about = this;
    for (let i = 0; i < LOOKS && !this.#isClosed; i++) {
      if (guesses.next(monotonicMs()) === undefined || !guesses.isRight(this)) return;
    }
  }

  #onDeadline(way: Way): void {
    if (this.#isClosed) return;
    const { relay } = way;
    if (!relay.isBlocked) relay.hurry();
    else {
      // The sender is gone, and the receiver has not taken what was left for long.
      if (monotonicMs() >= way.drainBy) return this.#end();
      if (way.from.isHungUp()) this.#drain(way);
      if (way.events === CROWDED) relay.flush();
    }
    this.#update(way);
  }

  /** Has the poll wait for what the way needs next. */
  #update(way: Way): void {
    if (this.#isClosed || way.isFinished) return;
    const { relay } = way;
    const { ended } = relay;
    const isBlocked = relay.isBlocked;
    if (ended !== undefined && (!isBlocked || ended.kind === "gone")) return this.#finish(way);
    const blocked = relay.isCrowded ? CROWDED : POLLOUT;
    const events = isBlocked ? blocked : POLLIN;
    if (events !== way.events) this.#rewatch(way, events);
    const entry = way.watch;
    if (entry === undefined) return;
    if (isBlocked) {
      if (ended !== undefined) this.#drain(way);
      if (entry.deadline !== Infinity) return;
      const waitMs = events === CROWDED ? CROWDED_MS : HALF_OPEN_MS;
      entry.deadline = Math.min(monotonicMs() + waitMs, way.drainBy);
      return;
    }
    way.drainBy = Infinity;
    const patienceMs = relay.patienceMs;
    if (patienceMs === undefined) {
      if (entry.deadline !== Infinity) entry.deadline = Infinity;
      return;
    }
    const { serial } = relay;
    const isSame = way.awaited === serial && way.patienceMs === patienceMs;
    if (isSame && entry.deadline !== Infinity) return;
    way.awaited = serial;
    way.patienceMs = patienceMs;
    entry.deadline = monotonicMs() + patienceMs;
  }

  /** Begins the time that the receiver has to take what is left. */
  #drain(way: Way): void {
    if (way.drainBy === Infinity) way.drainBy = monotonicMs() + this.#drainMs;
  }

  #rewatch(way: Way, events: number): void {
    way.watch?.close();
    way.watch = undefined;
    way.events = events;
    const { fd } = events === POLLIN ? way.from : way.to;
    way.watch = watch(
      fd,
      Math.max(events, 0),
      (revents) => revents === 0 ? this.#onDeadline(way) : this.#onReady(way),
      true,
    );
    way.watch.guess = () => {
      const isRight = this.guess();
      if (isRight) this.#lookAhead();
      return isRight;
    };
  }

  /** A direction has ended, and all of it was passed on. */
  #finish(way: Way): void {
    const ended = way.relay.ended!;
    way.isFinished = true;
    way.watch?.close();
    way.watch = undefined;
    this.#first ??= describeEnd(way, ended);
    const back = this.#backOf(way);
    if (ended.kind === "gone") way.from.shutdownReceiving();
    else way.to.shutdownSending();
    if (back.isFinished) return this.#end();
    if (ended.kind === "gone") return;
    if (way.from.isHungUp()) return this.#end();
    this.#halfOpen = watch(way.from.fd, 0, () => {
      if (way.from.isHungUp()) this.#end();
      else this.#halfOpen!.deadline = monotonicMs() + HALF_OPEN_MS;
    });
    this.#halfOpen.deadline = monotonicMs() + HALF_OPEN_MS;
  }

  /** Closes both sockets, when what has come already is recorded. */
  #end(): void {
    if (this.#isClosed) return;
    this.#isClosed = true;
    this.#halfOpen?.close();
    for (const way of [this.#toServer, this.#toClient]) {
      for (let i = 0; i < LAST_TURNS && !way.isFinished && way.relay.turn(); i++);
      way.watch?.close();
      way.relay.close();
    }
    for (const socket of [this.#toServer.from, this.#toServer.to]) {
      socket.shutdown(); // a poll that still has it in its set wakes
      socket.close();
    }
    this.#hooks.onEnd(this.#first ?? { side: "recorder", reason: "stopped", text: "stopped" });
  }
}

function way(
  from: UnixSocket,
  to: UnixSocket,
  sender: "client" | "server",
  receiver: "client" | "server",
  hooks: RelayHooks,
): Way {
  const relay = new Relay(from, to, receiver === "client", hooks);
  return {
    relay,
    from,
    to,
    sender,
    receiver,
    watch: undefined,
    events: 0,
    awaited: 0,
    patienceMs: undefined,
    drainBy: Infinity,
    isFinished: false,
  };
}

function describeEnd({ sender, receiver }: Way, ended: RelayEnd): LinkEnd {
  switch (ended.kind) {
    case "left":
      return { side: sender, reason: "left", text: `the ${sender} closed the connection` };
    case "cut": {
      const of = ended.size === undefined ? `a header's ${HEADER_SIZE}` : ended.size;
      const text = `the ${sender} closed the connection in the middle of a message: ` +
        `${ended.came} of ${of} bytes came`;
      return { side: sender, reason: "cut", text };
    }
    case "lost": {
      const text = `receiving from the ${sender} failed: ${describeErrno(ended.errno)}`;
      return { side: sender, reason: "failed", text };
    }
    case "gone": {
      const text = `the ${receiver} takes no more: ${describeErrno(ended.errno)}`;
      return { side: receiver, reason: "failed", text };
    }
  }
}
