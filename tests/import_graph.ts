/**
 * The graph of the project's imports: `deno task graph` prints its rooms and its circles.
 *
 * @module
 */

/** A folder of sources, with what it imports. */
export interface Room {
  /** The folder, as a path from the root. */
  readonly name: string;
  /** Files in it. */
  readonly files: number;
  /** Rooms that its files import. */
  readonly imports: readonly string[];
}

/** Files or rooms by name, each with the names that it imports. */
export type Graph = ReadonlyMap<string, ReadonlySet<string>>;

/** Every source file below the folders, as a path from the root. */
export function sources(root: URL, ...folders: string[]): string[] {
  return folders.flatMap((folder) =>
    [...Deno.readDirSync(new URL(folder, root))].flatMap((entry) => {
      const path = `${folder}/${entry.name}`;
      return entry.isDirectory ? sources(root, path) : path.endsWith(".ts") ? [path] : [];
    })
  ).sort();
}

/**
 * The imports of a file: paths from the root, or bare specifiers. Dynamic imports count, and so do
 * those of types.
 */
export function imports(root: URL, path: string): string[] {
  // Comments hold examples, which import what they like.
  const code = Deno.readTextFileSync(new URL(path, root)).replaceAll(/\/\*[\s\S]*?\*\//g, "");
  const specifiers = code.matchAll(/(?:\bfrom\s+|\bimport\s*\(\s*|^import\s+)"([^"]+)"/gm);
  return [...specifiers].map(([, specifier]) =>
    specifier!.startsWith(".")
      ? new URL(specifier!, new URL(path, root)).href.slice(root.href.length)
      : specifier!
  );
}

/** The graph of files: each with the files of the project that it imports. */
export function fileGraph(root: URL, paths: readonly string[]): Graph {
  const known = new Set(paths);
  return new Map(
    paths.map((path) => [path, new Set(imports(root, path).filter((each) => known.has(each)))]),
  );
}

/** The circles of a graph, each as the sorted names that reach each other (Tarjan's algorithm). */
export function circles(graph: Graph): string[][] {
  const index = new Map<string, number>();
  const low = new Map<string, number>();
  const stack: string[] = [];
  const found: string[][] = [];
  const visit = (name: string) => {
    index.set(name, index.size);
    low.set(name, index.get(name)!);
    stack.push(name);
    for (const each of graph.get(name) ?? []) {
      if (!index.has(each)) visit(each);
      if (stack.includes(each)) low.set(name, Math.min(low.get(name)!, low.get(each)!));
    }
    if (low.get(name) !== index.get(name)) return;
    const circle = stack.splice(stack.indexOf(name));
    if (circle.length > 1 || graph.get(name)?.has(name)) found.push(circle.sort());
  };
  for (const name of graph.keys()) if (!index.has(name)) visit(name);
  return found;
}

/** The rooms: folders with their imports of each other. */
export function rooms(graph: Graph): Room[] {
  const roomOf = (path: string) => path.includes("/") ? path.slice(0, path.lastIndexOf("/")) : ".";
  const found = new Map<string, { files: number; imports: Set<string> }>();
  for (const [path, imported] of graph) {
    const room = found.get(roomOf(path)) ?? { files: 0, imports: new Set() };
    found.set(roomOf(path), room);
    room.files++;
    for (const each of imported) if (roomOf(each) !== roomOf(path)) room.imports.add(roomOf(each));
  }
  return [...found].map(([name, { files, imports }]) => ({
    name,
    files,
    imports: [...imports].sort(),
  }));
}

/** The graph of the whole project: the command line, the public API, the library and the FFI. */
export function projectGraph(root: URL): Graph {
  return fileGraph(root, ["mod.ts", ...sources(root, "ffi", "lib", "cli")]);
}

if (import.meta.main) {
  const graph = projectGraph(new URL("..", import.meta.url));
  const all = rooms(graph);
  const print = (line: string) => Deno.stdout.writeSync(new TextEncoder().encode(`${line}\n`));
  for (const { name, files, imports } of all) print(`${name} (${files}) -> ${imports.join(" ")}`);
  const [ofFiles, ofRooms] = [
    circles(graph),
    circles(new Map(all.map(({ name, imports }) => [name, new Set(imports)]))),
  ];
  for (const circle of ofFiles) print(`circle of files: ${circle.join(" ")}`);
  for (const circle of ofRooms) print(`circle of rooms: ${circle.join(" ")}`);
  const arrows = all.reduce((sum, { imports }) => sum + imports.length, 0);
  print(
    `${all.length} rooms, ${arrows} arrows, ${ofFiles.length} circles of files, ` +
      `${ofRooms.length} circles of rooms`,
  );
}
