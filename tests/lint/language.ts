/**
 * Lint rules for the language of comments (CONTRIBUTING.md, "Comments, documents, messages").
 * They are a plugin of `deno lint`.
 *
 * @module
 */

/** The columns that a line may have. */
const MAX_COLUMNS = 100;

/** The words that a sentence of a doc comment may have. */
const MAX_WORDS = 25;

/** Lines that may be longer: a link at the end, the title of a test. */
const UNBREAKABLE = /https?:\/\/\S+$|^\s*(?:Deno\.test|await t\.step)\(/;

/** Words that a doc comment does not begin with: they make half a sentence. */
const HEADLESS = /^(?:What|Whether|That|Of|Those|Where|Which|How|It is)\b/;

/** Phrases that hide the actor, or have a better word. */
const BANNED: readonly [phrase: RegExp, better: string][] = [
  [/\b(?:no|some)body\b/i, "name the actor: client, server, device, caller"],
  [/\b(?:told|tells?) of\b/i, 'write "reports", or "reported"'],
  [/\bgives? back\b/i, 'write "returns", or "restores"'],
];

/** Finds the first sentence of a doc comment, or undefined if another kind of comment is given. */
function headOf({ type, value }: { type: string; value: string }): string | undefined {
  if (type !== "Block" || !value.startsWith("*")) return undefined;
  return /^[\s*]*([^\n]*)/.exec(value)?.[1];
}

/**
 * Finds the paragraphs of a doc comment, without code and tables. Items of lists and tags are
 * paragraphs of their own.
 */
function paragraphsOf(comment: string): string[] {
  return comment.replaceAll(/^\s*\* ?/gm, "").replaceAll(/```[\s\S]*?```/g, "\n\n")
    .split(/\n\s*\n|\n(?=\s*(?:[-*] |\d+\. |@\w|\|))/)
    .filter((each) => !/^\s*(?:\||@example)/.test(each));
}

/** Finds the sentences of a paragraph, without its tag. Code and links count as a word. */
function sentencesOf(paragraph: string): string[] {
  return paragraph.replaceAll(/`[^`]*`|\{@\w+ [^}]*\}/g, "Code").trim()
    .replace(/^@(?:param\s+\S+|throws\s+\{[^}]*\}|\w+)\s*/, "")
    .split(/(?<=[.!?])\s+(?=[\p{Lu}"'(@\d])/u);
}

/** Finds the words of a sentence. */
function wordsOf(sentence: string): string[] {
  return sentence.split(/\s+/).filter((each) => /[\p{L}\p{N}]/u.test(each));
}

/** The plugin: its rules are `language/columns`, `/doc-head`, `/phrases` and `/sentences`. */
const plugin: Deno.lint.Plugin = {
  name: "language",
  rules: {
    columns: {
      create: (context) => {
        const { text } = context.sourceCode;
        const unbreakable: (readonly [start: number, end: number])[] = [];
        const note = ({ range }: { range: readonly [number, number] }) => unbreakable.push(range);
        return {
          Literal(node) {
            if (text[node.range[0]] === "/") note(node);
          },
          TemplateLiteral(node) {
            if (text.slice(...node.range).includes("\n")) note(node);
          },
          "Program:exit"() {
            let start = 0;
            for (const line of text.split("\n")) {
              const [from, end] = [start, start + line.length];
              start = end + 1;
              const columns = [...line].length;
              if (columns <= MAX_COLUMNS || UNBREAKABLE.test(line)) continue;
              if (unbreakable.some(([first, last]) => first < end && last > from)) continue;
              const message = `A line has ${columns} columns; at most ${MAX_COLUMNS}`;
              context.report({ range: [from, end], message });
            }
          },
        };
      },
    },
    "doc-head": {
      create: (context) => ({
        Program() {
          for (const comment of context.sourceCode.getAllComments()) {
            const [word] = HEADLESS.exec(headOf(comment) ?? "") ?? [];
            if (word === undefined) continue;
            const message = `A doc comment begins with "${word}"; ` +
              "begin with a noun phrase, or a verb in the third person";
            context.report({ range: comment.range, message });
          }
        },
      }),
    },
    sentences: {
      create: (context) => ({
        Program() {
          for (const { type, range, value } of context.sourceCode.getAllComments()) {
            if (type !== "Block" || !value.startsWith("*")) continue;
            for (const sentence of paragraphsOf(value).flatMap(sentencesOf)) {
              const words = wordsOf(sentence);
              if (words.length <= MAX_WORDS) continue;
              const start = words.slice(0, 5).join(" ");
              const message =
                `The sentence "${start} …" has ${words.length} words; at most ${MAX_WORDS}`;
              context.report({ range, message });
            }
          }
        },
      }),
    },
    phrases: {
      create: (context) => ({
        Program() {
          for (const { range, value } of context.sourceCode.getAllComments()) {
            for (const [phrase, better] of BANNED) {
              const [words] = phrase.exec(value) ?? [];
              if (words === undefined) continue;
              context.report({ range, message: `A comment says "${words}"; ${better}` });
            }
          }
        },
      }),
    },
  },
};

export default plugin;
