/**
 * Replies of a server, decoded and checked. A reply that makes no sense ends the connection: its
 * sender can't be trusted.
 *
 * @module
 */

import { closeAll, type OwnedFd } from "../../ffi/fd.ts";
import { ProtocolError } from "../base/errors.ts";
import { MAX_REGION_INFO_SIZE } from "../base/limits.ts";
import type { Plan } from "../base/plan.ts";
import type { Message } from "../transport/message.ts";
import type { RequestOptions } from "../transport/pending.ts";
import type { VfioProxy } from "../transport/proxy.ts";

/** A request as a plan yields it. */
export type PlannedRequest = RequestOptions & { readonly payload: Uint8Array };

/** A question about a region whose answer may take more room than a first request offers. */
export interface RoomyQuestion<I, T> {
  /** The subject, as "the info of bar0". */
  readonly what: string;
  /** The region index. */
  readonly index: number;
  /** Bytes that the first request offers. */
  readonly room: number;
  /** Encodes the request, which offers `argsz` bytes. */
  encode(argsz: number): Uint8Array;
  /** The layout of the reply. */
  readonly codec: { decode(payload: Uint8Array): I };
  /** Takes a whole reply and its descriptors, which are closed if this throws. */
  take(info: I, fds: OwnedFd[]): T;
}

/** The checks of replies on one connection. */
export class Replies {
  readonly #proxy: VfioProxy;

  /** Checks replies that come by `proxy`. */
  constructor(proxy: VfioProxy) {
    this.#proxy = proxy;
  }

  /**
   * Decodes a reply.
   *
   * @throws {ProtocolError} if that can't be done
   */
  decode<T>(codec: { decode(payload: Uint8Array): T }, reply: Message): T {
    try {
      return codec.decode(reply.payload);
    } catch (error) {
      throw this.#distrusting(error);
    }
  }

  /** Ends the connection. Returns the error that says what the server did. */
  broken(what: string): ProtocolError {
    const error = new ProtocolError(`The server ${what}`);
    this.#proxy.close(error);
    return error;
  }

  /** Checks that a reply is about the index that it was asked for. */
  checkIndex(came: number, asked: number, what: string): void {
    if (came !== asked) throw this.broken(`answered about ${what} ${came}, asked about ${asked}`);
  }

  /** Asks for an answer, and again with as much room as the server wants, however that is done. */
  *askWithRoom<I extends { readonly argsz: number; readonly index: number }, T>(
    { what, index, room, codec, ...question }: RoomyQuestion<I, T>,
  ): Plan<PlannedRequest, Message, T> {
    let argsz = room;
    // Once for the size, once for the rest; once more if that has grown meanwhile.
    for (let attempt = 0; attempt < 3; attempt++) {
      const reply = yield {
        payload: question.encode(argsz),
        doing: `get ${what}`,
        maxReplyFds: this.#proxy.limits.maxFds,
      };
      const fds = reply.takeFds();
      try {
        const info = this.decode(codec, reply);
        this.checkIndex(info.index, index, "region");
        if (info.argsz <= argsz) return question.take(info, fds);
        if (info.argsz > MAX_REGION_INFO_SIZE) {
          throw this.broken(
            `wants ${info.argsz} bytes of room for ${what}, the limit is ${MAX_REGION_INFO_SIZE}`,
          );
        }
        argsz = info.argsz;
        closeAll(fds);
      } catch (error) {
        closeAll(fds);
        throw this.#distrusting(error);
      }
    }
    throw this.broken(`wants ever more room for ${what}`);
  }

  /** Ends the connection if an error says that the server broke the protocol. Returns the error. */
  #distrusting(error: unknown): unknown {
    if (error instanceof ProtocolError) this.#proxy.close(error);
    return error;
  }
}
