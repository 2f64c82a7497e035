/**
 * Loaded ahead of the examples in the documentation.
 * There `console.assert` is to fail, not only to say so.
 *
 * @module
 */

// deno-lint-ignore no-console -- it is the one that is replaced
console.assert = (condition?: boolean, ...data: unknown[]): void => {
  if (!condition) throw new Error(`Assertion failed: ${data.join(" ")}`);
};
