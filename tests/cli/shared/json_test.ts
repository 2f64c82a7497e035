import { assertEquals } from "@std/assert";
import { jsonPieces, jsonText } from "../../../cli/shared/json.ts";

/** Code points that a terminal acts upon, or that hide in it. */
const HOSTILE = [
  ...[0x00, 0x07, 0x1b, 0x7f, 0x80, 0x85, 0x9b, 0x9f, 0xad, 0x61c],
  ...[0x200b, 0x200e, 0x200f, 0x2028, 0x2029, 0x202a, 0x202e, 0x2060, 0x2066, 0x2069, 0xfeff],
  ...[0xfff9, 0xd800, 0xdfff, 0xe0001, 0xe007f],
];

Deno.test("jsonText() escapes what a terminal acts upon, and means the same", () => {
  for (const code of HOSTILE) {
    const text = `a${String.fromCodePoint(code)}b`;
    for (const indent of [undefined, 2]) {
      const written = jsonText({ [text]: [text] }, indent);
      assertEquals(JSON.parse(written), { [text]: [text] });
      assertEquals(/[\p{Cc}\p{Cf}\p{Zl}\p{Zp}\p{Cs}]/u.test(written.replaceAll("\n", "")), false);
    }
  }
  assertEquals(jsonText("\u009b\u{e0001}"), '"\\u009b\\udb40\\udc01"');
  assertEquals(jsonText("Grüße, 世界 🙂"), '"Grüße, 世界 🙂"');
});

Deno.test("jsonText() writes integers above 2^53 - 1 as strings, and indents", () => {
  assertEquals(jsonText({ a: 2n ** 63n, b: 5n }), '{"a":"0x8000000000000000","b":5}');
  assertEquals(jsonText({ a: 1 }, 2), '{\n  "a": 1\n}');
});

Deno.test("all JSON of the command line is written by jsonText()", () => {
  const cli = new URL("../../../cli/", import.meta.url);
  const others: string[] = [];
  const look = (folder: URL) => {
    for (const { name, isDirectory } of Deno.readDirSync(folder)) {
      if (isDirectory) look(new URL(`${name}/`, folder));
      else {
        const source = Deno.readTextFileSync(new URL(name, folder)).replaceAll(/^ \*.*$/gm, "");
        const path = new URL(name, folder).href.slice(cli.href.length);
        if (source.includes("JSON.stringify(")) others.push(path);
      }
    }
  };
  look(cli);
  // The probe's goes through printable(); a page's is packed, and read by the page alone; the
  // version, and what is installed, have vfu's own words only.
  const allowed = [
    "installed/maps.ts",
    "installed/npm_packages.ts",
    "installed/package.ts",
    "probe/text.ts",
    "program.ts",
    "shared/json.ts",
    "show/html/data.ts",
    "show/html/report.ts",
  ];
  assertEquals(others.sort(), allowed);
});

Deno.test("JSON in pieces is the JSON in one piece, and no piece is large", () => {
  const large = new Uint8Array(200_000).fill(0x5a);
  const value = {
    "a\u001b": 1n << 63n,
    none: undefined,
    list: [large, undefined, { deep: large, empty: {} }, []],
    small: large.subarray(0, 3),
  };
  const pieces = [...jsonPieces(value)];
  assertEquals(pieces.join(""), jsonText(value));
  assertEquals(Math.max(...pieces.map(({ length }) => length)), 65_536);
});
