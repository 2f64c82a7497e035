/** `docs/interop.md` is whole: its checks exist, and no server of ours deviates. */

import { assert, assertEquals, assertThrows } from "@std/assert";
import { SERVER_CHECKS, SERVER_GROUPS } from "../lib/conformance/server/groups.ts";
import {
  deviationsIn,
  EXPLANATIONS,
  INTEROP_PEERS,
  interopText,
  resultsOf,
  UNSTABLE,
} from "./peers/interop_text.ts";

const TEXT = Deno.readTextFileSync(new URL("../docs/interop.md", import.meta.url));
const IDS = new Set(SERVER_CHECKS.map(({ id }) => id));

Deno.test("docs/interop.md has a section for each peer, and ours have no deviation", () => {
  const titles = [...TEXT.matchAll(/^## (.+)$/gm)].map(([, title]) => title!);
  assertEquals(titles, INTEROP_PEERS.map(({ name }) => name));
  for (const { name, program } of INTEROP_PEERS) {
    if (program === "vfu") assertEquals(deviationsIn(TEXT, name), [], name);
    else assert(deviationsIn(TEXT, name).length > 0, name);
  }
  const ours = INTEROP_PEERS.filter(({ program }) => program === "vfu").length;
  const rows = [...TEXT.matchAll(/^\| ([^|`]+?) +\|((?: +\d+ \/ \d+ \/ \d+ +\|)+)$/gm)];
  const titlesOfRows = rows.map(([, title]) => title!);
  assertEquals(titlesOfRows, [...SERVER_GROUPS.map(({ title }) => title), "all"]);
  for (const [, title, cells] of rows) {
    const counts = [...cells!.matchAll(/\d+ \/ (\d+) \/ \d+/g)].map(([, failed]) => Number(failed));
    assertEquals(counts.length, INTEROP_PEERS.length);
    assertEquals(counts.slice(0, ours), Array(ours).fill(0), title);
  }
});

Deno.test("docs/interop.md names checks that there are", () => {
  const named = [...TEXT.matchAll(/server\/\w+\/\d+/g)].map(([id]) => id);
  assertEquals(named.filter((id) => !IDS.has(id)), []);
  assertEquals(Object.keys(UNSTABLE).filter((id) => !IDS.has(id)), []);
  for (const [peer, , text] of EXPLANATIONS) {
    assert(INTEROP_PEERS.some(({ name }) => peer.test(name)), `${peer}`);
    assert(TEXT.includes(text), text);
  }
});

/** A line of `--json`. */
const line = (id: string, verdict: string, more: object = {}) =>
  JSON.stringify({ id, group: "G", level: "MUST", rule: "A | B.", verdict, ...more });
const SUMMARY = '{"type":"summary"}';

Deno.test("interopText() counts verdicts, and lists a deviation without an explanation", () => {
  const failed = line("server/connection/17", "failed", {
    came: "the server was ended by SIGABRT; it wrote: x\ny",
  });
  const text = interopText(
    new Map([
      ["demo", resultsOf([line("a", "passed"), line("b", "skipped"), SUMMARY].join("\n"))],
      ["other", resultsOf([line("a", "passed"), failed, SUMMARY].join("\n"))],
    ]),
    new Map([["client", resultsOf([line("c", "passed"), SUMMARY].join("\n"))]]),
  );
  assert(/^\| G +\| 1 \/ 0 \/ 0 +\|$/m.test(text), text);
  assert(/^\| G +\| 1 \/ 0 \/ 1 +\| 1 \/ 1 \/ 0 +\|$/m.test(text), text);
  assertEquals(deviationsIn(text, "demo"), []);
  assertEquals(deviationsIn(text, "other"), ["server/connection/17"]);
  const row = text.split("\n").find((each) => each.startsWith("| `server/connection/17`"))!;
  assertEquals(row.split(/ +(?<!\\)\| ?/).map((each) => each.replace(/^\| /, "").trim()), [
    "`server/connection/17` (unstable)",
    "MUST",
    "A \\| B.",
    "the server was ended by SIGABRT",
    "not explained",
    "",
  ]);
});

Deno.test("resultsOf() refuses a run that was not whole", () => {
  assertThrows(() => resultsOf(line("a", "passed")), Error, "not whole");
  assertThrows(() => resultsOf('{"type":"summary","error":"gone"}'), Error, "gone");
});
