/**
 * Values that the code of others has thrown: they may be anything.
 *
 * @module
 */

/** Stands for a value without a text, as `Object.create(null)` is, or one whose text throws. */
const NO_TEXT = "a value without a text was thrown";
/** The depth to which causes of causes are looked at: an error may be its own. */
const MAX_CAUSES = 8;

/**
 * Puts a value that was thrown into words. It does not throw itself, whatever the value does.
 *
 * @returns the message of an error, or its name if it has no message; the text of any other value
 */
export function thrownText(thrown: unknown): string {
  const text = tried(() => {
    if (!(thrown instanceof Error)) return String(thrown);
    return String(thrown.message) || String(thrown.name);
  });
  return text ?? NO_TEXT;
}

/** The name of an error that was thrown, or the type of any other value. */
export function thrownName(thrown: unknown): string {
  return tried(() => thrown instanceof Error ? String(thrown.name) : typeof thrown) ?? "Error";
}

/**
 * Makes an error of a value that was thrown.
 *
 * @returns the value, if it is an error with a message; else an error with its text, whose cause is
 *   the value
 */
export function asError(thrown: unknown): Error {
  const isError = tried(() => thrown instanceof Error && typeof thrown.message === "string");
  return isError ? thrown as Error : new Error(thrownText(thrown), { cause: thrown });
}

/** The lines of an error's stack that say where it was thrown; none of any other value. */
export function thrownFrames(thrown: unknown): string[] {
  const stack: unknown = tried(() => thrown instanceof Error ? thrown.stack : undefined);
  if (typeof stack !== "string") return [];
  return stack.split("\n").filter((line) => /^ +at /.test(line));
}

/** The errors that caused an error, the nearest first; no more than a few. */
export function causesOf(thrown: unknown): Error[] {
  const causes: Error[] = [];
  let cause = causeOf(thrown);
  while (cause !== undefined && causes.length < MAX_CAUSES) {
    causes.push(cause);
    cause = causeOf(cause);
  }
  return causes;
}

function causeOf(thrown: unknown): Error | undefined {
  return tried(() => {
    const cause = thrown instanceof Error ? thrown.cause : undefined;
    return cause instanceof Error ? cause : undefined;
  });
}

/** Returns what a look at a value finds, or undefined if the look throws. */
function tried<T>(look: () => T): T | undefined {
  try {
    return look();
  } catch {
    return undefined;
  }
}
