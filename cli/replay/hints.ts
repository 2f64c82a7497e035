/**
 * Advice at the end of a replay with differences.
 *
 * @module
 */

import { accessesOf, decodeMessage } from "../../lib/record/decode.ts";
import type { Difference } from "../../lib/replay/difference.ts";
import type { ScriptStep } from "../../lib/replay/script.ts";
import { hex } from "../../lib/text/hex.ts";
import { Command } from "../../lib/wire/command.ts";
import { PciRegion } from "../../lib/wire/region.ts";
import { shellWord } from "../../lib/text/shell_word.ts";

/** Events ahead of the first difference that are worth a look. */
const EVENTS_AHEAD = 10;
/** Bytes of configuration space. */
const CONFIG_SIZE = 4096n;

/** Options of {@linkcode Hints}. */
export interface HintOptions {
  /** The path of the recording. */
  readonly file: string;
  /** The path of the server's socket; undefined if the server was started for this. */
  readonly socket: string | undefined;
  /** The names of the maps, as the user gave them. */
  readonly maps: readonly string[];
}

/** Collects what a replay with differences is worth to be told at its end. */
export class Hints {
  readonly #options: HintOptions;
  /** Bytes of configuration space that the recorded client wrote since the last reset. */
  readonly #written = new Set<number>();
  #first: number | undefined;
  #notInitial: number | undefined;

  /** Begins with nothing. */
  constructor(options: HintOptions) {
    this.#options = options;
  }

  /** Takes a step that is played. */
  step(step: ScriptStep): void {
    if (step.kind !== "request") return;
    if (step.sent.header.command === Command.DEVICE_RESET) this.#written.clear();
    for (const { region, action, offset, count } of accessesOf(step.sent.payload)) {
      if (region !== PciRegion.CONFIG || action !== "write") continue;
      if (offset + count > CONFIG_SIZE) continue;
      for (let i = 0; i < count; i++) this.#written.add(Number(offset) + i);
    }
  }

  /** Takes a difference. */
  difference({ kind, step, expected, found }: Difference): void {
    this.#first ??= step.event.index;
    if (kind !== "reply" || expected === undefined || found === undefined) return;
    const [a] = accessesOf(decodeMessage(expected)?.payload);
    const [b] = accessesOf(decodeMessage(found)?.payload);
    if (a?.region !== PciRegion.CONFIG || a.data === undefined || b?.data === undefined) return;
    const start = Number(a.offset);
    const isInitial = a.data.every((byte, i) =>
      byte === b.data![i] || this.#written.has(start + i)
    );
    if (!isInitial) this.#notInitial ??= start;
  }

  /** The advice, a line each. */
  lines(): string[] {
    const { file, socket, maps } = this.#options;
    if (this.#first === undefined) return [];
    const named = maps.map((name) => ` --map ${shellWord(name)}`).join("");
    const from = Math.max(0, this.#first - EVENTS_AHEAD);
    const filter = `'index >= ${from} && index <= ${this.#first}'`;
    return [
      ...(this.#notInitial === undefined || socket === undefined ? [] : [
        `config+${hex(this.#notInitial)} differs, which the recording has not written: ` +
        "was the device in use?",
        `To reset it: vfu reset ${shellWord(socket)}; or start it anew with --spawn`,
      ]),
      `To see what came before: vfu show ${shellWord(file)}${named} --filter ${filter}`,
    ];
  }
}
