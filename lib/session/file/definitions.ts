/**
 * The meaning of names in a session while its steps are read.
 *
 * @module
 */

import type { Register, RegisterMap } from "../../registers/map.ts";
import { PciRegion } from "../../wire/region.ts";
import { nearest } from "../../text/nearest.ts";
import { foldConstant, namesIn, parseExpression } from "../expression.ts";
import type { BufferDeclaration, Expression, Session, Step, Template } from "../model.ts";

/** The facts about a variable that are known before anything runs. */
export interface VariableFacts {
  /** Registers that it may have been read from. */
  readonly registers: Register[];
  /** Its registers are not known, as it comes from another session. */
  isOpaque?: boolean;
  /** Its value, if nothing changes it. */
  readonly constant?: bigint;
}

/** Names that a step may use. Those that a step defines are added when it is read. */
export interface Definitions {
  /** Registers that have names. */
  readonly maps: readonly RegisterMap[];
  /** Variables. */
  readonly variables: Map<string, VariableFacts>;
  /** Memory. */
  readonly buffers: Map<string, BufferDeclaration>;
  /** The directory to which the names of files are relative; "" is the working directory. */
  readonly directory: string;
  /**
   * True if an included file could not be read, so that a name that is missing here may be right.
   */
  readonly isPartial?: boolean;
}

/** A name that is not there, in definitions that are partial: there is nothing to report. */
export class MissingName extends RangeError {
  /** The name of the class. */
  override readonly name = "MissingName";
}

/** The error to throw for a name that is not there. */
export function missingName({ isPartial }: Definitions, message: string): RangeError {
  return isPartial ? new MissingName(message) : new RangeError(message);
}

/** Names of variables and buffers. */
export const NAME = /^[A-Za-z_][A-Za-z0-9_]{0,63}$/;
/** Parts of a buffer. */
export const BUFFER_PARTS = ["iova", "size", "end"] as const;
/** The regions that have names, and the IOVA space. */
export const BASE_NAMES: readonly string[] = [
  ...Object.keys(PciRegion).map((name) => name.toLowerCase()),
  "dma",
];

/**
 * Makes definitions, of nothing unless something is given.
 *
 * @example
 * ```ts
 * import { newDefinitions } from "./definitions.ts";
 *
 * const { variables } = newDefinitions();
 * if (variables.size !== 0) throw new Error();
 * ```
 */
export function newDefinitions(given: Partial<Definitions> = {}): Definitions {
  return {
    maps: given.maps ?? [],
    variables: given.variables ?? new Map(),
    buffers: given.buffers ?? new Map(),
    directory: given.directory ?? "",
    ...(given.isPartial && { isPartial: true }),
  };
}

/** The origin of a value that a variable gets. */
export interface NewVariable {
  /** The register that it is read from, if a map names that. */
  readonly register?: Register | undefined;
  /** Its register is not known. */
  readonly isOpaque?: boolean;
}

/** Notes that a step gives a variable a value. */
export function defineVariable(
  { variables }: Definitions,
  name: string,
  facts: NewVariable = {},
): void {
  const known = variables.get(name) ?? { registers: [] };
  if (facts.register !== undefined) known.registers.push(facts.register);
  if (facts.isOpaque) known.isOpaque = true;
  variables.set(name, known);
}

/**
 * Reads an expression, and checks that its names are there and that it can have a value.
 *
 * @throws {SyntaxError} if it is no expression
 * @throws {RangeError} if it has a name that is not there
 * @throws {EvaluationError} if it can't have a value, as of a division by zero
 */
export function parseCheckedExpression(text: string, definitions: Definitions): Expression {
  const expression = parseExpression(text);
  checkNames(expression, definitions);
  constantIn(expression, definitions);
  return expression;
}

/** Checks the expressions of a text as {@linkcode parseCheckedExpression} does. */
export function checkTemplate(template: Template, definitions: Definitions): Template {
  for (const part of template.parts) {
    if (typeof part === "string") continue;
    checkNames(part.expression, definitions);
    constantIn(part.expression, definitions);
  }
  return template;
}

