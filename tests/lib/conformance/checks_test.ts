/** The checks as data: what a stranger may have forgotten. */

import { assertEquals, assertMatch } from "@std/assert";
import { SERVER_CHECKS, SERVER_GROUPS } from "../../../lib/conformance/server/groups.ts";

const FOLDER = new URL("../../../lib/conformance/server/", import.meta.url);

Deno.test("each file of lib/conformance/server/ is a group in the table", () => {
  const files = [...Deno.readDirSync(FOLDER)].map(({ name }) => name.replace(/\.ts$/, ""))
    .filter((name) => name !== "groups").sort();
  assertEquals(SERVER_GROUPS.map(({ name }) => name).sort(), files);
});

Deno.test("each check has an id of its own, and numbers rise within a group", () => {
  assertEquals(new Set(SERVER_CHECKS.map(({ id }) => id)).size, SERVER_CHECKS.length);
  for (const { name, checks } of SERVER_GROUPS) {
    const numbers = checks.map(({ id }) => Number(id.split("/")[2]));
    assertEquals(numbers, numbers.toSorted((a, b) => a - b), name);
  }
});

Deno.test("each rule is one sentence, and names its section", () => {
  for (const { id, rule, section, level } of SERVER_CHECKS) {
    assertMatch(id, /^server\/[a-z_]+\/[1-9]\d*$/);
    assertMatch(rule, /^[A-Za-z0-9_]+\S* .*[A-Za-z0-9]\.$/, id);
    assertMatch(section, /^[A-Z]/, id);
    assertMatch(level, /^(MUST|SHOULD|MAY)$/, id);
  }
});
