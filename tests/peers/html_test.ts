import fc from "fast-check";
import { assert, assertEquals, assertMatch, assertStringIncludes } from "@std/assert";
import type { NewEvent } from "../../lib/record/event.ts";
import { encodeMessage } from "../../lib/wire/header.ts";
import { runHere } from "../cli/_cli.ts";
import { anyEvent, temporaryFile, writeRecording } from "../lib/record/_events.ts";
import { readGolden } from "../lib/record/_golden.ts";
import { Talk } from "../lib/record/_talk.ts";
import { until } from "../_until.ts";
import { ChromiumPage, chromiumProgram } from "./_chromium.ts";

/** Texts that would do harm, were they taken as HTML or as a text of the terminal. */
const HOSTILE =
  "</script><script>globalThis.owned = 1</script><img src=x onerror=owned=1>\u001b[2J";
const WIDE = { width: 1600, height: 1200 };

/** A driver that enables an NVMe controller, polls it, and is refused. */
function nvmeTalk(): Talk {
  const talk = new Talk();
  talk.add({ kind: "open", client: `qemu ${HOSTILE}`, server: "/tmp/nvme.sock" });
  talk.add({ kind: "note", text: `seen\nCSTS=9 ${HOSTILE}` });
  talk.write(0x14n, 0x460001);
  for (let i = 0; i < 100; i++) talk.read(0x1cn, 0);
  talk.read(0x1cn, 1);
  const id = talk.ask("DMA_READ", { address: 0x1000n, count: 64n });
  talk.pass(50_000n);
  talk.answer("DMA_READ", id, { address: 0x1000n, data: new Uint8Array(64).fill(0x41) });
  const map = { argsz: 32, flags: 3, offset: 0n, address: 0x1000n, size: 0x1000n };
  const memfd = { kind: "memfd", size: 1n << 29n, seals: ["shrink"], access: "rw" } as const;
  talk.answer(
    "DMA_MAP",
    talk.ask("DMA_MAP", map, {
      descriptors: [{ ...memfd, identity: "1:7", fate: "withheld" }],
      passedOn: encodeMessage({ messageId: 104, command: 2 }),
    }),
    undefined,
  );
  const read = { region: 0, offset: 0x2001n, count: 1 };
  talk.refuse("REGION_READ", talk.ask("REGION_READ", read), 22, { comment: HOSTILE });
  talk.add({ kind: "interrupt", irq: 2, vector: 0, count: 3n, action: "trigger" });
  talk.add({ kind: "ioeventfd", region: 0, offset: 0x1000n, size: 4, count: 1n });
  talk.add({ kind: "garbage", direction: "to-server", bytes: new Uint8Array(5), descriptors: [] });
  talk.add({ kind: "end", side: "client", reason: "cut", text: HOSTILE });
  return talk;
}

/** Accesses, DMA and interrupts, so many that most share a pixel. */
function longTalk(events: number): Talk {
  const talk = new Talk();
  for (let i = 0; talk.events.length < events; i++) {
    talk.write(0x1000n, i & 63);
    const id = talk.ask("DMA_READ", { address: 0x1000n, count: 64n });
    talk.answer("DMA_READ", id, { address: 0x1000n, data: new Uint8Array(64).fill(i) });
    talk.add({ kind: "interrupt", irq: 2, vector: i % 3, count: 1n, action: "trigger" });
    talk.read(0x1cn, 1, BigInt(3000 + i % 977 * 50));
  }
  return talk;
}

/** Opens the page of a recording. */
async function opened(
  events: readonly NewEvent[],
  { size = WIDE, dark = false } = {},
): Promise<ChromiumPage & AsyncDisposable> {
  using file = temporaryFile();
  writeRecording(file.path, events);
  const path = await Deno.makeTempFile({ suffix: ".html" });
  try {
    const { code, err } = await runHere(["show", file.path, "--map", "nvme", "--html", path]);
    assertEquals([code, err], [0, ""]);
    const page = await ChromiumPage.open(path, size, dark);
    await page.until("document.documentElement.dataset.ready === 'true'");
    return page;
  } finally {
    await Deno.remove(path);
  }
}

const text = (id: string) => `document.getElementById("${id}").innerText`;

/** Rows of a table in the page as texts. */
function cells(selector: string): string {
  return `[...document.querySelectorAll("${selector} tbody tr")]` +
    ".map((row) => [...row.children].map((cell) => cell.innerText))";
}

function browserTest(name: string, run: () => Promise<void>): void {
  const isLeftOut = chromiumProgram() === undefined && !Deno.env.has("CI");
  Deno.test({ name, ignore: isLeftOut, fn: run });
}

