/**
 * Commands of a client one at a time, for servers that are asked for DMA by message.
 *
 * A server may send a DMA_READ or DMA_WRITE in the middle of a command. Then libvfio-user takes
 * whatever comes next for the reply, and fails if that is the client's next command. Clients that
 * share memory with the server, and pipeline, do not expect such requests. So a recorder that
 * withholds the memory lets the next command through when the one before is answered.
 *
 * @module
 */

import { GATE_PATIENCE_MS } from "../base/limits.ts";
import { HeaderLayout, MessageFlags } from "../wire/header.ts";
import { alterable, hasFlag, type Passage, remark } from "./passage.ts";

const { messageId: ID_AT, flags: FLAGS_AT } = HeaderLayout.offsets;

/** The surroundings of a gate. */
export interface GateHooks {
  /** True if the server's own commands have a socket of their own: then nothing is held back. */
  hasTwin(): boolean;
  /** Has commands that were held back go on. */
  resume(): void;
  /** Records a reply that the client did not ask for. */
  keep(passage: Passage, comment: string): void;
  /** Records a remark. */
  note(text: string): void;
}

/** Decides when a command of the client may go to the server. */
export class CommandGate implements Disposable {
  readonly #hooks: GateHooks;
  readonly #asked = new Set<number>(); // ids of commands that the server has not answered
  readonly #kept = new Set<number>(); // those of them that the client wants no answer to
  readonly #awaited = new Set<number>(); // ids of requests that the client has not answered
  #ignored = new Set<number>(); // those of them that nothing waits for any more
  #timer: ReturnType<typeof setTimeout> | undefined;

  /** Nothing is in flight. */
  constructor(hooks: GateHooks) {
    this.#hooks = hooks;
  }

  /** True while a command, or a request of the server, is not answered. */
  get isShut(): boolean {
    return (this.#asked.size > 0 || this.#awaited.size > 0) && !this.#hooks.hasTwin();
  }

  /** Finds out whether a command of the client has to wait. */
  isHeld(): boolean {
    if (!this.isShut) return false;
    this.#timer ??= setTimeout(() => this.#giveUp(), GATE_PATIENCE_MS);
    return true;
  }

  /** Finds out whether the server waits for a reply of the client: it overtakes commands. */
  isAwaited(messageId: number): boolean {
    return this.#awaited.has(messageId) || this.#ignored.has(messageId);
  }

  /** Finds out whether a reply of the server is kept from the client. */
  keeps(messageId: number): boolean {
    return this.#kept.has(messageId);
  }

  /** Counts a message of the client; has the server answer a command that asks for no reply. */
  onClientMessage(passage: Passage): void {
    const { isReply, isPassed } = passage;
    if (isReply) {
      const answered = passage.view.getUint16(ID_AT, true);
      this.#awaited.delete(answered);
      this.#ignored.delete(answered);
      return this.#onChange();
    }
    if (this.#hooks.hasTwin()) return;
    const sent = passage.replacement ?? passage.bytes;
    const id = new DataView(sent.buffer, sent.byteOffset).getUint16(ID_AT, true);
    if (hasFlag(passage, MessageFlags.NO_REPLY)) {
      if (isPassed) return; // too late to ask for an answer
      askForReply(passage);
      this.#kept.add(id);
    } else this.#kept.delete(id); // of a command that was never answered
    this.#asked.add(id);
  }

  /** Counts a message of the server; keeps a reply that the client did not ask for. */
  onServerMessage(passage: Passage): void {
    const { view, isReply, isPassed } = passage;
    if (!isReply) {
      const isAsked = !hasFlag(passage, MessageFlags.NO_REPLY) && !this.#hooks.hasTwin();
      if (isAsked) this.#awaited.add(view.getUint16(ID_AT, true));
      return;
    }
    const id = view.getUint16(ID_AT, true);
    this.#asked.delete(id);
    if (this.#kept.delete(id) && !isPassed) {
      passage.isOurs = true;
      for (const facts of passage.descriptors) facts.fate = "withheld";
      this.#hooks.keep(passage, "the client did not ask for this reply");
    }
    this.#onChange();
  }

  /** Ends its timer. */
  [Symbol.dispose](): void {
    clearTimeout(this.#timer);
    this.#timer = undefined;
  }

  #onChange(): void {
    if (this.#asked.size > 0 || this.#awaited.size > 0) return;
    this[Symbol.dispose]();
  }

  /** Something is never answered, or late: what waits for it goes on. */
  #giveUp(): void {
    this.#timer = undefined;
    this.#asked.clear();
    this.#ignored = this.#ignored.union(this.#awaited);
    this.#awaited.clear();
    this.#hooks.note(
      `commands of the client are passed on after ${GATE_PATIENCE_MS / 1000} s, although an ` +
        "earlier one is not answered; the server may take one of them for a reply",
    );
    this.#hooks.resume();
  }
}

/** Clears NO_REPLY in a command. */
function askForReply(passage: Passage): void {
  const view = alterable(passage);
  view.setUint32(FLAGS_AT, view.getUint32(FLAGS_AT, true) & ~MessageFlags.NO_REPLY, true);
  remark(passage, "the recorder asks for a reply");
}
