/**
 * The HTML of a report. It is the same for all recordings: what a recording says comes in as data.
 *
 * @module
 */

/** The keys that the page has, with what they do. */
const KEYS = [
  ["← →", "move the timeline"],
  ["+ -", "zoom in and out; 0 shows all"],
  ["↑ ↓", "select the message before or after; also Page Up, Page Down, Home, End"],
  ["/", "search"],
  ["n p", "the next and the previous message that the search found; also Enter"],
  ["Esc", "end the search, then the selection"],
  ["t", "light or dark"],
  ["?", "this help"],
] as const;

const HELP = KEYS.map(([keys, what]) =>
  `<tr><td>${keys.split(" ").map((key) => `<kbd>${key}</kbd>`).join(" ")}</td><td>${what}</td></tr>`
).join("\n");

/** The body, without script and data. */
export const MARKUP = `
<header>
  <div class="title"><h1 id="file">Recording</h1><p id="summary" role="status">Loading ...</p>
    <p id="problem"></p></div>
  <div class="buttons">
    <button type="button" id="theme">Light or dark</button>
    <button type="button" id="print">Print</button>
    <button type="button" id="help-button" aria-label="Help on keys">?</button>
  </div>
</header>
<main>
  <section id="time" aria-labelledby="time-title">
    <div class="bar"><h2 id="time-title">Timeline</h2>
      <div class="buttons" id="zoom">
        <button type="button" id="zoom-in" aria-label="Zoom in">+</button>
        <button type="button" id="zoom-out" aria-label="Zoom out">&minus;</button>
        <button type="button" id="zoom-all">All</button>
      </div>
      <output id="range"></output></div>
    <canvas id="overview" role="img" aria-label="All of the recording; the list has the same"></canvas>
    <canvas id="timeline" tabindex="0" role="application"
      aria-label="Timeline: arrows move and select, plus and minus zoom"></canvas>
    <p class="legend"><span><i class="swatch"></i>message or event</span>
      <span><i class="swatch accent"></i>selected or found</span>
      <span><i class="swatch error"></i>error</span>
      <span>#12: message id, which a request and its reply share</span></p>
  </section>
  <section id="messages" aria-labelledby="messages-title">
    <div class="bar"><h2 id="messages-title">Messages</h2>
      <input id="search" type="search" placeholder="Search: REGION_READ CSTS 0x1 error #12"
        aria-label="Search in messages" autocomplete="off" spellcheck="false">
      <div class="buttons">
        <button type="button" id="previous" aria-label="Previous message">&uarr;</button>
        <button type="button" id="next" aria-label="Next message">&darr;</button>
        <output id="count"></output></div></div>
    <div class="row heads" aria-hidden="true"><span class="time">ms</span><span class="arrow"></span>
      <span class="id">Id</span><span class="name">Command</span><span class="type">Type</span>
      <span class="place">Register or address</span><span class="value">Value</span>
      <span class="latency">Took</span></div>
    <div id="list" tabindex="0" role="listbox" aria-label="Messages"><div id="rows"></div></div>
  </section>
  <section id="details" tabindex="0" aria-label="Details of the message"></section>
  <p id="announcement" role="status"></p>
  <section id="charts" aria-label="Numbers about what the search found">
    <div><div class="bar"><h2>Time from request to reply</h2>
      <span id="latency-scope" class="scope"></span>
      <select id="latency-command" aria-label="Command"></select></div>
      <div id="latency"></div></div>
    <div><div class="bar"><h2>Registers used most</h2>
      <span id="registers-scope" class="scope"></span>
      <span class="legend"><span><i class="swatch"></i>reads</span>
        <span><i class="swatch writes"></i>writes</span></span></div>
      <div id="registers"></div></div>
    <div id="all-commands"><div class="bar"><h2>Commands</h2>
      <span id="commands-scope" class="scope"></span></div>
      <div id="commands" class="scroll" tabindex="0" role="group" aria-label="Commands"></div></div>
  </section>
</main>
<dialog id="help" aria-labelledby="help-title">
  <h2 id="help-title">Keys</h2>
  <table><tbody>
${HELP}
  </tbody></table>
  <p>The wheel zooms; with Shift it moves. Drag to move, two fingers zoom.</p>
  <button type="button" id="help-close">Close</button>
</dialog>
<noscript>This page needs scripts: it draws the recording that is in it.</noscript>
`;
