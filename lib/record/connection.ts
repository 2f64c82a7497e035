/**
 * One client's connection through a recorder: its main socket, its twin, and what is altered.
 *
 * The way of a DMA_READ that a server sends: the poll wakes the `Link`, which has the `Relay` of
 * the direction to the client receive. The relay cuts the message out. The hooks made here say
 * whether it has to be inspected. If so, it is a `Passage` for `SideRequests`, `CommandGate` and
 * `Interceptor`, which may alter or keep it. The relay sends it by its `SendQueue`, and reports it.
 * From here it goes as an event to `sink`, which is a `RecordingWriter` or a line of `-v`. The
 * reply of the client takes the same way through the other relay. With a twin socket both pass
 * through the twin's `Link`, where nothing is inspected.
 *
 * @module
 */

import { peerProcess, peerProcessText } from "../transport/peer_process.ts";
import { monotonicMs } from "../../ffi/clock.ts";
import { SystemError } from "../../ffi/errno.ts";
import { OwnedFd } from "../../ffi/fd.ts";
import { UnixSocket } from "../../ffi/socket.ts";
import { ProtocolError } from "../base/errors.ts";
import { Command } from "../wire/command.ts";
import { HEADER_SIZE, MessageFlags } from "../wire/header.ts";
import { decodeVersion, type Version } from "../wire/version.ts";
import { CommandGate } from "./command_gate.ts";
import type { DescriptorFacts } from "./descriptor.ts";
import type { NewEvent, RecordedDirection, RecordedSocket } from "./event.ts";
import { type Interception, Interceptor } from "./intercept.ts";
import { Link, type LinkEnd } from "./link.ts";
import { hasFlag, type Passage, remark } from "./passage.ts";
import type { RelayHooks } from "./relay.ts";
import { SideRequests } from "./side_requests.ts";

/** Takes events. Bytes of a message are a view that holds during the call. */
export type EventSink = (event: NewEvent) => void;

/** The way in which a connection is recorded. */
export interface ConnectionOptions {
  /** Its number in the recording. */
  readonly number: number;
  /** The kinds of traffic to intercept. */
  readonly intercept: ReadonlySet<Interception>;
  /** The place of the server; null if unknown. */
  readonly server: string | null;
  /** True if commands of others are let in between. */
  readonly hasSide: boolean;
  /** Takes the events. */
  readonly sink: EventSink;
  /** Called once, when all sockets are closed. */
  readonly onEnd: (end: LinkEnd) => void;
}

/** One moment, by both clocks: nanoseconds since the epoch, and `monotonicMs`. */
let start: { readonly ns: bigint; readonly ms: number } | undefined;

/** Nanoseconds since the epoch, by a clock that never goes back. */
export function nowNs(): bigint {
  start ??= { ns: BigInt(Date.now()) * 1_000_000n, ms: monotonicMs() };
  return start.ns + BigInt(Math.round((monotonicMs() - start.ms) * 1e6));
}

/** The process at the other end, as "qemu-system-x86 (4711)"; null if unknown. */
function processOf(socket: UnixSocket): string | null {
  const peer = peerProcess(socket);
  return peer === null ? null : peerProcessText(peer);
}

/** A connection while it is recorded. */
export class RecordedConnection {
  readonly #options: ConnectionOptions;
  readonly #interceptor: Interceptor;
  readonly #main: Link;
  readonly #side: SideRequests | undefined;
  readonly #gate: CommandGate | undefined;
  #twin: Link | undefined;
  #twinEnd: LinkEnd | undefined;
  #version: Version | undefined;

