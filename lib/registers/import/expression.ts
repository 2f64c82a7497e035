/**
 * Expressions of IP-XACT: numbers of SystemVerilog and of C, parameters, and arithmetic.
 *
 * @module
 */

/** Code units of an expression. */
const MAX_LENGTH = 1000;
/** Expressions in one another, and parameters that lead to others. */
const MAX_DEPTH = 64;
/** Bits of a value on the way to a result. */
const MAX_BITS = 4096;

/** Parameters by the names that expressions have for them. Each is computed once. */
export class Parameters {
  readonly #texts: ReadonlyMap<string, string>;
  readonly #known = new Map<string, bigint | SyntaxError>();

  /** @param texts their values, which are expressions */
  constructor(texts: ReadonlyMap<string, string>) {
    this.#texts = texts;
  }

  /**
   * The value of a parameter; undefined if there is none.
   *
   * @param depth of the expression that asks
   * @throws {SyntaxError} if it can't be computed
   */
  valueOf(name: string, depth: number): bigint | undefined {
    const text = this.#texts.get(name);
    if (text === undefined) return undefined;
    const known = this.#known.get(name) ?? this.#compute(name, text, depth);
    if (known instanceof SyntaxError) throw known;
    return known;
  }

  #compute(name: string, text: string, depth: number): bigint | SyntaxError {
    this.#known.set(name, new SyntaxError(`the parameter ${name} leads to itself`));
    let value: bigint | SyntaxError;
    try {
      value = new Evaluation(text, this, depth).result();
    } catch (error) {
      if (!(error instanceof SyntaxError)) throw error;
      value = error;
    }
    this.#known.set(name, value);
    return value;
  }
}

