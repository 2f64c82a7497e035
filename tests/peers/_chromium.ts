/**
 * Chromium without a screen, driven by its DevTools protocol. `chromium.sh` unpacks it.
 *
 * @module
 */

import { PATIENCE_MS, until } from "../_until.ts";
import { peersCache } from "./peers.ts";

/** A message of the DevTools protocol. */
interface Answer {
  readonly id?: number;
  readonly method?: string;
  readonly params?: Record<string, unknown>;
  readonly result?: Record<string, unknown>;
  readonly error?: { readonly message: string };
}

/** The program, or undefined on a machine that has none. */
export function chromiumProgram(): string | undefined {
  const path = `${peersCache()}/chromium/chromium`;
  try {
    return Deno.statSync(path).isFile ? path : undefined;
  } catch {
    return undefined;
  }
}

/** A size of the window, in CSS pixels. */
export interface WindowSize {
  /** Its width. */
  readonly width: number;
  /** Its height. */
  readonly height: number;
}

/** A page that is open in a browser of its own. */
export class ChromiumPage implements AsyncDisposable {
  /** Messages of the console that are errors or warnings, exceptions, and broken policies. */
  readonly complaints: string[] = [];
  /** Addresses that the page asked for, but its own. */
  readonly requests: string[] = [];
  readonly #child: Deno.ChildProcess;
  readonly #stderr: Promise<void>;
  readonly #folder: string;
  readonly #socket: WebSocket;
  readonly #pending = new Map<number, PromiseWithResolvers<Record<string, unknown>>>();
  readonly #heard = new Map<string, () => void>();
  #id = 0;
  #session: string | undefined;

