import { assertEquals, assertRejects } from "@std/assert";
import { FileProblems } from "../../../../lib/registers/mod.ts";
import { MAX_XML_SIZE, readXml } from "../../../../lib/registers/import/xml.ts";
import { importText, mistakesOf, svd } from "./_import.ts";

const REGISTER = "<register><name>R</name><addressOffset>0</addressOffset>" +
  "<description>DESCRIPTION</description></register>";

Deno.test("XML: the first mistake has its line and column", async () => {
  for (
    const [text, mistake] of [
      ["<device>\n  <name>D</nam>\n</device>", "2:15 Unexpected close tag"],
      ["<device>\n <a", "1:1 <device> has no end"],
      ["<device>\n <peripherals>\n", "2:2 <peripherals> has no end"],
      ["", "1:1 The file has no element of XML"],
      ["no XML", "1:1 Non-whitespace before first tag."],
      ["<a>\n&copy;</a>", "2:6 Invalid character entity"],
    ] as const
  ) assertEquals(await mistakesOf(text), [mistake]);
});

Deno.test("XML: what a DTD declares is not expanded, however often", async () => {
  const entities = Array.from(
    { length: 9 },
    (_, i) => `<!ENTITY e${i + 1} "${`&e${i};`.repeat(10)}">`,
  );
  const text = `<!DOCTYPE device [<!ENTITY e0 "lol">${entities.join("")}]>\n` +
    svd(REGISTER.replace("DESCRIPTION", "&e9;"));
  const [mistake] = await mistakesOf(text);
  assertEquals(
    mistake?.replace(/^2:\d+ /, ""),
    "Invalid character entity; what a DTD declares is " +
      "not expanded; write the text itself",
  );
  const outside = '<!DOCTYPE device [<!ENTITY e SYSTEM "file:///etc/hostname">]>' +
    svd(REGISTER.replace("DESCRIPTION", "&e;"));
  assertEquals((await mistakesOf(outside)).length, 1);
});

Deno.test("XML: comments, CDATA, character references and namespaces are read", async () => {
  const text = `<?xml version="1.0"?>\n<!-- ${"long ".repeat(20_000)} -->\n` +
    svd(REGISTER.replace("DESCRIPTION", "<![CDATA[a < b]]> &#38; &lt;c&gt; <!-- no --> \n d"))
      .replace("<name>D", "<vendorExtensions><x:name>no</x:name></vendorExtensions><name>D");
  const { map } = await importText(text);
  assertEquals(map.registers[0]!.description, "a < b & <c> d");
});

Deno.test("XML: encodings are those that the file says", async () => {
  const text = svd(REGISTER.replace("DESCRIPTION", "µ"));
  const utf16 = new Uint8Array(2 + 2 * text.length);
  new Uint8Array(utf16.buffer).set([0xff, 0xfe]);
  for (let i = 0; i < text.length; i++) {
    new DataView(utf16.buffer).setUint16(2 + 2 * i, text.charCodeAt(i), true);
  }
  const latin = Uint8Array.from(
    `<?xml version="1.0" encoding="ISO-8859-1"?>${text}`,
    (each) => each.charCodeAt(0),
  );
  const utf8 = new TextEncoder().encode(`\ufeff<?xml version="1.0" encoding='UTF-8'?>${text}`);
  for (const bytes of [utf16, latin, utf8]) {
    assertEquals((await importText(bytes)).map.registers[0]!.description, "µ");
  }
  const claimed = text.replace("<device>", '<?xml version="1.0" encoding="klingon"?><device>');
  assertEquals(await mistakesOf(claimed), [
    "1:1 The encoding klingon is not known; save the file in UTF-8",
  ]);
  const [mistake] = await mistakesOf(new Uint8Array([0x3c, 0xff, 0xff]));
  assertEquals(mistake, "1:1 The file is not text in utf-8");
});

Deno.test("XML: elements in one another are bounded", async () => {
  const deep = "<device>" + "<a>".repeat(100_000);
  assertEquals(await mistakesOf(deep), ["1:198 There are more than 64 elements in one another"]);
});

Deno.test("XML: attributes of an element are bounded", async () => {
  const many = Array.from({ length: 1000 }, (_, i) => `a${i}=""`).join(" ");
  assertEquals(await mistakesOf(`<device ${many}/>`), [
    "1:1 <device> has more than 100 attributes",
  ]);
});

Deno.test("XML: a file that is too large is refused before it is read", async () => {
  const path = await Deno.makeTempFile();
  try {
    await Deno.truncate(path, MAX_XML_SIZE + 1); // a hole
    const { problems } = await assertRejects(() => readXml(path), FileProblems);
    assertEquals(problems[0]!.message, "The file is larger than 64 MiB");
  } finally {
    await Deno.remove(path);
  }
});

Deno.test("XML: a signal ends the read between two pieces, and progress is told", async () => {
  const path = await Deno.makeTempFile();
  try {
    await Deno.writeTextFile(path, svd(REGISTER.repeat(50_000)));
    const controller = new AbortController();
    const told: [number, number][] = [];
    const onProgress = (...state: [number, number]) => {
      told.push(state);
      if (told.length === 2) controller.abort(new Error("enough"));
    };
    await assertRejects(
      () => readXml(path, { signal: controller.signal, onProgress }),
      Error,
      "enough",
    );
    const { size } = await Deno.stat(path);
    assertEquals(told, [[1 << 19, size], [1 << 20, size]]);
  } finally {
    await Deno.remove(path);
  }
});
