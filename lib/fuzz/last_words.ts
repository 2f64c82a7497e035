/**
 * Reports of faults in the output of a program: of sanitizers, assertions and runtimes.
 *
 * @module
 */

/** A kind of report: the pattern finds what names the fault. */
interface ReportForm {
  readonly name: string;
  readonly pattern: RegExp;
  /** True if a program goes on after it. */
  readonly goesOn?: true;
}

/** The forms; the first that is found names the fault. */
const FORMS: readonly ReportForm[] = [
  {
    name: "AddressSanitizer",
    pattern: /ERROR: AddressSanitizer:? ([^\n]*)/,
  },
  { name: "LeakSanitizer", pattern: /ERROR: LeakSanitizer:? ([^\n]*)/ },
  { name: "MemorySanitizer", pattern: /WARNING: MemorySanitizer:? ([^\n]*)/ },
  { name: "ThreadSanitizer", pattern: /WARNING: ThreadSanitizer:? ([^\n]*)/, goesOn: true },
  {
    name: "UndefinedBehaviorSanitizer",
    pattern: /([^\s:]+:\d+:\d+: runtime error: [^\n]*)/,
    goesOn: true,
  },
  { name: "Valgrind", pattern: /==\d+== (Invalid (?:read|write)[^\n]*)/, goesOn: true },
  { name: "panic", pattern: /thread '[^'\n]*'(?: \(\d+\))? panicked at ([^\n]*(?:\n[^\n]*)?)/ },
  { name: "assertion", pattern: /([^\n]*Assertion [`'][^\n]*failed[^\n]*)/ },
  { name: "assertion", pattern: /(ERROR:[^\n]*(?:assertion failed|should not be reached)[^\n]*)/ },
  { name: "assertion", pattern: /([^\n]*assert(?:ion)? failed[^\n]*)/i },
  { name: "stack smashing", pattern: /(\*\*\* [^\n]* \*\*\*: terminated[^\n]*)/ },
  { name: "heap corruption", pattern: /(\b\w*(?:alloc|free|chunk|tcache)\w*\(\): [^\n]*)/ },
  { name: "heap corruption", pattern: /((?:double free or|corrupted (?:size|double))[^\n]*)/ },
  { name: "panic", pattern: /^(panic: [^\n]*)/m },
  { name: "exception", pattern: /(error: Uncaught [^\n]*)/ },
  { name: "exception", pattern: /Traceback \(most recent call last\):[\s\S]*?\n(\w[^\n]*)/ },
];

/** A report that was recognised. */
export interface FaultReport {
  /** The tool that wrote it. */
  readonly name: string;
  /** Its main line. */
  readonly text: string;
  /** True if the program may go on after it. */
  readonly goesOn: boolean;
}

/** Finds the first report in an output; undefined if there is none. */
export function reportIn(output: string): FaultReport | undefined {
  for (const { name, pattern, goesOn = false } of FORMS) {
    const match = pattern.exec(output);
    if (match !== null) {
      return { name, text: match[1]!.replace(/\s*\n\s*/g, " ").trim(), goesOn };
    }
  }
  return undefined;
}

/** Words without what differs from run to run: addresses, process ids, times. */
export function withoutNumbers(text: string): string {
  return text.replace(/0x[0-9a-f]+/gi, "0x…").replace(/==\d+==/g, "").replace(/\b\d{3,}\b/g, "…");
}
