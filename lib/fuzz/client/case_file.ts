/**
 * Findings about a client in files: recordings, with a note for each change that was made.
 *
 * @module
 */

import type { NewEvent } from "../../record/event.ts";
import { readRecording } from "../../record/reader.ts";
import { RecordingWriter } from "../../record/writer.ts";
import { HEADER_SIZE, HeaderLayout } from "../../wire/header.ts";
import { factsAbout, PREFIX, valuesOf } from "../case_file.ts";
import { descriptorName, Descriptors } from "../descriptors.ts";
import { labelOf, labelText } from "../label.ts";
import { type Change, CHANGE_KINDS, type Patch, TIMINGS } from "./change.ts";
import type { Said } from "./play.ts";

/** Changes of one file that are read. */
const MAX_CHANGES = 4096;
/** Bytes of a message that a change makes. */
const MAX_LENGTH = 2 << 20;
const MAX_NAMES = 253;
const MAX_CUTS = 64;
const PLACE = { connection: 0, socket: "main" } as const;
const UNKNOWN = {
  kind: "other",
  size: null,
  seals: [],
  access: null,
  identity: null,
  fate: "passed",
} as const;

/**
 * Writes changes as a recording of a conversation in which they were made.
 *
 * @throws {Error} if the file can't be written; the message has path and reason
 */
export function writeChanges(
  path: string,
  changes: readonly Change[],
  conversation: readonly Said[],
): void {
  using descriptors = new Descriptors();
  let failure: Error | undefined;
  const writer = RecordingWriter.create(path, {
    application: "vfu fuzz --client",
    onFailure: (error) => failure = error,
  });
  {
    using _writer = writer;
    let timeNs = BigInt(Date.now()) * 1_000_000n;
    const note = (text: string) => writer.write({ kind: "note", timeNs: timeNs++, ...PLACE, text });
    note(`${PREFIX} client`);
    // All of them come first: a conversation may end before each was made.
    for (const change of changes) note(changeText(change));
    for (const said of conversation) {
      if (said.bytes.length > 0) {
        writer.write({ ...PLACE, timeNs: timeNs++, ...transferOf(said, descriptors) });
      } else if (said.change) note(`no reply: ${labelText(said.change.label)}`);
    }
    const text = "left by the client under vfu fuzz";
    writer.write({ kind: "end", timeNs, ...PLACE, side: "client", reason: "left", text });
  }
  if (failure !== undefined) throw failure;
}

type TransferFields<K extends "message" | "garbage"> = Omit<
  Extract<NewEvent, { kind: K }>,
  "timeNs" | "connection" | "socket"
>;

function transferOf(
  { from, bytes, fds, names, change }: Said,
  descriptors: Descriptors,
): TransferFields<"message"> | TransferFields<"garbage"> {
  const isWhole = bytes.length >= HEADER_SIZE && HeaderLayout.decode(bytes).size === bytes.length;
  const common = {
    bytes,
    direction: from === "us" ? "to-client" as const : "to-server" as const,
    descriptors: Array.from({ length: fds }, (_, i) => {
      const name = names?.[i];
      return name === undefined ? UNKNOWN : factsAbout(name, descriptors);
    }),
    ...(change && { comment: `changed: ${labelText(change.label)}` }),
  };
  return isWhole ? { kind: "message", origin: "peer", ...common } : { kind: "garbage", ...common };
}

/** A change as a text: "vfu fuzz: reply 5 2; length 48; patches 32 ff00". */
function changeText(change: Change): string {
  const { kind, command, nth, length, patches, fds, cuts, timing, label } = change;
  const parts = [
    `${kind} ${command} ${nth}`,
    `length ${length}`,
    ...(patches.length > 0
      ? [`patches ${patches.map(({ at, bytes }) => `${at} ${bytes.toHex()}`).join(" ")}`]
      : []),
    ...(fds ? [`descriptors ${fds.length > 0 ? fds.join(" ") : "none"}`] : []),
    ...(cuts.length > 0 ? [`cuts ${cuts.join(" ")}`] : []),
    ...(timing !== "once" ? [`timing "${timing}"`] : []),
    `about "${labelText(label)}"`,
  ];
  return `${PREFIX} ${parts.join("; ")}`;
}

/**
 * Reads the changes of a recording.
 *
 * @returns empty if the recording has none
 * @throws {RecordingError} if it is no recording
 */
export async function readChanges(path: string, signal?: AbortSignal): Promise<readonly Change[]> {
  const changes: Change[] = [];
  for await (const event of readRecording(path, signal === undefined ? {} : { signal })) {
    if (event.kind !== "note") continue;
    const change = changeIn(event.text);
    if (change !== undefined) changes.push(change);
    if (changes.length === MAX_CHANGES) break;
  }
  return changes;
}

function changeIn(text: string): Change | undefined {
  const kind = CHANGE_KINDS.find((each) => valuesOf(text, each) !== undefined);
  if (kind === undefined) return undefined;
  const [command, nth] = valuesOf(text, kind)!.map(Number);
  const length = Number(valuesOf(text, "length")?.[0]);
  const isRight = isBelow(command, 0x1_0000) && isBelow(nth, 2 ** 32) &&
    isBelow(length, MAX_LENGTH);
  if (!isRight) return undefined;
  const names = valuesOf(text, "descriptors");
  const cuts = (valuesOf(text, "cuts") ?? []).map(Number).filter((at) => isBelow(at, length));
  const [timing] = valuesOf(text, "timing") ?? [];
  return {
    kind,
    command: command!,
    nth: nth!,
    length,
    patches: patchesIn(valuesOf(text, "patches") ?? [], length),
    fds: names?.map(descriptorName).filter((name) => name !== undefined).slice(0, MAX_NAMES),
    cuts: cuts.slice(0, MAX_CUTS).sort((a, b) => a - b),
    timing: TIMINGS.find((each) => each === timing) ?? "once",
    label: labelOf(command!),
  };
}

function isBelow(value: number | undefined, end: number): boolean {
  return value !== undefined && Number.isInteger(value) && value >= 0 && value < end;
}

/** Pairs of a place and hexadecimal digits; what is none of them is left out. */
function patchesIn(values: readonly string[], length: number): readonly Patch[] {
  const patches: Patch[] = [];
  for (let i = 0; i + 1 < values.length; i += 2) {
    const at = Number(values[i]);
    const digits = values[i + 1]!;
    if (!isBelow(at, length) || !/^([0-9a-f]{2})+$/.test(digits)) continue;
    patches.push({ at, bytes: Uint8Array.fromHex(digits) });
  }
  return patches;
}