const TOKEN =
  /\s*(?:((?:\d[\d_]*)?\s*'[sS]?[bodhBODH]\s*[\da-fA-F_]+|0[xX][\da-fA-F_]+|\d[\d_]*[kKmMgGtT]?(?![\w.]))|([A-Za-z_$][\w$]*)|(\*\*|<<|>>|<=|>=|==|!=|&&|\|\||[-+*/%()~!<>?:&|^,]))/y;

const RADIX: Readonly<Record<string, string>> = { b: "0b", o: "0o", d: "", h: "0x" };
const UNITS: Readonly<Record<string, bigint>> = { k: 10n, m: 20n, g: 30n, t: 40n };

/** Operators with two sides, from those that bind least. */
const LEVELS: readonly (readonly string[])[] = [
  ["||"],
  ["&&"],
  ["|"],
  ["^"],
  ["&"],
  ["==", "!="],
  ["<", "<=", ">", ">="],
  ["<<", ">>"],
  ["+", "-"],
  ["*", "/", "%"],
];

/**
 * Computes an expression.
 *
 * @throws {SyntaxError} if it is none, with what is wrong
 */
export function evaluate(text: string, parameters: Parameters): bigint {
  return new Evaluation(text, parameters, 0).result();
}

class Evaluation {
  readonly #text: string;
  readonly #parameters: Parameters;
  #at = 0;
  #depth: number;
  #token = "";
  #kind: "number" | "name" | "sign" | "end" = "end";

  constructor(text: string, parameters: Parameters, depth: number) {
    if (text.length > MAX_LENGTH) throw new SyntaxError(`it is longer than ${MAX_LENGTH} letters`);
    this.#text = text;
    this.#parameters = parameters;
    this.#depth = depth;
    this.#next();
  }

  result(): bigint {
    const value = this.#choice();
    if (this.#kind !== "end") throw new SyntaxError(`"${this.#token}" is out of place`);
    return value;
  }

  #next(): void {
    TOKEN.lastIndex = this.#at;
    const match = TOKEN.exec(this.#text);
    if (match === null) {
      const rest = this.#text.slice(this.#at).trim();
      if (rest !== "") throw new SyntaxError(`"${rest}" can't be read`);
      this.#token = "";
      this.#kind = "end";
      return;
    }
    this.#at = TOKEN.lastIndex;
    const [, number, name, sign] = match;
    this.#token = number ?? name ?? sign!;
    this.#kind = number !== undefined ? "number" : name !== undefined ? "name" : "sign";
  }

  #takes(sign: string): boolean {
    if (this.#kind !== "sign" || this.#token !== sign) return false;
    this.#next();
    return true;
  }

  #expect(sign: string): void {
    if (!this.#takes(sign)) throw new SyntaxError(`"${sign}" is missing`);
  }

  #choice(): bigint {
    return this.#deeper(() => {
      const condition = this.#binary(0);
      if (!this.#takes("?")) return condition;
      const yes = this.#choice();
      this.#expect(":");
      const no = this.#choice();
      return condition !== 0n ? yes : no;
    });
  }

  #deeper(compute: () => bigint): bigint {
    if (++this.#depth > MAX_DEPTH) throw new SyntaxError("it is nested too deep");
    const value = compute();
    this.#depth--;
    return value;
  }

  #binary(level: number): bigint {
    const operators = LEVELS[level];
    if (operators === undefined) return this.#power();
    let left = this.#binary(level + 1);
    while (this.#kind === "sign" && operators.includes(this.#token)) {
      const operator = this.#token;
      this.#next();
      left = bounded(apply(operator, left, this.#binary(level + 1)));
    }
    return left;
  }

  #power(): bigint {
    const base = this.#unary();
    if (!this.#takes("**")) return base;
    const exponent = this.#unary();
    if (exponent < 0n || exponent > BigInt(MAX_BITS)) throw new SyntaxError("it is too large");
    if (base > 1n << 64n || base < -(1n << 64n)) throw new SyntaxError("it is too large");
    return bounded(base ** exponent);
  }

  #unary(): bigint {
    if (this.#takes("-")) return -this.#deeper(() => this.#unary());
    if (this.#takes("+")) return this.#deeper(() => this.#unary());
    if (this.#takes("~")) return ~this.#deeper(() => this.#unary());
    if (this.#takes("!")) return this.#deeper(() => this.#unary()) === 0n ? 1n : 0n;
    return this.#primary();
  }

  #primary(): bigint {
    if (this.#takes("(")) {
      const value = this.#choice();
      this.#expect(")");
      return value;
    }
    const token = this.#token;
    if (this.#kind === "number") {
      this.#next();
      return numberOf(token);
    }
    if (this.#kind !== "name") {
      throw new SyntaxError(token === "" ? "something is missing" : `"${token}" is out of place`);
    }
    this.#next();
    return this.#named(token);
  }

  #named(name: string): bigint {
    const parameter = this.#parameters.valueOf(name, this.#depth);
    if (parameter !== undefined) return parameter;
    if (name === "true") return 1n;
    if (name === "false") return 0n;
    if (name !== "$clog2") throw new SyntaxError(`there is no parameter ${name}`);
    this.#expect("(");
    const value = this.#choice();
    this.#expect(")");
    return value <= 1n ? 0n : BigInt((value - 1n).toString(2).length);
  }
}

function numberOf(token: string): bigint {
  const plain = token.replaceAll(/[\s_]/g, "");
  const sized = /^\d*'[sS]?([bodhBODH])(.+)$/.exec(plain);
  try {
    if (sized !== null) return bounded(BigInt(RADIX[sized[1]!.toLowerCase()]! + sized[2]!));
    const unit = /^0[xX]/.test(plain) ? undefined : UNITS[plain.at(-1)!.toLowerCase()];
    return bounded(unit === undefined ? BigInt(plain) : BigInt(plain.slice(0, -1)) << unit);
  } catch {
    throw new SyntaxError(`"${token}" is no number`);
  }
}

function bounded(value: bigint): bigint {
  if (BigInt.asIntN(MAX_BITS, value) !== value) throw new SyntaxError("it is too large");
  return value;
}

function apply(operator: string, a: bigint, b: bigint): bigint {
  const truth = (is: boolean) => is ? 1n : 0n;
  switch (operator) {
    case "||":
      return truth(a !== 0n || b !== 0n);
    case "&&":
      return truth(a !== 0n && b !== 0n);
    case "|":
      return a | b;
    case "^":
      return a ^ b;
    case "&":
      return a & b;
    case "==":
      return truth(a === b);
    case "!=":
      return truth(a !== b);
    case "<":
      return truth(a < b);
    case "<=":
      return truth(a <= b);
    case ">":
      return truth(a > b);
    case ">=":
      return truth(a >= b);
    case "+":
      return a + b;
    case "-":
      return a - b;
    case "*":
      return a * b;
  }
  if (operator === "<<" || operator === ">>") {
    if (b < 0n || b > BigInt(MAX_BITS)) throw new SyntaxError("it is too large");
    return operator === "<<" ? a << b : a >> b;
  }
  if (b === 0n) throw new SyntaxError("it divides by 0");
  return operator === "/" ? a / b : a % b;
}
