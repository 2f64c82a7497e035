/** The checks as data: what a stranger may have forgotten. */

import { assertEquals, assertMatch } from "@std/assert";
import { CLIENT_CHECKS, CLIENT_GROUPS } from "../../../lib/conformance/client/groups.ts";
import { SERVER_CHECKS, SERVER_GROUPS } from "../../../lib/conformance/server/groups.ts";

const FOLDER = new URL("../../../lib/conformance/", import.meta.url);
const ROLES = [["server", SERVER_GROUPS], ["client", CLIENT_GROUPS]] as const;
const GROUPS = [...SERVER_GROUPS, ...CLIENT_GROUPS];
const CHECKS = [...SERVER_CHECKS, ...CLIENT_CHECKS];

for (const [role, groups] of ROLES) {
  Deno.test(`each file of lib/conformance/${role}/ is a group in the table`, () => {
    const files = [...Deno.readDirSync(new URL(`${role}/`, FOLDER))]
      .map(({ name }) => name.replace(/\.ts$/, "")).filter((name) => name !== "groups").sort();
    assertEquals(groups.map(({ name }) => name).sort(), files);
  });
}

Deno.test("each check has an id of its own, and numbers rise within a group", () => {
  assertEquals(new Set(CHECKS.map(({ id }) => id)).size, CHECKS.length);
  for (const { name, checks } of GROUPS) {
    const numbers = checks.map(({ id }) => Number(id.split("/")[2]));
    assertEquals(numbers, numbers.toSorted((a, b) => a - b), name);
  }
});

Deno.test("each rule is one sentence, and names its section", () => {
  for (const { id, rule, section, level } of CHECKS) {
    assertMatch(id, /^(server|client)\/[a-z_]+\/[1-9]\d*$/);
    assertMatch(rule, /^[A-Za-z0-9_]+\S* .*[A-Za-z0-9]\.$/, id);
    assertMatch(section, /^[A-Z]/, id);
    assertMatch(level, /^(MUST|SHOULD|MAY)$/, id);
  }
});