  /** Takes over both sockets, and passes on from now on. */
  constructor(client: UnixSocket, server: UnixSocket, options: ConnectionOptions) {
    this.#options = options;
    const at = () => ({ timeNs: nowNs(), connection: options.number, socket: "main" }) as const;
    this.#interceptor = new Interceptor(options.intercept, {
      onInterrupt: (seen) => options.sink({ kind: "interrupt", ...at(), ...seen }),
      onKick: (seen) => options.sink({ kind: "ioeventfd", ...at(), ...seen }),
    });
    options.sink({ kind: "open", ...at(), client: processOf(client), server: options.server });
    this.#side = options.hasSide
      ? new SideRequests({
        link: () => this.#main,
        hasTwin: () => this.#twin !== undefined,
        isShut: () => this.#gate?.isShut === true,
        sink: (direction, bytes, descriptors) =>
          options.sink({
            kind: "message",
            ...at(),
            origin: "side",
            direction,
            bytes,
            descriptors,
          }),
      })
      : undefined;
    this.#gate = options.intercept.has("dma") ? this.#makeGate() : undefined;
    const interceptor = this.#interceptor;
    const [side, gate] = [this.#side, this.#gate];
    const seesAll = side !== undefined || gate !== undefined;
    this.#main = new Link(client, server, {
      toServer: this.#hooks("main", "to-server", {
        isInspected: (command, isReply) =>
          seesAll || (!isReply && interceptor.altersRequest(command)),
        needsWhole: (command, isReply, messageId) =>
          !isReply && (interceptor.altersRequest(command) || side?.isReserved(messageId) === true),
        inspect: (passage) => {
          if (!passage.isPassed) interceptor.alter(passage);
          side?.onClientMessage(passage);
          gate?.onClientMessage(passage);
        },
        isHeld: seesAll ? () => side?.isHeld() === true || gate?.isHeld() === true : undefined,
        isAwaited: gate && ((messageId) => gate.isAwaited(messageId)),
        onOverrun: () =>
          this.#note("main", "more commands wait for the server than are held back: all go on"),
      }),
      toClient: this.#hooks("main", "to-client", {
        isInspected: (command, isReply) =>
          seesAll ||
          (isReply && (command === Command.VERSION || interceptor.altersReply(command))),
        needsWhole: (command, isReply, messageId) =>
          isReply &&
          (command === Command.VERSION || interceptor.altersReply(command) ||
            side?.isReserved(messageId) === true || gate?.keeps(messageId) === true),
        inspect: (passage) => {
          side?.onServerMessage(passage);
          if (!passage.isOurs) gate?.onServerMessage(passage);
          if (passage.isOurs || passage.isPassed) return;
          if (passage.isReply && passage.command === Command.VERSION) this.#onVersion(passage);
          interceptor.alter(passage);
        },
      }),
      onTurn: seesAll
        ? () => {
          side?.letIn();
          if (this.#main.isOpen && this.#main.toServer.isHolding) this.#main.resume();
        }
        : undefined,
      onEnd: (end) => this.#onEnd(end),
    });
  }

  /** The server's answer to the client's VERSION, once it has come. */
  get version(): Version | undefined {
    return this.#version;
  }

  /** Requests of others. */
  get side(): SideRequests | undefined {
    return this.#side;
  }

  /** Ends it. */
  close(end: LinkEnd): void {
    this.#main.close(end);
  }

  #makeGate(): CommandGate {
    const { sink, number: connection } = this.#options;
    return new CommandGate({
      hasTwin: () => this.#twin !== undefined,
      resume: () => this.#main.isOpen && this.#main.resume(),
      note: (text) => this.#note("main", text),
      keep: ({ bytes, descriptors }, comment) =>
        sink({
          kind: "message",
          timeNs: nowNs(),
          connection,
          socket: "main",
          origin: "peer",
          direction: "to-client",
          bytes,
          passedOn: null,
          descriptors,
          comment,
        }),
    });
  }

  #hooks(
    socket: RecordedSocket,
    direction: RecordedDirection,
    decisions: Omit<RelayHooks, "onMessage" | "onGarbage" | "onLostFds">,
  ): RelayHooks {
    const { sink, number: connection } = this.#options;
    return {
      ...decisions,
      onMessage: (bytes, descriptors, passage) => {
        const origin = "peer";
        const event: NewEvent = {
          kind: "message",
          timeNs: nowNs(),
          connection,
          socket,
          origin,
          direction,
          bytes,
          descriptors,
        };
        sink(passage === undefined ? event : { ...event, ...alterationsOf(passage) });
      },
      onGarbage: (bytes, descriptors, reason) => {
        const timeNs = nowNs();
        const comment = `no message: ${reason}`;
        sink({
          kind: "garbage",
          timeNs,
          connection,
          socket,
          direction,
          bytes,
          descriptors,
          comment,
        });
      },
      onLostFds: (reason) => this.#note(socket, `descriptors were lost: ${reason}`),
    };
  }

  #note(socket: RecordedSocket, text: string): void {
    const { sink, number: connection } = this.#options;
    sink({ kind: "note", timeNs: nowNs(), connection, socket, text });
  }

  #onVersion(passage: Passage): void {
    const { bytes } = passage;
    if (hasFlag(passage, MessageFlags.ERROR)) return;
    try {
      this.#version = decodeVersion(bytes.slice(HEADER_SIZE));
    } catch (error) {
      if (!(error instanceof ProtocolError)) throw error;
      return;
    }
    const { supported, fdIndex } = this.#version.capabilities.twinSocket ?? {};
    if (!supported || fdIndex === undefined || this.#twin !== undefined) return;
    if (passage.fds[fdIndex] !== undefined) this.#beInTheMiddle(passage, fdIndex);
  }

  /** Gives the client a socket of the recorder's own in place of the server's second one. */
  #beInTheMiddle(passage: Passage, index: number): void {
    const fd = passage.fds[index]!;
    let server: UnixSocket;
    let pair: [UnixSocket, UnixSocket];
    try {
      pair = UnixSocket.pair();
    } catch (error) {
      if (!(error instanceof SystemError)) throw error;
      remark(passage, `the twin socket is not seen: ${error.message}`);
      return;
    }
    const [ours, theirs] = pair;
    try {
      server = UnixSocket.adopt(fd.fd);
    } catch (error) {
      ours.close();
      theirs.close();
      if (!(error instanceof TypeError || error instanceof SystemError)) throw error;
      remark(passage, `the twin socket is not seen: ${error.message}`);
      return;
    }
    fd.release(); // the adopted socket's now
    passage.fds[index] = new OwnedFd(theirs.release());
    const facts: DescriptorFacts | undefined = passage.descriptors[index];
    if (facts !== undefined) facts.fate = "replaced";
    remark(passage, "the twin socket passes through the recorder");
    const plain = { isInspected: () => false, needsWhole: () => false, inspect: () => {} };
    this.#twin = new Link(ours, server, {
      toServer: this.#hooks("twin", "to-server", plain),
      toClient: this.#hooks("twin", "to-client", plain),
      onEnd: (end) => {
        this.#twinEnd = end;
        this.#recordEnd("twin", end);
      },
    });
  }

  #onEnd(mainEnd: LinkEnd): void {
    // Either socket's end is that of both: who ended the first one ended the connection.
    const end = mainEnd.reason === "left" ? this.#twinEnd ?? mainEnd : mainEnd;
    this.#side?.close();
    if (this.#twin?.isOpen) this.#twin.close(end);
    this.#gate?.[Symbol.dispose]();
    this.#interceptor[Symbol.dispose]();
    this.#recordEnd("main", end);
    this.#options.onEnd(end);
  }

  #recordEnd(socket: RecordedSocket, end: LinkEnd): void {
    const { sink, number: connection } = this.#options;
    sink({ kind: "end", timeNs: nowNs(), connection, socket, ...end });
  }
}

/**
 * Bytes of an altered message that are kept beside the original. Peers refuse such messages long
 * before, and a block of the file has its limit.
 */
const MAX_RECORDED_PASSED_ON = 512 << 10;

function alterationsOf({ replacement, comment: words }: Passage) {
  const isKept = replacement === undefined || replacement.length <= MAX_RECORDED_PASSED_ON;
  const comment = isKept ? words : `${words}; the altered bytes are not kept`;
  return {
    ...(replacement !== undefined && isKept && { passedOn: replacement }),
    ...(comment !== undefined && { comment }),
  };
}
