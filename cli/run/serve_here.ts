/**
 * A device of vfu that is served in this process.
 *
 * @module
 */

/** Serves the demo device to one client: the descriptor to connect to. */
export async function serveHere(): Promise<number> {
  const [{ embed }, { DemoDevice }] = await Promise.all([
    import("../../lib/server/embedded.ts"),
    import("../../lib/devices/demo.ts"),
  ]);
  return embed(new DemoDevice()).fd;
}
