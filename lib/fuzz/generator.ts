/**
 * Connections of a client that does right and wrong: the same ones after the same seed.
 *
 * @module
 */

import { Random } from "../base/random.ts";
import type { Facts } from "../conformance/facts.ts";
import { Command } from "../wire/command.ts";
import { encodeMessage, HeaderLayout, MessageFlags } from "../wire/header.ts";
import { alter, type Altered, finished } from "./alter.ts";
import { ANSWER_NAMES, type AnswerName } from "./answers.ts";
import { type Label, labelOf } from "./label.ts";
import type { FuzzConnection, FuzzMessage } from "./message.ts";
import { type Draft, greeting, preparation, rightRequest } from "./requests.ts";
import { World } from "./world.ts";

/** Lengths of a connection, in messages. */
const LENGTHS = [8, 64, 256, 256, 1024];
/** Messages after a VERSION that is odd: mostly they are not answered. */
const AFTER_ODD = 4;
/** Messages that are taken from one connection of the corpus. */
const MAX_TAKEN = 1024;
/** Answers of a connection that are not the right one, at most. */
const MAX_ANSWERS = 16;
/** Requests under way, of a connection that sends them together. */
export const WINDOW = 512;
const ID_AT = HeaderLayout.offsets.messageId;

/** Settings of a {@linkcode Generator}. */
export interface GeneratorOptions {
  readonly seed: number;
  readonly facts: Facts;
  /** Connections to vary, which may grow. */
  readonly corpus?: readonly FuzzConnection[];
  /** Reports labels that are left out: always, or as the random numbers say. */
  readonly isMuted?: (label: Label, random: Random) => boolean;
}

/** Makes connections. */
export class Generator {
  readonly #options: GeneratorOptions;
  readonly #isMuted: (label: Label, random: Random) => boolean;
  #count = 0;

  constructor(options: GeneratorOptions) {
    this.#options = options;
    this.#isMuted = options.isMuted ?? (() => false);
  }

  /** Makes the next connection. */
  next(): FuzzConnection {
    const { seed, facts, corpus = [] } = this.#options;
    const random = new Random(seed + Math.imul(this.#count++, 0x9e37_79b1));
    const world = new World(random, facts);
    const messages: FuzzMessage[] = [];
    const isOdd = random.oneIn(24);
    if (!random.oneIn(48)) messages.push(this.#message(greeting(world), world, isOdd ? 1 : 0));
    if (!random.oneIn(4)) {
      for (const draft of preparation(world)) messages.push(this.#message(draft, world, 0));
    }
    const length = isOdd ? AFTER_ODD : random.pick(LENGTHS);
    if (corpus.length > 0 && random.oneIn(3)) this.#vary(random.pick(corpus), messages, world);
    while (messages.length < length && messages.at(-1)?.isLast !== true) {
      const changes = random.oneIn(2) ? 0 : random.oneIn(6) ? 2 : 1;
      messages.push(this.#message(rightRequest(world), world, changes));
    }
    return {
      messages,
      answers: random.oneIn(2) ? [] : answers(random),
      window: random.oneIn(8) ? 1 : WINDOW,
    };
  }

  #message({ command, payload, fds }: Draft, world: World, changes: number): FuzzMessage {
    // Clients post writes: that is right.
    const isPosted = command === Command.REGION_WRITE && world.random.oneIn(4);
    const flags = isPosted ? MessageFlags.NO_REPLY : MessageFlags.COMMAND;
    const bytes = encodeMessage({ messageId: world.nextId(), command, flags }, payload);
    return this.#altered({ bytes, fds, cuts: [] }, labelOf(command), world, changes);
  }

  #altered(message: Altered, label: Label, world: World, changes: number): FuzzMessage {
    for (let i = 0; i < changes; i++) {
      if (message.bytes.length < 16) break; // it was cut
      label = alter(message, world, this.#isMuted) ?? label;
    }
    return finished(message, label);
  }

  /** Sends a part of a connection of the corpus, with some of its messages altered. */
  #vary({ messages }: FuzzConnection, into: FuzzMessage[], world: World): void {
    const { random } = world;
    const start = random.oneIn(2) ? 0 : random.below(messages.length);
    const end = random.oneIn(2) ? messages.length : start + 1 + random.below(messages.length);
    const rate = random.pick([2, 8, 32]);
    for (const each of messages.slice(start, Math.min(end, start + MAX_TAKEN))) {
      if (each.bytes.length < 16) continue;
      const message = { bytes: each.bytes.slice(), fds: each.fds, cuts: each.cuts };
      new DataView(message.bytes.buffer).setUint16(ID_AT, world.nextId(), true);
      const changed = this.#altered(message, each.label, world, random.oneIn(rate) ? 1 : 0);
      into.push(changed);
      if (changed.isLast) return;
    }
  }
}

function answers(random: Random): readonly AnswerName[] {
  const count = 1 + random.below(MAX_ANSWERS);
  return Array.from({ length: count }, () => random.oneIn(2) ? "right" : random.pick(ANSWER_NAMES));
}
