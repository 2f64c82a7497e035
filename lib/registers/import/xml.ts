/**
 * XML as a tree whose elements know their places.
 *
 * The file is read piece by piece, and other work of the process has its turns in between. Names
 * are taken without their namespaces. An entity that a DTD declares is a mistake where it is used:
 * nothing is expanded.
 *
 * @module
 */

import { openInput } from "../../base/input.ts";
import { nextTurn } from "../../base/turn.ts";
import { FileProblems, type Position } from "../../yaml/problem.ts";

/** Bytes of a file. The largest that vendors publish have some 50 MB. */
export const MAX_XML_SIZE = 64 << 20;
/** Elements of a file: one of 50 MB has a million and a half. */
export const MAX_ELEMENTS = 3_000_000;
/** Elements in one another: register files in register files, and their fields. */
export const MAX_DEPTH = 64;
/** Attributes of an element. */
const MAX_ATTRIBUTES = 100;

/** Bytes that are read at a time. */
const CHUNK = 64 << 10;
/** Chunks between two turns of other work: some 30 ms. */
const CHUNKS_A_TURN = 8;

/** Elements that nothing is taken from. */
const SKIPPED: ReadonlySet<string> = new Set(["vendorExtensions"]);

/** An element. */
export interface XmlElement {
  /** Its name, without a namespace. */
  readonly name: string;
  /** The offset of its tag in the text. */
  readonly at: number;
  /** Its text as words with single spaces between; empty if it has elements in it. */
  readonly text: string;
  /** Attributes by name, without namespaces; undefined if there are none. */
  readonly attributes: ReadonlyMap<string, string> | undefined;
  /** The elements in it, in order. */
  readonly children: readonly XmlElement[];
}

/** A file that is XML. */
export interface XmlDocument {
  /** The outermost element. */
  readonly root: XmlElement;
  /** The line and column of an offset in the text. */
  positionOf(at: number): Position;
}

/** The surroundings of a read. */
export interface ReadOptions {
  /** Ends the read when it is aborted. */
  readonly signal?: AbortSignal | undefined;
  /** Is told now and then how many bytes of how many are read. */
  readonly onProgress?: ((done: number, total: number) => void) | undefined;
  /** Does what holds the thread once all is read; some seconds at worst. */
  readonly hold?: (<T>(work: () => T) => T) | undefined;
}

/**
 * Reads a file.
 *
 * @throws {FileProblems} if it is no XML, with the first mistake, or too large
 */
export async function readXml(
  path: string,
  { signal, onProgress }: ReadOptions = {},
): Promise<XmlDocument> {
  using file = await openInput(path);
  const { size } = await file.stat?.() ?? { size: 0 };
  const reader = await XmlReader.make(path);
  if (size > MAX_XML_SIZE) reader.refuseSize();
  const chunk = new Uint8Array(CHUNK);
  let done = 0;
  for (let i = 1;; i++) {
    const count = await file.read(chunk);
    if (count === null) return reader.end();
    done += count;
    if (done > MAX_XML_SIZE) reader.refuseSize();
    reader.take(chunk.subarray(0, count));
    if (i % CHUNKS_A_TURN !== 0) continue;
    onProgress?.(done, Math.max(done, size));
    await nextTurn();
    signal?.throwIfAborted();
  }
}

/** The first element of a name in an element. */
export function child(element: XmlElement, name: string): XmlElement | undefined {
  return element.children.find((each) => each.name === name);
}

/** All elements of a name in an element. */
export function childrenOf(element: XmlElement | undefined, name: string): XmlElement[] {
  return element?.children.filter((each) => each.name === name) ?? [];
}

/** The text of an element; undefined if there is none. */
export function wordsOf(element: XmlElement | undefined): string | undefined {
  return element?.text || undefined;
}

/** The words of the first element of a name. */
export function textOf(element: XmlElement, name: string): string | undefined {
  return wordsOf(child(element, name));
}

/** The parser's package, as far as it is used here. */
interface Sax {
  MAX_BUFFER_LENGTH: number;
  parser(isStrict: boolean, options: Record<string, boolean>): SaxParser;
}

interface SaxParser {
  readonly position: number;
  readonly startTagPosition: number;
  comment: string;
  write(text: string): void;
  close(): void;
  onopentagstart(tag: { readonly name: string }): void;
  onattribute(attribute: { readonly name: string; readonly value: string }): void;
  ontext(text: string): void;
  oncdata(text: string): void;
  onclosetag(): void;
  ondoctype(): void;
  onerror(error: Error): void;
}

/** An element whose end is not reached. */
interface Open extends XmlElement {
  text: string;
  attributes: Map<string, string> | undefined;
  children: readonly XmlElement[];
}

const NONE: readonly XmlElement[] = [];

/** Bytes -> text -> elements. */
class XmlReader {
  readonly #file: string;
  readonly #parser: SaxParser;
  readonly #open: Open[] = [];
  readonly #names = new Map<string, string>();
  readonly #lines: number[] = [0]; // offsets at which lines begin
  #decoder: TextDecoder | undefined;
  #length = 0; // of the text
  #elements = 0;
  #skipped = 0; // elements that are open in one that is skipped
  #hasDoctype = false;
  #root: XmlElement | undefined;

  /** Loads the parser: it is needed for nothing else. */
  static async make(file: string): Promise<XmlReader> {
    const { default: sax } = await import("sax") as { default: Sax };
    sax.MAX_BUFFER_LENGTH = Infinity; // the file is bounded as a whole, and comments may be long
    return new XmlReader(file, sax);
  }

