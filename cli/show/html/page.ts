/**
 * The page of a report: joins its parts, and listens to the keyboard.
 *
 * @module
 */

import { timeText } from "../text.ts";
import { Charts } from "./charts.ts";
import { type ReportData, unpackReport } from "./data.ts";
import { Details } from "./details.ts";
import type {
  PageCanvas,
  PageDialog,
  PageElement,
  PageInput,
  PageKeyEvent,
  PageWindow,
} from "./dom.ts";
import { MessageList } from "./list.ts";
import { Model } from "./model.ts";
import { type Colours, coloursBy, Timeline } from "./timeline.ts";
import { counted } from "./element.ts";

/** The page. */
export class Page {
  readonly #window: PageWindow;
  readonly #model: Model;
  readonly #timeline: Timeline;
  readonly #list: MessageList;
  readonly #details: Details;
  readonly #charts: Charts;
  #colours: Colours | undefined;
  #selected = -1;
  #chartTimer: number | undefined;

  constructor(window: PageWindow, data: ReportData) {
    this.#window = window;
    const { document } = window;
    const model = new Model(data);
    this.#model = model;
    const select = (row: number) => this.select(row);
    this.#timeline = new Timeline(
      window,
      {
        canvas: this.#get("timeline"),
        overview: this.#get("overview"),
        range: this.#get("range"),
      },
      model,
      () => this.#colours ??= this.#readColours(),
      select,
    );
    this.#list = new MessageList(document, this.#get("list"), this.#get("rows"), model, select);
    this.#details = new Details(document, this.#get("details"), model, select);
    this.#charts = new Charts(
      document,
      {
        latency: this.#get("latency"),
        command: this.#get("latency-command"),
        registers: this.#get("registers"),
        commands: this.#get("commands"),
        scopes: ["latency-scope", "registers-scope", "commands-scope"].map((id) => this.#get(id)),
      },
      model,
      (text) => this.#searchFor(text),
    );
    this.#introduce();
    this.#listen();
    this.#search("");
    document.documentElement.dataset.ready = "true";
  }

  /** Selects a row everywhere; -1 selects none. */
  select(row: number): void {
    this.#selected = row;
    this.#timeline.reveal(row);
    this.#list.reveal(row);
    this.#details.show(row);
    const { columns } = this.#model;
    this.#get("announcement").textContent = row < 0 ? "" : [
      columns.kind[row] === 0 ? `${columns.id[row]}` : "",
      this.#model.text("name", row),
      columns.kind[row] === 0 ? this.#model.typeText(row) : "",
      this.#model.text("place", row),
      this.#model.text("value", row),
    ].filter((text) => text !== "").join(" ");
  }

  /** An element of the page's own HTML. */
  #get<T extends PageElement = PageCanvas & PageInput & PageDialog>(id: string): T {
    return this.#window.document.getElementById(id) as T;
  }

  #introduce(): void {
    const { meta, totalNs, length, columns } = this.#model;
    const { document } = this.#window;
    document.title = `${meta.file} - vfu`;
    this.#get("file").textContent = meta.file;
    const started = new Date(Number(BigInt(meta.startNs) / 1_000_000n));
    const when = Number.isNaN(started.getTime()) ? "" : `, from ${started.toISOString()}`;
    let left = 0;
    for (let row = 0; row < length; row++) left += columns.length[row]! - columns.kept[row]!;
    const notes = [
      `${counted(length, "event")} over ${timeText(totalNs)}${when}`,
      ...(meta.filter === undefined ? [] : [`filter ${meta.filter}`]),
      ...(left > 0 ? [`left out: ${counted(left, "byte")} of long messages`] : []),
      ...(meta.omittedTexts > 0 ? [`left out: ${counted(meta.omittedTexts, "text")}`] : []),
    ];
    this.#get("summary").textContent = notes.join("; ");
    this.#get("problem").textContent = meta.problem ?? "";
  }

  #listen(): void {
    const { document } = this.#window;
    const search: PageInput = this.#get("search");
    const help: PageDialog = this.#get("help");
    const onClick = (id: string, act: () => void) =>
      this.#get(id).addEventListener("click", () => act());
    search.addEventListener("input", () => this.#search(search.value));
    search.addEventListener("keydown", (event) => {
      if (event.key !== "Enter") return;
      event.preventDefault();
      this.#step(event.shiftKey ? -1 : 1);
    });
    onClick("previous", () => this.#step(-1));
    onClick("next", () => this.#step(1));
    onClick("zoom-in", () => this.#timeline.zoom(2));
    onClick("zoom-out", () => this.#timeline.zoom(0.5));
    onClick("zoom-all", () => this.#timeline.showAll());
    onClick("theme", () => this.#changeTheme());
    onClick("print", () => this.#window.print());
    onClick("help-button", () => help.showModal());
    onClick("help-close", () => help.close());
    document.addEventListener("keydown", (event) => this.#key(event));
    this.#window.addEventListener("resize", () => this.#redraw());
    this.#printLight();
    this.#window.matchMedia("(prefers-color-scheme: dark)")
      .addEventListener("change", () => this.#redraw());
  }

  #key(event: PageKeyEvent): void {
    if (event.ctrlKey || event.altKey || event.metaKey) return;
    const help: PageDialog = this.#get("help");
    if (help.open) return;
    const search: PageInput = this.#get("search");
    const at = this.#window.document.activeElement;
    const isTyping = at?.tagName === "INPUT" || at?.tagName === "SELECT";
    if (event.key === "Escape") {
      const isSearching = search.value !== "";
      if (isSearching) this.#searchFor("");
      for (const id of ["search", "latency-command"]) this.#get(id).blur();
      if (!isSearching && !isTyping) this.select(-1);
      return;
    }
    if (isTyping) return;
    const inList = at?.id === "list" || at?.id === "timeline" || at?.tagName === "BODY";
    const act = this.#actionOf(event.key, inList);
    if (act === undefined) return;
    event.preventDefault();
    act();
  }

  #actionOf(key: string, inList: boolean): (() => void) | undefined {
    const page = this.#list.page();
    switch (key) {
      case "/":
        return () => this.#get("search").focus();
      case "?":
        return () => this.#get<PageDialog>("help").showModal();
      case "+":
      case "=":
        return () => this.#timeline.zoom(2);
      case "-":
        return () => this.#timeline.zoom(0.5);
      case "0":
        return () => this.#timeline.showAll();
      case "n":
        return () => this.#step(1);
      case "p":
        return () => this.#step(-1);
      case "t":
        return () => this.#changeTheme();
    }
    if (!inList) return undefined;
    switch (key) {
      case "ArrowLeft":
        return () => this.#timeline.pan(-0.2);
      case "ArrowRight":
        return () => this.#timeline.pan(0.2);
      case "ArrowDown":
        return () => this.#step(1);
      case "ArrowUp":
        return () => this.#step(-1);
      case "PageDown":
        return () => this.#step(page);
      case "PageUp":
        return () => this.#step(-page);
      case "Home":
        return () => this.select(this.#model.hits.at(0) ?? -1);
      case "End":
        return () => this.select(this.#model.hits.at(-1) ?? -1);
    }
    return undefined;
  }

  #step(by: number): void {
    const row = this.#list.next(by);
    if (row >= 0) this.select(row);
  }

  #searchFor(text: string): void {
    this.#get<PageInput>("search").value = text;
    this.#search(text);
  }

  #search(text: string): void {
    this.#model.search(text);
    const { hits, length } = this.#model;
    this.#get("count").textContent = this.#model.isSearching
      ? `${hits.length.toLocaleString("en")} of ${length.toLocaleString("en")}`
      : counted(hits.length, "event");
    this.#get("list").scrollTop = 0;
    this.#list.reveal(this.#selected);
    this.#timeline.draw();
    this.#window.clearTimeout(this.#chartTimer);
    this.#chartTimer = this.#window.setTimeout(() => this.#charts.update(), 100);
  }

  #changeTheme(): void {
    const { documentElement } = this.#window.document;
    const isDark = documentElement.dataset.theme === undefined
      ? this.#window.matchMedia("(prefers-color-scheme: dark)").matches
      : documentElement.dataset.theme === "dark";
    documentElement.dataset.theme = isDark ? "light" : "dark";
    this.#redraw();
  }

  /** Paper is white: canvases are drawn anew for it. */
  #printLight(): void {
    const { dataset } = this.#window.document.documentElement;
    let before: string | undefined;
    this.#window.addEventListener("beforeprint", () => {
      before = dataset.theme;
      dataset.theme = "light";
      this.#colours = undefined;
      this.#timeline.drawNow();
    });
    this.#window.addEventListener("afterprint", () => {
      if (before === undefined) delete dataset.theme;
      else dataset.theme = before;
      this.#redraw();
    });
  }

  #redraw(): void {
    this.#colours = undefined;
    this.#timeline.draw();
    this.#list.draw();
  }

  #readColours(): Colours {
    const style = this.#window.getComputedStyle(this.#window.document.documentElement as never);
    return coloursBy((name) => style.getPropertyValue(`--${name}`).trim());
  }
}

/** Unpacks the data, and starts the page. */
export async function startPage(window: PageWindow): Promise<void> {
  const { document } = window;
  try {
    const data = await unpackReport(document.getElementById("data")!.textContent!);
    new Page(window, data);
  } catch (error) {
    document.getElementById("summary")!.textContent = `This page can't be shown: ${error}`;
    throw error;
  }
}
