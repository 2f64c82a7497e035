/**
 * New elements of the page. Text goes in as text, so nothing in a recording becomes HTML.
 *
 * @module
 */

import type { PageDocument, PageElement } from "./dom.ts";

/** A new element with a class and parts. */
export function element(
  document: PageDocument,
  name: string,
  className: string,
  ...parts: (PageElement | string)[]
): PageElement {
  const made = document.createElement(name);
  if (className !== "") made.className = className;
  made.append(...parts);
  return made;
}

/** A table with a heading for each column; from `numbersFrom` on they are numbers. */
export function table(
  document: PageDocument,
  headings: readonly string[],
  rows: readonly (readonly (PageElement | string)[])[],
  numbersFrom = Infinity,
): PageElement {
  const align = (i: number) => i >= numbersFrom ? "number" : "";
  const head = headings.map((text, i) => {
    const cell = element(document, "th", align(i), text);
    cell.setAttribute("scope", "col");
    return cell;
  });
  const body = rows.map((cells) =>
    element(
      document,
      "tr",
      "",
      ...cells.map((cell, i) => element(document, "td", align(i), cell)),
    )
  );
  return element(
    document,
    "table",
    "",
    element(document, "thead", "", element(document, "tr", "", ...head)),
    element(document, "tbody", "", ...body),
  );
}

/**
 * A number and its noun: "1 event", "2,000 events".
 *
 * @param many the noun for all numbers but 1
 */
export function counted(count: number, one: string, many = `${one}s`): string {
  return `${count.toLocaleString("en")} ${count === 1 ? one : many}`;
}
