import { assertEquals } from "@std/assert";
import { FileWatch } from "../../../cli/serve/file_watch.ts";

Deno.test("FileWatch reads no pipe that takes a file's place, which would never end", async () => {
  const folder = await Deno.makeTempDir({ prefix: "vfu-watch-" });
  try {
    // A folder that comes later is not watched: the runtime's own watch of a pipe's folder blocks.
    const path = `${folder}/later/device.ts`;
    using watch = new FileWatch(() => {});
    watch.add([path]);
    await Deno.mkdir(`${folder}/later`);
    await Deno.writeTextFile(path, "1");
    assertEquals([watch.look(), watch.look()], [true, false]);
    await Deno.remove(path);
    const { success } = await new Deno.Command("mkfifo", { args: [path] }).output();
    assertEquals([success, watch.look(), watch.look()], [true, true, false]);
  } finally {
    await Deno.remove(folder, { recursive: true });
  }
});
