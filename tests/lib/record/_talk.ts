/**
 * Conversations made by hand.
 *
 * @module
 */

import type { NewEvent, RecordedMessage } from "../../../lib/record/event.ts";
import { encodeMessage } from "../../../lib/wire/header.ts";
import { type MessageCodecs, type Messages, messages } from "../../../lib/wire/messages.ts";
import { plainMessage } from "./_events.ts";

/** A value of 32 bits as its bytes. */
export function u32(value: number): Uint8Array {
  return new Uint8Array(Uint32Array.of(value).buffer);
}

type Values<K extends keyof Messages> = Messages[K] extends MessageCodecs<infer Q, infer P>
  ? [request: Q, reply: P]
  : never;

/** Fields of a message that are not as usual. */
type Fields = Partial<NewEvent<RecordedMessage>>;

/** Collects the events of a conversation; 1 microsecond passes before each. */
export class Talk {
  readonly events: NewEvent[] = [];
  #timeNs = 1_000_000_000n;
  #id = 0;

  /** Lets time pass, and returns it. */
  pass(ns: bigint): bigint {
    return this.#timeNs += ns;
  }

  /** Adds an event that is no message. */
  add(event: Record<string, unknown> & { readonly kind: string }): void {
    const base = { timeNs: this.pass(1000n), connection: 0, socket: "main" };
    this.events.push({ ...base, ...event } as NewEvent);
  }

  /** A request; returns its id. */
  ask<K extends keyof Messages>(name: K, value: Values<K>[0], fields: Fields = {}, flags = 0) {
    const { command, request, sender } = messages[name] as MessageCodecs<unknown, unknown>;
    const messageId = this.#id = this.#id % 0xffff + 1;
    this.#message(
      encodeMessage({ messageId, command, flags }, request.encode(value)),
      sender === "client",
      fields,
    );
    return messageId;
  }

  /** A reply. */
  answer<K extends keyof Messages>(
    name: K,
    messageId: number,
    value: Values<K>[1],
    fields: Fields = {},
  ): void {
    const { command, reply, sender } = messages[name] as MessageCodecs<unknown, unknown>;
    const bytes = encodeMessage({ messageId, command, flags: 1 }, reply.encode(value));
    this.#message(bytes, sender !== "client", fields);
  }

  /** An error reply. */
  refuse(name: keyof Messages, messageId: number, error: number, fields: Fields = {}): void {
    const { command, sender } = messages[name] as MessageCodecs<unknown, unknown>;
    this.#message(encodeMessage({ messageId, command, flags: 0x21, error }), sender !== "client", {
      ...fields,
    });
  }

  /** A read of 4 bytes of BAR0 and its reply. */
  read(offset: bigint, value: number, latencyNs = 20_000n): void {
    const id = this.ask("REGION_READ", { region: 0, offset, count: 4 });
    this.pass(latencyNs - 1000n);
    this.answer("REGION_READ", id, { region: 0, offset, data: u32(value) });
  }

  /** A write of 4 bytes of BAR0 and its reply. */
  write(offset: bigint, value: number): void {
    const id = this.ask("REGION_WRITE", { region: 0, offset, data: u32(value) });
    this.answer("REGION_WRITE", id, { region: 0, offset, count: 4 });
  }

  #message(bytes: Uint8Array, isToServer: boolean, fields: Fields): void {
    const direction = isToServer ? "to-server" : "to-client";
    this.events.push(plainMessage(bytes, { timeNs: this.pass(1000n), direction, ...fields }));
  }
}
