/**
 * The rows of a report as the page works with them: lanes, search, bytes.
 *
 * @module
 */

import type { Columns, ReportData, ReportMeta, RowExtra } from "./data.ts";

/** The first index of an ascending list whose number is not below `value`. */
export function lowerBound(list: ArrayLike<number>, value: number): number {
  let low = 0;
  let high = list.length;
  while (low < high) {
    const middle = (low + high) >>> 1;
    if (list[middle]! < value) low = middle + 1;
    else high = middle;
  }
  return low;
}

/** The items of one lane by time: a request with its reply is one item, all else a moment. */
export class Lane {
  /** The name of the lane. */
  readonly name: string;
  /** The rows, by the time at which they begin. */
  readonly rows: Uint32Array;
  /** When they begin. */
  readonly starts: Float64Array;
  /** When they end. */
  readonly ends: Float64Array;
  /** The level of each: those that overlap are above one another, as far as there is room. */
  readonly levels: Uint8Array;
  /** Levels that there are. */
  readonly height: number;
  /** The longest items: they may begin far ahead of what is shown. */
  readonly long: readonly number[];
  /** Errors ahead of each item. */
  readonly errors: Uint32Array;
  /** Hits of the search ahead of each item. */
  readonly hits: Uint32Array;

  constructor(name: string, rows: Uint32Array, model: Model) {
    this.name = name;
    this.rows = rows;
    this.starts = Float64Array.from(rows, (row) => model.start(row));
    // Events come by time, but for clocks that were set.
    if (this.starts.some((start, i) => i > 0 && start < this.starts[i - 1]!)) {
      rows.sort((a, b) => model.start(a) - model.start(b) || a - b);
      this.starts.sort();
    }
    this.ends = Float64Array.from(rows, (row) => model.end(row));
    this.errors = new Uint32Array(rows.length + 1);
    this.hits = new Uint32Array(rows.length + 1);
    this.levels = new Uint8Array(rows.length);
    const busy = [-1, -1, -1, -1];
    let height = 1;
    for (let i = 0; i < rows.length; i++) {
      this.errors[i + 1] = this.errors[i]! + (model.isError(rows[i]!) ? 1 : 0);
      const free = busy.findIndex((until) => until <= this.starts[i]!);
      const level = free < 0 ? busy.length - 1 : free;
      busy[level] = this.ends[i]!;
      this.levels[i] = level;
      height = Math.max(height, level + 1);
    }
    this.height = height;
    this.long = this.#longest(64);
  }

  /** The items that take longest, at most so many. */
  #longest(most: number): number[] {
    const duration = (i: number) => this.ends[i]! - this.starts[i]!;
    const longest: number[] = [];
    for (let i = 0; i < this.rows.length; i++) {
      if (longest.length === most && duration(i) <= duration(longest.at(-1)!)) continue;
      const at = longest.findIndex((each) => duration(each) < duration(i));
      longest.splice(at < 0 ? longest.length : at, 0, i);
      if (longest.length > most) longest.pop();
    }
    return longest;
  }

  /** Counts the hits of a search. */
  count(model: Model): void {
    for (let i = 0; i < this.rows.length; i++) {
      this.hits[i + 1] = this.hits[i]! + (model.isHit(this.rows[i]!) ? 1 : 0);
    }
  }

  /** Items that are to be seen between two times; at most a few that ended long ago are missing. */
  visible(from: number, to: number): number[] {
    const first = lowerBound(this.starts, from);
    const last = lowerBound(this.starts, to);
    const begin = Math.max(0, first - 256);
    const found = this.long.filter((i) => i < begin && this.ends[i]! >= from);
    for (let i = begin; i < last; i++) {
      if (i >= first || this.ends[i]! >= from) found.push(i);
    }
    return found;
  }
}

/** The rows of a report. */
export class Model {
  /** Facts about all rows. */
  readonly meta: ReportMeta;
  /** The columns. */
  readonly columns: Columns;
  /** Rows. */
  readonly length: number;
  /** When the last event ends, in nanoseconds; at least 1. */
  readonly totalNs: number;
  /** The row of the reply to a request; -1 for none. */
  readonly reply: Int32Array;
  /** The lanes from above. */
  readonly lanes: readonly Lane[];
  /** All rows as one lane. */
  readonly all: Lane;
  /** The rows that the search found, ascending; all without a search. */
  hits: Uint32Array;
  /** True while there is a search. */
  isSearching = false;
  readonly #bytes: Uint8Array;
  readonly #byteStarts: Float64Array;
  readonly #found: Uint8Array;
  #lowered: string[] | undefined;

  constructor({ meta, columns, bytes }: ReportData) {
    this.meta = meta;
    this.columns = columns;
    this.length = meta.rows;
    this.#bytes = bytes;
    this.#byteStarts = new Float64Array(meta.rows);
    this.#found = new Uint8Array(meta.rows).fill(1);
    this.reply = new Int32Array(meta.rows).fill(-1);
    let total = 1;
    for (let row = 0, at = 0; row < meta.rows; row++) {
      this.#byteStarts[row] = at;
      at += columns.kept[row]!;
      const request = columns.request[row]!;
      if (request >= 0) this.reply[request] = row;
      total = Math.max(total, columns.time[row]!);
    }
    this.totalNs = total;
    const every = Uint32Array.from({ length: meta.rows }, (_, row) => row);
    this.hits = every;
    const drawn = every.filter((row) => columns.request[row]! < 0);
    this.lanes = meta.lanes.map((name, lane) =>
      new Lane(
        name,
        drawn.filter((row) => columns.lane[row] === lane || columns.regionLane[row] === lane),
        this,
      )
    ).filter(({ rows }) => rows.length > 0);
    this.all = new Lane("all", every.slice(), this);
  }

