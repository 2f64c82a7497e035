import { assertEquals } from "@std/assert";
import { bold } from "@std/fmt/colors";
import { tableLines, wrapWords } from "../../../cli/shared/table.ts";

Deno.test("tableLines() aligns columns, numbers to the right, and leaves no spaces at ends", () => {
  assertEquals(
    tableLines([["index", "name", "more"], ["0", "bar0", ""], ["12", "config space", "rw-"]], {
      columns: 80,
      indent: 2,
      right: [0],
    }),
    [
      "  index  name          more",
      "      0  bar0",
      "     12  config space  rw-",
    ],
  );
});

Deno.test("tableLines() keeps the last column as wide as words need, or as numbers do", () => {
  const rows = [["0123456789", "22 95 110"]];
  assertEquals(tableLines(rows, { columns: 18, indent: 0 }), ["0123456789  22 95 110"]);
  assertEquals(tableLines(rows, { columns: 18, indent: 0, minLast: 6 }), [
    "0123456789  22 95",
    "            110",
  ]);
});

Deno.test("tableLines() counts the columns of painted cells as they show", () => {
  assertEquals(
    tableLines([[{ text: "ab", paint: bold }, "x"], ["abcd", { text: "y", paint: bold }]], {
      columns: 80,
      indent: 0,
    }),
    ["\x1b[1mab\x1b[22m    x", "abcd  \x1b[1my\x1b[22m"],
  );
});

Deno.test("tableLines() wraps the last column under itself", () => {
  const words = "one two three four five six seven eight nine";
  const lines = tableLines([["name", words]], { columns: 32, indent: 0 });
  assertEquals(lines.length, 2);
  assertEquals(lines.every((line) => line.length <= 32), true);
  assertEquals(lines.slice(1).every((line) => /^ {6}\S/.test(line)), true);
  assertEquals(lines.map((line) => line.slice(6)).join(" "), words);
});

Deno.test("tableLines() keeps the last column readable when the screen is narrow", () => {
  const [line] = tableLines([["a".repeat(40), "some words to read"]], { columns: 20, indent: 0 });
  assertEquals(line, "a".repeat(40) + "  some words to read");
});

Deno.test("tableLines() takes more rows than a function may have arguments", () => {
  const rows = Array.from({ length: 200_000 }, (_, i) => [String(i), "x"]);
  assertEquals(tableLines(rows, { columns: 80, indent: 0 }).at(-1), "199999  x");
});

Deno.test("wrapWords() keeps a word whole that is longer than a line", () => {
  assertEquals(wrapWords("a bcdefgh i", 4), ["a", "bcdefgh", "i"]);
  assertEquals(wrapWords("", 4), [""]);
});
