/**
 * Files that may not be there.
 *
 * @module
 */

/**
 * Reports whether there is a file at a path. One that can't be looked at counts: opening it says
 * why it can't be used.
 */
export async function exists(path: string | URL): Promise<boolean> {
  return await Deno.stat(path).then(
    () => true,
    (error) => !(error instanceof Deno.errors.NotFound),
  );
}