  private constructor(file: string, sax: Sax) {
    this.#file = file;
    const parser = sax.parser(true, { position: true, strictEntities: true });
    this.#parser = parser;
    parser.onopentagstart = ({ name }) => this.#begin(name);
    parser.onattribute = ({ name, value }) => this.#attribute(name, value);
    parser.ontext = parser.oncdata = (text) => this.#text(text);
    parser.onclosetag = () => this.#end();
    parser.ondoctype = () => {
      this.#hasDoctype = true;
    };
    parser.onerror = ({ message }) => this.#refuse(parser.position - 1, message.split("\n")[0]!);
  }

  /** Takes the next bytes. */
  take(bytes: Uint8Array): void {
    this.#decoder ??= this.#decoderFor(bytes);
    this.#write(() => this.#decoder!.decode(bytes, { stream: true }));
  }

  /** All bytes have come. */
  end(): XmlDocument {
    this.#write(() => this.#decoder?.decode() ?? "");
    const open = this.#open.at(-1);
    if (open !== undefined) this.#refuse(open.at, `<${open.name}> has no end`);
    if (this.#root === undefined) this.#refuse(0, "The file has no element of XML");
    this.#parser.close();
    return { root: this.#root!, positionOf: (at) => this.#positionOf(at) };
  }

  /** Says that the file is too large. */
  refuseSize(): never {
    this.#refuse(0, `The file is larger than ${MAX_XML_SIZE >> 20} MiB`);
  }

  #write(decode: () => string): void {
    let text: string;
    try {
      text = decode();
    } catch {
      return this.#refuse(this.#length, `The file is not text in ${this.#decoder!.encoding}`);
    }
    for (let at = text.indexOf("\n"); at >= 0; at = text.indexOf("\n", at + 1)) {
      this.#lines.push(this.#length + at + 1);
    }
    this.#length += text.length;
    this.#parser.write(text);
    this.#parser.comment = ""; // of a long one, nothing is wanted
  }

  /** UTF-8, unless the first bytes say something else. */
  #decoderFor(bytes: Uint8Array): TextDecoder {
    const [first = 0, second = 0] = bytes;
    const mark = first << 8 | second;
    if (mark === 0xfeff) return new TextDecoder("utf-16be", { fatal: true });
    if (mark === 0xfffe) return new TextDecoder("utf-16le", { fatal: true });
    const head = new TextDecoder("latin1").decode(bytes.subarray(0, 200));
    const [, label = "utf-8"] = /^(?:\xef\xbb\xbf)?<\?xml[^>]*\sencoding\s*=\s*["']([^"']*)["']/
      .exec(head) ?? [];
    try {
      return new TextDecoder(label, { fatal: true });
    } catch {
      return this.#refuse(0, `The encoding ${label} is not known; save the file in UTF-8`);
    }
  }

  #begin(tag: string): void {
    const name = this.#intern(tag);
    if (this.#skipped > 0 || SKIPPED.has(name)) {
      this.#skipped++;
      return;
    }
    const at = this.#parser.startTagPosition - 1;
    if (++this.#elements > MAX_ELEMENTS) {
      this.#refuse(at, `The file has more than ${MAX_ELEMENTS} elements`);
    }
    if (this.#open.length === MAX_DEPTH) {
      this.#refuse(at, `There are more than ${MAX_DEPTH} elements in one another`);
    }
    const element: Open = { name, at, text: "", attributes: undefined, children: NONE };
    const parent = this.#open.at(-1);
    if (parent === undefined) {
      this.#root ??= element;
    } else {
      if (parent.children === NONE) parent.children = [];
      (parent.children as XmlElement[]).push(element);
      parent.text = "";
    }
    this.#open.push(element);
  }

  #attribute(name: string, value: string): void {
    const element = this.#open.at(-1);
    if (this.#skipped > 0 || element === undefined) return;
    (element.attributes ??= new Map()).set(localName(name), value);
    if (element.attributes.size <= MAX_ATTRIBUTES) return;
    this.#refuse(element.at, `<${element.name}> has more than ${MAX_ATTRIBUTES} attributes`);
  }

  #text(text: string): void {
    const element = this.#open.at(-1);
    if (this.#skipped === 0 && element?.children === NONE) element.text += text;
  }

  #end(): void {
    if (this.#skipped > 0) return void this.#skipped--;
    const element = this.#open.pop()!;
    element.text = element.text.trim().replaceAll(/\s+/g, " "); // once: many may be derived from it
  }

  /** The same text for each of a million names. */
  #intern(tag: string): string {
    const known = this.#names.get(tag);
    if (known !== undefined) return known;
    const name = localName(tag);
    this.#names.set(tag, name);
    return name;
  }

  #positionOf(at: number): Position {
    let [low, high] = [0, this.#lines.length - 1];
    while (low < high) {
      const middle = (low + high + 1) >> 1;
      if (this.#lines[middle]! <= at) low = middle;
      else high = middle - 1;
    }
    return { line: low + 1, column: at - this.#lines[low]! + 1 };
  }

  #refuse(at: number, message: string): never {
    const position = this.#positionOf(Math.max(0, at));
    const hint = "what a DTD declares is not expanded; write the text itself";
    const problem = { file: this.#file, ...position, message };
    throw new FileProblems(this.#file, [this.#hasDoctype ? { ...problem, hint } : problem]);
  }
}

function localName(name: string): string {
  return name.slice(name.indexOf(":") + 1);
}