  /** The beginning of what a row stands for: a reply without its request has its latency. */
  start(row: number): number {
    const time = this.columns.time[row]!;
    return this.columns.request[row]! < 0 && this.columns.latency[row]! > 0
      ? time - this.columns.latency[row]!
      : time;
  }

  /** The end of what a row stands for: of a request, its reply. */
  end(row: number): number {
    const reply = this.reply[row]!;
    return Math.max(this.start(row), this.columns.time[reply < 0 ? row : reply]!);
  }

  /** True for an error reply, its request, and bytes that are no message. */
  isError(row: number): boolean {
    const { type, kind } = this.columns;
    const reply = this.reply[row]!;
    const is = (each: number) =>
      this.meta.kinds[kind[each]!] === "garbage" || this.meta.types[type[each]!] === "error";
    return is(row) || (reply >= 0 && is(reply));
  }

  /** True if the search found a row, or the reply of a request. */
  isHit(row: number): boolean {
    const reply = this.reply[row]!;
    return this.#found[row] === 1 || (reply >= 0 && this.#found[reply] === 1);
  }

  /** A text of a column. */
  text(column: "name" | "place" | "value" | "remark", row: number): string {
    return this.meta.texts[this.columns[column][row]!]!;
  }

  /** The word for the type of a row. */
  typeText(row: number): string {
    const { kind, type, flags } = this.columns;
    const word = this.meta.kinds[kind[row]!]!;
    if (word !== "message") return word;
    const words = [flags[row]! & 8 ? ", no reply" : "", flags[row]! & 4 ? ", altered" : ""];
    return this.meta.types[type[row]!]! + words.join("");
  }

  /** The way of a row, as `vfu show` draws it. */
  arrow(row: number): string {
    const { kind, flags } = this.columns;
    const isBack = (flags[row]! & 1) !== 0;
    switch (this.meta.kinds[kind[row]!]) {
      case "message":
      case "garbage":
        if (flags[row]! & 2) return isBack ? "\u21d0" : "\u21d2";
        return isBack ? "\u2190" : "\u2192";
      case "interrupt":
      case "ioeventfd":
        return isBack ? "\u21dc" : "\u21dd";
      default:
        return "\u2013";
    }
  }

  /** Facts that few rows have. */
  extra(row: number): RowExtra {
    return this.meta.extras[row] ?? {};
  }

  /** The bytes of a message, as far as the page has them. */
  bytes(row: number): Uint8Array {
    const start = this.#byteStarts[row]!;
    return this.#bytes.subarray(start, start + this.columns.kept[row]!);
  }

  /** Finds the rows that have all words: in names, places, values, remarks; #12 is an id. */
  search(query: string): void {
    const words = query.toLowerCase().split(/\s+/).filter((word) => word !== "");
    this.isSearching = words.length > 0;
    const found = this.#found.fill(1);
    for (const word of words) this.#keep(word);
    const hits = new Uint32Array(this.length);
    let count = 0;
    for (let row = 0; row < this.length; row++) if (found[row]) hits[count++] = row;
    this.hits = hits.slice(0, count);
    for (const lane of [...this.lanes, this.all]) lane.count(this);
  }

  /** Keeps the rows that have a word. */
  #keep(word: string): void {
    const found = this.#found;
    const { id, name, place, value, remark, kind, type, origin } = this.columns;
    const number = /^#(\d+)$/.exec(word);
    if (number !== null) {
      const wanted = Number(number[1]);
      for (let row = 0; row < this.length; row++) {
        if (id[row] !== wanted || kind[row] !== 0) found[row] = 0;
      }
      return;
    }
    const has = (texts: readonly string[]) =>
      Uint8Array.from(texts, (text) => text.toLowerCase().includes(word) ? 1 : 0);
    this.#lowered ??= this.meta.texts.map((text) => text.toLowerCase());
    const texts = Uint8Array.from(this.#lowered, (text) => text.includes(word) ? 1 : 0);
    const kinds = has(this.meta.kinds);
    const types = has(this.meta.types);
    const origins = has(this.meta.origins);
    for (let row = 0; row < this.length; row++) {
      if (found[row] === 0) continue;
      const isMessage = kind[row] === 0;
      const hit = texts[name[row]!] || texts[place[row]!] || texts[value[row]!] ||
        texts[remark[row]!] ||
        (isMessage ? types[type[row]!] || origins[origin[row]!] : kinds[kind[row]!]);
      if (!hit) found[row] = this.#extraHas(row, word) ? 1 : 0;
    }
  }

  #extraHas(row: number, word: string): boolean {
    const extra = this.meta.extras[row];
    if (extra === undefined) return false;
    const { descriptors = [], problem = "" } = extra;
    return [...descriptors, problem].some((text) => text.toLowerCase().includes(word));
  }
}
