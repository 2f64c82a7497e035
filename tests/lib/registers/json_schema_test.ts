import { assertEquals } from "@std/assert";
import { registerMapJsonSchema } from "../../../lib/registers/mod.ts";

Deno.test("registerMapJsonSchema() describes registers and fields, and nothing else", async () => {
  // deno-lint-ignore no-explicit-any
  const schema = await registerMapJsonSchema() as any;
  assertEquals([schema.type, schema.additionalProperties], ["object", false]);
  const register = schema.properties.registers.items;
  assertEquals([register.required, register.additionalProperties], [
    ["name", "offset", "width"],
    false,
  ]);
  assertEquals(register.properties.width, { enum: [1, 2, 4, 8] });
  assertEquals(register.properties.fields.items.required, ["name", "bits"]);
});
