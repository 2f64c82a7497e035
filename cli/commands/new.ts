/**
 * `vfu new`: begins a project with a device.
 *
 * @module
 */

import { Command, type CommandUnknownOpts, Option } from "@commander-js/extra-typings";
import { fileError } from "../../lib/text/file_error.ts";
import { projectFiles } from "../new/project.ts";
import { type TemplateName, TEMPLATES } from "../new/templates.ts";
import type { Context } from "../shared/context.ts";
import { examples } from "../shared/examples.ts";
import { jsonText } from "../shared/json.ts";
import { wrapWords } from "../shared/table.ts";

const NAMES = Object.keys(TEMPLATES) as TemplateName[];

const MORE_HELP = `
Templates:
${NAMES.map((name) => `  ${name.padEnd(10)} ${TEMPLATES[name].summary}`).join("\n")}`;

/** The command's arguments and options. */
export function command(context: Context): CommandUnknownOpts {
  return new Command("new")
    .description(
      "Makes a folder with a device, its register map, a session that tries it, a test in " +
        "TypeScript, and what Deno and editors have to know. It works at once: deno task test, " +
        "deno task session, deno task serve.",
    )
    .argument("<name>", "name of the device, and of the folder")
    .addOption(
      new Option("--template <template>", "what to begin with, see below")
        .choices(NAMES).default("minimal" as const),
    )
    .option("--json", "write one JSON object")
    .addHelpText("after", MORE_HELP)
    .addHelpText(
      "after",
      examples(
        "vfu new my_device",
        "vfu new my_timer --template registers",
        "vfu new my_engine --template dma",
        "vfu new my_disk --template nvme-like",
      ),
    )
    .action(async (name, { template, json }, self) => {
      let files: Record<string, string>;
      try {
        files = projectFiles(name, template);
      } catch (error) {
        if (!(error instanceof SyntaxError)) throw error;
        return self.error(`error: ${error.message}`);
      }
      try {
        await Deno.mkdir(name);
      } catch (cause) {
        if (!(cause instanceof Deno.errors.AlreadyExists)) {
          throw fileError(`make the folder ${name}`, cause, true);
        }
        throw new Error(`Cannot make ${name}: it is there already; choose another name`);
      }
      for (const [file, text] of Object.entries(files)) {
        await Deno.writeTextFile(`${name}/${file}`, text);
      }
      const { out } = context;
      if (json) out.write(`${jsonText({ folder: name, template, files: Object.keys(files) })}\n`);
      else {
        const made = `Made ${name}, with ${Object.keys(files).join(", ")}`;
        out.write(`${wrapWords(made, out.columns).join("\n")}\n`);
        out.write(`Go on with: cd ${name}; deno task test; deno task serve\n`);
      }
    });
}
