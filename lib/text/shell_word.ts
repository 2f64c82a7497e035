/**
 * Words of a command line that is shown to be run.
 *
 * @module
 */

/** Makes a word that a shell takes as one, and a program as no option. */
export function shellWord(text: string): string {
  return /^[\w./:=@%+,-]+$/.test(text) && !text.startsWith("-") ? text : shellQuoted(text);
}

/** Quotes a text for a shell of POSIX, bash or zsh. */
export function shellQuoted(text: string): string {
  return `'${text.replaceAll("'", "'\\''")}'`;
}