  private constructor(
    child: Deno.ChildProcess,
    stderr: Promise<void>,
    folder: string,
    socket: WebSocket,
  ) {
    this.#child = child;
    this.#stderr = stderr;
    this.#folder = folder;
    this.#socket = socket;
    socket.addEventListener("message", ({ data }) => this.#take(JSON.parse(data)));
    socket.addEventListener("close", () => {
      for (const { reject } of this.#pending.values()) reject(new Error("The browser has ended"));
    });
  }

  /** Starts a browser, and opens a file in it. The page has loaded when this returns. */
  static async open(path: string, size: WindowSize, dark = false): Promise<ChromiumPage> {
    const program = chromiumProgram();
    if (program === undefined) throw new Error("There is no Chromium; run tests/peers/chromium.sh");
    const folder = await Deno.makeTempDir({ prefix: "vfu-chromium-" });
    const child = new Deno.Command("setpriv", {
      args: [
        ...["--pdeathsig", "KILL", "--", program],
        ...["--no-sandbox", "--disable-gpu", "--disable-dev-shm-usage", "--hide-scrollbars"],
        ...["--no-first-run", "--disable-background-networking", "--remote-debugging-port=0"],
        `--user-data-dir=${folder}`,
        "about:blank",
      ],
      env: { HOME: folder },
      stdin: "null",
      stdout: "null",
      stderr: "piped",
    }).spawn();
    const address = Promise.withResolvers<string>();
    const stderr = readAddress(child.stderr, address);
    const socket = new WebSocket(await address.promise);
    await new Promise((resolve, reject) => {
      socket.addEventListener("open", resolve);
      socket.addEventListener("error", reject);
    });
    const page = new ChromiumPage(child, stderr, folder, socket);
    await page.#start(path, size, dark);
    return page;
  }

  /** Calls a method of the protocol. */
  async send(method: string, params: Record<string, unknown> = {}) {
    const id = ++this.#id;
    const pending = Promise.withResolvers<Record<string, unknown>>();
    this.#pending.set(id, pending);
    const session = this.#session === undefined ? {} : { sessionId: this.#session };
    this.#socket.send(JSON.stringify({ id, method, params, ...session }));
    const timer = setTimeout(() => {
      pending.reject(new Error(`Chromium does not answer ${method} ${JSON.stringify(params)}`));
    }, PATIENCE_MS);
    try {
      return await pending.promise;
    } finally {
      clearTimeout(timer);
    }
  }

  /** The value of an expression in the page; a promise is waited for. */
  async evaluate<T = unknown>(expression: string): Promise<T> {
    const { result, exceptionDetails } = await this.send("Runtime.evaluate", {
      expression,
      awaitPromise: true,
      returnByValue: true,
    }) as {
      result: { value: T };
      exceptionDetails?: { exception?: { description?: string } };
    };
    if (exceptionDetails !== undefined) {
      throw new Error(`${expression}: ${exceptionDetails.exception?.description}`);
    }
    return result.value;
  }

  /** Waits, frame by frame, until an expression in the page is true. */
  async until(expression: string): Promise<void> {
    await this.evaluate(
      `new Promise((done) => { const look = () => (${expression}) ? done() : ` +
        "requestAnimationFrame(look); look(); })",
    );
  }

  /** Waits until what was asked for is drawn. */
  async drawn(): Promise<void> {
    await this.evaluate(
      "new Promise((done) => requestAnimationFrame(() => requestAnimationFrame(done)))",
    );
  }

  /** Presses a key. */
  async press(key: string): Promise<void> {
    const text = key.length === 1 ? { text: key } : key === "Enter" ? { text: "\r" } : {};
    const code = { Tab: 9, Enter: 13, Escape: 27, ArrowLeft: 37, ArrowUp: 38, ArrowRight: 39 }[key];
    const virtual = code ?? (key === "ArrowDown" ? 40 : 0);
    const event = { key, windowsVirtualKeyCode: virtual, ...text };
    await this.send("Input.dispatchKeyEvent", { type: "keyDown", ...event });
    await this.send("Input.dispatchKeyEvent", { type: "keyUp", ...event });
    await this.drawn();
  }

  /** Writes a text, as from a keyboard. */
  async type(text: string): Promise<void> {
    await this.send("Input.insertText", { text });
    await this.drawn();
  }

  /** A picture of the window, as PNG. */
  async picture(): Promise<Uint8Array> {
    const { data } = await this.send("Page.captureScreenshot", { format: "png" });
    return Uint8Array.fromBase64(data as string);
  }

  async [Symbol.asyncDispose](): Promise<void> {
    // There is nothing to save, and an orderly end takes its time.
    this.#child.kill("SIGKILL");
    await this.#child.status;
    // Its other processes end with it, and then close this pipe.
    await this.#stderr;
    await until(() => this.#socket.readyState === WebSocket.CLOSED, "the end of the socket");
    await Deno.remove(this.#folder, { recursive: true });
  }

  async #start(path: string, { width, height }: WindowSize, dark: boolean): Promise<void> {
    const { targetId } = await this.send("Target.createTarget", { url: "about:blank" });
    const { sessionId } = await this.send("Target.attachToTarget", { targetId, flatten: true });
    this.#session = sessionId as string;
    for (const domain of ["Page", "Runtime", "Log", "Network"]) await this.send(`${domain}.enable`);
    await this.send("Emulation.setDeviceMetricsOverride", {
      width,
      height,
      deviceScaleFactor: 1,
      mobile: false,
    });
    await this.send("Emulation.setEmulatedMedia", {
      features: [{ name: "prefers-color-scheme", value: dark ? "dark" : "light" }],
    });
    const loaded = new Promise<void>((done) => this.#heard.set("Page.loadEventFired", done));
    await this.send("Page.navigate", { url: `file://${path}` });
    await loaded;
  }

  #take({ id, method, params = {}, result = {}, error }: Answer): void {
    if (id !== undefined) {
      const pending = this.#pending.get(id);
      this.#pending.delete(id);
      if (error === undefined) pending?.resolve(result);
      else pending?.reject(new Error(error.message));
      return;
    }
    const { type, entry, request, exceptionDetails } = params as {
      type?: string;
      entry?: { level: string; text: string };
      request?: { url: string };
      exceptionDetails?: { exception?: { description?: string } };
    };
    if (method === "Runtime.exceptionThrown") {
      this.complaints.push(exceptionDetails?.exception?.description ?? "an exception");
    }
    if (method === "Runtime.consoleAPICalled" && (type === "error" || type === "warning")) {
      this.complaints.push(JSON.stringify(params.args));
    }
    if (method === "Log.entryAdded" && entry?.level !== "verbose") {
      this.complaints.push(entry?.text ?? "");
    }
    if (method === "Network.requestWillBeSent" && !request!.url.startsWith("file://")) {
      this.requests.push(request!.url);
    }
    if (method !== undefined) this.#heard.get(method)?.();
  }
}

/** Reads what a browser writes to its end. The address of its socket is in it. */
async function readAddress(
  stream: ReadableStream<Uint8Array>,
  address: PromiseWithResolvers<string>,
): Promise<void> {
  let text = "";
  for await (const part of stream.pipeThrough(new TextDecoderStream())) {
    text = (text + part).slice(-65_536);
    const found = /DevTools listening on (ws:\S+)/.exec(text);
    if (found !== null) address.resolve(found[1]!);
  }
  address.reject(new Error(`Chromium does not start: ${text}`));
}
