/**
 * Names of files that are relative to the file that has them.
 *
 * @module
 */

/** The folder that a file is in; "" is the working directory. */
export function folderOf(file: string): string {
  const end = file.lastIndexOf("/");
  return end < 0 ? "" : file.slice(0, Math.max(end, 1));
}

/**
 * A name that is relative to a folder, without `.` and `..` in it where that is possible.
 *
 * @example
 * ```ts
 * import { resolvePath } from "./path.ts";
 *
 * if (resolvePath("sessions/nvme", "../common.yaml") !== "sessions/common.yaml") throw new Error();
 * ```
 */
export function resolvePath(folder: string, name: string): string {
  const path = name.startsWith("/") || folder === "" ? name : `${folder}/${name}`;
  const parts: string[] = [];
  for (const part of path.split("/")) {
    if (part === "" || part === ".") continue;
    const last = parts.at(-1);
    if (part === ".." && last !== undefined && last !== "..") parts.pop();
    else if (part !== ".." || !path.startsWith("/")) parts.push(part);
  }
  return `${path.startsWith("/") ? "/" : ""}${parts.join("/")}`;
}
