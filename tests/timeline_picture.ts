/**
 * The picture of a recording's page in docs/recording.md, which `deno task picture` draws. The
 * page's own code draws the timeline, on a canvas that notes it as SVG.
 *
 * @module
 */

import type { PageCanvas, PageContext2d, PageWindow } from "../cli/show/html/dom.ts";
import { unpackReport } from "../cli/show/html/data.ts";
import { Model } from "../cli/show/html/model.ts";
import { STYLE } from "../cli/show/html/style.ts";
import { type Colours, coloursBy, Timeline } from "../cli/show/html/timeline.ts";
import { runHere, temporaryFolder } from "./cli/_cli.ts";
import { writeGolden } from "./lib/record/_golden.ts";

/** The file with the picture. */
export const TIMELINE_PICTURE = new URL("../docs/timeline.svg", import.meta.url);

const WIDTH = 960;
const OVERVIEW_HEIGHT = 44;
const MARGIN = 16;
/** Space between the two canvases, with the text of what is shown. */
const GAP = 28;

/** A part of the recording: the queues are set up, and the first commands run. */
const ZOOM = { factor: 60, centre: 0.7425 } as const;

/** Notes as SVG what is drawn on a canvas. */
class SvgContext implements PageContext2d {
  fillStyle: unknown = "";
  font = "";
  textBaseline = "middle" as const;
  globalAlpha = 1;
  readonly parts: string[] = [];

  fillRect(x: number, y: number, width: number, height: number): void {
    if (width <= 0 || height <= 0) return;
    const place = `x="${short(x)}" y="${short(y)}" width="${short(width)}" height="${
      short(height)
    }"`;
    this.parts.push(`<rect ${place} ${this.#fill()}/>`);
  }

  fillText(text: string, x: number, y: number): void {
    const size = /\d+/.exec(this.font)![0];
    // As textBaseline "middle"
    const place = `x="${short(x)}" y="${short(y + Number(size) / 3)}" font-size="${size}"`;
    this.parts.push(`<text ${place} ${this.#fill()}>${escaped(text)}</text>`);
  }

  setTransform(): void {}

  #fill(): string {
    return `fill="${this.fillStyle}"` +
      (this.globalAlpha < 1 ? ` opacity="${this.globalAlpha}"` : "");
  }
}

function short(value: number): string {
  return String(Math.round(value * 10) / 10);
}

function escaped(text: string): string {
  return text.replaceAll("&", "&amp;").replaceAll("<", "&lt;").replaceAll(">", "&gt;");
}

/** A canvas that is as large as it is told to be. */
function canvasOf(context: SvgContext, clientHeight = 0) {
  const canvas = {
    ...{ width: 0, height: 0, clientWidth: WIDTH, clientHeight, dataset: {} },
    style: { setProperty() {} },
    addEventListener() {},
    getContext: () => context,
  };
  return canvas as unknown as PageCanvas & { readonly height: number };
}

/** The colours of the page in the dark. */
function colours(): Colours {
  const [, dark] = /data-theme="dark"\] \{([^}]*)\}/.exec(STYLE)!;
  return coloursBy((name) => new RegExp(`--${name}: (#\\w+);`).exec(dark!)![1]!);
}

/** The data in the page of the recording of QEMU's nvme. */
async function reportData() {
  await using folder = temporaryFolder();
  const recording = `${folder.path}/nvme.pcapng`;
  writeGolden("nvme", recording);
  const { out } = await runHere(["show", recording, "--map", "nvme", "--html", "-"]);
  return await unpackReport(/id="data">([A-Za-z0-9+/=]*)</.exec(out)![1]!);
}

/** Draws the timeline. */
export async function drawTimeline(): Promise<string> {
  const contexts = [new SvgContext(), new SvgContext()] as const;
  const [overview, canvas] = [canvasOf(contexts[0], OVERVIEW_HEIGHT), canvasOf(contexts[1])];
  const range = { textContent: "" };
  const window = { devicePixelRatio: 1, requestAnimationFrame: () => 0 };
  const timeline = new Timeline(
    window as unknown as PageWindow,
    { canvas, overview, range: range as never },
    new Model(await reportData()),
    colours,
    () => {},
  );
  timeline.zoom(ZOOM.factor, ZOOM.centre);
  timeline.drawNow();
  const top = MARGIN + OVERVIEW_HEIGHT + GAP;
  const [width, height] = [WIDTH + 2 * MARGIN, top + canvas.height + MARGIN];
  const { ground, dim } = colours();
  const group = (y: number, height: number, { parts }: SvgContext) =>
    `<svg x="${MARGIN}" y="${y}" width="${WIDTH}" height="${height}">\n${parts.join("\n")}\n</svg>`;
  return [
    `<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 ${width} ${height}" width="${width}"` +
    ` font-family="system-ui,sans-serif">`,
    `<rect width="${width}" height="${height}" rx="8" fill="${ground}"/>`,
    group(MARGIN, OVERVIEW_HEIGHT, contexts[0]),
    `<text x="${MARGIN}" y="${top - 10}" font-size="12" fill="${dim}">${
      escaped(range.textContent)
    }</text>`,
    group(top, canvas.height, contexts[1]),
    "</svg>",
    "",
  ].join("\n");
}
