/**
 * `vfu replay --serve`: takes the part of a recorded server.
 *
 * @module
 */

import { readRecording } from "../../lib/record/reader.ts";
import type { RegisterLocator } from "../../lib/registers/locate.ts";
import type { Deviation } from "../../lib/replay/actor.ts";
import { learnPart } from "../../lib/replay/part.ts";
import { Stage } from "../../lib/replay/stage.ts";
import { plural } from "../../lib/text/plural.ts";
import { regionName } from "../../lib/wire/region.ts";
import { type Context, onAbort } from "../shared/context.ts";
import { Reported } from "../shared/failure.ts";
import { jsonText } from "../shared/json.ts";
import { printable } from "../shared/printable.ts";
import { EventText } from "../show/text.ts";
import { messageJson } from "./report.ts";
import { warnOfCut } from "../show/cut.ts";

/** Options of {@linkcode serveReplay}. */
export interface ServeReplayOptions {
  /** The path to listen at. */
  readonly serve: string;
  /** Takes the part for this client of the recording. */
  readonly client?: number | undefined;
  /** Ends after the first client. */
  readonly once?: true | undefined;
  /** The time for the client's answers, in milliseconds. */
  readonly timeout: number;
  /** Names registers. */
  readonly locator: RegisterLocator | undefined;
  /** Reports in objects. */
  readonly json?: true | undefined;
}

/** Serves a recording until the context's signal, or until the only client has left. */
export async function serveReplay(
  { out, err, signal }: Context,
  file: string,
  { serve, client, once, timeout, locator, json }: ServeReplayOptions,
): Promise<void> {
  const recording = readRecording(file, { signal });
  const part = await learnPart(recording, { client, signal });
  if (recording.cut !== undefined) warnOfCut(err);
  const { style } = out;
  const text = new EventText(style, locator);
  const total = part.scenes.length - 1;
  text.start(part.startNs);
  let deviations = 0;
  let omissions = 0;
  const tell = (event: Record<string, unknown>, line: string) =>
    out.write(json ? `${jsonText(event)}\n` : `${line}\n`);
  using stage = Stage.open({
    path: serve,
    part,
    timeoutMs: timeout,
    once: once ?? false,
    onConnect: () => tell({ event: "connect" }, "A client has connected"),
    onDeviation(deviation) {
      deviations++;
      const { text: why, found, expected } = deviation;
      tell(
        {
          event: "deviation",
          text: why,
          found: messageJson(found),
          expected: expected && { index: expected.event.index, ...messageJson(expected.bytes) },
        },
        deviationLines(deviation, text).join("\n").replace(/^/, `${style.red("different")}  `),
      );
    },
    onOmission(omission) {
      omissions++;
      const { step: { event, heard }, text: why } = omission;
      tell(
        { event: "omission", text: why, index: event.index, dma: messageJson(event.bytes) },
        `${style.red("left out")}  a DMA of the recording: ${printable(why)}\n` +
          `  recorded  ${text.line(event, heard).trimStart()}`,
      );
    },
    onDisconnect({ scenes, dma, omitted, zeros }) {
      const named = [...zeros].map(([region, count]) => [regionName(region), count] as const);
      tell(
        {
          event: "disconnect",
          requests: scenes,
          recorded: total,
          dma,
          omitted,
          zeros: Object.fromEntries(named),
        },
        [
          `The client has left; it did ${scenes} of ${total} recorded requests that may change ` +
          `the device; ${dma} DMA done, ${omitted} left out`,
          ...zerosLine(named),
        ].join("\n"),
      );
    },
    onError: (error) => tell({ event: "error", text: String(error) }, String(error)),
  });
  using _listener = onAbort(signal, () => stage.close());
  if (signal.aborted) return;
  tell({ event: "ready", path: serve, file }, `Ready at ${serve}; Ctrl-C stops it`);
  await stage.closed;
  if (once && deviations + omissions > 0) throw new Reported(1);
}

/** The line about reads that the recording does not have. */
function zerosLine(zeros: readonly (readonly [region: string, count: number])[]): string[] {
  if (zeros.length === 0) return [];
  const total = zeros.reduce((sum, [, count]) => sum + count, 0);
  const each = zeros.map(([region, count]) => `${region} ${count}`).join(", ");
  return [
    `${plural(total, "read")} answered with zeros where the recording has no contents: ${each}`,
  ];
}

function deviationLines({ text: why, found, expected }: Deviation, text: EventText): string[] {
  return [
    `the client leaves the recorded path: ${printable(why)}`,
    ...(expected === undefined ? ["  expected  the end of the recording"] : [
      `  expected  ${text.line(expected.event, expected.heard).trimStart()}`,
    ]),
    `  found     ${text.found(found)}`,
  ];
}
