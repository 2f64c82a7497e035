/** The pictures of the documents show what vfu writes and draws today. */

import { assert, assertEquals, assertMatch, assertStringIncludes } from "@std/assert";
import { draw, PICTURE, screen } from "./picture.ts";
import { drawTimeline, TIMELINE_PICTURE } from "./timeline_picture.ts";

const ROOT = new URL("../", import.meta.url);

Deno.test("docs/probe.svg is what deno task picture draws, and README.md shows it", async () => {
  const picture = await Deno.readTextFile(PICTURE);
  assertEquals(picture, draw(await screen()), "run deno task picture, and look at it");
  assert(picture.length < 40_000, `${picture.length} bytes`);
  assertMatch(picture, /class="bold">Regions</);
  assertStringIncludes(await Deno.readTextFile(new URL("README.md", ROOT)), "(docs/probe.svg)");
});

Deno.test("docs/timeline.svg is what the page of a recording draws today", async () => {
  const picture = await Deno.readTextFile(TIMELINE_PICTURE);
  assertEquals(picture, await drawTimeline(), "run deno task picture, and look at it");
  assert(picture.length < 40_000, `${picture.length} bytes`);
  for (const lane of ["device DMA", "interrupts", "bar0"]) {
    assertStringIncludes(picture, `>${lane}</text>`);
  }
  assertStringIncludes(
    await Deno.readTextFile(new URL("docs/recording.md", ROOT)),
    "(timeline.svg)",
  );
});

Deno.test("draw() keeps the text, and escapes it", () => {
  const picture = draw("\x1b[1mA <b>\x1b[22m   & c\n\n  \x1b[31mred\x1b[39m");
  const texts = picture.match(/<text .*<\/text>/g)!;
  const plain = texts.map((each) =>
    each.replaceAll(/<[^>]*>/g, "").replaceAll("&lt;", "<").replaceAll("&gt;", ">")
      .replaceAll("&amp;", "&")
  );
  assertEquals(plain, ["A <b> & c", "red"]);
  assertStringIncludes(texts[0]!, '<tspan x="16" textLength="40" class="bold">A &lt;b&gt;</tspan>');
  assertStringIncludes(texts[0]!, '<tspan x="80" textLength="24">&amp; c</tspan>');
  assertStringIncludes(texts[1]!, '<tspan x="32" textLength="24" class="red">red</tspan>');
});
