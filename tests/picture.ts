/**
 * The picture of a terminal in README.md: `deno task picture` runs `vfu probe` and draws what it
 * writes, with its colours. It draws that of docs/recording.md as well.
 *
 * @module
 */

import { DemoDevice } from "../lib/devices/demo_device.ts";
import { Server } from "../lib/server/server.ts";
import { runThere, temporaryFolder } from "./cli/_cli.ts";
import { drawTimeline, TIMELINE_PICTURE } from "./timeline_picture.ts";

/** The file with the picture. */
export const PICTURE = new URL("../docs/probe.svg", import.meta.url);

const COLUMNS = 80;
/** Width of a character and height of a line, in pixels. */
const [WIDTH, HEIGHT] = [8, 17];
/** Space around the text. */
const MARGIN = 16;

/** The line at which the picture ends: what follows are capabilities of PCI, one after another. */
const LAST = /^ {2}\[60\]/m;

const FONTS = "ui-monospace,SFMono-Regular,Menlo,Consolas,DejaVu Sans Mono,monospace";
const STYLE = `text{font:13px ${FONTS};fill:#d6dbe0}.bold{font-weight:700;fill:#fff}` +
  ".dim{fill:#8b949e}.red{fill:#ff7b72}.green{fill:#7ee787}.yellow{fill:#e3b341}" +
  ".cyan{fill:#79c0ff}";

/** The classes of the codes that a terminal takes, and of those that end them. */
const CLASSES: Readonly<Record<string, string>> = {
  1: "bold",
  2: "dim",
  31: "red",
  32: "green",
  33: "yellow",
  36: "cyan",
};

/** Runs `vfu probe` on the demo device, as one does in a terminal, and returns the screen. */
export async function screen(): Promise<string> {
  await using folder = temporaryFolder();
  using _server = Server.listen(`${folder.path}/demo.sock`, new DemoDevice());
  const { code, out, err } = await runThere(["probe", "demo.sock"], {
    cwd: folder.path,
    env: { FORCE_COLOR: "1" },
    permissions: ["--allow-ffi", "--allow-read", "--allow-env=FORCE_COLOR,NO_COLOR,TERM"],
  });
  if (code !== 0) throw new Error(err);
  return [
    "$ vfu serve demo --socket-path=demo.sock &",
    "$ vfu probe demo.sock",
    `${out.slice(0, out.search(LAST))}...`,
  ].join("\n");
}

/** Draws a screen, whose colours are codes of a terminal. */
export function draw(text: string): string {
  const lines = text.split("\n");
  const width = COLUMNS * WIDTH + 2 * MARGIN;
  const height = lines.length * HEIGHT + 2 * MARGIN;
  const rows = lines.map((line, i) => row(line, MARGIN + (i + 0.75) * HEIGHT));
  return [
    `<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 ${width} ${height}" width="${width}">`,
    `<style>${STYLE}</style>`,
    `<rect width="${width}" height="${height}" rx="8" fill="#0d1117"/>`,
    ...rows.filter((each) => each !== ""),
    "</svg>",
    "",
  ].join("\n");
}

/** A line. Each of its columns has a place and a length, so that they meet in every font. */
function row(line: string, y: number): string {
  // deno-lint-ignore no-control-regex
  const parts = line.split(/\x1b\[(\d+)m/);
  const drawn: string[] = [];
  let column = 0;
  let style: string | undefined;
  for (const [i, part] of parts.entries()) {
    if (i % 2 === 1) {
      style = CLASSES[part];
      continue;
    }
    for (const { 0: text, index } of part.matchAll(/\S+(?: \S+)*/g)) {
      const place = `x="${MARGIN + (column + index) * WIDTH}" textLength="${text.length * WIDTH}"`;
      const look = style === undefined ? "" : ` class="${style}"`;
      drawn.push(`<tspan ${place}${look}>${escaped(text)}</tspan>`);
    }
    column += part.length;
  }
  return drawn.length === 0 ? "" : `<text y="${y}">${drawn.join(" ")}</text>`;
}

function escaped(text: string): string {
  return text.replaceAll("&", "&amp;").replaceAll("<", "&lt;").replaceAll(">", "&gt;");
}

if (import.meta.main) {
  Deno.writeTextFileSync(PICTURE, draw(await screen()));
  Deno.writeTextFileSync(TIMELINE_PICTURE, await drawTimeline());
}
