import { assertEquals } from "@std/assert";
import { registerMapJsonSchema } from "../../../../lib/registers/mod.ts";
import { sessionJsonSchema } from "../../../../lib/session/file/json_schema.ts";
import { STEP_WORDS } from "../../../../lib/session/file/words.ts";

const LIB = new URL("../../../../lib/", import.meta.url);

for (
  const [path, make] of [
    ["session/file/session.schema.json", sessionJsonSchema],
    ["registers/map.schema.json", registerMapJsonSchema],
  ] as const
) {
  Deno.test(`${path} is what ${make.name}() gives`, async () => {
    const schema = `${JSON.stringify(await make(), null, 2)}\n`;
    const file = new URL(path, LIB);
    if (Deno.env.get("VFU_UPDATE_GOLDEN") === "1") await Deno.writeTextFile(file, schema);
    assertEquals(JSON.parse(await Deno.readTextFile(file)), JSON.parse(schema));
  });
}

Deno.test("sessionJsonSchema() has a form for each step word", async () => {
  // deno-lint-ignore no-explicit-any
  const { definitions } = await sessionJsonSchema() as any;
  const [alone, ...steps] = definitions.step.anyOf;
  assertEquals(alone.enum, ["reset", "pci enable"]);
  // deno-lint-ignore no-explicit-any
  assertEquals(steps.map((each: any) => each.title), STEP_WORDS);
  // deno-lint-ignore no-explicit-any
  const poll = steps.find((each: any) => each.title === "poll");
  assertEquals([poll.required, poll.additionalProperties], [["poll"], false]);
  assertEquals(poll.properties["at least"].description, "It is this or more");
  assertEquals(definitions.buffer.required, ["iova", "size"]);
  assertEquals(definitions.map.required, ["name", "registers"]);
});
