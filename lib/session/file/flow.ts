/**
 * Lists and mappings on one line, as `[1, 2]` and `{ EN: 1, SHN: normal }`.
 * They are the part of YAML that a line of the shell has.
 *
 * @module
 */

/** Lists and mappings in one another. */
const MAX_DEPTH = 16;

/** The form of a whole number in YAML. */
export const YAML_INTEGER = /^(?:-?\d+|0x[\da-fA-F]+|0o[0-7]+)$/;

/**
 * Reads a list or a mapping. Quotes are as in YAML.
 * Whole numbers become bigint, true and false booleans, the rest text.
 *
 * @throws {SyntaxError} if it is neither, or has no end
 *
 * @example
 * ```ts
 * import { parseFlow } from "./flow.ts";
 *
 * const value = parseFlow("{ EN: 1, of: [a b, '${x}'] }") as Record<string, unknown>;
 * if (value.EN !== 1n || JSON.stringify(value.of) !== '["a b","${x}"]') throw new Error();
 * ```
 */
export function parseFlow(text: string): unknown {
  return new FlowParser(text).parse();
}

/** The meaning of a word without quotes: a number, true or false, or text. */
export function plainValue(word: string): unknown {
  if (YAML_INTEGER.test(word)) {
    return word.startsWith("-") ? -BigInt(word.slice(1)) : BigInt(word);
  }
  return word === "true" ? true : word === "false" ? false : word;
}

/**
 * The text in quotes. In double quotes `\\"`, `\\\\`, `\\n` and `\\t` stand for a character.
 * In single quotes no sequence does.
 */
export function unquote(quoted: string): string {
  const inner = quoted.slice(1, -1);
  if (!quoted.startsWith('"')) return inner;
  return inner.replaceAll(/\\(.)/gs, (whole, letter: string) => ESCAPES[letter] ?? whole);
}

const ESCAPES: Readonly<Record<string, string>> = { '"': '"', "\\": "\\", n: "\n", t: "\t" };

class FlowParser {
  readonly #text: string;
  #at = 0;
  #depth = 0;

  constructor(text: string) {
    this.#text = text;
  }

  parse(): unknown {
    const value = this.#value();
    this.#space();
    if (this.#at < this.#text.length) this.#fail();
    return value;
  }

  #value(): unknown {
    this.#space();
    if (++this.#depth > MAX_DEPTH) this.#fail();
    const next = this.#text[this.#at];
    const value = next === "{" ? this.#mapping() : next === "[" ? this.#list() : this.#word();
    this.#depth--;
    return value;
  }

  #list(): unknown[] {
    const all: unknown[] = [];
    this.#at++;
    while (!this.#ends("]")) {
      all.push(this.#value());
      this.#comma("]");
    }
    return all;
  }

  #mapping(): Record<string, unknown> {
    const all: [string, unknown][] = [];
    this.#at++;
    while (!this.#ends("}")) {
      const key = this.#key();
      if (all.some(([other]) => other === key)) {
        throw new SyntaxError(`"${key}" is there twice in ${this.#text}`);
      }
      all.push([key, this.#value()]);
      this.#comma("}");
    }
    return Object.fromEntries(all);
  }

  #key(): string {
    this.#space();
    const match = /^(?:"(?:[^"\\]|\\.)*"|'[^']*'|(?:\$\{[^{}]*\}|[^:,{}[\]]|\[[^\]]*\])+?)(?=\s*:)/s
      .exec(this.#text.slice(this.#at));
    if (match === null) this.#fail();
    this.#at += match[0].length;
    this.#space();
    this.#at++;
    return /^["']/.test(match[0]) ? unquote(match[0]) : match[0].trim();
  }

  #word(): unknown {
    const match = /^(?:"(?:[^"\\]|\\.)*"|'[^']*'|(?:\$\{[^{}]*\}|[^,{}[\]"'])+)/s
      .exec(this.#text.slice(this.#at));
    if (match === null) this.#fail();
    this.#at += match[0].length;
    return /^["']/.test(match[0]) ? unquote(match[0]) : plainValue(match[0].trim());
  }

  /** Tests for the end of the collection, and passes the end. */
  #ends(close: string): boolean {
    this.#space();
    if (this.#text[this.#at] !== close) return false;
    this.#at++;
    return true;
  }

  #comma(close: string): void {
    this.#space();
    if (this.#text[this.#at] === ",") this.#at++;
    else if (this.#text[this.#at] !== close) this.#fail();
  }

  #space(): void {
    while (/\s/.test(this.#text[this.#at] ?? "")) this.#at++;
  }

  #fail(): never {
    const rest = this.#text.slice(this.#at, this.#at + 20);
    const where = rest === "" ? "it has no end" : `"${rest}" can't be there`;
    throw new SyntaxError(
      `Cannot read ${this.#text}: ${where}; write { NAME: VALUE, ... } or [VALUE, ...]`,
    );
  }
}
