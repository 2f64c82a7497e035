/**
 * Cases in files: recordings whose messages to the server are sent again, byte for byte.
 *
 * @module
 */

import { factsOf } from "../record/descriptor.ts";
import type { NewEvent, RecordedDescriptor, RecordedEvent } from "../record/event.ts";
import { readRecording } from "../record/reader.ts";
import { RecordingWriter } from "../record/writer.ts";
import { HEADER_SIZE, HeaderLayout, MessageFlags } from "../wire/header.ts";
import { rulesOf } from "./alter.ts";
import { type AnswerName, answerName } from "./answers.ts";
import { type DescriptorName, descriptorName, Descriptors, likeRecorded } from "./descriptors.ts";
import { WINDOW } from "./generator.ts";
import { labelOf } from "./label.ts";
import type { FuzzCase, FuzzConnection, FuzzMessage } from "./message.ts";

/** Messages of one file that are read. */
const MAX_MESSAGES = 65_536;
/** Bytes of one file's messages that are read. */
const MAX_BYTES = 64 << 20;
/** Bytes of a message that is sent again. */
const MAX_MESSAGE = 2 << 20;
const MAX_CUTS = 64;
const MAX_NAMES = 253;
const MAX_ANSWERS = 4096;

/** A message of the peer, or an answer to it: for those who read the file. */
export interface CaseReply {
  readonly from: "us" | "peer";
  readonly bytes: Uint8Array;
}

/** The conversation of one connection, in order. */
export type CaseConversation = readonly (FuzzMessage | CaseReply)[];

/**
 * Writes a case as a recording. What is no message to the server is left out when it is read.
 *
 * @param conversations of each connection: messages, with what came in between
 * @throws {Error} if the file can't be written; the message has path and reason
 */
export function writeCase(
  path: string,
  steps: FuzzCase,
  conversations: readonly CaseConversation[] = steps.map(({ messages }) => messages),
): void {
  using descriptors = new Descriptors();
  let failure: Error | undefined;
  const writer = RecordingWriter.create(path, {
    application: "vfu fuzz",
    onFailure: (error) => failure = error,
  });
  {
    using _writer = writer;
    let timeNs = BigInt(Date.now()) * 1_000_000n;
    for (const [connection, step] of steps.entries()) {
      const place = { connection, socket: "main" } as const;
      const note = settingsText(step);
      writer.write({ kind: "note", timeNs: timeNs++, ...place, text: note });
      for (const message of conversations[connection] ?? []) {
        writer.write({ ...place, timeNs: timeNs++, ...transferOf(message, descriptors) });
      }
      const text = "left by vfu fuzz";
      writer.write({
        kind: "end",
        timeNs: timeNs++,
        ...place,
        side: "client",
        reason: "left",
        text,
      });
    }
  }
  if (failure !== undefined) throw failure;
}

type TransferFields<K extends "message" | "garbage"> = Omit<
  Extract<NewEvent, { kind: K }>,
  "timeNs" | "connection" | "socket"
>;

function transferOf(
  message: FuzzMessage | CaseReply,
  descriptors: Descriptors,
): TransferFields<"message"> | TransferFields<"garbage"> {
  const { bytes } = message;
  const isWhole = bytes.length >= HEADER_SIZE && HeaderLayout.decode(bytes).size === bytes.length;
  const sent = "fds" in message ? message : undefined;
  const isFromPeer = "from" in message && message.from === "peer";
  const comment = sent === undefined ? "" : commentOf(sent);
  const common = {
    bytes,
    direction: isFromPeer ? "to-client" as const : "to-server" as const,
    descriptors: (sent?.fds ?? []).map((name) => factsAbout(name, descriptors)),
    ...(comment !== "" && { comment }),
  };
  if (!isWhole) return { kind: "garbage", ...common };
  // An answer is made anew when the case is sent again.
  const isAnswer = sent === undefined && !isFromPeer;
  return { kind: "message", origin: isAnswer ? "recorder" : "peer", ...common };
}

/** Facts about a descriptor that goes with a message. */
export function factsAbout(name: DescriptorName, descriptors: Descriptors): RecordedDescriptor {
  if (name !== "self") descriptors.numbers([name], 0);
  const fd = descriptors.of(name);
  return fd === undefined ? { kind: "socket", ...UNKNOWN } : { ...factsOf(fd), identity: null };
}

const UNKNOWN = { size: null, seals: [], access: "rw", identity: null, fate: "passed" } as const;

// Texts of this file: "vfu fuzz: KEY VALUE VALUE; KEY VALUE", a name with spaces in quotes.
/** The beginning of each text of ours in a recording. */
export const PREFIX = "vfu fuzz:";

