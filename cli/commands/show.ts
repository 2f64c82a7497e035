/**
 * `vfu show`: what a recording has, in lines, in numbers, for Wireshark and for tracing tools.
 *
 * @module
 */

import { Command, Option } from "@commander-js/extra-typings";
import { thrownText } from "../../lib/base/thrown.ts";
import { Conversation, type HeardMessage } from "../../lib/record/conversation.ts";
import type { RecordedEvent } from "../../lib/record/event.ts";
import { type EventFilter, FILTER_FIELDS, parseFilter } from "../../lib/record/filter.ts";
import { readRecording, type Recording, type RecordingCut } from "../../lib/record/reader.ts";
import { RecordingStatistics } from "../../lib/record/statistics.ts";
import { RegisterLocator } from "../../lib/registers/locate.ts";
import { plural } from "../../lib/text/plural.ts";
import type { Context, Output } from "../shared/context.ts";
import { examples } from "../shared/examples.ts";
import { assertNotInput, openDestination } from "../shared/destination.ts";
import { assertReplaceable, forceOption } from "../shared/force.ts";
import { jsonPieces, jsonText } from "../shared/json.ts";
import { loadMaps, mapOption, orUsage } from "../shared/map.ts";
import { Progress, spinner, transferText } from "../shared/progress.ts";
import { ChromeTrace } from "../show/chrome_trace.ts";
import { Folder } from "../show/fold.ts";
import { eventJson } from "../show/json.ts";
import { humanSize } from "../shared/size.ts";
import { statisticsJson, statisticsText } from "../show/stats.ts";
import { EventText } from "../show/text.ts";

/** Options of {@linkcode run}. */
export interface ShowOptions {
  /** Events that are shown, counted or traced; all if it is left out. */
  filter?: EventFilter | undefined;
  /** Names registers. */
  locator?: RegisterLocator | undefined;
  /** Folds loops of the same reads. */
  fold: boolean;
  /** Shows numbers in place of events. */
  stats?: true | undefined;
  /** Shows objects in place of lines. */
  json?: true | undefined;
  /** Waits for more at the end of the file. */
  follow?: true | undefined;
  /** Writes a trace to this file, in place of lines. */
  chromeTrace?: string | undefined;
  /** Writes a page to this file, in place of lines. */
  html?: string | undefined;
  /** The expression of `filter`, for the page. */
  filterText?: string | undefined;
}

/** Characters of lines that are collected before they are written. */
const CHUNK = 32 << 10;
/** The time that a line waits for others, in milliseconds. */
const FLUSH_MS = 50;

const FILTER_HELP = `Fields of --filter:\n${
  FILTER_FIELDS.map(([name, what]) => `  ${name.padEnd(12)}${what}`).join("\n")
}\n\nWith --map also registers: CSTS is true of each access to the register,
CSTS == 0 compares its value, CSTS.RDY == 1 a field of it.`;

