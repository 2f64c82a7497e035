/**
 * The form of a session file for editors.
 *
 * @module
 */

/**
 * The JSON Schema (draft 7) of session files.
 * Editors complete and check files with the schema as they are written.
 * The schema says less than {@linkcode parseSession} checks: not that names are there, for one.
 *
 * @example
 * ```ts
 * import { sessionJsonSchema } from "./json_schema.ts";
 *
 * const schema = await sessionJsonSchema();
 * if (JSON.stringify(schema.required) !== '["steps"]') throw new Error();
 * ```
 */
export async function sessionJsonSchema(): Promise<Record<string, unknown>> {
  const [{ toJsonSchema }, { registerMapJsonSchema }, schemas, { STEP_WORDS, WORDS }] =
    await Promise.all([
      import("@valibot/to-json-schema"),
      import("../../registers/json_schema.ts"),
      import("./schema.ts"),
      import("./words.ts"),
    ]);
  const { JSON_SCHEMAS, bufferSchema, sessionSchema, stepSchemas } = schemas;
  const convert = (schema: Parameters<typeof toJsonSchema>[0]) => {
    const { $schema: _, ...rest } = toJsonSchema(schema, {
      overrideSchema: ({ valibotSchema }) => JSON_SCHEMAS.get(valibotSchema),
    });
    return rest as Record<string, unknown>;
  };
  const { $schema: _, ...map } = await registerMapJsonSchema();
  const alone = STEP_WORDS.filter((word) => WORDS[word].subject === "nothing");
  const steps = [...stepSchemas].map(([word, schema]) => ({
    ...convert(schema),
    title: word,
    description: WORDS[word as keyof typeof WORDS].description,
  }));
  return {
    $schema: "http://json-schema.org/draft-07/schema#",
    title: "A session for vfu",
    ...convert(sessionSchema),
    definitions: {
      step: { anyOf: [{ enum: alone }, ...steps] },
      buffer: convert(bufferSchema),
      map,
    },
  };
}
