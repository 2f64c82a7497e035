/**
 * Answers to the DMA of a server that is played to.
 *
 * @module
 */

import { EFAULT, EINVAL } from "../../ffi/errno.ts";
import { MESSAGE_OVERHEAD } from "../base/limits.ts";
import { type Access, accessesOf, decodeMessage } from "../record/decode.ts";
import type { IncomingRequest } from "../transport/incoming.ts";
import { DmaAccessLayout } from "../wire/access.ts";
import { encodeMessage } from "../wire/header.ts";
import { isSameMessage } from "./compare.ts";
import { KnownMemory, MAX_PAGES } from "./memory.ts";
import type { PlayHost } from "./play_host.ts";
import type { DmaStep } from "./script.ts";

/** The parts of a connection that its DMA uses. */
export interface DmaConnection {
  /** The number of the client in the recording. */
  readonly number: number;
  /** Returns how many bytes a message may have. */
  maxMessageSize(): number;
  /** Called when an access was answered. */
  onAnswered(): void;
}

/** The memory of a recorded client, as far as the recording has it. */
export class DmaAnswers {
  readonly #host: PlayHost;
  readonly #connection: DmaConnection;
  readonly #memory = new KnownMemory();

  /** Begins with memory of which nothing is known. */
  constructor(host: PlayHost, connection: DmaConnection) {
    this.#host = host;
    this.#connection = connection;
  }

  /** Answers a request of the server as the recorded client did. */
  async answer(request: IncomingRequest): Promise<void> {
    const { command } = request;
    const bytes = encodeMessage({ messageId: 0, command }, request.payload);
    const decoded = decodeMessage(bytes);
    const [access] = accessesOf(decoded?.payload);
    if (decoded === undefined || access?.space !== "memory") {
      this.#host.differ({
        kind: "other dma",
        found: bytes,
        text: `the server asks what a client does not answer`,
      });
      return request.fail(EINVAL);
    }
    const step = await this.#takeExpected(access, bytes);
    this.#host.counts.dma++;
    if (step === undefined) {
      const [next] = this.#host.script.expectedDma;
      this.#host.differ({
        kind: "other dma",
        found: bytes,
        ...(next && { expected: next.event.bytes }),
        text: "the recording does not have this access",
      });
      this.#answerAsKnown(request, access);
      return this.#connection.onAnswered();
    }
    if (!isSameMessage(step.asked, step.event.bytes, bytes)) {
      this.#host.differ({
        kind: "dma",
        step,
        expected: step.event.bytes,
        found: bytes,
        text: "the device writes other data",
      });
    }
    if (access.data !== undefined) this.#memory.write(access.offset, access.data);
    while (step.answer === undefined && await this.#host.script.readMore());
    const { answer } = step;
    if (answer === undefined) this.#answerAsKnown(request, access);
    else if (answer.errno !== 0) request.fail(answer.errno);
    else {
      if (access.action === "read") {
        this.#memory.write(access.offset, answer.payload.subarray(DmaAccessLayout.size));
      }
      request.reply(answer.payload);
    }
    this.#connection.onAnswered();
  }

  /**
   * Takes the access in the recording that this one is: the first with the same data, else the
   * first. Two requests of the server never take the same one.
   */
  async #takeExpected(access: Access, bytes: Uint8Array): Promise<DmaStep | undefined> {
    const { script } = this.#host;
    const isThere = ({ asked, event }: DmaStep) => {
      const [other] = accessesOf(asked.payload);
      return event.connection === this.#connection.number && other?.action === access.action &&
        other.offset === access.offset && other.count === access.count;
    };
    const isExact = (step: DmaStep) =>
      isThere(step) && isSameMessage(step.asked, step.event.bytes, bytes);
    let found: DmaStep | undefined;
    for (let seen = -1; found === undefined;) {
      for (const step of script.expectedDma) {
        if (step.event.index <= seen) continue;
        seen = step.event.index;
        if (!isExact(step)) continue;
        found = step;
        break;
      }
      if (found === undefined && !await script.readMore()) {
        found = script.expectedDma.find(isThere);
        break;
      }
    }
    if (found !== undefined) script.closeDma(found);
    return found;
  }

  #answerAsKnown(request: IncomingRequest, { action, offset, count, data }: Access): void {
    const head = request.payload.subarray(0, DmaAccessLayout.size);
    if (action === "write") {
      this.#memory.write(offset, data!);
      return request.reply(head);
    }
    if (count > BigInt(this.#connection.maxMessageSize() - MESSAGE_OVERHEAD)) {
      return request.fail(EFAULT);
    }
    if (this.#memory.hasForgotten) {
      this.#host.note(
        `The device accessed more than ${MAX_PAGES} pages of memory: ` +
          "where the recording has no contents, it may find zeros in place of older ones",
      );
    }
    request.reply(head, this.#memory.read(offset, Number(count)));
  }
}
