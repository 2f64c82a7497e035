/**
 * Frees the memory made for a device if making the device fails.
 *
 * @module
 */

interface Closable {
  close(): void;
}

/** Closables made for the device that is being made now. */
let made: Closable[] | undefined;

/** Makes a device. If that throws, the closables passed to `hold` are closed. */
export function makeOrClose<T>(make: () => T): T {
  const outer = made; // one device may make another
  const inner: Closable[] = made = [];
  try {
    return make();
  } catch (error) {
    for (const each of inner) each.close();
    throw error;
  } finally {
    made = outer;
  }
}

/** Registers a closable to be closed if making the device fails. Closing it twice does nothing. */
export function hold(closable: Closable): void {
  made?.push(closable);
}