/** The value of an expression, if nothing that a step does changes it. */
export function constantIn(
  expression: Expression,
  { variables, buffers }: Definitions,
): bigint | undefined {
  return foldConstant(expression, (name, part) => {
    if (part === undefined) return variables.get(name)?.constant;
    const buffer = buffers.get(name);
    return buffer &&
      bufferPart(buffer, part, (inner) => constantIn(inner, { ...NOTHING, variables }));
  });
}

const NOTHING = newDefinitions();

/** `iova`, `size` or `end` of a buffer. */
function bufferPart(
  { iova, size }: BufferDeclaration,
  part: string,
  valueOf: (expression: Expression) => bigint | undefined,
): bigint | undefined {
  if (part === "iova") return valueOf(iova);
  if (part === "size") return valueOf(size);
  const [start, length] = [valueOf(iova), valueOf(size)];
  return start === undefined || length === undefined ? undefined : start + length;
}

function checkNames(expression: Expression, definitions: Definitions): void {
  for (const { name, part } of namesIn(expression)) checkName(name, part, definitions);
}

function checkName(
  name: string,
  part: string | undefined,
  definitions: Definitions,
): void {
  const { variables, buffers } = definitions;
  if (buffers.has(name)) {
    if (part === undefined) {
      throw new RangeError(
        `"${name}" is a buffer; write ${name}.iova, ${name}.size or ${name}.end`,
      );
    }
    if ((BUFFER_PARTS as readonly string[]).includes(part)) return;
    throw new RangeError(
      `"${part}" is no part of the buffer ${name}; ${
        meant(part, BUFFER_PARTS, "there are iova, size and end")
      }`,
    );
  }
  const variable = variables.get(name);
  if (variable === undefined) {
    const names = [...variables.keys(), ...buffers.keys()];
    throw missingName(
      definitions,
      `"${name}" is no variable; ${
        meant(name, names, "define it under variables, by set, or by into of a read before")
      }`,
    );
  }
  if (part === undefined || variable.isOpaque) return;
  const fields = variable.registers.flatMap((register) => register.fields.map((each) => each.name));
  if (fields.some((each) => each.toLowerCase() === part.toLowerCase())) return;
  throw new RangeError(
    variable.registers.length === 0
      ? `"${name}" has no part "${part}": it was not read from a register of a map`
      : `"${part}" is no field of ${variable.registers.map((each) => each.name).join(" or ")}; ${
        meant(part, fields, `there are ${fields.join(", ")}`)
      }`,
  );
}

/** A hint: the word that was probably meant, else `otherwise`. */
export function meant(word: string, words: Iterable<string>, otherwise: string): string {
  const found = nearest(word, words);
  return found === undefined ? otherwise : `did you mean "${found}"?`;
}

/**
 * The value of an expression of a session, if the value never changes.
 * Such an expression has only numbers, variables that no step changes and no `call` sets, and
 * buffers that no step maps anew.
 *
 * @throws {EvaluationError} if it can't have a value
 */
export function constantOf(expression: Expression, session: Session): bigint | undefined {
  let constants = CONSTANTS.get(session);
  if (constants === undefined) CONSTANTS.set(session, constants = constantsOf(session));
  return constantIn(expression, constants);
}

const CONSTANTS = new WeakMap<Session, Definitions>();

function constantsOf({ variables, buffers, steps, parameters }: Session): Definitions {
  const changed = new Set([...parameters ?? [], ...setBy(steps)]);
  const mapped = new Set(mappedBy(steps));
  const definitions = newDefinitions();
  for (const { name, value } of variables) {
    const constant = changed.has(name) ? undefined : constantIn(value, definitions);
    definitions.variables.set(name, { registers: [], ...(constant !== undefined && { constant }) });
  }
  for (const buffer of buffers) {
    if (!mapped.has(buffer.name)) definitions.buffers.set(buffer.name, buffer);
  }
  return definitions;
}

/** The variables that steps give values. */
export function* setBy(steps: readonly Step[]): Generator<string> {
  for (const step of steps) {
    yield* step.sets ?? [];
    if ("steps" in step) yield* setBy(step.steps);
  }
}

/** The buffers that steps map, which may be anew and elsewhere. */
function* mappedBy(steps: readonly Step[]): Generator<string> {
  for (const step of steps) {
    if ("buffer" in step && typeof step.buffer === "object") yield step.buffer.name;
    if ("steps" in step) yield* mappedBy(step.steps);
  }
}
