/**
 * Lays out vfu as a folder that needs neither this checkout nor a registry. It has what
 * `deno task build` makes, and the sources, for lines that load a module of the user's.
 *
 * @module
 */

import manifest from "../../deno.json" with { type: "json" };
import { build, setCommit } from "./build.ts";
import { ROOT } from "./deno.ts";
import { writeModules } from "./npm_packages.ts";

/** Folders of the sources that are part of it. */
const SOURCES = ["cli", "ffi", "lib"];
/** Sources that only a checkout has a use for. */
const LEFT_OUT = "cli/installed";

/** Lays out the package in a folder that is empty. */
export async function layOut(folder: string): Promise<void> {
  await writeSources(`${folder}/src`);
  await build(`${folder}/dist`, `${folder}/src/cli/main.ts`);
  await Deno.mkdir(`${folder}/bin`);
  const launcher = await Deno.readTextFile(new URL("cli/installed/vfu.sh", ROOT));
  await Deno.writeTextFile(
    `${folder}/bin/vfu`,
    launcher.replace("PERMISSIONS", permissions().join(" ")),
    { mode: 0o755 },
  );
  await Deno.rename(`${folder}/dist/licences`, `${folder}/licences`);
  await Deno.copyFile(new URL("LICENSE", ROOT), `${folder}/LICENSE`);
  await Deno.writeTextFile(`${folder}/README.md`, README);
  const pages = (await Array.fromAsync(Deno.readDir(`${folder}/dist/man`))).map(({ name }) => name);
  await Deno.writeTextFile(
    `${folder}/package.json`,
    `${JSON.stringify(npmManifest(pages), undefined, 2)}\n`,
  );
}

/** The permissions of `deno task vfu`, which an installed vfu has as well. */
export function permissions(): string[] {
  return manifest.tasks.vfu.command.split(" ").filter((word) => word.startsWith("--allow-"));
}

/** Copies the sources. Of npm's packages they import copies. */
async function writeSources(folder: string): Promise<void> {
  await Deno.mkdir(folder);
  await Deno.copyFile(new URL("mod.ts", ROOT), `${folder}/mod.ts`);
  for (const name of SOURCES) await copy(name, folder);
  await setCommit(`${folder}/cli/version.ts`);
  const modules = await writeModules(`${folder}/npm`);
  const { name, version, license, exports, imports, compilerOptions } = manifest;
  const kept = Object.entries(imports).filter(([, path]) => path.startsWith("./cli/"));
  const config = {
    ...{ name, version, license, exports, compilerOptions },
    imports: {
      ...Object.fromEntries(kept),
      ...Object.fromEntries(Object.entries(modules).map(([key, file]) => [key, `./npm/${file}`])),
    },
    nodeModulesDir: "none",
    lock: false,
  };
  await Deno.writeTextFile(`${folder}/deno.json`, `${JSON.stringify(config, undefined, 2)}\n`);
}

/** Copies a folder of the sources into another one. */
async function copy(path: string, into: string): Promise<void> {
  if (path === LEFT_OUT) return;
  await Deno.mkdir(`${into}/${path}`);
  for await (const { name, isDirectory } of Deno.readDir(new URL(path, ROOT))) {
    const each = `${path}/${name}`;
    if (isDirectory) await copy(each, into);
    else await Deno.copyFile(new URL(each, ROOT), `${into}/${each}`);
  }
}

function npmManifest(pages: readonly string[]) {
  const { name, version, license } = manifest;
  return {
    name,
    version,
    description: "A toolkit for vfio-user: emulated PCI devices behind UNIX sockets",
    license,
    bin: { vfu: "bin/vfu" },
    man: pages.map((page) => `dist/man/${page}`).sort(),
    os: ["linux"],
    cpu: ["x64", "arm64"],
    dependencies: { deno: "^2.9.0" },
  };
}

const README = `# vfu

A toolkit for vfio-user, the protocol of emulated PCI devices behind UNIX sockets.

\`\`\`sh
vfu serve demo --socket-path=/tmp/demo.sock &
vfu probe /tmp/demo.sock
vfu --help
\`\`\`

- \`bin/vfu\` runs \`dist/\` under npm's \`deno\`; lines that load a module of yours run \`src/\`.
- \`dist/completions/\` and \`dist/man/\` have what \`vfu completion\` and \`vfu man\` write.
- \`licences/\` has the licences of vfu and of the npm packages that are part of it.
`;