function settingsText({ window, answers }: FuzzConnection): string {
  const list = answers.map((name) => `"${name}"`).join(" ");
  return `${PREFIX} window ${window}${list === "" ? "" : `; answers ${list}`}`;
}

function commentOf({ fds, cuts }: FuzzMessage): string {
  const parts = [
    ...(fds.length > 0 ? [`descriptors ${fds.join(" ")}`] : []),
    ...(cuts.length > 0 ? [`cuts ${cuts.join(" ")}`] : []),
  ];
  return parts.length === 0 ? "" : `${PREFIX} ${parts.join("; ")}`;
}

/** Reads the values behind a key; undefined if the text is none of ours, or has no such key. */
export function valuesOf(text: string | undefined, key: string): string[] | undefined {
  if (text === undefined || !text.startsWith(PREFIX)) return undefined;
  const part = text.slice(PREFIX.length).split(";").map((each) => each.trim())
    .find((each) => each.startsWith(`${key} `));
  return part?.slice(key.length + 1).match(/"[^"]*"|\S+/g)?.map((each) => each.replaceAll('"', ""));
}

/**
 * Reads a case: messages to the server in a recording, of this fuzzer or of `vfu record`.
 *
 * @returns connections that have messages; empty if the recording has none
 * @throws {RecordingError} if it is no recording, or is damaged before its first message
 */
export async function readCase(path: string, signal?: AbortSignal): Promise<FuzzCase> {
  const connections = new Map<number, OpenConnection>();
  let [count, size] = [0, 0];
  const recording = readRecording(path, signal === undefined ? {} : { signal });
  try {
    for await (const event of recording) {
      const open = openConnection(connections, event);
      if (event.kind === "note") readSettings(event.text, open);
      if (event.kind !== "message" && event.kind !== "garbage") continue;
      if (event.direction !== "to-server" || event.socket !== "main") continue;
      if (event.kind === "message" && event.origin !== "peer") continue;
      const message = messageIn(event, open.isOurs);
      if (message === undefined) continue;
      size += message.bytes.length;
      if (++count > MAX_MESSAGES || size > MAX_BYTES) break;
      open.messages.push(message);
    }
  } catch (error) {
    signal?.throwIfAborted();
    if (count === 0) throw error; // else the messages ahead of the damage are a case
  }
  // A fuzzer asks something at the end of each connection, which may be all.
  return [...connections.values()].filter(({ messages, isOurs }) => isOurs || messages.length > 0)
    .map(({ messages, answers, window }) => ({ messages, answers, window }));
}

interface OpenConnection extends FuzzConnection {
  readonly messages: FuzzMessage[];
  answers: readonly AnswerName[];
  window: number;
  /** True if a fuzzer wrote it. */
  isOurs: boolean;
}

function openConnection(
  connections: Map<number, OpenConnection>,
  { connection }: RecordedEvent,
): OpenConnection {
  let open = connections.get(connection);
  if (open === undefined) {
    open = { messages: [], answers: [], window: WINDOW, isOurs: false };
    connections.set(connection, open);
  }
  return open;
}

function readSettings(text: string, open: OpenConnection): void {
  const [value] = valuesOf(text, "window") ?? [];
  if (value === undefined) return;
  open.isOurs = true;
  const window = Number(value);
  if (Number.isInteger(window) && window >= 1 && window <= WINDOW) open.window = window;
  const names = valuesOf(text, "answers")?.slice(0, MAX_ANSWERS) ?? [];
  const answers = names.map(answerName).filter((name) => name !== undefined);
  if (answers.length > 0) open.answers = answers;
}

function messageIn(
  event: Extract<RecordedEvent, { kind: "message" | "garbage" }>,
  isOurs: boolean,
): FuzzMessage | undefined {
  const { bytes, comment, descriptors } = event;
  if (bytes.length === 0 || bytes.length > MAX_MESSAGE) return undefined;
  const isReply = event.kind === "message" && (bytes[8]! & MessageFlags.TYPE_MASK) !== 0;
  // Replies of a recorded client answer requests that this server may not make.
  if (isReply && !isOurs) return undefined;
  const names = valuesOf(comment, "descriptors")?.map(descriptorName)
    .filter((name) => name !== undefined);
  const cuts = (valuesOf(comment, "cuts") ?? []).map(Number)
    .filter((at) => Number.isInteger(at) && at > 0 && at < bytes.length);
  const fds: readonly DescriptorName[] = names ?? descriptors.map(likeRecorded);
  const command = bytes.length >= HEADER_SIZE ? bytes[2]! | bytes[3]! << 8 : 0;
  return {
    bytes: bytes.slice(),
    fds: fds.slice(0, MAX_NAMES),
    cuts: cuts.slice(0, MAX_CUTS).sort((a, b) => a - b),
    label: labelOf(command),
    ...rulesOf(bytes),
  };
}
