/**
 * The style of a report's page: light, dark, small, wide, and on paper.
 *
 * @module
 */

const LIGHT = `
  --ground: #ffffff; --panel: #f5f7f9; --stripe: #f0f3f6; --text: #1a2027; --dim: #57616d;
  --line: #d5dbe1; --item: #2f6fb4; --accent: #b35900; --error: #c0192c; --label: #ffffff;
  --writes: #7a4fb0; color-scheme: light;`;
const DARK = `
  --ground: #14181d; --panel: #1b2127; --stripe: #1a2026; --text: #e4e9ee; --dim: #9aa6b2;
  --line: #353e48; --item: #5b9fe6; --accent: #ffb454; --error: #ff6b6b; --label: #0b1016;
  --writes: #b794f0; color-scheme: dark;`;

/** The style sheet. */
export const STYLE = `
:root {${LIGHT}}
@media (prefers-color-scheme: dark) { :root {${DARK}} }
:root[data-theme="light"] {${LIGHT}}
:root[data-theme="dark"] {${DARK}}
* { box-sizing: border-box; }
body { margin: 0; background: var(--ground); color: var(--text);
  font: 14px/1.45 system-ui, "DejaVu Sans", sans-serif; }
:focus-visible { outline: 2px solid var(--accent); outline-offset: 1px; }
header { display: flex; flex-wrap: wrap; gap: 4px 16px; align-items: center; padding: 10px 16px;
  border-bottom: 1px solid var(--line); }
.title { flex: 1 1 220px; min-width: 0; }
h1 { font-size: 18px; margin: 0; overflow-wrap: anywhere; }
#problem { margin: 0; color: var(--error); overflow-wrap: anywhere; }
#summary { margin: 0; color: var(--dim); font-size: 13px; overflow-wrap: anywhere; }
h2 { font-size: 14px; margin: 0; }
h3 { font-size: 15px; margin: 0 0 4px; overflow-wrap: anywhere; }
h4 { font-size: 13px; margin: 14px 0 4px; }
button, select, input { font: inherit; color: inherit; background: var(--panel);
  border: 1px solid var(--line); border-radius: 6px; padding: 4px 10px; min-height: 32px; }
button { cursor: pointer; }
button:hover { border-color: var(--dim); }
button.link { border: 0; background: none; padding: 0; min-height: 0; color: var(--item);
  text-decoration: underline; text-underline-offset: 2px; text-align: left; }
.buttons { display: flex; gap: 6px; flex-wrap: wrap; align-items: center; }
main { display: grid; gap: 12px; padding: 12px 16px; grid-template-columns: minmax(0, 1fr); }
section { min-width: 0; }
.bar { display: flex; flex-wrap: wrap; gap: 6px 12px; align-items: center; margin-bottom: 6px; }
#range, #count { color: var(--dim); font-size: 13px; font-variant-numeric: tabular-nums; }
canvas { display: block; width: 100%; border: 1px solid var(--line); border-radius: 6px; }
#overview { height: 40px; margin-bottom: 6px; cursor: pointer; touch-action: none; }
#timeline { height: 200px; cursor: grab; touch-action: pan-y; }
.legend { display: flex; flex-wrap: wrap; gap: 2px 16px; margin: 6px 0 0; color: var(--dim);
  font-size: 12px; }
.swatch { display: inline-block; width: 12px; height: 12px; margin-right: 5px; border-radius: 2px;
  vertical-align: -1px; background: var(--item); print-color-adjust: exact; }
.swatch.writes { background: var(--writes); }
.swatch.accent { background: var(--accent); }
.swatch.error { background: var(--error); }
.scope { color: var(--accent); font-size: 13px; }
#search { flex: 1 1 200px; min-width: 0; }
#list { position: relative; height: 380px; overflow: auto; border: 1px solid var(--line);
  border-radius: 6px; contain: strict; }
.row.heads { position: static; cursor: default; color: var(--dim); border: 1px solid transparent;
  overflow: hidden; scrollbar-gutter: stable; }
#list { scrollbar-gutter: stable; }
#rows { position: relative; min-width: 100%; }
.row { position: absolute; left: 0; right: 0; height: 24px; padding: 0 8px; display: grid; gap: 10px;
  grid-template-columns: 76px 16px 56px 170px 92px minmax(150px, 3fr) minmax(150px, 3fr) 64px;
  align-items: center; font: 12px/24px ui-monospace, "DejaVu Sans Mono", monospace; cursor: pointer;
  white-space: pre; }
.row > * { overflow: hidden; text-overflow: ellipsis; }
.row[role]:hover { background: var(--stripe); }
.row[aria-selected="true"] { background: var(--stripe); box-shadow: inset 3px 0 var(--accent); }
.row.error .type, .row.error .value { color: var(--error); }
.row .time, .row .latency { text-align: right; color: var(--dim); }
.row .id, .row .type, .row .arrow { color: var(--dim); }
#announcement { position: absolute; width: 1px; height: 1px; overflow: hidden; margin: 0;
  clip-path: inset(50%); }
.empty { color: var(--dim); margin: 10px; }
#details { border: 1px solid var(--line); border-radius: 6px; padding: 12px; overflow: auto;
  background: var(--panel); }
.says { font-family: ui-monospace, "DejaVu Sans Mono", monospace; font-size: 13px; margin: 0 0 8px;
  overflow-wrap: anywhere; }
.problem { color: var(--error); margin: 8px 0; }
dl { display: grid; grid-template-columns: max-content minmax(0, 1fr); gap: 2px 12px; margin: 0; }
dt { color: var(--dim); }
dd { margin: 0; overflow-wrap: anywhere; }
table { border-collapse: collapse; width: 100%; font-size: 13px; }
th, td { text-align: left; padding: 3px 8px 3px 0; border-bottom: 1px solid var(--line);
  vertical-align: top; overflow-wrap: anywhere; }
th { color: var(--dim); font-weight: 500; }
th.number, td.number { text-align: right; font-variant-numeric: tabular-nums;
  overflow-wrap: normal; }
#details td:first-child { overflow-wrap: break-word; }
.scroll { overflow-x: auto; }
.scroll table { min-width: 640px; }
.hexdump { font: 12px/1.5 ui-monospace, "DejaVu Sans Mono", monospace; margin: 0; overflow: auto;
  max-height: 400px; }
.hexdump .offset { color: var(--dim); }
.byte.marked { background: var(--accent); color: var(--label); }
#charts { display: grid; gap: 20px; grid-template-columns: minmax(0, 1fr); }
.plot { display: flex; align-items: flex-end; gap: 2px; height: 150px;
  border-bottom: 1px solid var(--line); }
.column { flex: 1 1 0; max-width: 64px; height: 100%; display: flex; align-items: flex-end; }
.column:hover { background: var(--stripe); }
.fill { width: 100%; background: var(--item); border-radius: 2px 2px 0 0; }
.axis { display: flex; justify-content: space-between; color: var(--dim); font-size: 12px; }
.most { color: var(--dim); font-size: 12px; margin: 0 0 2px; }
.bars { display: flex; height: 14px; min-width: 60px; margin-top: 3px; }
.reads { background: var(--item); }
.writes { background: var(--writes); }
dialog { color: var(--text); background: var(--ground); border: 1px solid var(--line);
  border-radius: 8px; max-width: min(560px, 92vw); }
dialog::backdrop { background: #0008; }
#help td:first-child { white-space: nowrap; }
kbd { font: 12px ui-monospace, "DejaVu Sans Mono", monospace; border: 1px solid var(--line);
  border-radius: 4px; padding: 1px 5px; background: var(--panel); }
@media (min-width: 1000px) {
  main { grid-template-columns: minmax(0, 3fr) minmax(340px, 2fr); }
  #time, #charts { grid-column: 1 / -1; }
  #charts { grid-template-columns: minmax(0, 1fr) minmax(0, 1fr); }
  #all-commands { grid-column: 1 / -1; }
  #list { height: 460px; }
  #details { height: 500px; }
}
.row .name.wide ~ .place { display: none; }
.row .name.wide ~ .value { grid-column: span 2; }
@media (min-width: 1000px) and (max-width: 1399px) {
  main { grid-template-columns: minmax(0, 2fr) minmax(300px, 1fr); }
  .row { grid-template-columns: 72px 16px 48px 176px minmax(0, 1fr) minmax(0, 1fr) 64px; }
  .row .type { display: none; }
}
@media (max-width: 999px) {
  .row { grid-template-columns: 72px 16px 176px minmax(0, 1fr) minmax(0, 1fr); }
  .row .id, .row .type, .row .latency { display: none; }
}
@media (max-width: 480px) {
  main, header { padding-left: 10px; padding-right: 10px; }
  .row { gap: 6px; grid-template-columns: 12px 80px minmax(0, 1fr) minmax(0, 1fr);
    font-size: 11px; }
  .row .time { display: none; }
  .row .name.wide { grid-column: span 2; }
  .row .name.wide ~ .value { grid-column: auto; }
}
@media print {
  :root, :root[data-theme] {${LIGHT}}
  button, #search, #messages, .bar select, #overview, #zoom { display: none; }
  button.link { display: inline; color: var(--text); text-decoration: none; }
  main, #charts { display: block; }
  section { margin-bottom: 16px; break-inside: avoid; }
  #details { height: auto; }
  .hexdump { max-height: none; white-space: pre-wrap; }
  .fill, .reads, .writes { print-color-adjust: exact; -webkit-print-color-adjust: exact; }
}
`;
