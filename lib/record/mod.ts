/**
 * Recordings of what a client and a server say to each other: pcapng files, which Wireshark reads
 * too, as typed events.
 *
 * @example
 * ```ts
 * import { readRecording, RecordingWriter } from "./mod.ts";
 * import { Command, describeMessage, encodeMessage } from "../wire/mod.ts";
 *
 * const path = Deno.makeTempFileSync({ suffix: ".pcapng" });
 * {
 *   using writer = RecordingWriter.create(path);
 *   writer.write({
 *     kind: "message",
 *     timeNs: BigInt(Date.now()) * 1_000_000n,
 *     connection: 0,
 *     socket: "main",
 *     direction: "to-server",
 *     origin: "peer",
 *     bytes: encodeMessage({ messageId: 7, command: Command.DEVICE_RESET }),
 *     descriptors: [],
 *   });
 * }
 * for await (const event of readRecording(path)) {
 *   if (event.kind !== "message") continue;
 *   console.assert(describeMessage(event.bytes) === "#7 DEVICE_RESET request");
 * }
 * Deno.removeSync(path);
 * ```
 *
 * @module
 */

export {
  DESCRIPTOR_KINDS,
  type DescriptorKind,
  type NewEvent,
  receivedBytes,
  type RecordedDescriptor,
  type RecordedDirection,
  type RecordedEnd,
  type RecordedEvent,
  type RecordedEventBase,
  type RecordedGarbage,
  type RecordedInterrupt,
  type RecordedIoeventfd,
  type RecordedMessage,
  type RecordedNote,
  type RecordedOpen,
  type RecordedOrigin,
  type RecordedSocket,
  type RecordedTransfer,
  type Seal,
  SEALS,
} from "./event.ts";
export {
  readRecording,
  type ReadRecordingOptions,
  type Recording,
  type RecordingCut,
  RecordingError,
} from "./reader.ts";
export {
  ConnectedServer,
  ListeningServer,
  Recorder,
  type RecorderOptions,
  type ServerSource,
} from "./recorder.ts";
export type { EventSink } from "./connection.ts";
export { type Interception, INTERCEPTIONS } from "./intercept.ts";
export type { LinkEnd } from "./link.ts";
export { RecordingWriter, type RecordingWriterOptions } from "./writer.ts";
export {
  type Asked,
  Conversation,
  type ConversationState,
  type HeardMessage,
} from "./conversation.ts";
export type { KnownCapabilities, PlacedTable } from "./known_config.ts";
export {
  type Access,
  accessesOf,
  type DecodedMessage,
  type DecodedPayload,
  decodeMessage,
  type MessageType,
} from "./decode.ts";
export { type EventFilter, FILTER_FIELDS, parseFilter } from "./filter.ts";
export { TimeHistogram } from "./histogram.ts";
export {
  type CommandStatistics,
  type DmaStatistics,
  type HiddenTraffic,
  RecordingStatistics,
  type RegisterStatistics,
} from "./statistics.ts";
