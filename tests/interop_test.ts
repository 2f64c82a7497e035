/** `docs/interop.md` is whole: its checks exist, and no peer of ours deviates. */

import { assert, assertEquals, assertThrows } from "@std/assert";
import { CLIENT_CHECKS, CLIENT_GROUPS } from "../lib/conformance/client/groups.ts";
import { SERVER_CHECKS, SERVER_GROUPS } from "../lib/conformance/server/groups.ts";
import {
  deviationsIn,
  EXPLANATIONS,
  INTEROP_CLIENTS,
  INTEROP_PEERS,
  interopText,
  resultsOf,
  UNSTABLE,
} from "./peers/interop_text.ts";

const TEXT = Deno.readTextFileSync(new URL("../docs/interop.md", import.meta.url));
const IDS = new Set([...SERVER_CHECKS, ...CLIENT_CHECKS].map(({ id }) => id));

/** Peers of a role, those of ours among them, and the groups of their checks. */
const ROLES = [
  {
    names: INTEROP_PEERS.map(({ name }) => name),
    ours: INTEROP_PEERS.filter(({ program }) => program === "vfu").map(({ name }) => name),
    groups: SERVER_GROUPS.map(({ title }) => title),
  },
  {
    names: INTEROP_CLIENTS.map(({ name }) => name),
    ours: INTEROP_CLIENTS.map(({ name }) => name).filter((name) => name.startsWith("vfu-")),
    groups: CLIENT_GROUPS.map(({ title }) => title),
  },
];
const NAMES = ROLES.flatMap(({ names }) => names);

Deno.test("docs/interop.md has a section for each peer, and ours have no deviation", () => {
  const titles = [...TEXT.matchAll(/^## (.+)$/gm)].map(([, title]) => title!);
  assertEquals(titles, NAMES);
  const ours = ROLES.flatMap((role) => role.ours);
  assert(ours.length >= 5);
  for (const name of ours) assertEquals(deviationsIn(TEXT, name), [], name);
});

Deno.test("docs/interop.md counts the checks of each group, and none deviates of ours", () => {
  const rows = [...TEXT.matchAll(/^\| ([^|`]+?) +\|((?: +\d+ \/ \d+ \/ \d+ +\|)+)$/gm)];
  for (const { names, ours, groups } of ROLES) {
    const mine = rows.splice(0, groups.length + 1);
    assertEquals(mine.map(([, title]) => title), [...groups, "all"]);
    for (const [, title, cells] of mine) {
      const failed = [...cells!.matchAll(/\d+ \/ (\d+) \/ \d+/g)].map(([, count]) => Number(count));
      assertEquals(failed.length, names.length);
      assertEquals(failed.slice(0, ours.length), Array(ours.length).fill(0), title);
    }
  }
  assertEquals(rows, []);
});

Deno.test("docs/interop.md names checks that there are, and explains each deviation", () => {
  const named = [...TEXT.matchAll(/(?:server|client)\/\w+\/\d+/g)].map(([id]) => id);
  assertEquals(named.filter((id) => !IDS.has(id)), []);
  assertEquals(Object.keys(UNSTABLE).filter((id) => !IDS.has(id)), []);
  for (const [peer, match, text] of EXPLANATIONS) {
    assert(NAMES.some((name) => peer.test(name)), `${peer}`);
    // What came of an unstable check may have been right in the last run.
    const mayBeAbsent = Object.keys(UNSTABLE).some((id) => match.test(id));
    assert(mayBeAbsent || TEXT.includes(text), text);
  }
  const unexplained = TEXT.split("\n").filter((line) => / not explained +\|$/.test(line));
  assertEquals(unexplained, []);
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
