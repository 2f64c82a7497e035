/**
 * The part of the DOM that the report's page uses. The whole DOM as global names would let any file
 * use `name` or `document`, which Deno does not have. A test holds these types against the DOM's.
 *
 * @module
 */

/** An event of the page. */
export interface PageEvent {
  /** The element that it happened to. */
  readonly target: unknown;
  /** Keeps the browser from acting on it. */
  preventDefault(): void;
}

/** A key that was pressed. */
export interface PageKeyEvent extends PageEvent {
  /** The key, as "ArrowLeft" or "+". */
  readonly key: string;
  /** True while Ctrl is held. */
  readonly ctrlKey: boolean;
  /** True while Alt is held. */
  readonly altKey: boolean;
  /** True while Meta is held. */
  readonly metaKey: boolean;
  /** True while Shift is held. */
  readonly shiftKey: boolean;
}

/** A mouse, pen or finger. */
export interface PagePointerEvent extends PageEvent {
  /** CSS pixels from the left of the element. */
  readonly offsetX: number;
  /** CSS pixels from the top of the element. */
  readonly offsetY: number;
  /** The pointer's number. */
  readonly pointerId: number;
  /** The button, 0 for the main one. */
  readonly button: number;
}

/** A turn of the wheel. */
export interface PageWheelEvent extends PagePointerEvent {
  /** The turn to the right. */
  readonly deltaX: number;
  /** The turn downwards. */
  readonly deltaY: number;
  /** True while Shift is held. */
  readonly shiftKey: boolean;
}

/** The events that the page listens to, by their names. */
export interface PageEvents {
  /** A click, also by the keyboard. */
  readonly click: PageEvent;
  /** A text that changed. */
  readonly input: PageEvent;
  /** A choice that changed. */
  readonly change: PageEvent;
  /** A part that was scrolled. */
  readonly scroll: PageEvent;
  /** A window of another size. */
  readonly resize: PageEvent;
  /** The page is about to be printed. */
  readonly beforeprint: PageEvent;
  /** The page was printed. */
  readonly afterprint: PageEvent;
  /** A key. */
  readonly keydown: PageKeyEvent;
  /** A turn of the wheel. */
  readonly wheel: PageWheelEvent;
  /** A button that went down. */
  readonly pointerdown: PagePointerEvent;
  /** A pointer that moved. */
  readonly pointermove: PagePointerEvent;
  /** A button that went up. */
  readonly pointerup: PagePointerEvent;
  /** A pointer that the browser took over. */
  readonly pointercancel: PagePointerEvent;
}

/** A source of events. */
export interface PageTarget {
  /** Calls `listener` at each event of a kind. */
  addEventListener<K extends keyof PageEvents>(
    type: K,
    listener: (event: PageEvents[K]) => void,
    options?: { readonly passive?: boolean },
  ): void;
}

/** A part of an element. */
export interface PagePart {
  /** Its text, never taken as HTML. */
  textContent: string | null;
}

/** An element of the page. */
export interface PageElement extends PageTarget, PagePart {
  /** Its classes, separated by spaces. */
  className: string;
  /** Its id. */
  id: string;
  /** The text that shows while a pointer is over it. */
  title: string;
  /** Its place in the order of Tab. */
  tabIndex: number;
  /** Pixels that it is scrolled down. */
  scrollTop: number;
  /** Its width in CSS pixels, without a border. */
  readonly clientWidth: number;
  /** Its height in CSS pixels, without a border. */
  readonly clientHeight: number;
  /** Its own style. */
  readonly style: { setProperty(name: string, value: string): void };
  /** Its attributes that begin with `data-`. */
  readonly dataset: Record<string, string | undefined>;
  /** Its name, as "INPUT". */
  readonly tagName: string;
  /** Gives it an attribute. */
  setAttribute(name: string, value: string): void;
  /** Puts parts at its end. */
  append(...parts: (PagePart | string)[]): void;
  /** Puts parts in place of all that it has. */
  replaceChildren(...parts: (PagePart | string)[]): void;
  /** Gives it the keyboard. */
  focus(): void;
  /** Takes the focus from it. */
  blur(): void;
  /** Has a pointer's events come here. */
  setPointerCapture(pointerId: number): void;
}

/** A field for text, or a list to choose from. */
export interface PageInput extends PageElement {
  /** Its text, or what is chosen. */
  value: string;
}

/** A dialog. */
export interface PageDialog extends PageElement {
  /** True while it is shown. */
  open: boolean;
  /** Shows it above all else. */
  showModal(): void;
  /** Hides it. */
  close(): void;
}

/** A context, which draws on a canvas. */
export interface PageContext2d {
  /** The colour of areas. */
  fillStyle: unknown;
  /** The font of texts. */
  font: string;
  /** The vertical place of texts. */
  textBaseline: "alphabetic" | "bottom" | "hanging" | "ideographic" | "middle" | "top";
  /** From 0, which is invisible, to 1. */
  globalAlpha: number;
  /** Fills a rectangle. */
  fillRect(x: number, y: number, width: number, height: number): void;
  /** Writes a text. */
  fillText(text: string, x: number, y: number, maxWidth?: number): void;
  /** Makes one unit of the canvas several pixels. */
  setTransform(a: number, b: number, c: number, d: number, e: number, f: number): void;
}

/** An area to draw on. */
export interface PageCanvas extends PageElement {
  /** Its width in pixels. */
  width: number;
  /** Its height in pixels. */
  height: number;
  /** Its context. */
  getContext(kind: "2d"): PageContext2d | null;
}

/** The document. */
export interface PageDocument extends PageTarget {
  /** The title of the window. */
  title: string;
  /** The root. */
  readonly documentElement: PageElement;
  /** The element that has the keyboard. */
  readonly activeElement: { readonly id: string; readonly tagName: string } | null;
  /** An element by its id. */
  getElementById(id: string): PageElement | null;
  /** A new element. */
  createElement(name: string): PageElement;
}

/** The window of the page. */
export interface PageWindow extends PageTarget {
  /** Its document. */
  readonly document: PageDocument;
  /** Pixels in a CSS pixel. */
  readonly devicePixelRatio: number;
  /** Calls back before the next frame. */
  requestAnimationFrame(callback: () => void): number;
  /** Calls back after a time. */
  setTimeout(callback: () => void, ms: number): number;
  /** Keeps a call from being made. */
  clearTimeout(timer: number | undefined): void;
  /** The style that an element has in the end. */
  getComputedStyle(element: never): { getPropertyValue(name: string): string };
  /** Asks about the screen. */
  matchMedia(query: string): {
    readonly matches: boolean;
    addEventListener(type: "change", listener: () => void): void;
  };
  /** Prints the page. */
  print(): void;
}
