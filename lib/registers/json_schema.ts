/**
 * The form of a map of registers for editors.
 *
 * @module
 */

/**
 * The JSON Schema (draft 7) of files that hold a map of registers, with which editors complete and
 * check them as they are written. It says less than {@linkcode parseRegisterMap} checks: not that
 * fields do not overlap, for one.
 *
 * @example
 * ```ts
 * import { registerMapJsonSchema } from "./json_schema.ts";
 *
 * const schema = await registerMapJsonSchema();
 * if (JSON.stringify(schema.required) !== '["name","registers"]') throw new Error();
 * ```
 */
export async function registerMapJsonSchema(): Promise<Record<string, unknown>> {
  const [{ toJsonSchema }, { JSON_SCHEMAS, registerMapSchema }] = await Promise.all([
    import("@valibot/to-json-schema"),
    import("./schema.ts"),
  ]);
  const schema = toJsonSchema(registerMapSchema, {
    overrideSchema: ({ valibotSchema }) => JSON_SCHEMAS.get(valibotSchema),
  });
  return { ...schema, title: "A map of registers for vfu" };
}
