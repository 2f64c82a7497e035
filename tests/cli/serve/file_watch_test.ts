import { assertEquals } from "@std/assert";
import { FileWatch } from "../../../cli/serve/file_watch.ts";
import { until } from "../../_until.ts";

Deno.test("FileWatch reads no pipe that takes a file's place, which would never end", async () => {
  const folder = await Deno.makeTempDir({ prefix: "vfu-watch-" });
  try {
    const path = `${folder}/later/device.ts`;
    using watch = new FileWatch(() => [path], () => {});
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

Deno.test("FileWatch hears of changes beside a pipe, and of files that come to be watched", async () => {
  const folder = await Deno.makeTempDir({ prefix: "vfu-watch-" });
  try {
    const files = [`${folder}/device.ts`];
    await Deno.writeTextFile(files[0]!, "1");
    let count = 0;
    using watch = new FileWatch(() => files, () => count++);
    const { success } = await new Deno.Command("mkfifo", { args: [`${folder}/pipe`] }).output();
    assertEquals(success, true);
    await Deno.writeTextFile(files[0]!, "12");
    await until(() => count === 1);
    const map = `${folder}/map.yaml`;
    await Deno.writeTextFile(map, "a");
    files.push(map);
    watch.learn();
    await Deno.writeTextFile(`${folder}/new`, "b");
    await Deno.rename(`${folder}/new`, map);
    await until(() => count === 2);
    using again = new FileWatch(() => files, () => {}); // held the thread for ever
    assertEquals(again.look(), false);
  } finally {
    await Deno.remove(folder, { recursive: true });
  }
});

Deno.test("FileWatch tells files apart that are no text", async () => {
  const path = await Deno.makeTempFile({ prefix: "vfu-watch-" });
  try {
    await Deno.writeFile(path, new Uint8Array([0x80]));
    using watch = new FileWatch(() => [path], () => {});
    await Deno.writeFile(path, new Uint8Array([0x81]));
    assertEquals([watch.look(), watch.look()], [true, false]);
  } finally {
    await Deno.remove(path);
  }
});
