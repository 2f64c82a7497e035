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
  const [
    { toJsonSchema },
    { registerMapJsonSchema },
    { JSON_SCHEMAS, sessionSchema },
    words,
    arguments_,
  ] = await Promise.all([
    import("@valibot/to-json-schema"),
    import("../../registers/json_schema.ts"),
    import("./schema.ts"),
    import("./words.ts"),
    import("./arguments.ts"),
  ]);
  const { STEP_WORDS, WORDS } = words;
  const { argumentsJson, BUFFER_ARGUMENTS, COMMON_ARGUMENTS } = arguments_;
  const { $schema: _schema, ...session } = toJsonSchema(sessionSchema, {
    overrideSchema: ({ valibotSchema }) => JSON_SCHEMAS.get(valibotSchema),
  });
  const { $schema: _, ...map } = await registerMapJsonSchema();
  const alone = STEP_WORDS.filter((word) => WORDS[word].subject === "nothing");
  const steps = STEP_WORDS.map((word) => {
    const { subject, description, arguments: own } = WORDS[word];
    const itself = { [word]: { kind: subject, description, isRequired: true } };
    const form = argumentsJson({ ...itself, ...own, ...COMMON_ARGUMENTS });
    return { ...form, title: word, description };
  });
  return {
    $schema: "http://json-schema.org/draft-07/schema#",
    title: "A session for vfu",
    ...session,
    definitions: {
      step: { anyOf: [{ enum: alone }, ...steps] },
      buffer: argumentsJson(BUFFER_ARGUMENTS),
      map,
    },
  };
}
