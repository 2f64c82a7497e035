/**
 * `vfu map doc`: a register map as a document, in Markdown or HTML.
 *
 * @module
 */

import { bitsText, type Register, type RegisterMap } from "../../lib/registers/map.ts";
import { hex } from "../../lib/text/hex.ts";
import { printable } from "../shared/printable.ts";
import { escape } from "../shared/xml.ts";
import { textHash } from "../shared/hash.ts";

const REGISTER_HEAD = ["Offset", "Register", "Bytes", "Access", "Reset", "Description"];
const FIELD_HEAD = ["Bits", "Field", "Access", "Values", "Description"];

/** Cells of a row: text as it is. */
type Row = readonly string[];

/** The registers of a region. */
interface Section {
  readonly region: string;
  readonly registers: readonly Register[];
}

/** Writes a map in Markdown: a table for each region, then one for the fields of each register. */
export function markdownDocument(map: RegisterMap): string {
  const lines = [`# ${map.name}`, ""];
  if (map.title !== undefined) lines.push(plain(map.title), "");
  for (const { region, registers } of sectionsOf(map)) {
    lines.push(`## ${region}`, "");
    lines.push(...markdownTable(REGISTER_HEAD, registers.map(registerRow)), "");
    for (const each of registers) {
      if (each.fields.length === 0) continue;
      lines.push(`### ${each.name}`, "");
      lines.push(...markdownTable(FIELD_HEAD, fieldRows(each)), "");
    }
  }
  return lines.join("\n");
}

/** Writes a map as one page of HTML, with its style, that loads nothing and runs nothing. */
export async function htmlDocument(map: RegisterMap): Promise<string> {
  const policy = `default-src 'none'; style-src '${await textHash(STYLE)}'; base-uri 'none'`;
  const title = htmlText(map.title === undefined ? map.name : `${map.name}: ${map.title}`);
  const sections = sectionsOf(map).map(({ region, registers }) =>
    `<h2>${htmlText(region)}</h2>
${htmlTable(REGISTER_HEAD, registers.map(registerRow), registers.map(anchorOf))}
${registers.filter(({ fields }) => fields.length > 0).map(htmlFields).join("\n")}`
  );
  return `<!DOCTYPE html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta http-equiv="Content-Security-Policy" content="${policy}">
<meta name="viewport" content="width=device-width, initial-scale=1">
<title>${title}</title>
<style>${STYLE}</style>
</head>
<body>
<h1>${title}</h1>
${sections.join("\n")}
</body>
</html>
`;
}

/** The registers by region, in the order of their offsets. */
function sectionsOf({ registers }: RegisterMap): Section[] {
  const regions = Map.groupBy(registers, ({ region }) => region);
  return [...regions].map(([region, members]) => ({
    region,
    registers: members.toSorted((a, b) => a.offset - b.offset),
  }));
}

function registerRow(register: Register): Row {
  const { name, offset, width, access, readChanges, reset, description = "", array } = register;
  const place = array === undefined ? hex(offset) : `${hex(offset)} + ${hex(array.stride)} × n`;
  return [
    place,
    array === undefined ? name : `${name}[${array.count}]`,
    String(width),
    readChanges ? `${access}, a read changes it` : access,
    reset === undefined ? "" : hex(reset),
    description,
  ];
}

/** The fields from the highest to the lowest, as in manuals. */
function fieldRows({ fields }: Register): Row[] {
  return fields.toReversed().map((field) => [
    bitsText(field),
    field.name,
    field.access,
    [...field.enum].map(([value, meaning]) => `${value}: ${meaning}`).join("; "),
    field.description ?? "",
  ]);
}

/** The width up to which a column is filled with spaces: a cell may hold thousands of values. */
const MAX_WIDTH = 300;

/** Rows whose columns are as wide as their widest cells, but the last one. */
function markdownTable(head: Row, rows: readonly Row[]): string[] {
  const cells = [head, ...rows.map((row) => row.map(plain))];
  const widths = head.map((_, at) =>
    at === head.length - 1
      ? 0
      : Math.min(cells.reduce((width, row) => Math.max(width, row[at]!.length), 0), MAX_WIDTH)
  );
  const line = (row: Row) => `| ${row.map((cell, at) => cell.padEnd(widths[at]!)).join(" | ")} |`;
  const rule = head.map((name, at) => "-".repeat(Math.max(widths[at]!, name.length)));
  const [first, ...others] = cells.map(line);
  return [first!, line(rule), ...others];
}

/** Text that means nothing else in Markdown, nor to a terminal. */
function plain(text: string): string {
  const marks = /[\\`*{}<>#|~&]|\[(?=[^\]]*\]\()|(?<!\w)_|_(?!\w)/g;
  return printable(text.replaceAll(marks, "\\$&").replaceAll(/\s+/g, " "));
}

/** Text of a stranger in HTML, where nothing turns the direction of writing. */
function htmlText(text: string): string {
  return escape(printable(text.replaceAll(/\s+/g, " ")));
}

function anchorOf({ region, name, fields }: Register): string | undefined {
  return fields.length === 0 ? undefined : htmlText(`${region}-${name}`);
}

/** @param links the anchors to which the second cells lead */
function htmlTable(
  head: Row,
  rows: readonly Row[],
  links: readonly (string | undefined)[] = [],
): string {
  const cell = (text: string, at: number, row: number) => {
    const link = at === 1 ? links[row] : undefined;
    return `<td>${
      link === undefined ? htmlText(text) : `<a href="#${link}">${htmlText(text)}</a>`
    }</td>`;
  };
  const body = rows.map((row, i) =>
    `<tr>${row.map((text, at) => cell(text, at, i)).join("")}</tr>`
  );
  return `<table>
<thead><tr>${head.map((each) => `<th>${each}</th>`).join("")}</tr></thead>
<tbody>
${body.join("\n")}
</tbody>
</table>`;
}

function htmlFields(register: Register): string {
  const { name, offset, description } = register;
  const about = description === undefined ? "" : `\n<p>${htmlText(description)}</p>`;
  return `<section id="${anchorOf(register)}">
<h3>${htmlText(name)} <small>${hex(offset)}</small></h3>${about}
${htmlTable(FIELD_HEAD, fieldRows(register))}
</section>`;
}

const STYLE = `
:root { color-scheme: light dark; }
body { font: 15px/1.5 system-ui, sans-serif; max-width: 70rem; margin: 2rem auto; padding: 0 1rem; }
table { border-collapse: collapse; width: 100%; margin: 0.5rem 0 1.5rem; }
th, td { border: 1px solid color-mix(in srgb, currentColor 25%, transparent); padding: 0.25rem 0.6rem;
  text-align: left; vertical-align: top; }
td:nth-child(-n+4) { font-family: ui-monospace, monospace; font-size: 0.92em; }
h3 small { font-weight: normal; opacity: 0.7; }
section:target h3 { text-decoration: underline; }
@media print { section { break-inside: avoid; } }
`;
