/**
 * Hashes of texts in a document, by which its policy allows them.
 *
 * @module
 */

/** The hash of a text as a Content-Security-Policy names it. */
export async function textHash(text: string): Promise<string> {
  const hash = await crypto.subtle.digest("SHA-256", new TextEncoder().encode(text));
  return `sha256-${new Uint8Array(hash).toBase64()}`;
}