browserTest("the page shows a message with its fields, registers and bytes", async () => {
  await using page = await opened(nvmeTalk().events);
  assertMatch(
    await page.evaluate(text("summary")),
    /^216 events over 2\.18 ms, from 1970-01-01T00:00:01.000Z/,
  );
  await page.evaluate(`document.getElementById("search").focus()`);
  await page.type("CSTS 0x00000001");
  assertEquals(await page.evaluate(text("count")), "1 of 216");
  await page.press("Enter");
  const says = await page.evaluate<string>(`document.querySelector("#details .says").innerText`);
  assertMatch(says, /^CSTS +bar0\+0x1c +0x00000001$/);
  const [fields, wire] = await page.evaluate<string[][][]>(
    `[${cells("#details table:not(#fields)")}, ${cells("#fields")}]`,
  );
  assertEquals(fields!.slice(0, 2), [["RDY", "1"], ["CFS", "0"]]);
  assertEquals(wire!.map(([name, value]) => `${name}: ${value}`), [
    "messageId: 0x66 (102)",
    "command: 9 REGION_READ",
    "size: 0x24 (36)",
    "flags: 1 reply",
    "error: 0",
    "offset: 0x1c (28)",
    "region: 0 bar0",
    "count: 4",
    "data: 4 bytes",
  ]);
  const dump = await page.evaluate<string>(`document.querySelector(".hexdump").textContent`);
  assertEquals(dump.split("\n")[2], `00000020  01 00 00 00 ${" ".repeat(37)} |....|`);
  await page.evaluate(`document.querySelector("#fields tr:last-child button").click()`);
  const marked =
    `[...document.querySelectorAll(".marked")].map((byte) => byte.textContent).join("")`;
  assertEquals(await page.evaluate(marked), "01000000");
  assertEquals([page.complaints, page.requests], [[], []]);
});

for (const width of [1280, 360]) {
  browserTest(`the list of a page of ${width} pixels shows the values of registers`, async () => {
    const talk = new Talk();
    talk.read(0x1cn, 1);
    talk.read(0x800n, 0x1234_5678);
    await using page = await opened(talk.events, { size: { width, height: 800 } });
    const value = (row: number) => `document.querySelector("#row-${row} .value")`;
    const hasRoom = (row: number) =>
      `(() => { const cell = ${value(row)}; return cell.scrollWidth <= cell.clientWidth && ` +
      `cell.clientWidth > 0; })()`;
    assertStringIncludes(await page.evaluate(`${value(3)}.textContent`), "0x12345678");
    assert(await page.evaluate(hasRoom(3)));
  });
}

browserTest("the page of one event tells it in the singular", async () => {
  const talk = new Talk();
  talk.ask("REGION_READ", { region: 0, offset: 0n, count: 1 });
  await using page = await opened(talk.events);
  assertMatch(await page.evaluate(text("summary")), /^1 event over /);
  assertEquals(await page.evaluate(text("count")), "1 event");
});

browserTest("the page shows descriptors, what was passed on, notes and ends", async () => {
  await using page = await opened(nvmeTalk().events);
  await page.evaluate(`document.getElementById("search").focus()`);
  await page.type("memfd");
  await page.press("Enter");
  const details = await page.evaluate<string>(text("details"));
  assertStringIncludes(details, "memfd 512 MiB, sealed shrink, withheld");
  assertStringIncludes(details, "Passed on as");
  for (const [query, count] of [["note", 1], ["end ended", 1], ["interrupt", 1], ["#104", 2]]) {
    await page.evaluate(`document.getElementById("search").value = ""`);
    await page.type(String(query));
    assertEquals(await page.evaluate(text("count")), `${count} of 216`, String(query));
  }
  assertEquals([page.complaints, page.requests], [[], []]);
});

browserTest("texts of a recording stay texts, and no other program runs in the page", async () => {
  await using page = await opened(nvmeTalk().events);
  await page.evaluate(`document.getElementById("timeline").focus()`);
  for (let i = 0; i < 2; i++) await page.press("ArrowDown");
  assertStringIncludes(await page.evaluate(text("details")), "<script>globalThis.owned");
  assertStringIncludes(await page.evaluate(text("details")), "seen\\u000aCSTS=9");
  await page.press("End");
  assertStringIncludes(await page.evaluate(text("details")), "onerror=owned=1>\\u001b[2J");
  assertEquals(await page.evaluate(`"owned" in globalThis`), false);
  assertEquals(await page.evaluate(`document.querySelectorAll("img, script").length`), 2);
  assertEquals([page.complaints, page.requests], [[], []]);
  // Even a program that got in would be kept from running, and from the network.
  await page.evaluate(`{
    const script = document.createElement("script");
    script.textContent = "globalThis.owned = 1";
    document.body.append(script);
  }`);
  assertEquals(await page.evaluate(`"owned" in globalThis`), false);
  const fetched = `fetch("http://127.0.0.1:9/").then(() => "came", (error) => error.name)`;
  assertEquals(await page.evaluate(fetched), "TypeError");
  await until(() => page.complaints.some((each) => /Content.Security.Policy/.test(each)));
});

