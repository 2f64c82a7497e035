/**
 * The numbers of a report in the page: times, registers and commands, of what the search found.
 *
 * @module
 */

import { timeText } from "../text.ts";
import type { PageDocument, PageElement, PageInput } from "./dom.ts";
import { counted, element, table } from "./element.ts";
import type { Model } from "./model.ts";

/** The elements that charts go into. */
export interface ChartParts {
  /** The histogram of times. */
  readonly latency: PageElement;
  /** Chooses its command. */
  readonly command: PageInput;
  /** The registers used most. */
  readonly registers: PageElement;
  /** Numbers of each command. */
  readonly commands: PageElement;
  /** Elements beside the headings, which say that a search narrows the numbers. */
  readonly scopes: readonly PageElement[];
}

/** Numbers about one command. */
interface CommandNumbers {
  requests: number;
  errors: number;
  bytes: number;
  /** Ascending, once all are counted. */
  latencies: number[] | Float64Array;
}

/** Counts what the search found, and shows it. */
export class Charts {
  readonly #document: PageDocument;
  readonly #parts: ChartParts;
  readonly #model: Model;
  readonly #search: (text: string) => void;
  readonly #commands = new Map<string, CommandNumbers>();

  constructor(
    document: PageDocument,
    parts: ChartParts,
    model: Model,
    search: (text: string) => void,
  ) {
    this.#document = document;
    this.#parts = parts;
    this.#model = model;
    this.#search = search;
    parts.command.addEventListener("change", () => this.#drawLatency());
  }

  /** Counts again. */
  update(): void {
    const { columns, hits, meta } = this.#model;
    const places = new Map<number, { reads: number; writes: number }>();
    this.#commands.clear();
    for (const row of hits) {
      if (columns.kind[row] !== 0) continue;
      const name = this.#model.text("name", row);
      let command = this.#commands.get(name);
      if (command === undefined) {
        command = { requests: 0, errors: 0, bytes: 0, latencies: [] };
        this.#commands.set(name, command);
      }
      command.bytes += columns.length[row]!;
      const latency = columns.latency[row]!;
      if (latency >= 0) (command.latencies as number[]).push(latency);
      const type = meta.types[columns.type[row]!];
      if (type === "error") command.errors++;
      if (type === "request") command.requests++;
      const isFirst = columns.request[row]! < 0;
      if (columns.regionLane[row] === 255 || !isFirst) continue;
      const place = columns.place[row]!;
      const count = places.get(place) ?? { reads: 0, writes: 0 };
      if (name === "REGION_READ") count.reads++;
      else count.writes++;
      places.set(place, count);
    }
    for (const command of this.#commands.values()) {
      command.latencies = Float64Array.from(command.latencies).sort();
    }
    this.#drawScopes();
    this.#drawChoice();
    this.#drawLatency();
    this.#drawRegisters(places);
    this.#drawCommands();
  }

  #make(name: string, className: string, ...parts: (PageElement | string)[]): PageElement {
    return element(this.#document, name, className, ...parts);
  }

  /** Numbers of a search never look like those of the whole recording. */
  #drawScopes(): void {
    const { hits, isSearching, length } = this.#model;
    const found = hits.length.toLocaleString("en");
    const text = isSearching ? `of the ${found} found among ${counted(length, "event")}` : "";
    for (const scope of this.#parts.scopes) scope.textContent = text;
  }

  #drawChoice(): void {
    const { command } = this.#parts;
    const before = command.value;
    const names = [...this.#commands].filter(([, { latencies }]) => latencies.length > 0)
      .map(([name]) => name).sort();
    const options = ["all commands", ...names].map((name, i) => {
      const option = this.#make("option", "", name);
      option.setAttribute("value", i === 0 ? "" : name);
      return option;
    });
    command.replaceChildren(...options);
    command.value = names.includes(before) ? before : "";
  }

  #drawLatency(): void {
    const wanted = this.#parts.command.value;
    const counts = new Map<number, number>();
    for (const [name, { latencies }] of this.#commands) {
      if (wanted !== "" && name !== wanted) continue;
      for (const ns of latencies) {
        const power = Math.floor(Math.log2(Math.max(1, ns)) * 2);
        counts.set(power, (counts.get(power) ?? 0) + 1);
      }
    }
    const powers = [...counts.keys()].sort((a, b) => a - b);
    if (powers.length === 0) {
      this.#parts.latency.replaceChildren(this.#make("p", "empty", "No replies"));
      return;
    }
    const most = Math.max(...counts.values());
    const bars: PageElement[] = [];
    const first = powers[0]!;
    const last = Math.min(powers.at(-1)!, first + 63);
    for (let power = first; power <= last; power++) {
      const count = counts.get(power) ?? 0;
      const from = timeText(2 ** (power / 2));
      const to = timeText(2 ** ((power + 1) / 2));
      const fill = this.#make("div", "fill");
      fill.style.setProperty("height", `${count === 0 ? 0 : Math.max(1.5, count / most * 100)}%`);
      const bar = this.#make("div", "column", fill);
      bar.title = `${from} to ${to}: ${count}`;
      bars.push(bar);
    }
    const plot = this.#make("div", "plot", ...bars);
    const total = [...counts.values()].reduce((sum, count) => sum + count, 0);
    plot.setAttribute("role", "img");
    plot.setAttribute(
      "aria-label",
      `${counted(total, "reply", "replies")}, from ${timeText(2 ** (first / 2))} to ${
        timeText(2 ** ((last + 1) / 2))
      }`,
    );
    const middle = (first + last + 1) / 2;
    const axis = [first, middle, last + 1].map((power) =>
      this.#make("span", "", timeText(2 ** (power / 2)))
    );
    this.#parts.latency.replaceChildren(
      this.#make("p", "most", `${counted(most, "reply", "replies")} at most in a column`),
      plot,
      this.#make("div", "axis", ...axis),
    );
  }

  #drawRegisters(places: ReadonlyMap<number, { reads: number; writes: number }>): void {
    const total = ({ reads, writes }: { reads: number; writes: number }) => reads + writes;
    const sorted = [...places].sort(([, a], [, b]) => total(b) - total(a));
    const shown = sorted.slice(0, 14);
    if (shown.length === 0) {
      this.#parts.registers.replaceChildren(this.#make("p", "empty", "No accesses to registers"));
      return;
    }
    const most = total(shown[0]![1]);
    const rows = shown.map(([place, count]) => {
      const text = this.#model.meta.texts[place]!;
      const button = this.#make("button", "link", text.split("  ")[0]!);
      button.setAttribute("type", "button");
      button.title = `Search for ${text}`;
      button.addEventListener("click", () => this.#search(text.split("  ")[0]!));
      const bar = (className: string, each: number) => {
        const made = this.#make("div", className);
        made.style.setProperty("width", `${each / most * 100}%`);
        return made;
      };
      const bars = this.#make(
        "div",
        "bars",
        bar("reads", count.reads),
        bar("writes", count.writes),
      );
      return [button, bars, String(count.reads), String(count.writes)];
    });
    const made = table(this.#document, ["Register", "", "Reads", "Writes"], rows, 2);
    const more = sorted.length - shown.length;
    this.#parts.registers.replaceChildren(
      made,
      ...(more > 0 ? [this.#make("p", "empty", `${more} more`)] : []),
    );
  }

  #drawCommands(): void {
    const rows = [...this.#commands]
      .sort(([, a], [, b]) => b.requests - a.requests)
      .map(([name, { requests, errors, bytes, latencies }]) => {
        const at = (share: number) => {
          if (latencies.length === 0) return "";
          return timeText(latencies[Math.ceil(share * latencies.length) - 1] ?? latencies[0]!);
        };
        return [
          name,
          String(requests),
          String(latencies.length),
          String(errors),
          String(bytes),
          at(0.5),
          at(0.99),
          at(1),
        ];
      });
    const headings = ["Command", "Requests", "Replies", "Errors", "Bytes", "Median", "99 %", "Max"];
    this.#parts.commands.replaceChildren(table(this.#document, headings, rows, 1));
  }
}
