/**
 * Options of a device, as the command line has them.
 *
 * @module
 */

/** An option of the device: `name=value`. */
export interface ChosenOption {
  readonly name: string;
  readonly value: string;
}

/**
 * Reads `name=value`.
 *
 * @throws {SyntaxError} if there is no `=`
 */
export function parseOption(text: string): ChosenOption {
  const at = text.indexOf("=");
  if (at < 1) {
    throw new SyntaxError(
      `"${text}" is no option of a device; write it as name=value (--options lists them)`,
    );
  }
  return { name: text.slice(0, at), value: text.slice(at + 1) };
}