browserTest("the keyboard moves, zooms, searches, and helps; focus is to be seen", async () => {
  await using page = await opened(nvmeTalk().events);
  const range = async () =>
    await page.evaluate<number[]>(
      `(({ from, to }) => [Number(from), Number(to)])(document.getElementById("timeline").dataset)`,
    );
  const [from, to] = await range();
  await page.press("+");
  await page.press("+");
  const [zoomedFrom, zoomedTo] = await range();
  assertEquals(zoomedTo! - zoomedFrom!, (to! - from!) / 4);
  await page.press("ArrowRight");
  assert((await range())[0]! > zoomedFrom!);
  await page.press("ArrowLeft");
  assert(Math.abs((await range())[0]! - zoomedFrom!) < 1e-3);
  await page.press("-");
  assertEquals((await range())[1]! - (await range())[0]!, (to! - from!) / 2);
  await page.press("0");
  assertEquals(await range(), [from, to]);
  await page.press("/");
  await page.type("EINVAL");
  assertEquals(await page.evaluate(text("count")), "1 of 216");
  await page.press("Enter");
  assertStringIncludes(await page.evaluate(text("details")), "REGION_READ error");
  await page.press("Escape");
  assertEquals(await page.evaluate(text("count")), "216 events");
  await page.evaluate(`document.activeElement.blur()`);
  await page.press("?");
  assertEquals(await page.evaluate(`document.getElementById("help").open`), true);
  await page.press("Escape");
  assertEquals(await page.evaluate(`document.getElementById("help").open`), false);
  const order: string[] = [];
  await page.evaluate(`document.activeElement.blur()`);
  for (let i = 0; i < 12; i++) {
    await page.press("Tab");
    order.push(await page.evaluate("document.activeElement.id"));
    const outline = "getComputedStyle(document.activeElement).outlineStyle";
    assertEquals(await page.evaluate(outline), "solid", order.at(-1)!);
  }
  assertEquals(order.slice(0, 7), [
    "theme",
    "print",
    "help-button",
    "zoom-in",
    "zoom-out",
    "zoom-all",
    "timeline",
  ]);
  assertEquals(order.slice(7, 12), ["search", "previous", "next", "list", "details"]);
  assertEquals([page.complaints, page.requests], [[], []]);
});

browserTest("Escape leaves the search field, then drops the selection", async () => {
  await using page = await opened(nvmeTalk().events);
  const state = () =>
    page.evaluate(`[
      document.activeElement.tagName,
      document.getElementById("search").value,
      document.querySelectorAll("#list [aria-selected=true]").length,
    ]`);
  await page.press("/");
  await page.type("EINVAL");
  await page.press("Enter");
  assertEquals(await state(), ["INPUT", "EINVAL", 1]);
  await page.press("Escape");
  assertEquals(await state(), ["BODY", "", 1]);
  // Keys are for the page again, not for the field.
  const to = `Number(document.getElementById("timeline").dataset.to)`;
  const before = await page.evaluate<number>(to);
  await page.press("+");
  assert(await page.evaluate<number>(to) < before);
  assertEquals(await state(), ["BODY", "", 1]);
  await page.press("Escape");
  assertEquals(await state(), ["BODY", "", 0]);
  assertStringIncludes(await page.evaluate(text("details")), "Select a message");
  // An empty field and a choice are left too, and the selection stays.
  await page.press("ArrowDown");
  for (const id of ["search", "latency-command"]) {
    await page.evaluate(`document.getElementById("${id}").focus()`);
    await page.press("Escape");
    assertEquals(await state(), ["BODY", "", 1], id);
  }
  // A search that outlived its focus ends first.
  await page.press("/");
  await page.type("CSTS");
  await page.evaluate(`document.getElementById("list").focus()`);
  await page.press("Escape");
  assertEquals(await state(), ["DIV", "", 1]);
  await page.press("Escape");
  assertEquals(await state(), ["DIV", "", 0]);
  assertEquals([page.complaints, page.requests], [[], []]);
});

