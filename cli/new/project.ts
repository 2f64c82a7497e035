/**
 * The files of a new project.
 *
 * @module
 */

import manifest from "../../deno.json" with { type: "json" };
import { pathOf } from "../shared/file_url.ts";
import { jsonText } from "../shared/json.ts";
import { shellWord } from "../../lib/text/shell_word.ts";
import { qemuLines } from "../serve/qemu.ts";
import { type TemplateName, TEMPLATES } from "./templates.ts";

/** The folder of vfu's sources. */
const ROOT = new URL("../../", import.meta.url);

/** A word that can be the name of a device, a file and a register map. */
const NAME = /^[a-z][a-z0-9_]*$/;
/** Words that are no names in YAML. */
const OTHERS: ReadonlySet<string> = new Set(["true", "false", "null"]);

/**
 * Makes the text of each file of a project, by its name.
 *
 * @throws {SyntaxError} if the name is no word for a device
 */
export function projectFiles(name: string, template: TemplateName): Record<string, string> {
  if (!NAME.test(name)) {
    throw new SyntaxError(
      `"${name}" is no name for a device; it takes small letters, digits and _, as my_uart`,
    );
  }
  if (OTHERS.has(name)) {
    throw new SyntaxError(`"${name}" is no name in a register map; choose another word`);
  }
  const { device, registers, session, test } = TEMPLATES[template];
  const files = {
    [`${name}.ts`]: device,
    "registers.yaml": registers,
    "session.yaml": session,
    [`${name}_test.ts`]: test,
    "README.md": README,
  };
  // The path of this folder may have any words.
  const options = qemuLines([`${name}/${name}.sock`]).join("\n  ");
  const fill = (text: string) =>
    text.replaceAll("NAME", name).replace("QEMU_OPTIONS", () => options);
  return {
    ...Object.fromEntries(Object.entries(files).map(([file, text]) => [file, fill(text)])),
    "deno.json": `${jsonText(config(name), 2)}\n`,
  };
}

/** A file of vfu, as a word of a command. */
function ownFile(path: string): string {
  return shellWord(pathOf(new URL(path, ROOT).pathname));
}

/** The configuration for Deno and editors: the place of `@vfu/vfu`, and what that imports. */
function config(name: string) {
  const { exports, imports, name: self } = manifest;
  const own = Object.entries(exports).map(([path, file]) => [
    self + path.slice(1),
    new URL(file, ROOT).href,
  ]);
  const others = Object.entries(imports).map(([key, value]) => [
    key,
    value.startsWith("./") ? new URL(value, ROOT).href : value,
  ]);
  const allowed = "--allow-ffi --allow-read --allow-write";
  const vfu = `deno run ${allowed} --config=${ownFile("deno.json")} ${ownFile("cli/main.ts")}`;
  return {
    tasks: {
      serve: `${vfu} serve ./${name}.ts --socket-path=${name}.sock`,
      session: `${vfu} run session.yaml --serve ./${name}.ts`,
      test: `deno test ${allowed}`,
    },
    imports: Object.fromEntries([...own, ...others]),
    nodeModulesDir: "none",
  };
}

const README = `# NAME

A device for vfio-user, written with vfu.

- \`NAME.ts\`: the device; \`registers.yaml\`: its registers, which \`vfu read --map\` takes as well.
- \`session.yaml\`: tries the device from outside; \`NAME_test.ts\`: tests it with a clock of its own.

\`\`\`sh
deno task test       # runs NAME_test.ts; the first time it checks the types of vfu, too
deno task session    # runs session.yaml
deno task serve      # serves the device at NAME.sock, until Ctrl-C
\`\`\`

With \`deno task serve --watch\` a change of \`NAME.ts\` is served at once. The client stays
connected, and the device keeps its state.

While it is served:

\`\`\`sh
vfu probe NAME.sock
vfu regs NAME.sock --map registers.yaml
\`\`\`

A virtual machine of QEMU 10.1 or later has the device with these options:

\`\`\`sh
QEMU_OPTIONS
\`\`\`
`;