/** The command's arguments and options. */
export function command(context: Context) {
  return new Command("show")
    .description(
      "Shows a recording of vfu record: a line an event, as -v shows messages. Loops that read " +
        "the same are one line.",
    )
    .argument("[file]", "the recording, a pcapng file; - is standard input")
    .addOption(mapOption("name registers, and show their fields"))
    .addOption(new Option("--filter <expression>", "only events for which this is true"))
    .addOption(new Option("--no-fold", "show each read of a loop"))
    .addOption(new Option("--stats", "show counts, times, registers used most, errors"))
    .addOption(new Option("--json", "an object a line; with --stats one object"))
    .addOption(new Option("--follow", "wait for more, of a file that is still written"))
    .addOption(
      new Option("--chrome-trace <file>", "write a trace for Perfetto and chrome://tracing")
        .conflicts(["stats", "json", "follow"]),
    )
    .addOption(
      new Option("--html <file>", "write a page to look at in a browser")
        .conflicts(["stats", "json", "follow", "chromeTrace"]),
    )
    .addOption(
      new Option("--session <file>", "write a session file, which vfu run does on a device")
        .conflicts(["stats", "json", "follow", "chromeTrace", "html", "filter"]),
    )
    .addOption(forceOption())
    .addOption(
      new Option("--dissector", "write Wireshark's dissector of vfio-user, a script in Lua")
        .conflicts(["stats", "json", "follow", "chromeTrace", "html", "session", "filter", "map"]),
    )
    .addHelpText("after", `\n${FILTER_HELP}`)
    .addHelpText(
      "after",
      examples(
        "vfu show x.pcapng --map nvme",
        "vfu show x.pcapng --filter 'command == REGION_WRITE && region == bar0'",
        "vfu show x.pcapng --stats",
        "vfu show x.pcapng --html report.html",
      ),
    )
    .action(async (file, { map: names, filter: text, dissector, ...options }, self) => {
      if (dissector) {
        if (file !== undefined) self.error("error: --dissector takes no file");
        const { dissectorScript } = await import("../../lib/record/dissector.ts");
        return context.out.write(dissectorScript());
      }
      if (file === undefined) return self.error("error: missing required argument 'file'");
      const { html, chromeTrace, session } = options;
      const inputs = [file, ...names ?? []];
      assertNotInput(self, { html, "chrome-trace": chromeTrace, session }, inputs);
      const maps = names === undefined
        ? []
        : (await loadMaps(context, self, names)).map(({ map }) => map);
      const locator = maps.length === 0 ? undefined : new RegisterLocator(maps);
      if (session !== undefined) {
        assertReplaceable(session, options.force);
        const { writeSession } = await import("../show/session.ts");
        return await writeSession(context, file, session, {
          locator,
          maps: names ?? [],
        });
      }
      const filter = text === undefined ? undefined : orUsage(
        self,
        `option '--filter <expression>' argument '${text}' is invalid.`,
        () => parseFilter(text, maps, locator),
      );
      await run(context, file, { ...options, filter, filterText: text, locator });
    });
}

/** Shows the recording at `path`. */
export async function run(context: Context, path: string, options: ShowOptions): Promise<void> {
  const { signal, err } = context;
  const { follow = false } = options;
  const recording = readRecording(path, { follow, signal, reuse: true });
  using view = await makeView(context, path, options);
  using _progress = follow ? undefined : progressOf(recording, err);
  const conversation = view.conversation;
  let isEmpty = true;
  try {
    for await (const event of recording) {
      if (event.index === 0) view.start(event.timeNs);
      const heard = conversation.take(event);
      options.locator?.placeCapabilities(conversation.state(event.connection)!.capabilities);
      if (!(options.filter?.matches(event, heard) ?? true)) continue;
      isEmpty = false;
      view.add(event, heard);
    }
  } catch (error) {
    // What came before the damage, or before Ctrl-C ended a look at a growing file, is shown.
    const isGrowing = follow || recording.size === 0;
    const isSome = recording.bytesRead > 0;
    if (isSome && (!signal.aborted || isGrowing)) await view.finish(thrownText(error));
    throw error;
  }
  const problem = recording.cut && cutText(path, recording.cut);
  await view.finish(problem);
  if (isEmpty && options.filter) err.write(`${err.style.yellow("vfu:")} No events match\n`);
  const { skipped } = recording;
  if (skipped > 0) {
    err.write(
      `${err.style.yellow("vfu:")} ${plural(skipped, "packet")} of other programs, or of later ` +
        `versions, ${skipped === 1 ? "is" : "are"} left out\n`,
    );
  }
  if (problem !== undefined) err.write(`${err.style.yellow("vfu:")} ${problem}\n`);
}

function cutText(path: string, { bytes, offset }: RecordingCut): string {
  return `${path} ends in the middle of an event: its last ${plural(bytes, "byte")}, ` +
    `from byte ${offset} on, are left out`;
}

/** One of the ways to show events. */
interface View extends Disposable {
  readonly conversation: Conversation;
  /** Times count from here. */
  start(timeNs: bigint): void;
  add(event: RecordedEvent, heard: HeardMessage | undefined): void;
  /** All events have come, or all ahead of a problem. */
  finish(problem: string | undefined): void | Promise<void>;
}

async function makeView(context: Context, path: string, options: ShowOptions): Promise<View> {
  if (options.html !== undefined) return await htmlView(context, path, options, options.html);
  if (options.chromeTrace !== undefined) return traceView(context, options, options.chromeTrace);
  if (options.stats) return statisticsView(context, options);
  return options.json ? jsonView(context, options) : textView(context, options);
}