browserTest("a click in a lane selects what is there", async () => {
  await using page = await opened(nvmeTalk().events);
  const at = await page.evaluate<{ x: number; y: number }>(`(() => {
    const { left, top, width } = document.getElementById("timeline").getBoundingClientRect();
    return { x: left + width * 0.5, y: top + 20 + 38 + 25 };
  })()`);
  const mouse = { ...at, button: "left", clickCount: 1 };
  await page.send("Input.dispatchMouseEvent", { type: "mousePressed", ...mouse });
  await page.send("Input.dispatchMouseEvent", { type: "mouseReleased", ...mouse });
  await page.drawn();
  assertStringIncludes(await page.evaluate(text("details")), "REGION_READ request");
  const before = await page.evaluate(`Number(document.getElementById("timeline").dataset.to)`);
  await page.send("Input.dispatchMouseEvent", {
    type: "mouseWheel",
    ...at,
    deltaX: 0,
    deltaY: -240,
  });
  await page.until(`Number(document.getElementById("timeline").dataset.to) < ${before}`);
  assertEquals([page.complaints, page.requests], [[], []]);
});

browserTest("charts count registers, commands and times, of what the search found", async () => {
  await using page = await opened(nvmeTalk().events);
  await page.until(`document.querySelector("#registers tbody") !== null`);
  assertEquals((await page.evaluate<string[][]>(cells("#registers")))[0], ["CSTS", "", "101", "0"]);
  const commands = await page.evaluate<string[][]>(cells("#commands"));
  assertEquals(commands[0]!.slice(0, 4), ["REGION_READ", "102", "102", "1"]);
  assertEquals(await page.evaluate(`document.querySelectorAll(".plot .column").length > 5`), true);
  await page.evaluate(`document.querySelectorAll("#registers button")[1].click()`);
  assertEquals(await page.evaluate(`document.getElementById("search").value`), "CC");
  assertEquals([page.complaints, page.requests], [[], []]);
});

