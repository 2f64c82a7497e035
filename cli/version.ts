/**
 * The version of the program: of the release, of the sources, and of Deno.
 *
 * @module
 */

import manifest from "../deno.json" with { type: "json" };

/** The commit of a build. `cli/installed/build.ts` sets it; it is empty if no commit is known. */
const BUILT_FROM = "vfu:commit";

/** The three versions that `vfu --version` shows. */
export interface Version {
  /** The version of the release, as `0.1.0`. */
  readonly version: string;
  /** The commit of the sources, 40 or 64 digits; undefined if it is not known. */
  readonly commit: string | undefined;
  /** The version of Deno that runs it. */
  readonly deno: string;
}

/** Finds the version of this program. */
export function programVersion(): Version {
  const built = BUILT_FROM.startsWith("vfu:") ? checkoutCommit() : BUILT_FROM;
  return { version: manifest.version, commit: built || undefined, deno: Deno.version.deno };
}

/** Writes a version as a line. */
export function versionLine({ version, commit, deno }: Version): string {
  const sources = commit === undefined ? "" : `commit ${commit.slice(0, 8)}, `;
  return `vfu ${version} (${sources}Deno ${deno})`;
}

/** Finds the commit of the checkout that this file is in, without running git. */
function checkoutCommit(): string | undefined {
  const root = new URL("../", import.meta.url);
  if (root.protocol !== "file:" || !mayRead(root)) return undefined;
  return commitOf(root);
}

/**
 * Finds the commit of a checkout.
 *
 * @param root the folder that has `.git`: a folder, or in a worktree a file
 * @returns undefined if git's files are not there, or are not of the usual form
 */
export function commitOf(root: URL): string | undefined {
  let folder = new URL(".git/", root);
  const worktree = /^gitdir: (.+)/.exec(textOf(new URL(".git", root)) ?? "")?.[1];
  if (worktree !== undefined) folder = folderAt(worktree, root);
  const head = textOf(new URL("HEAD", folder));
  const branch = /^ref: (refs\/.+)/.exec(head ?? "")?.[1];
  if (branch === undefined) return digits(head);
  // The branches of a worktree are in the folder that all worktrees share.
  const shared = textOf(new URL("commondir", folder))?.trim();
  const common = shared === undefined ? folder : folderAt(shared, folder);
  const packed = textOf(new URL("packed-refs", common)) ?? "";
  return digits(textOf(new URL(encodeURI(branch), common))) ??
    digits(packed.split("\n").find((line) => line.endsWith(` ${branch}`)));
}

function folderAt(path: string, base: URL): URL {
  return new URL(`${path.split("/").map(encodeURIComponent).join("/")}/`, base);
}

function digits(text: string | undefined): string | undefined {
  return /^(?:[0-9a-f]{40}|[0-9a-f]{64})(?=\s|$)/.exec(text ?? "")?.[0];
}

function textOf(file: URL): string | undefined {
  try {
    return Deno.readTextFileSync(file);
  } catch {
    return undefined;
  }
}

/** Reports whether a folder may be read, without asking the user for it. */
function mayRead(folder: URL): boolean {
  return Deno.permissions.querySync({ name: "read", path: folder }).state === "granted";
}
