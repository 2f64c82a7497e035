/**
 * The document of a report: one file with style, program and data.
 *
 * The program is the text of the page's own functions and classes, as JavaScript engines keep it.
 * So the page is checked as all code is, and needs no bundler. They find each other by their names,
 * as here; they must use nothing else of their files.
 *
 * @module
 */

import { textHash } from "../../shared/hash.ts";
import { timeText } from "../text.ts";
import { Charts } from "./charts.ts";
import { unpackReport } from "./data.ts";
import { Details } from "./details.ts";
import { counted, element, table } from "./element.ts";
import { FieldReader, mostEntries } from "./fields.ts";
import { MessageList } from "./list.ts";
import { MARKUP } from "./markup.ts";
import { Lane, lowerBound, Model } from "./model.ts";
import { Page, startPage } from "./page.ts";
import { STYLE } from "./style.ts";
import { coloursBy, Timeline } from "./timeline.ts";

/** All that the page runs. */
const PROGRAM: readonly ((...args: never[]) => unknown)[] | readonly { readonly name: string }[] = [
  timeText,
  unpackReport,
  counted,
  element,
  table,
  mostEntries,
  lowerBound,
  Lane,
  Model,
  FieldReader,
  coloursBy,
  Timeline,
  MessageList,
  Details,
  Charts,
  Page,
  startPage,
];

/** The program of the page: its parts, then the call that starts it. */
export function pageProgram(): string {
  return ['"use strict";', ...PROGRAM.map(String), "startPage(globalThis);", ""].join("\n");
}

/** The document ahead of the data, and after it. No other program may run in it. */
export async function pageFrame(): Promise<{ readonly head: string; readonly tail: string }> {
  const program = pageProgram();
  const policy = [
    "default-src 'none'",
    `script-src '${await textHash(program)}'`,
    `style-src '${await textHash(STYLE)}'`,
    "base-uri 'none'",
    "form-action 'none'",
  ].join("; ");
  const head = `<!DOCTYPE html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta http-equiv="Content-Security-Policy" content="${policy}">
<meta name="viewport" content="width=device-width, initial-scale=1">
<meta name="referrer" content="no-referrer">
<title>Recording - vfu</title>
<style>${STYLE}</style>
</head>
<body>
${MARKUP}<script type="text/plain" id="data">`;
  return { head, tail: `</script>\n<script>${program}</script>\n</body>\n</html>\n` };
}
