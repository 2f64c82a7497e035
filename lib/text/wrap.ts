/**
 * Lines of words that end before the edge of the screen.
 *
 * @module
 */

/** Columns of a line where none are named: one less than 80, where some terminals wrap. */
const MAX_COLUMNS = 79;

/**
 * Puts `words` after `prefix`, with a space between them, and goes on at column `indent` of the
 * next line where one would not fit. A word that is longer than a line stays whole.
 *
 * @param columns those that a line may have
 */
export function wrap(
  prefix: string,
  words: readonly string[],
  indent: number,
  columns = MAX_COLUMNS,
): string[] {
  const lines: string[] = [];
  let line = prefix;
  let isEmpty = true;
  for (const word of words) {
    if (!isEmpty && line.length + 1 + word.length > columns) {
      lines.push(line);
      line = " ".repeat(indent);
      isEmpty = true;
    }
    line += isEmpty ? word : ` ${word}`;
    isEmpty = false;
  }
  lines.push(line.trimEnd());
  return lines;
}
