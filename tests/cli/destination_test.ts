import { assertEquals, assertThrows } from "@std/assert";
import { openDestination } from "../../cli/destination.ts";
import type { Output } from "../../cli/context.ts";

Deno.test("a file that can't be written to is named", () => {
  const folder = Deno.makeTempDirSync();
  const write = Deno.FsFile.prototype.writeSync;
  try {
    using destination = openDestination(`${folder}/x`, {} as Output);
    destination.write(new Uint8Array(2));
    Deno.FsFile.prototype.writeSync = () => {
      throw new Error("No space left on device (os error 28)");
    };
    const error = assertThrows(() => destination.write(new Uint8Array(3)), Error);
    assertEquals(
      error.message,
      `Cannot write ${folder}/x.partial: No space left on device (os error 28)`,
    );
  } finally {
    Deno.FsFile.prototype.writeSync = write;
    Deno.removeSync(folder, { recursive: true });
  }
});

Deno.test("standard output that can't be written to is named", async () => {
  const root = new URL("../../", import.meta.url).pathname;
  const { code, stderr } = await new Deno.Command("sh", {
    args: [
      "-c",
      `exec "$0" run --no-prompt --frozen --config="$1deno.json" "$1cli/main.ts" --help >/dev/full`,
      Deno.execPath(),
      root,
    ],
    env: { NO_COLOR: "1" },
  }).output();
  assertEquals(code, 1);
  assertEquals(
    new TextDecoder().decode(stderr),
    "vfu: Cannot write to standard output: No space left on device (os error 28)\n",
  );
});
