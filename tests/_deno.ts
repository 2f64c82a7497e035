/**
 * The Deno that tests start further processes with.
 *
 * @module
 */

/**
 * The path of the program. `VFU_TEST_DENO` names another one: a wrapper, where this Deno runs under
 * an emulator and the kernel cannot start its file.
 */
export const DENO: string = Deno.env.get("VFU_TEST_DENO") ?? Deno.execPath();

/** True under an emulator, which has no seccomp filters and fewer of the kernel's newer calls. */
export const IS_EMULATED: boolean = Deno.env.has("VFU_TEST_DENO");
