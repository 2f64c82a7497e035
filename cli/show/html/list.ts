/**
 * The list of messages in the page: only those rows are elements that are to be seen.
 *
 * @module
 */

import { timeText } from "../text.ts";
import type { PageDocument, PageElement } from "./dom.ts";
import { element } from "./element.ts";
import { lowerBound, type Model } from "./model.ts";

/** Shows the rows that the search found. */
export class MessageList {
  readonly #document: PageDocument;
  readonly #scroller: PageElement;
  readonly #space: PageElement;
  readonly #model: Model;
  #selected = -1;

  constructor(
    document: PageDocument,
    scroller: PageElement,
    space: PageElement,
    model: Model,
    select: (row: number) => void,
  ) {
    this.#document = document;
    this.#scroller = scroller;
    this.#space = space;
    this.#model = model;
    scroller.addEventListener("scroll", () => this.draw());
    space.addEventListener("click", ({ target }) => {
      let at = target as { dataset?: { row?: string }; parentElement?: unknown } | null;
      while (at && at.dataset?.row === undefined) at = at.parentElement as typeof at;
      if (at?.dataset?.row !== undefined) select(Number(at.dataset.row));
    });
    this.draw();
  }

  /** Marks a row, and scrolls to it. */
  reveal(row: number): void {
    this.#selected = row;
    const at = lowerBound(this.#model.hits, row);
    if (row >= 0 && this.#model.hits[at] === row) {
      const height = this.#rowHeight();
      // The space of another search may be too small to scroll there.
      this.#space.style.setProperty("height", `${this.#model.hits.length * height}px`);
      const top = at * height;
      const shown = this.#scroller.clientHeight;
      const { scrollTop } = this.#scroller;
      if (top < scrollTop || top + height > scrollTop + shown) {
        this.#scroller.scrollTop = Math.max(0, top - shown / 2);
      }
    }
    this.draw();
  }

  /** The row `by` places after the selected one, among those that the search found. */
  next(by: number): number {
    const { hits } = this.#model;
    if (hits.length === 0) return -1;
    const at = lowerBound(hits, this.#selected);
    const isThere = hits[at] === this.#selected;
    const wanted = this.#selected < 0
      ? (by > 0 ? 0 : hits.length - 1)
      : at + by - (!isThere && by > 0 ? 1 : 0);
    return hits[Math.max(0, Math.min(hits.length - 1, wanted))]!;
  }

  /** Rows that fit. */
  page(): number {
    return Math.max(1, Math.floor(this.#scroller.clientHeight / this.#rowHeight()) - 1);
  }

  /** Makes the elements of what is to be seen. */
  draw(): void {
    const { hits } = this.#model;
    const height = this.#rowHeight();
    this.#space.style.setProperty("height", `${hits.length * height}px`);
    const first = Math.max(0, Math.floor(this.#scroller.scrollTop / height) - 4);
    const last = Math.min(
      hits.length,
      first + Math.ceil(Math.max(200, this.#scroller.clientHeight) / height) + 8,
    );
    const rows: PageElement[] = [];
    for (let at = first; at < last; at++) rows.push(this.#row(hits[at]!, at * height));
    this.#space.replaceChildren(...rows);
    if (rows.length === 0) this.#space.append(element(this.#document, "p", "empty", "No messages"));
    this.#scroller.setAttribute(
      "aria-activedescendant",
      this.#selected >= 0 ? `row-${this.#selected}` : "",
    );
  }

  #rowHeight(): number {
    return 24;
  }

  #row(row: number, top: number): PageElement {
    const model = this.#model;
    const { columns } = model;
    const cell = (className: string, text: string) =>
      element(this.#document, "span", className, text);
    const isMessage = columns.kind[row] === 0;
    const value = model.text("value", row).replaceAll("\n", " ");
    const remark = model.text("remark", row);
    const place = model.text("place", row);
    const latency = columns.latency[row]!;
    const made = element(
      this.#document,
      "div",
      "row",
      cell("time", `${(columns.time[row]! / 1e6).toFixed(3)}`),
      cell("arrow", model.arrow(row)),
      cell("id", isMessage ? `#${columns.id[row]}` : ""),
      cell(place === "" ? "name wide" : "name", model.text("name", row)),
      cell("type", model.typeText(row)),
      cell("place", place),
      cell("value", remark === "" ? value : `${value}  # ${remark}`),
      cell("latency", latency < 0 ? "" : timeText(latency)),
    );
    made.id = `row-${row}`;
    made.dataset.row = String(row);
    made.setAttribute("role", "option");
    made.setAttribute("aria-selected", String(row === this.#selected));
    made.style.setProperty("top", `${top}px`);
    if (model.isError(row)) made.className = "row error";
    return made;
  }
}
