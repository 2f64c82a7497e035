/**
 * Aligned columns.
 *
 * @module
 */

import type { Paint } from "./style.ts";

/** A cell: text, its appearance if it has one, and whether it stays on one line. */
export type Cell = string | {
  readonly text: string;
  readonly paint?: Paint;
  /** True of a line that is copied: a command. */
  readonly isWhole?: true;
};

/** The layout of a table. */
export interface TableOptions {
  /** Width of the screen. The last column is wrapped to it between words. */
  readonly columns: number;
  /** Spaces before each line. */
  readonly indent: number;
  /** Indexes of the columns that are set flush right: numbers. */
  readonly right?: readonly number[];
  /** The last column is not made narrower than this, however narrow the screen is; default 24. */
  readonly minLast?: number;
}

/** Spaces between columns. */
const GAP = 2;
/** For words. */
const MIN_LAST_WIDTH = 24;

/** The rows as lines, without spaces at their ends. Every row has as many cells as the first. */
export function tableLines(rows: readonly (readonly Cell[])[], options: TableOptions): string[] {
  const last = (rows[0]?.length ?? 0) - 1;
  const widths = Array.from(
    { length: last },
    (_, at) => rows.reduce((most, row) => Math.max(most, textOf(row[at]!).length), 0),
  );
  const start = options.indent + widths.reduce((sum, width) => sum + width + GAP, 0);
  const lastWidth = Math.max(options.minLast ?? MIN_LAST_WIDTH, options.columns - start);
  return rows.flatMap((row) => {
    const head = widths.map((width, at) => {
      const isRight = options.right?.includes(at) ?? false;
      return padded(row[at]!, width, isRight) + " ".repeat(GAP);
    });
    return linesOf(row[last]!, lastWidth).map((line, at) => {
      const before = at === 0 ? " ".repeat(options.indent) + head.join("") : " ".repeat(start);
      return (before + (line && painted(row[last]!, line))).trimEnd();
    });
  });
}

/** Lines of at most `width` columns; a word that is longer stays whole. There is always a line. */
export function wrapWords(text: string, width: number): string[] {
  const lines: string[] = [];
  let line = "";
  for (const word of text.split(" ")) {
    if (line !== "" && line.length + 1 + word.length > width) {
      lines.push(line);
      line = word;
    } else {
      line = line === "" ? word : `${line} ${word}`;
    }
  }
  return [...lines, line];
}

function linesOf(cell: Cell, width: number): string[] {
  const isWhole = typeof cell !== "string" && cell.isWhole === true;
  return isWhole ? [cell.text] : wrapWords(textOf(cell), width);
}

function textOf(cell: Cell): string {
  return typeof cell === "string" ? cell : cell.text;
}

function painted(cell: Cell, text: string): string {
  return typeof cell === "string" || cell.paint === undefined ? text : cell.paint(text);
}

/** Spaces are not painted: an underline or a background would show. */
function padded(cell: Cell, width: number, isRight: boolean): string {
  const text = textOf(cell);
  const spaces = " ".repeat(width - text.length);
  return isRight ? spaces + painted(cell, text) : painted(cell, text) + spaces;
}
