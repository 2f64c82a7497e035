/**
 * Text, attributes and times as XML has them.
 *
 * @module
 */

/** Attributes, each with a space ahead. */
export function attributesText(attributes: Readonly<Record<string, string | number>>): string {
  return Object.entries(attributes).map(([name, value]) =>
    ` ${name}="${escape(String(value)).replaceAll("\n", "&#10;")}"`
  )
    .join("");
}

/** A time as JUnit writes it. */
export function seconds(ms: number): string {
  return (ms / 1000).toFixed(6);
}

// deno-lint-ignore no-control-regex
const FORBIDDEN = /[\x00-\x08\x0b\x0c\x0e-\x1f\ufffe\uffff]|[\ud800-\udbff](?![\udc00-\udfff])/g;

/** Text for XML, without the characters that it does not allow. */
export function escape(text: string): string {
  return text.replaceAll(FORBIDDEN, "\ufffd")
    .replaceAll("&", "&amp;").replaceAll("<", "&lt;").replaceAll(">", "&gt;")
    .replaceAll('"', "&quot;");
}
