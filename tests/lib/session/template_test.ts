import { assertEquals, assertThrows } from "@std/assert";
import { parseTemplate, render } from "../../../lib/session/template.ts";

const scope = { number: (_name: string, part?: string) => part === undefined ? 26n : -3n };

Deno.test("render() puts numbers into text, in three bases", () => {
  const text = (template: string) => render(parseTemplate(template), scope);
  assertEquals(text("a ${x} b ${x:x}${x:b}"), "a 26 b 0x1a0b11010");
  assertEquals(text("${x.F:x} ${x.F:b} ${x + 1}"), "-0x3 -0b11 27");
  assertEquals(text("$${x} costs $5 {or} more"), "${x} costs $5 {or} more");
  assertEquals(text(""), "");
});

Deno.test("parseTemplate() says what is wrong", () => {
  const message = (text: string) => assertThrows(() => parseTemplate(text), SyntaxError).message;
  assertEquals(message("a ${x"), '"${x" has no end; write ${NAME}, or $${ for the text');
  assertEquals(message("${a${b}}"), '"${a$" has no end; write ${NAME}, or $${ for the text');
  assertEquals(
    message("${x:o}"),
    '":o" in "${x:o}" is no format; write ${NAME}, ${NAME:x} or ${NAME:b}',
  );
  assertEquals(message("${}"), "Cannot read ${}: it is empty");
});
