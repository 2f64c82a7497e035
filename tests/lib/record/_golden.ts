/**
 * Recordings of real peers as text, a line an event: `golden/NAME.txt`. `tests/peers/recordings.ts`
 * makes them anew.
 *
 * A line has the nanoseconds since the line before, the way, the bytes, and what else is known of
 * them, as JSON. The way is `>` and `<`, `=>` and `<=` on the twin socket, `-` for what is no
 * message. Zeros at the end of the bytes are their number: `0102+4094`.
 *
 * @module
 */

import type { NewEvent, RecordedDirection, RecordedSocket } from "../../../lib/record/event.ts";
import {
  readBareEvent,
  readTransferFacts,
  writeBareEvent,
  writeTransferFacts,
} from "../../../lib/record/event_json.ts";
import { RecordingWriter } from "../../../lib/record/writer.ts";

/** The recordings: the peers of each are told in `tests/peers/recordings.ts`. */
export const GOLDEN_RECORDINGS = ["edu", "gpio", "nvme"] as const;

/** The name of a recording. */
export type GoldenName = typeof GOLDEN_RECORDINGS[number];

/** The time of the first event, in nanoseconds since the epoch. */
const START_NS = 1_700_000_000_000_000_000n;
/** Zeros at the end of bytes that are worth being counted. */
const MIN_ZEROS = 4;

const WAYS: readonly (readonly [sign: string, RecordedSocket, RecordedDirection])[] = [
  [">", "main", "to-server"],
  ["<", "main", "to-client"],
  ["=>", "twin", "to-server"],
  ["<=", "twin", "to-client"],
];

type Transfer = Extract<NewEvent, { kind: "message" | "garbage" }>;

/** The path of a recording's text. */
export function goldenPath(name: GoldenName): string {
  return new URL(`golden/${name}.txt`, import.meta.url).pathname;
}

/** Events of a recording of one client. */
export function readGolden(name: GoldenName): NewEvent[] {
  let timeNs = START_NS;
  const lines = Deno.readTextFileSync(goldenPath(name)).trimEnd().split("\n");
  return lines.filter((line) => !line.startsWith("#")).map((line) => {
    const [delta, sign, ...rest] = line.split(" ");
    timeNs += BigInt(delta!);
    if (sign === "-") {
      const own = readBareEvent(rest.join(" "));
      return { timeNs, connection: 0, socket: "main", ...own } as NewEvent;
    }
    const [, socket, direction] = WAYS.find((way) => way[0] === sign)!;
    const [bytes, ...json] = rest;
    const base = { timeNs, connection: 0, socket, direction, bytes: readBytes(bytes!) };
    if (json.length === 0) return { kind: "message", origin: "peer", ...base, descriptors: [] };
    return { ...base, ...readFacts(json.join(" ")) } as Transfer;
  });
}

/** A recording as text. */
export function goldenText(title: string, events: readonly NewEvent[]): string {
  let before = events[0]!.timeNs;
  const lines = events.map((event) => {
    if (event.connection !== 0) throw new Error("only the first client is kept");
    const delta = event.timeNs - before;
    before = event.timeNs;
    if (event.kind !== "message" && event.kind !== "garbage") {
      return `${delta} - ${writeBareEvent(event)}`;
    }
    const { socket, direction, bytes } = event;
    const [sign] = WAYS.find((way) => way[1] === socket && way[2] === direction)!;
    return [delta, sign, bytesText(bytes), ...factsText(event)].join(" ");
  });
  return `# ${title}\n# Made by tests/peers/recordings.ts.\n${lines.join("\n")}\n`;
}

/** Writes a recording's events as the file that `vfu record` had written. */
export function writeGolden(name: GoldenName, path: string): void {
  using writer = RecordingWriter.create(path, { application: "test" });
  for (const event of readGolden(name)) writer.write(event);
}

function factsText(event: Transfer): string[] {
  const { kind, descriptors, passedOn, comment } = event;
  const origin = event.kind === "message" ? event.origin : "peer";
  const isPlain = kind === "message" && origin === "peer" && descriptors.length === 0 &&
    passedOn === undefined && comment === undefined;
  if (isPlain) return [];
  const receiver = passedOn === undefined ? "same" : passedOn === null ? "none" : "altered";
  const facts = JSON.parse(writeTransferFacts({ kind, origin, receiver, descriptors }));
  return [JSON.stringify({
    ...facts,
    ...(passedOn && { passedOn: bytesText(passedOn) }),
    ...(comment !== undefined && { comment }),
  })];
}

function readFacts(json: string): Record<string, unknown> {
  const { kind, origin, receiver, descriptors } = readTransferFacts(json);
  const { passedOn, comment } = JSON.parse(json);
  return {
    kind,
    ...(kind === "message" && { origin }),
    descriptors,
    ...(receiver === "altered" && { passedOn: readBytes(passedOn) }),
    ...(receiver === "none" && { passedOn: null }),
    ...(comment !== undefined && { comment }),
  };
}

function bytesText(bytes: Uint8Array): string {
  const end = bytes.findLastIndex((byte) => byte !== 0) + 1;
  const zeros = bytes.length - end;
  if (zeros < MIN_ZEROS) return bytes.toHex();
  return `${bytes.subarray(0, end).toHex()}+${zeros}`;
}

function readBytes(text: string): Uint8Array {
  const [digits, zeros = "0"] = text.split("+");
  const known = Uint8Array.fromHex(digits!);
  const bytes = new Uint8Array(known.length + Number(zeros));
  bytes.set(known);
  return bytes;
}
