/**
 * What holds memory is freed if the device for which it was made does not come about.
 *
 * @module
 */

interface Closable {
  close(): void;
}

/** What was made for the device that is being made now. */
let made: Closable[] | undefined;

/** Makes a device. If that throws, what it told `hold` of is closed. */
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

/** What is to be closed if the device does not come about. Closing it twice does nothing. */
export function hold(closable: Closable): void {
  made?.push(closable);
}
