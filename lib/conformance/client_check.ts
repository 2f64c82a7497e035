/**
 * Checks of a client: rules, each with a function that alters the answers of a device.
 *
 * @module
 */

import type { OwnedFd } from "../../ffi/fd.ts";
import type { Level, Rule, RuleGroup } from "./check.ts";
import type { ClientMap, ClientVector } from "./client_state.ts";
import type { CameMessage } from "./raw_peer.ts";

/**
 * The demand on a client after an altered answer. It "goes on" as with a plain device, "gives up"
 * with a failure, or "survives". The last leaves the choice, but excludes a crash or a hang.
 */
export type Demand = "goes on" | "gives up" | "survives";

/** An answer, as it is about to be sent. */
export interface Answer {
  /** The id of the request that it answers. */
  messageId: number;
  /** A number of Command. */
  command: number;
  /** Bits of MessageFlags. */
  flags: number;
  /** The errno of an error reply. */
  error: number;
  /** The bytes behind the header. */
  payload: Uint8Array;
  /** Descriptors that go with it; the scene owns them. */
  fds: OwnedFd[];
  /** The size in the header, if that is another than the true one. */
  size?: number;
}

/** In place of a command: any but maps and unmaps, after which memory is another. */
export const ANY = "any";

/** Ways to send a command of the device. */
export interface AskOptions {
  /** Further bits of the header's flags. */
  readonly flags?: number;
  /** Its message id; default one that no client uses. */
  readonly id?: number;
  /** Descriptors that go with it. */
  readonly fds?: readonly OwnedFd[];
  /** True to let the client wait for the answer to its request until the reply has come. */
  readonly isWaiting?: boolean;
  /** True to send it over the twin socket. */
  readonly viaTwin?: boolean;
}

/** The means of a check of a client: the connection that it alters. */
export interface Scene {
  /** The request that is answered. */
  readonly request: CameMessage;
  /** Memory that the client has given, the oldest first. */
  readonly maps: readonly ClientMap[];
  /** Vectors that the client has enabled. */
  readonly vectors: readonly ClientVector[];
  /** Vectors of MSI-X that the device raises behind the answer; a check may take them out. */
  readonly interrupts: number[];
  /** Bytes of data that a message to the client may carry. */
  readonly limit: number;
  /** Reports whether the device may access memory, by its Command register. */
  isBusMaster(): boolean;
  /** Sends an answer at once, before that which the function returns. */
  send(answer: Answer): Promise<void>;
  /** Sends the answer as it stands; those that the function returns are not sent then. */
  answerNow(): Promise<void>;
  /** Takes the next request, too, and returns its answer; for clients that do not wait. */
  next(): Promise<Answer>;
  /** The bytes of an answer. */
  encode(answer: Answer): Uint8Array;
  /** Sends bytes as they are. */
  sendBytes(bytes: Uint8Array): Promise<void>;
  /** Sends bytes in pieces of this size; each when the client has received those before. */
  sendPieces(bytes: Uint8Array, size: number): Promise<void>;
  /** Sends the answer, then a command to the client, and returns its reply. */
  ask(command: number, payload: Uint8Array, options?: AskOptions): Promise<CameMessage>;
  /** Sends a command to the client, and returns its id. */
  post(command: number, payload: Uint8Array): Promise<number>;
  /** Waits for a reply to one of the commands that were posted, and asked by these ids. */
  reply(command: number, ids: readonly number[]): Promise<CameMessage>;
  /** Signals a vector, if the client has enabled it. */
  signal(index: number, vector: number, times?: number): void;
  /** Has an answer to VERSION agree on a twin socket. */
  offerTwin(answer: Answer): void;
  /** Reports whether a twin socket was offered. */
  hasTwin(): boolean;
  /** Closes the device's end of the twin socket. */
  endTwin(): void;
  /** Waits a moment, as a busy server does. */
  pause(ms?: number): Promise<void>;
  /** Makes a descriptor whose closing by the client is watched: it is to be closed. */
  stray(): OwnedFd;
  /** Makes one end of a socket pair, which the client may keep. */
  kept(): OwnedFd;
  /** Makes memory that the client may keep. */
  memory(size: number): OwnedFd;
  /** Ends the direction to the client; the other stays. */
  endSending(): void;
  /** Closes the connection, after what was sent. */
  hangUp(): void;
}

/**
 * Alters an answer in place, or returns the answers that take its place. One that throws
 * {@linkcode NotApplicable} leaves it as it is, and is called again at the next occasion.
 */
export type Act = (answer: Answer, scene: Scene) => void | Answer[] | Promise<void | Answer[]>;

/** A rule, and the alteration that tries it. */
export interface ClientCheck extends Rule {
  /** The demand on the client. */
  readonly demand: Demand;
  /** The command whose answers are altered. */
  readonly command: number | typeof ANY;
  /** Answers that are altered: the first, or each. */
  readonly times: "first" | "each";
  /** The alteration. */
  readonly act: Act;
}

/** The fields of a check, in the order in which they are written down. */
export type ClientRow = readonly [
  number: number,
  level: Level,
  section: string,
  rule: string,
  demand: Demand,
  command: number | typeof ANY,
  act: Act,
  times?: "first" | "each",
];

/** Checks of a client about one subject. */
export type ClientGroup = RuleGroup<ClientCheck>;

/** Makes a group of rows. A number stays with its check, and is not used again. */
export function clientGroup(
  name: string,
  title: string,
  rows: readonly ClientRow[],
): ClientGroup {
  const checks = rows.map(([number, level, section, rule, demand, command, act, times]) => ({
    id: `client/${name}/${number}`,
    level,
    section,
    rule,
    demand,
    command,
    act,
    times: times ?? "first",
    mayEnd: demand !== "goes on",
  }));
  return { name, title, checks };
}