browserTest("the page names columns, senders and the message at a link", async () => {
  await using page = await opened(nvmeTalk().events);
  await page.press("/");
  await page.type("CSTS 0x00000001");
  await page.press("Enter");
  const fact = (term: string) =>
    page.evaluate(
      `[...document.querySelectorAll("#details dt")]
        .find((each) => each.innerText === "${term}").nextSibling.innerText`,
    );
  assertMatch(String(await fact("Request")), /^#102, [\d.]+ ms$/);
  assertEquals([await fact("Sent by"), await fact("Direction")], ["the server", "to the client"]);
  // Each heading is above its column, whatever width the scrollbar has.
  const lefts = (selector: string) =>
    page.evaluate<number[]>(
      `[...document.querySelector("${selector}").children]
        .map((each) => each.getBoundingClientRect().left)`,
    );
  assertEquals(await lefts(".heads"), await lefts("#rows .row"));
  assertEquals([page.complaints, page.requests], [[], []]);
});

browserTest("charts say that their numbers are of what the search found", async () => {
  await using page = await opened(nvmeTalk().events);
  await page.until(`document.querySelector("#registers tbody") !== null`);
  const scopes = `[...document.querySelectorAll(".scope")].map((each) => each.innerText)`;
  assertEquals(await page.evaluate(scopes), ["", "", ""]);
  await page.press("/");
  await page.type("EINVAL");
  const commands = `${cells("#commands")}.map(([, , replies]) => replies)`;
  await page.until(`document.querySelector(".scope").innerText !== ""`);
  assertEquals(await page.evaluate(scopes), Array(3).fill("of the 1 found among 216 events"));
  assertEquals(await page.evaluate(commands), ["1"]);
  await page.press("Escape");
  await page.until(`document.querySelector(".scope").innerText === ""`);
  assertEquals(await page.evaluate(scopes), ["", "", ""]);
  assert((await page.evaluate<string[]>(commands)).length > 1);
  assertEquals([page.complaints, page.requests], [[], []]);
});

browserTest("the page counts as --stats does, of the recording of a real guest", async () => {
  const events = readGolden("nvme");
  using file = temporaryFile();
  writeRecording(file.path, events);
  const { out } = await runHere(["show", file.path, "--stats", "--json"]);
  const { commands } = JSON.parse(out) as {
    commands: Record<"command" | "requests" | "replies" | "errors" | "bytes", string | number>[];
  };
  const expected = commands.map(({ command, requests, replies, errors, bytes }) =>
    [command, requests, replies, errors, bytes].join(" ")
  );
  await using page = await opened(events);
  await page.until(`document.querySelector("#commands table") !== null`);
  const found = await page.evaluate<string[][]>(cells("#commands"));
  assertEquals(found.map((each) => each.slice(0, 5).join(" ")).sort(), expected.sort());
  assertEquals([page.complaints, page.requests], [[], []]);
});

/** Selects each row, at several zooms. */
const VISIT = `(async () => {
  const press = (key) => document.dispatchEvent(new KeyboardEvent("keydown", { key }));
  const frame = () => new Promise(requestAnimationFrame);
  const shown = new Set();
  press("Home");
  for (let i = 0; i < 400; i++) {
    shown.add(document.getElementById("details").dataset.row);
    if (i % 20 === 0) {
      for (let n = 0; n <= i / 4; n++) press("+");
      await frame();
      press("0");
    }
    press("ArrowDown");
  }
  await frame();
  return shown.size;
})()`;

browserTest("any events at all can be looked at, at any time", async () => {
  const events = fc.sample(anyEvent, { numRuns: 300, seed: 5 });
  const last = { ...events[0]!, timeNs: (1n << 64n) - 1n };
  for (const list of [events, [{ ...last, timeNs: 0n }, last], [last, last], []]) {
    await using page = await opened(list);
    assertEquals(await page.evaluate(VISIT), Math.max(1, list.length));
    await page.until(`document.querySelector("#commands table") !== null`);
    assertEquals([page.complaints, page.requests], [[], []]);
  }
});

browserTest("the page reports that a recording is damaged", async () => {
  using file = temporaryFile();
  writeRecording(file.path, nvmeTalk().events);
  Deno.writeFileSync(file.path, new Uint8Array(12), { append: true });
  const path = await Deno.makeTempFile({ suffix: ".html" });
  try {
    assertEquals((await runHere(["show", file.path, "--html", path])).code, 1);
    await using page = await ChromiumPage.open(path, WIDE);
    await page.until("document.documentElement.dataset.ready === 'true'");
    assertStringIncludes(await page.evaluate(text("problem")), "a block claims 0 bytes");
    assertMatch(await page.evaluate(text("summary")), /^216 events/);
  } finally {
    await Deno.remove(path);
  }
});

browserTest("100,000 messages are drawn by the pixels, not by the messages", async () => {
  const { events } = longTalk(100_000);
  await using page = await opened(events);
  await page.evaluate(`{
    const paint = CanvasRenderingContext2D.prototype.fillRect;
    globalThis.painted = 0;
    CanvasRenderingContext2D.prototype.fillRect = function (...args) {
      globalThis.painted++;
      paint.apply(this, args);
    };
  }`);
  const lanes = 4;
  // A bar, hits and errors a pixel in each lane and in the overview, or as many items.
  const most = (lanes + 1) * (3 * WIDE.width + 400);
  for (const key of ["0", ..."++++++++++++++++".split(""), "ArrowRight", "ArrowLeft", ..."----"]) {
    await page.evaluate("painted = 0");
    await page.press(key);
    await page.until("painted > 0");
    // press() waits for two frames: what was drawn since is one or two pictures.
    const painted = await page.evaluate<number>("painted");
    assert(painted <= 2 * most, `${painted} rectangles after ${key}`);
  }
  assertEquals(await page.evaluate(`document.querySelectorAll(".row").length < 60`), true);
  await page.press("/");
  await page.type("msix[1]");
  const wanted = events.filter((event) => event.kind === "interrupt" && event.vector === 1).length;
  assertEquals(
    await page.evaluate(text("count")),
    `${wanted.toLocaleString("en")} of ${events.length.toLocaleString("en")}`,
  );
  assertEquals([page.complaints, page.requests], [[], []]);
});

for (const [width, dark] of [[360, false], [360, true], [1600, false], [1600, true]] as const) {
  browserTest(`the page fits ${width} pixels, ${dark ? "dark" : "light"}`, async () => {
    await using page = await opened(nvmeTalk().events, { size: { width, height: 800 }, dark });
    await page.press("ArrowDown");
    assertEquals(await page.evaluate("document.documentElement.scrollWidth"), width);
    const ground = "getComputedStyle(document.body).backgroundColor";
    const colours = ["rgb(255, 255, 255)", "rgb(20, 24, 29)"];
    assertEquals(await page.evaluate(ground), colours[dark ? 1 : 0]);
    await page.press("t");
    assertEquals(await page.evaluate(ground), colours[dark ? 0 : 1]);
    await page.send("Emulation.setEmulatedMedia", { media: "print" });
    assertEquals(await page.evaluate(ground), colours[0]);
    assertEquals([page.complaints, page.requests], [[], []]);
  });
}