function textView({ out }: Context, { locator, fold }: ShowOptions): View {
  const text = new EventText(out.style, locator);
  const lines = new Chunks(out, () => folder.flushIdle());
  const addLine = (line: string) => lines.add(`${line}\n`);
  const folder = new Folder(text, addLine);
  return {
    conversation: new Conversation(),
    start: (timeNs) => text.start(timeNs),
    add(event, heard) {
      const line = text.line(event, heard);
      if (!fold) return addLine(line);
      folder.add(line, heard);
      lines.wake();
    },
    finish() {
      folder.flush();
      lines.flush();
    },
    [Symbol.dispose]: () => lines[Symbol.dispose](),
  };
}

function jsonView({ out }: Context, { locator }: ShowOptions): View {
  const lines = new Chunks(out);
  return {
    conversation: new Conversation(),
    start() {},
    add(event, heard) {
      for (const piece of jsonPieces(eventJson(event, heard, locator))) lines.add(piece);
      lines.add("\n");
    },
    finish: () => lines.flush(),
    [Symbol.dispose]: () => lines[Symbol.dispose](),
  };
}

function statisticsView({ out }: Context, { locator, json }: ShowOptions): View {
  const conversation = new Conversation();
  const statistics = new RecordingStatistics();
  return {
    conversation,
    start() {},
    add: (event, heard) => statistics.add(event, heard),
    finish() {
      const source = { statistics, conversation, locator };
      out.write(json ? `${jsonText(statisticsJson(source), 2)}\n` : statisticsText(source, out));
    },
    [Symbol.dispose]() {},
  };
}

function traceView({ out }: Context, { locator }: ShowOptions, path: string): View {
  const destination = openDestination(path, out, false);
  const trace = new ChromeTrace(destination, new EventText(out.style, locator));
  return {
    conversation: new Conversation(),
    start: (timeNs) => trace.start(timeNs),
    add: (event, heard) => trace.add(event, heard),
    finish: () => trace.finish(),
    [Symbol.dispose]: () => destination[Symbol.dispose](),
  };
}

async function htmlView(
  { out, signal }: Context,
  path: string,
  { locator, filterText }: ShowOptions,
  target: string,
): Promise<View> {
  const { HtmlReport } = await import("../show/html/report.ts");
  const destination = openDestination(target, out, false);
  const file = path.slice(path.lastIndexOf("/") + 1);
  const report = new HtmlReport(destination, target, { file, filter: filterText }, locator);
  return {
    conversation: new Conversation(),
    start: (timeNs) => report.start(timeNs),
    add: (event, heard) => report.add(event, heard),
    finish: async (problem) => {
      if (!report.isFull) await report.finish(problem, signal);
    },
    [Symbol.dispose]: () => destination[Symbol.dispose](),
  };
}

/** Text on its way out, much in one call. None waits long: a reader may follow a file. */
class Chunks implements Disposable {
  readonly #out: Output;
  readonly #onIdle: () => void;
  #chunk = "";
  #timer: ReturnType<typeof setTimeout> | undefined;

  /** @param onIdle called when no text came for a moment, before what waits is written */
  constructor(out: Output, onIdle: () => void = () => {}) {
    this.#out = out;
    this.#onIdle = onIdle;
  }

  add(text: string): void {
    this.#chunk += text;
    if (this.#chunk.length >= CHUNK) this.#write();
    this.wake();
  }

  /** Has the text written in a moment. */
  wake(): void {
    this.#timer ??= setTimeout(() => {
      this.#onIdle();
      this.flush();
    }, FLUSH_MS);
  }

  flush(): void {
    clearTimeout(this.#timer);
    this.#timer = undefined;
    this.#write();
  }

  [Symbol.dispose](): void {
    clearTimeout(this.#timer);
  }

  #write(): void {
    if (this.#chunk !== "") this.#out.write(this.#chunk);
    this.#chunk = "";
  }
}

function progressOf(recording: Recording, err: Output): Progress {
  return new Progress(err, (elapsedMs) => progressText(recording, elapsedMs, err.columns));
}

/** The progress of reading: a bar, or the bytes so far of a pipe, whose length is unknown. */
export function progressText(
  { bytesRead, size }: Pick<Recording, "bytesRead" | "size">,
  elapsedMs: number,
  columns: number,
): string {
  if (size === 0) return `${spinner(elapsedMs)} ${humanSize(BigInt(bytesRead))}`;
  return transferText({ done: bytesRead, total: Math.max(size, bytesRead), elapsedMs }, columns);
}
