"use strict";
(() => {
const $ = id => document.getElementById(id);
const head = JSON.parse($("head").textContent);
const SVG = "http://www.w3.org/2000/svg", MINUS = "\u2212", GAP = "—";
const phone = matchMedia("(max-width: 620px)");

// ---- elements, numbers
function fill(el, attrs, kids) {
  for (const [k, v] of Object.entries(attrs || {})) {
    if (v === null || v === undefined || v === false) continue;
    if (k.startsWith("on")) el.addEventListener(k.slice(2), v);
    else el.setAttribute(k, v === true ? "" : v);
  }
  el.append(...kids.flat().filter(k => k !== null && k !== undefined && k !== false));
  return el;
}
const h = (tag, attrs, ...kids) => fill(document.createElement(tag), attrs, kids);
const s = (tag, attrs, ...kids) => fill(document.createElementNS(SVG, tag), attrs, kids);
const div = (...kids) => h("div", {}, ...kids);
const note = (...kids) => h("p", {class: "note"}, ...kids), mute = (...kids) => h("p", {class: "mute"}, ...kids), h3 = (...kids) => h("h3", {}, ...kids);
const MID = {"text-anchor": "middle", class: "m"}, END = {"text-anchor": "end", class: "m"};
const LEFT = "Left out, so that this page stays below 2 MB.";
const known = v => v !== null && v !== undefined;
// Halves go to the even digit, as in the printed tables.
const fixed = (v, d) => { const x = Math.abs(v), m = 10 ** d; return x * m % 1 === .5 && Number.isInteger(x * 2 ** (d + 1)) ? 2 * Math.round(x * m / 2) / m : +x.toFixed(d); };
const fmt = (v, d = 1) => known(v) ? (v < 0 && fixed(v, d) ? MINUS : "") + fixed(v, d).toLocaleString("en", {minimumFractionDigits: d, maximumFractionDigits: d}) : GAP;
const signed = (v, d = 1) => known(v) ? (v > 0 && fixed(v, d) ? "+" : "") + fmt(v, d) : GAP;
const mean = vs => vs.length && vs.every(known) ? vs.reduce((a, b) => a + b, 0) / vs.length : null;
const tenth = v => known(v) ? v / 10 : null;
const lam = v => known(v) ? "λ " + v : "";
const sum = vs => vs.reduce((a, b) => a + b, 0);
const ends = (f, low, high) => `95 % interval ${f(low)} to ${f(high)}`;
const spaced = name => name.replaceAll("_", " ");
const short = t => t.length > 18 ? t.slice(0, 17) + "…" : t;
const plural = (n, word) => n + " " + word + (n === 1 ? "" : "s");

// ---- data: gzip in base64, opened when it is needed
const opened = new Map();
function load(key) {
  if (!opened.has(key)) {
    const held = $("data-" + key);
    opened.set(key, held ? unpack(held.textContent) : Promise.resolve(null));
  }
  return opened.get(key);
}
async function unpack(text) {
  const bytes = Uint8Array.from(atob(text.trim()), c => c.charCodeAt(0));
  return new Response(new Blob([bytes]).stream().pipeThrough(new DecompressionStream("gzip"))).json();
}

// ---- state, kept in the address
const DEFAULTS = {rule: "", theme: "auto", view: "", set: "0", show: "accuracy", sort: "", cell: "", pred: "", method: "", kinds: "0", env: "", lam: "", rank: ""};
const state = {...DEFAULTS};
function read() {
  const given = new URLSearchParams(location.hash.slice(1));
  for (const key of Object.keys(DEFAULTS)) state[key] = given.get(key) ?? DEFAULTS[key];
  if (!head.settings[+state.set]) state.set = "0";
}
let pending = 0;
function keep() {
  clearTimeout(pending);
  pending = setTimeout(() => {
    const out = new URLSearchParams();
    for (const [key, value] of Object.entries(state)) if (String(value) !== DEFAULTS[key]) out.set(key, value);
    history.replaceState(null, "", "#" + out);
  }, 120);
}
function put(changes) { Object.assign(state, changes); keep(); }

// ---- small parts
function seg(label, options, value, pick) {
  return h("div", {class: "seg", role: "group", "aria-label": label}, options.map(([key, text, extra]) =>
    h("button", {type: "button", "aria-pressed": String(key === value), ...extra, onclick: e => {
      for (const b of e.currentTarget.parentNode.children) b.setAttribute("aria-pressed", String(b === e.currentTarget));
      pick(key);
    }}, text)));
}
function choice(label, options, value, pick) {
  return h("label", {class: "field"}, label, h("select", {onchange: e => pick(e.target.value)}, options.map(([key, text]) =>
    h("option", {value: key, selected: String(key) === String(value)}, text))));
}
function say(text) {
  $("status").textContent = text;
  document.querySelector(".saved")?.remove();
  const said = h("div", {class: "saved", "aria-hidden": "true"}, text);
  document.body.append(said);
  setTimeout(() => said.remove(), 1600);
}
async function copy(text, what) {
  try { await navigator.clipboard.writeText(text); }
  catch {
    const area = h("textarea", {"aria-label": "Text to copy"});
    area.value = text; document.body.append(area); area.select(); document.execCommand("copy"); area.remove();
  }
  say(what + " copied");
}
function copies(forms) {
  if (!forms) return null;
  return [["tex", "Copy LaTeX"], ["csv", "CSV"], ["md", "Markdown"]].filter(([k]) => known(forms[k])).map(([k, words]) =>
    h("button", {class: "btn", type: "button", "data-copy": k, onclick: () => copy(forms[k], words.replace("Copy ", ""))}, words));
}
const fold = (attrs, title, ...kids) => h("details", attrs, h("summary", {}, title), ...kids);
const rowHead = (...kids) => h("th", {scope: "row"}, ...kids);
const scroller = (label, ...kids) => h("div", {class: "scroll", tabindex: "0", role: "region", "aria-label": label}, ...kids);
const key = family => h("span", {class: "key f-" + family, "aria-hidden": "true"});

/* A table. columns: [{text, cls}]; blocks: [{title, rows: [{head, same, cells: [{kids, value, cls, title, open, on}]}]}].
   Headings sort within blocks; cells that open something are buttons, one of which is in the order of tabs. */
function grid({label, corner, columns, blocks, sort, onsort, cls}) {
  const [by, down] = sort ? sort.split(".").map(Number) : [null, 0];
  const table = h("table", {class: "numbers " + (cls || "")}, h("caption", {class: "vh"}, label));
  table.append(h("thead", {}, h("tr", {}, h("th", {scope: "col"}, corner), columns.map((c, k) =>
    h("th", {scope: "col", class: c.cls, "aria-sort": onsort ? by === k ? (down ? "descending" : "ascending") : "none" : null},
      onsort ? h("button", {type: "button", onclick: () => onsort(by === k ? (down ? k + ".0" : "") : k + ".1")}, c.text, by === k ? (down ? " ↓" : " ↑") : "") : c.text)))));
  const buttons = [];
  for (const block of blocks) {
    const body = h("tbody", {});
    if (block.title) body.append(h("tr", {class: "block"}, h("th", {scope: "rowgroup", colspan: columns.length + 1}, block.title)));
    let rows = block.rows;
    if (by !== null && columns[by]) {
      const at = r => known(r.cells[by]?.value) ? r.cells[by].value : -Infinity;
      rows = [...rows].sort((a, b) => (down ? 1 : -1) * (at(b) - at(a)));
    }
    for (const row of rows) {
      const line = [];
      body.append(h("tr", {class: row.same ? "same" : null}, rowHead(row.head), row.cells.map((c, k) => {
        const where = [columns[k]?.cls, c.cls, c.open && "has", c.on && "on"].filter(Boolean).join(" ");
        if (!c.open) return h("td", {class: where, title: c.title}, c.kids);
        const b = h("button", {type: "button", tabindex: "-1", title: c.title, "aria-pressed": String(!!c.on), onclick: () => c.open(b)}, c.kids);
        line.push(b);
        return h("td", {class: where}, b);
      })));
      if (line.length) buttons.push(line);
    }
    table.append(body);
  }
  roving(table, buttons);
  return table;
}
function roving(within, buttons) {
  if (!buttons.length) return;
  (buttons.flat().find(b => b.getAttribute("aria-pressed") === "true") || buttons[0][0]).tabIndex = 0;
  within.addEventListener("keydown", e => {
    const r = buttons.findIndex(line => line.includes(e.target));
    if (r < 0) return;
    const c = buttons[r].indexOf(e.target);
    const to = {ArrowLeft: [r, c - 1], ArrowRight: [r, c + 1], ArrowUp: [r - 1, c], ArrowDown: [r + 1, c], Home: [r, 0], End: [r, buttons[r].length - 1]}[e.key];
    const next = to && buttons[to[0]]?.[Math.min(to[1], buttons[to[0]].length - 1)];
    if (!next) return;
    e.preventDefault();
    for (const b of buttons.flat()) b.tabIndex = -1;
    next.tabIndex = 0;
    next.focus();
  });
}

/* A chart, drawn at the width of its place, and drawn again when that changes; with the numbers behind it. */
const watcher = new ResizeObserver(entries => { for (const e of entries) e.target.redraw?.(); });
function chart(label, draw, numbers) {
  const place = h("div", {class: "chart"});
  let last = 0;
  place.redraw = force => {
    const w = Math.floor(place.clientWidth);
    if (!w || (w === last && force !== true)) return;
    last = w;
    const [height, nodes] = draw(w);
    place.replaceChildren(s("svg", {width: w, height, viewBox: `0 0 ${w} ${height}`, role: "img", "aria-label": label}, nodes));
  };
  watcher.observe(place);
  const behind = fold({class: "js-only"}, "The numbers");
  behind.addEventListener("toggle", () => {
    if (!behind.open || behind.children.length > 1) return;
    const {columns, rows} = numbers();
    behind.append(scroller("Numbers: " + label, grid({label, corner: columns[0], columns: columns.slice(1).map(text => ({text})), blocks: [{rows: rows.map(r => ({head: r[0], cells: r.slice(1).map(t => ({kids: [t]}))}))}]})));
  });
  const whole = div(place, behind);
  whole.redraw = () => { place.redraw(true); if (behind.children.length > 1 && !behind.open) behind.lastChild.remove(); };
  return whole;
}
const text = (x, y, words, attrs) => s("text", {x, y, ...attrs}, words);
const line = (x1, y1, x2, y2, cls) => s("line", {x1, y1, x2, y2, class: cls});
function ticks(low, high, most = 5) {
  const raw = (high - low) / most || 1, base = 10 ** Math.floor(Math.log10(raw));
  const step = [1, 2, 5, 10].map(k => k * base).find(k => k >= raw), out = [];
  for (let v = Math.ceil(low / step - 1e-9) * step; v <= high + 1e-9; v += step) out.push(+v.toFixed(6));
  return out;
}

// ---- what is shown of a setting
let core = null, shared = null;
const rule = () => core.rules.find(r => r.name === state.rule) || core.rules.find(r => r.name === core.rule) || core.rules[0];
const fair = () => rule().bound ? core.rules.find(r => r.name === core.rule && !r.bound) || core.rules.find(r => !r.bound) : rule();
const results = () => core.results[rule().name];
const places = () => [...core.environments, "average"];
const setting = () => head.settings[+state.set], count = () => core.environments.length;
const settingName = (k = +state.set) => {
  const all = head.settings, one = all[k];
  const told = ["dataset", "backbone", "precision", "protocol", "split", "half"].filter(n => n === "dataset" || new Set(all.map(o => o[n])).size > 1);
  return one.banner + told.map(n => one[n] || (n === "half" ? "all classes" : "")).join(" · ");
};
const settingChoice = again => head.settings.length > 1 && choice("setting", head.settings.map((_, k) => [k, settingName(k)]), state.set, v => { put({set: v, cell: "", kinds: "0", env: "", lam: "", rank: "", method: "", pred: "", sort: ""}); again(); });
const pickWords = p => ["rank " + p[0], lam(p[1]), p[2] ? "set " + p[2] : "", p[3]].filter(Boolean).join(", ") + (p[4] > 1 ? ` (${p[4]}×)` : "");

// ---- tables
const SECTION = name => /^behind|^cost/.test(name) ? "behind" : /^published/.test(name) ? "published" : /^(ablat|lambda|rank|intervention|order|predictor|selection)/.test(name) ? "ablations" : "main";
const order = n => { const all = [...Array(n).keys()]; return phone.matches && n > 2 ? [n - 1, ...all.slice(0, -1)] : all; };
const tableTitle = t => ({main: "Table 1"}[t.name] || (t.name[0].toUpperCase() + t.name.slice(1)).replace(/[-_]/g, " "));

// The one setting that a cell is of: what its column says goes before what its block says, and that before the table.
function find(table, block, row, column) {
  const near = [[column.name, column.group], [block.part, ...block.title.split(/, | · /), row.name], [...Object.values(table.context), table.name, table.caption]];
  let left = head.settings.map((_, k) => k).filter(k => !head.settings[k].half && (!table.context.protocol || table.context.protocol.split(/[ :,]/)[0] === head.settings[k].protocol));
  for (const field of ["dataset", "backbone"]) {
    const says = (words, k) => words.some(w => w && (w === head.settings[k][field] || (words === near[2] && w.includes(head.settings[k][field]))));
    for (const words of near) { const found = left.filter(k => says(words, k)); if (found.length) { left = found; break; } }
  }
  return left.length === 1 ? left[0] : null;
}
async function openFrom(table, block, row, column) {
  const k = find(table, block, row, column), one = await load("core-" + k);
  if (!one) return;
  const fits = one.methods.findIndex(m => m.label === row.name || (m.name === row.name && (block.title.includes(m.predictor) || table.caption.includes(m.predictor))));
  const found = fits < 0 ? one.methods.findIndex(m => m.name === row.name) : fits;
  if (found < 0) { say("This line has no further data"); return; }
  const at = one.environments.indexOf(column.name);
  put({set: String(k), cell: found + "." + (at < 0 ? one.environments.length : at)});
  await all();
  $("drill").scrollIntoView({block: "nearest"});
}
function printed(table, options = {}) {
  const average = table.columns.findIndex(c => /^average/i.test(c.name)), columns = [...table.columns.keys()];
  if (phone.matches && average > 0) columns.unshift(...columns.splice(average, 1));
  const reference = block => block.lines.find(l => l.plain);
  const blocks = table.blocks.map(block => ({title: block.title, rows: block.lines.map(l => ({
    head: [l.short || l.name, l.plain ? " =" : ""], same: l.plain,
    cells: columns.map(k => {
      const c = l.cells[k] || {}, from = reference(block)?.cells[k];
      const d = options.difference && from && known(c.value) && known(from.value) && !c.signed ? c.value - from.value : null;
      const shown = known(c.text) ? c.text : !known(c.value) ? GAP : known(d) ? signed(d, c.decimals ?? 1) : c.signed ? signed(c.value, c.decimals ?? 1) : fmt(c.value, c.decimals ?? 1);
      const cls = [c.best && !options.difference && "best", c.equals_plain && "same", known(d) && (d > 0.05 ? "up" : d < -0.05 ? "down" : "")].filter(Boolean).join(" ");
      const opens = options.open && known(c.value) && find(table, block, l, table.columns[k]) !== null;
      return {kids: [shown, c.bound ? " †" : "", known(c.error) && !known(d) ? h("small", {}, " ±" + fmt(c.error)) : ""], value: known(d) ? d : c.value, cls, title: c.note || (known(c.low) ? ends(c.signed ? signed : fmt, c.low, c.high) : null),
        open: opens ? () => openFrom(table, block, l, table.columns[k]) : null};
    })}))}));
  return grid({label: table.caption || table.name, corner: table.corner, blocks, sort: options.sort, onsort: options.onsort,
    columns: columns.map(k => ({text: (table.columns[k].group && table.columns[k].group !== table.columns[k].short ? table.columns[k].group + " " : "") + table.columns[k].short, cls: k === average ? "avg" : ""}))});
}
function reasons(table) {
  const said = new Set(table.blocks.flatMap(b => b.lines.flatMap(l => l.cells.filter(c => !known(c.value) && c.note).map(c => c.note))));
  return said.size ? note(GAP + " " + [...said].slice(0, 4).join("; ") + ".") : null;
}
function notes(table) {
  const [first, rest] = [table.notes.slice(0, 2), table.notes.slice(2)];
  return [reasons(table), first.length ? note(first.join(" ")) : null, rest.length ? fold({}, "How these numbers were made", note(rest.join(" "))) : null].filter(Boolean);
}

function environments() {
  const difference = state.show === "difference", r = rule(), n = count(), columns = order(n + 1), names = places();
  const blocks = [];
  core.methods.forEach((m, k) => {
    if (!blocks.length || blocks.at(-1).title !== m.predictor) blocks.push({title: m.predictor, rows: []});
    const one = results()[k];
    const same = one && m.family !== "plain" && one.plain[1] && one.plain[0] === one.plain[1];
    blocks.at(-1).rows.push({same, head: [key(m.family), m.name, one && m.family !== "plain" && one.plain[0] ? h("small", {class: "mute"}, same ? "= plain in all picks" : `plain in ${one.plain[0]} of ${one.plain[1]} picks`) : ""], cells: columns.map(e => {
      const c = one?.cells[e] || {}, diff = difference && m.family !== "plain", v = diff ? c.d : c.v;
      return {value: v, title: c.why || (diff && known(c.dl) ? ends(signed, c.dl, c.dh) : known(c.l) ? ends(fmt, c.l, c.h) + `; ${c.n} images` : null),
        cls: diff && known(c.dl) ? (c.dl > 0 ? "up" : c.dh < 0 ? "down" : "") : "",
        kids: [diff ? signed(v) : fmt(v), r.bound && known(v) ? "†" : "", !diff && known(c.e) ? h("small", {}, " ±" + fmt(c.e)) : ""],
        on: state.cell === k + "." + e, open: known(c.v) ? () => { put({cell: state.cell === k + "." + e ? "" : k + "." + e}); tables(); drill(true); } : null};
    })});
  });
  return grid({label: "Accuracy on each held-out environment", corner: "Method", cls: r.bound ? "bound-rule" : "", columns: columns.map(e => ({text: names[e], cls: e === n ? "avg" : ""})),
    blocks, sort: state.sort, onsort: v => { put({sort: v}); tables(); }});
}
function tables() {
  const focus = document.activeElement?.closest?.("#table-view td, #table-view th");
  const at = focus && [focus.parentNode.rowIndex, focus.cellIndex];
  const mine = shared.tables.filter(t => SECTION(t.name) === "main");
  const view = core && (state.view === "each" || !mine.length) ? "each" : mine.some(t => t.name === state.view) ? state.view : mine[0]?.name;
  const table = mine.find(t => t.name === view), out = [];
  const views = [...mine.map(t => [t.name, tableTitle(t)]), ...(core ? [["each", "Every environment"]] : [])];
  const pick = v => { put({view: v, sort: ""}); tables(); };
  const bar = h("div", {class: "bar"});
  if (views.length > 1) bar.append(views.length < 5 && !phone.matches ? seg("Which table", views, view, pick) : choice("table", views, view, pick));
  bar.append(seg("What is shown", [["accuracy", "accuracy"], ["difference", "difference to plain"]], state.show, v => { put({show: v, sort: ""}); tables(); }));
  if (view === "each") {
    const own = settingChoice(all);
    if (own) bar.append(own);
    const r = rule();
    out.push(bar, note("A number opens its picks, rank curve and classes; a heading sorts."), scroller("Accuracy on each held-out environment", environments()),
      note(`${settingName()}. ${r.words}${r.bound ? "" : " ± one standard error over test images. Colour: the interval of the difference to plain excludes 0."}`));
  } else if (table) {
    bar.append(...(copies(shared.forms[table.name]) || []));
    out.push(bar, h("p", {class: "caption"}, table.caption), scroller("Table: " + tableTitle(table), printed(table, {difference: state.show === "difference", sort: state.sort, onsort: v => { put({sort: v}); tables(); }, open: true})), ...notes(table));
    if (core && rule().name !== core.rule) out.push(note(`This table is printed by its own rule; the rule ${rule().name} is shown under “Every environment”.`));
  } else out.push(mute("There is no table."));
  $("table-view").replaceChildren(...out);
  if (at) $("table-view").querySelector("table")?.rows[at[0]]?.cells[at[1]]?.querySelector("button")?.focus({preventScroll: true});
}

// ---- drill
const right = {filter: null};
async function drill(move) {
  const box = $("drill"), [m, e] = state.cell ? state.cell.split(".").map(Number) : [];
  const one = state.cell && core ? results()[m] : null;
  box.hidden = !one;
  if (!one) { box.replaceChildren(); return; }
  const [classes, details, sprites] = await Promise.all([load("classes-" + state.set), load("details-" + state.set), load("thumbs")]);
  if (sprites && !document.adoptedStyleSheets.length) dress(sprites);
  const method = core.methods[m], n = count(), where = e === n ? "the average" : core.environments[e], cell = one.cells[e] || {};
  const plain = method.plain >= 0 && method.plain !== m ? results()[method.plain]?.cells[e] : null;
  const picks = e === n ? merged(one.picks) : one.picks[e];
  const trials = [...new Set(e === n ? one.trials.flat() : one.trials[e])].map(k => core.trials[k]);
  const title = h("h3", {id: "drill-title", tabindex: "-1"}, `${method.label} on ${where}`);
  box.setAttribute("aria-labelledby", "drill-title");
  box.setAttribute("role", "region");
  box.replaceChildren(
    h("div", {class: "drill-head"}, title, h("button", {class: "btn", type: "button", onclick: () => { put({cell: ""}); tables(); drill(); }}, "Close")),
    h("p", {}, h("b", {}, fmt(cell.v) + " %" + (rule().bound ? " †" : "")), known(cell.e) ? ` ± ${fmt(cell.e)}` : "", plain ? `, plain ${fmt(plain.v)} %` : "", known(cell.d) ? `: ${signed(cell.d)} points` : "", known(cell.dl) ? ` [${signed(cell.dl)}, ${signed(cell.dh)}]` : "", known(cell.n) ? `, ${cell.n} test images` : "", ". ",
      one.plain[0] && method.family !== "plain" ? `Of ${one.plain[1]} picks ${one.plain[0]} are the full space. ` : "", h("span", {class: "mute"}, `${rule().name} picked: ${picks.slice(0, 6).map(pickWords).join(" · ")}${picks.length > 6 ? ` and ${picks.length - 6} others` : ""}.`)),
    h("div", {class: "grid2"}, div(...rankCurve(m, e, picks)), div(...classDots(classes, m, e))),
    ...confusion(details, sprites, m, e),
    fold({}, `${plural(trials.length, "trial")} behind this number`, h("p", {class: "hash"}, trials.join(" "))));
  if (move) title.focus({preventScroll: true});
}
function merged(lists) {
  const all = new Map();
  for (const p of lists.flat()) { const k = JSON.stringify(p.slice(0, 4)); all.set(k, (all.get(k) || 0) + p[4]); }
  return [...all].map(([k, n]) => [...JSON.parse(k), n]).sort((a, b) => b[4] - a[4]);
}
function rankCurve(m, e, picks) {
  const r = fair(), method = core.methods[m], n = count(), curves = core.curves[r?.name] || [];
  const at = c => c.ranks.map((_, k) => tenth(e === n ? mean(c.accuracy.map(a => a[k])) : c.accuracy[e][k]));
  const drawn = curves.map((c, k) => [c, core.methods[k], k]).filter(([c, o, k]) => c && o.predictor === method.predictor && (o.family !== "other" || k === m)).map(([c, o, k]) => ({ranks: c.ranks, values: at(c), ...o, own: k === m}));
  if (!drawn.length) return [h3("Accuracy by rank"), mute("No rank curve: no method of this predictor has ranks to choose from.")];
  const level = method.plain >= 0 ? core.results[r.name][method.plain]?.cells[e]?.v : null;
  const vs = [...drawn.flatMap(d => d.values), level].filter(known), ranks = [...new Set(drawn.flatMap(d => d.ranks))].sort((a, b) => a - b);
  const top = Math.max(...vs), bottom = Math.max(Math.min(...vs), top - 25), t = ticks(bottom, top), lo = Math.min(bottom, t[0]), hi = Math.max(top, t.at(-1));
  const times = new Map();
  for (const p of picks) times.set(p[0], (times.get(p[0]) || 0) + p[4]);
  const draw = w => {
    const H = 270, L = 34, B = 46, x = v => L + 6 + (w - L - 22) * (ranks.length < 2 ? .5 : Math.log(v / ranks[0]) / Math.log(ranks.at(-1) / ranks[0])), y = v => 10 + (H - B - 10) * (1 - (v - lo) / (hi - lo || 1));
    const out = t.map(v => [line(L, y(v), w, y(v), "grid"), text(L - 6, y(v) + 4, String(v), END)]).flat();
    let last = -99;
    for (const v of ranks) if (x(v) - last > 26) { out.push(text(x(v), H - B + 30, String(v), MID)); last = x(v); }
    out.push(text(w, H - 2, "rank kept", END));
    if (known(level)) out.push(line(L, y(level), w, y(level), "ref"));
    for (const d of [...drawn].sort((a, b) => a.own - b.own)) {
      const pts = d.ranks.map((v, k) => [x(v), d.values[k]]).filter(p => known(p[1])).map(([a, v]) => `${a.toFixed(1)},${y(Math.max(v, lo)).toFixed(1)}`);
      out.push(s("polyline", {points: pts.join(" "), class: `line f-${d.family}${d.own ? " main" : ""}`}));
    }
    for (const [v, k] of times) if (ranks.includes(v)) out.push(s("path", {d: `M${x(v)} ${H - B + 3}l5 9h-10z`, class: "mark f-" + method.family}), k > 1 && w / ranks.length > 34 ? text(x(v) + 8, H - B + 13, k + "×", {class: "m"}) : "");
    return [H, out.filter(Boolean)];
  };
  return [h3("Accuracy by rank, everything else chosen"), chart(`Accuracy by rank of ${method.predictor}`, draw, () => ({columns: ["rank", ...drawn.map(d => d.name)], rows: ranks.map(v => [String(v), ...drawn.map(d => fmt(d.values[d.ranks.indexOf(v)]))])})),
    h("ul", {class: "legend"}, drawn.map(d => h("li", {}, key(d.family), d.name)), h("li", {}, "dashed: plain")),
    note(`Triangles: ranks that ${rule().name} picked.${rule().bound ? ` The curves are chosen by ${r.name}.` : ""} The best rank read off this figure would be an oracle’s.`)];
}
function classDots(classes, m, e) {
  const title = h3("Class by class, against plain"), n = count(), own = classes?.right[rule().name];
  if (!own?.[m]) return [title, mute(classes ? "No answers." : LEFT)];
  const totals = k => {
    const lines = (own[k] || []).filter((o, j) => o && (e === n || j === e));
    if (!lines.length) return null;
    return core.classes.map((_, c) => ({right: sum(lines.map(o => o[1][c])), of: sum(lines.map(o => classes.totals[o[0]][c])), images: sum(lines.map(o => classes.images[o[0]][c]))}));
  };
  const a = totals(m), p = core.methods[m].plain;
  if (!a) return [title, mute("No answers here.")];
  const b = p >= 0 && p !== m ? totals(p) : null, share = o => o && o.of ? 100 * o.right / o.of : null;
  let list = core.classes.map((name, k) => ({name, v: share(a[k]), w: b ? share(b[k]) : null, n: a[k].images})).filter(o => known(o.v));
  list.sort((x, y) => x.v - y.v || (x.name < y.name ? -1 : 1));
  const whole = list;
  if (list.length > 24) { const by = o => Math.abs((o.v ?? 0) - (o.w ?? o.v)); const top = new Set([...list].sort((x, y) => by(y) - by(x)).slice(0, 24)); list = list.filter(o => top.has(o)); }
  const draw = w => {
    const L = Math.min(128, 14 + 7 * Math.max(...list.map(o => short(o.name).length))), R = 44, H = list.length * 22 + 36, x = v => L + (w - L - R) * v / 100, out = [];
    for (const v of [0, 25, 50, 75, 100]) out.push(line(x(v), 4, x(v), H - 28, "grid"), text(x(v), H - 12, String(v), MID));
    out.push(text(w, H - 12, "n", END));
    list.forEach((o, k) => {
      const y = 16 + 22 * k;
      out.push(text(L - 10, y + 4, short(o.name), {"text-anchor": "end"}), text(w, y + 4, String(o.n), END));
      if (known(o.w)) out.push(line(x(o.w), y, x(o.v), y, "stem"), s("circle", {cx: x(o.w), cy: y, r: 4.5, class: "hollow"}));
      out.push(s("circle", {cx: x(o.v), cy: y, r: 5, class: "mark f-" + core.methods[m].family}));
    });
    return [H, out];
  };
  return [title, chart("Accuracy of each class", draw, () => ({columns: ["class", "accuracy", "plain", "images"], rows: whole.map(o => [o.name, fmt(o.v), fmt(o.w), String(o.n)])})),
    note(`Filled: this method; hollow: plain. n: different test images.${whole.length > list.length ? ` The ${list.length} of ${whole.length} classes that differ most.` : ""}`)];
}
// A rule for each sprite, so that one is decoded once, and only when it is seen.
function dress(sprites) {
  const sheet = new CSSStyleSheet();
  sheet.replaceSync(sprites.webp.map((data, k) => `.sprite-${k} { background-image: url(data:image/webp;base64,${data}) }`).join(""));
  document.adoptedStyleSheets = [sheet];
}
function thumb({size, rows}, place) {
  const box = h("span", {class: "thumb sprite-" + Math.floor(place / rows), "aria-hidden": "true"});
  box.style.backgroundPositionY = -size * (place % rows) + "px";
  return box;
}
function confusion(details, sprites, m, e) {
  const P = details?.predictions, n = count();
  const none = words => [h3("What is taken for what"), mute(words)];
  if (!P) return none(setting().has.includes("details") && details ? "Rows of an earlier version have no predictions of single images." : "Predictions of single images are not part of this page; icm-bench details RECIPE writes them.");
  const answers = P.answers[rule().name] || P.answers[core.rule], own = answers?.[m], base = answers?.[core.methods[m].plain];
  if (!own) return none("Rows have no predictions of single images of this method.");
  const rows = P.asked.map((image, k) => ({image, truth: P.class[image], said: own[k], plain: base ? base[k] : null})).filter(o => o.said >= 0 && (e === n || P.environment[o.image] === e));
  const C = core.classes.length, kept = C <= 30 ? [...Array(C).keys()] : worst(rows, C, 20);
  const cell = new Map(), total = new Map();
  for (const o of rows) { const k = o.truth + "." + o.said; cell.set(k, (cell.get(k) || 0) + 1); total.set(o.truth, (total.get(o.truth) || 0) + 1); }
  const list = div();
  const show = () => {
    const chosen = right.filter, some = chosen ? rows.filter(o => o.truth + "." + o.said === chosen) : rows;
    const groups = [["Right only with it", o => o.said === o.truth && o.plain !== null && o.plain !== o.truth], ["Wrong only with it", o => o.said !== o.truth && o.plain === o.truth], ["Wrong either way", o => o.said !== o.truth && o.plain !== null && o.plain !== o.truth]];
    if (chosen && some.every(o => o.said === o.truth)) groups.push(["Right", o => o.said === o.truth && o.plain === o.truth]);
    list.replaceChildren(...groups.map(([words, test]) => {
      const found = some.filter(test);
      return fold({open: found.length > 0 && found.length < 60}, `${words} (${found.length})`, h("ul", {class: "images"}, found.slice(0, 120).map(o => h("li", {}, sprites && P.thumbs[o.image] >= 0 && thumb(sprites, P.thumbs[o.image]), P.names[o.image], h("span", {class: "mute"}, ` ${core.classes[o.truth]}${o.said !== o.truth ? ", not " + core.classes[o.said] : ""}`)))), found.length > 120 ? note(`and ${found.length - 120} more`) : null);
    }));
  };
  const buttons = [];
  const table = h("table", {class: "cm"}, h("caption", {class: "vh"}, "Rows: the true class; columns: what was predicted; percent of the row"),
    h("thead", {}, h("tr", {}, h("td", {}), kept.map(c => h("th", {scope: "col"}, h("span", {}, core.classes[c]))))),
    h("tbody", {}, kept.map(t => { const lineOf = []; const tr = h("tr", {}, rowHead(core.classes[t]), kept.map(p => {
      const k = t + "." + p, v = cell.get(k), share = v ? 100 * v / total.get(t) : 0;
      if (!v) return h("td", {});
      const b = h("button", {type: "button", tabindex: "-1", "aria-pressed": String(right.filter === k), "aria-label": `${core.classes[t]} taken for ${core.classes[p]}: ${v}`, onclick: () => { right.filter = right.filter === k ? null : k; for (const o of buttons.flat()) o.setAttribute("aria-pressed", String(o === b && right.filter === k)); show(); }}, fmt(share, 0));
      lineOf.push(b);
      return h("td", {class: t === p ? "right" : "wrong"}, b);
    })); if (lineOf.length) buttons.push(lineOf); return tr; })));
  roving(table, buttons);
  right.filter = null;
  show();
  return [h("div", {class: "grid2"}, div(h3("What is taken for what"), scroller("Confusions", table), note(`Percent of the true class (rows), ${plural(rows.length, "answer")}. A cell filters the images.${C > kept.length ? ` The ${kept.length} classes most often confused of ${C}.` : ""}`)),
    div(h3("Images, beside plain"), list))];
}
function worst(rows, C, n) {
  const errors = Array(C).fill(0);
  for (const o of rows) if (o.truth !== o.said) errors[o.truth]++;
  return [...errors.keys()].sort((a, b) => errors[b] - errors[a]).slice(0, n).sort((a, b) => a - b);
}

// ---- explorer
async function explorer() {
  const given = await load("grids-" + state.set), box = $("explorer"), r = fair(), list = (given && r && given[r.name]) || [];
  if (!list.length) {
    const left = core && !setting().has.includes("grids");
    box.replaceChildren(...[settingChoice(all)].filter(Boolean), mute(left ? "No method has several λ or ranks, or they were left out for the size of the page." : "Nothing to explore."));
    return;
  }
  const predictors = [...new Set(list.map(g => core.methods[g.method].predictor))];
  const pred = predictors.includes(state.pred) ? state.pred : predictors[0];
  const of = list.filter(o => core.methods[o.method].predictor === pred), but = of.filter(o => core.methods[o.method].family !== "pca"), mine = but.length ? but : of;
  const g = mine.find(o => String(o.method) === state.method) || mine.find(o => core.methods[o.method].family === "icm") || mine[0];
  const m = core.methods[g.method], n = count(), lambdas = g.lambdas.length ? g.lambdas : [null];
  const k = Math.min(+state.kinds || 0, g.sets.length), env = state.env === "" || !(+state.env < n) ? n : +state.env;
  const pca = of.find(o => core.methods[o.method].family === "pca" && String(o.ranks) === String(g.ranks) && o !== g);
  const at = (values, l, c, e = env) => tenth(e === n ? mean(values.map(a => a[l][c])) : values[e][l][c]), value = e => at(g.accuracy[k], L, R, e);
  const score = (l, c) => at(g.score[k], l, c), accuracy = (l, c) => at(g.accuracy[k], l, c);
  const times = (l, c) => sum(g.picks.filter(p => (env === n || p[0] === env) && (k === 0 || p[1] === k) && p[2] === l && p[3] === c).map(p => p[4]));
  const best = lambdas.flatMap((_, l) => g.ranks.map((_, c) => [l, c])).reduce((a, b) => (times(...b) > times(...a) ? b : a));
  let L = state.lam === "" || !(+state.lam < lambdas.length) ? best[0] : +state.lam, R = state.rank === "" || !(+state.rank < g.ranks.length) ? best[1] : +state.rank;
  const again = change => { put({lam: "", rank: "", ...change}); explorer(); }, toPredictor = v => again({pred: v, method: "", kinds: "0"});
  const lead = h("p", {class: "lead"}), plainOf = m.plain >= 0 ? core.results[r.name][m.plain]?.cells : null;
  const rod = w => {
    const names = places(), H = names.length * 26 + 34, side = Math.min(130, 14 + 7 * Math.max(...names.map(t => short(t).length))), V = 96;
    const vs = names.map((_, e) => value(e));
    const top = Math.max(10, Math.ceil(Math.max(...vs.filter(known), ...(plainOf || []).map(c => c.v || 0), 10) / 10) * 10), x = v => side + (w - side - V) * v / top, out = [];
    for (const v of ticks(0, top, 4)) out.push(line(x(v), 2, x(v), H - 30, "grid"), text(x(v), H - 14, String(v), MID));
    names.forEach((name, e) => {
      const y = 4 + 26 * e, p = plainOf?.[e]?.v, v = vs[e], strong = e === env ? {"font-weight": 600} : {};
      out.push(text(side - 8, y + 14, short(name), {"text-anchor": "end", ...strong}));
      if (known(v)) out.push(s("rect", {x: side, y: y + 2, width: Math.max(1, x(v) - side), height: 15, rx: 2, class: "rod f-" + m.family, opacity: e === n ? 1 : .72}));
      if (known(p)) out.push(s("line", {x1: x(p), x2: x(p), y1: y - 1, y2: y + 20, stroke: "currentColor", "stroke-width": 2}));
      out.push(text(w, y + 14, fmt(v) + (known(p) && known(v) ? ` (${signed(v - p)})` : ""), {"text-anchor": "end", ...strong}));
    });
    return [H, out];
  };
  const bars = chart("Accuracy in each environment at this λ and rank", rod, () => ({columns: ["held out", "accuracy", "plain"], rows: places().map((name, e) => [name, fmt(value(e)), fmt(plainOf?.[e]?.v)])}));
  const maps = [heat("What the rule sees: score on the sources", score, true), heat("What then happens: accuracy held out", accuracy, false)];
  function heat(title, of_, source) {
    const cells = lambdas.map((_, l) => g.ranks.map((_, c) => of_(l, c)));
    const vs = cells.flat().filter(known), hi = Math.max(...vs), lo = Math.max(Math.min(...vs), hi - 8), span = hi - lo || 1, buttons = [];
    const shade = v => !known(v) ? "h0" : v >= hi - 1e-9 ? "h5" : "h" + Math.max(0, Math.min(4, Math.floor(5 * (v - lo) / span)));
    const body = lambdas.map((x, l) => { const row = g.ranks.map((rank, c) => {
      const v = cells[l][c], t = times(l, c);
      return h("button", {type: "button", tabindex: "-1", "aria-pressed": "false", class: shade(v), "aria-label": `${lam(x)} rank ${rank}: ${fmt(v)}${t ? `, picked ${t} times` : ""}`, onclick: () => move(l, c)}, fmt(v), t ? h("span", {class: "pk"}, t + "×") : "");
    }); buttons.push(row); return h("tr", {}, rowHead(known(x) ? lam(x) : "—"), row.map(b => h("td", {}, b))); });
    if (pca && g.lambdas.length) body.unshift(h("tr", {}, rowHead("PCA"), pca.ranks.map((_, c) => { const v = at((source ? pca.score : pca.accuracy)[0], 0, c); return h("td", {class: "mute", align: "center"}, fmt(v)); })));
    const table = h("table", {class: "heat"}, h("caption", {class: "vh"}, title), h("thead", {}, h("tr", {}, h("td", {}), g.ranks.map(v => h("th", {scope: "col"}, String(v))))), h("tbody", {}, body));
    roving(table, buttons);
    return {buttons, node: div(h3(title), h("div", {class: "heat-box"}, table))};
  }
  const outL = h("output", {}), outR = h("output", {});
  const slide = (id, words, list_, value, pick) => h("div", {class: "slider"}, h("label", {for: id}, words), h("input", {id, type: "range", min: 0, max: list_.length - 1, step: 1, value, oninput: e => pick(+e.target.value)}), id === "lam" ? outL : outR);
  const sl = lambdas.length > 1 ? slide("lam", "λ", lambdas, L, v => move(v, R)) : null, sr = g.ranks.length > 1 ? slide("rank", "rank", g.ranks, R, v => move(L, v)) : null;
  function words() {
    outL.textContent = lambdas[L] ?? ""; outR.textContent = g.ranks[R];
    for (const [box_, list_, v] of [[sl, lambdas, L], [sr, g.ranks, R]]) { const i = box_?.querySelector("input"); if (i) { i.value = v; i.setAttribute("aria-valuetext", String(list_[v])); } }
    const v = accuracy(L, R), p = plainOf?.[env]?.v, t = times(L, R), all_ = sum(g.picks.filter(q => env === n || q[0] === env).map(q => q[4])), b = score(L, R);
    const place = 1 + lambdas.flatMap((_, l) => g.ranks.map((_, c) => score(l, c))).filter(o => known(o) && known(b) && o > b + 1e-9).length;
    lead.replaceChildren(h("b", {}, [lam(lambdas[L]), g.ranks.length > 1 ? "rank " + g.ranks[R] : ""].filter(Boolean).join(", ")), `: ${fmt(v)} % on ${env === n ? "the average of the held-out environments" : core.environments[env]}`, known(p) && known(v) ? h("span", {}, ", ", h("b", {}, signed(v - p)), ` against plain (${fmt(p)} %)`) : "", known(b) ? `. Of ${lambdas.length * g.ranks.length} points the sources rank it number ${place}; ${r.name} picked it ${t} of ${all_} times.` : ".");
    for (const map of maps) map.buttons.forEach((row, l) => row.forEach((c, j) => { const on = l === L && j === R; if (c.classList.contains("on") !== on) { c.classList.toggle("on", on); c.setAttribute("aria-pressed", String(on)); } c.tabIndex = on ? 0 : -1; }));
  }
  function move(l, c) { L = l; R = c; put({lam: String(l), rank: String(c)}); words(); bars.redraw(); }
  const bar = h("div", {class: "bar"}, settingChoice(all), predictors.length > 1 ? (predictors.length < 4 && !phone.matches ? seg("Predictor", predictors.map(p => [p, p]), pred, toPredictor) : choice("predictor", predictors.map(p => [p, p]), pred, toPredictor)) : null,
    mine.length > 1 ? choice("method", mine.map(o => [o.method, core.methods[o.method].name]), g.method, v => again({method: v, kinds: "0"})) : null,
    g.sets.length ? choice("interventions", [[0, "chosen by the rule"], ...g.sets.map((name, j) => [j + 1, name])], k, v => again({kinds: v})) : null,
    choice("held out", [[n, "average of all"], ...core.environments.map((name, j) => [j, name])], env, v => again({env: v === String(n) ? "" : v, lam: state.lam, rank: state.rank})));
  box.replaceChildren(bar, h("div", {class: "grid2"}, div(lead, sl, sr), bars), h("div", {class: "grid2", id: "maps"}, maps.map(o => o.node)),
    note(`Rows: λ; columns: rank. n×: how often ${r.name} picked the point. Colour: the highest in full, down to 8 points below. What is left open is chosen by the rule. Black line: plain.${rule().bound ? " The oracle has no score on the sources: the maps show " + r.name + "." : ""}${g.more_sets ? ` ${g.more_sets} further intervention sets are not shown.` : ""}`));
  words();
}

// ---- subspace
const SPANS = {energy_removed: "energy removed", shift_removed_sources: "shift between sources removed", shift_removed_target: "shift to the held-out removed", shift_moved_sources: "moved by interventions, sources", shift_moved_target: "moved by interventions, held-out", shift_removed_relative: "shift removed for energy removed"};
async function subspace() {
  const box = $("spans"), r = fair(), spans = (r && core.spans[r.name]) || [], details = await load("details-" + state.set), out = [];
  for (const d of details?.decoded || []) out.push(h("p", {}, "A linear classifier reads the environment from the embeddings at ", h("b", {}, fmt(d.before) + " %"), `, from what ${core.methods[d.method].label} leaves at `, h("b", {}, fmt(d.after) + " %"), ` (chance ${fmt(d.chance)} %).`));
  if (spans.length) {
    const names = Object.keys(spans[0]).filter(k_ => k_ !== "method" && spans.some(o => known(o[k_])));
    out.push(scroller("What is removed", grid({label: "What the picks remove", corner: "Method", columns: names.map(k_ => ({text: SPANS[k_] || spaced(k_)})), blocks: [{rows: spans.map(o => ({head: o.method, cells: names.map(k_ => ({kids: [/_moved_|relative/.test(k_) && known(o[k_]) ? fmt(o[k_] / 100, 2) : fmt(o[k_])]}))}))}]})),
      note(`Percent at what ${r.name} picks, mean over held-out environments. A shift is of class means between environments; that to the held-out is known by its labels, so no rule looks at it. Moved: 1 as the average direction.`));
  }
  if (!out.length) out.push(note("Rows say nothing of what is removed here."));
  box.replaceChildren(...out);
}

// ---- the rest
function others(section, box, ...nothing) {
  const mine = shared.tables.filter(t => SECTION(t.name) === section), place = div();
  const show = name => {
    const t = mine.find(o => o.name === name);
    place.replaceChildren(h("div", {class: "bar"}, mine.length > 1 ? choice("table", mine.map(o => [o.name, tableTitle(o)]), name, show) : null, copies(shared.forms[name])), h("p", {class: "caption"}, t.caption), scroller("Table: " + tableTitle(t), printed(t)), ...notes(t));
  };
  box.replaceChildren(place);
  if (mine.length) show(mine[0].name);
  else if (nothing.length) box.replaceChildren(mute(...nothing));
}
function behind() {
  const box = $("behind-table"), list = core.behind[rule().name] || [];
  others("behind", box, ...(list.length ? [] : ["No method has answers on all that is held out."]));
  if (!list.length) return;
  const means = Object.keys(list[0].means), mark = rule().bound ? " †" : "";
  const columns = ["accuracy", ...means, "worst environment", "worst class", "ECE", "ECE, temperature fitted"].map(t => ({text: spaced(t)}));
  const blocks = [{rows: list.map(o => ({head: o.method, cells: [{kids: [fmt(o.accuracy), mark]}, ...means.map(k => ({kids: [fmt(o.means[k])]})), {kids: [fmt(o.environment[1]), h("small", {}, " " + o.environment[0])]},
    {kids: o.class ? [fmt(o.class[2]), h("small", {}, ` ${o.class[0]} in ${o.class[1]}, n ${o.class[3]}`)] : [GAP]}, {kids: [fmt(o.ece)]}, {kids: [fmt(o.ece_scaled)]}]}))}];
  box.append(h3(`Every method of ${settingName()}, rule ${rule().name}${mark}`), scroller("Every method behind the means", grid({label: "Behind the means", corner: "Method", columns, blocks})), note("Worst class: lowest accuracy of classes with 10 test images or more in an environment. ECE: expected calibration error at what the rule picks, in percent."));
}
function protocol() {
  const hash = value => h("span", {class: "hash"}, value), item = (what, value) => div(h("dt", {}, what), h("dd", {}, value));
  $("protocol-view").replaceChildren(settingChoice(all) || "", note(core.protocol_words), h("dl", {class: "ledger"},
    item("Setting", setting().title), item("Rules", core.rules.map(r => r.name + (r.bound ? " † (no result)" : "")).join(", ")), item("Environments", core.environments.join(", ")), item(plural(core.classes.length, "class").replace("classs", "classes"), core.classes.slice(0, 40).join(", ") + (core.classes.length > 40 ? " …" : "")),
    item("Seeds", core.seeds.join(", ")), item("Prompts", core.prompts.slice(0, 8).join(" · ") + (core.prompts.length > 8 ? ` and ${core.prompts.length - 8} more` : "")), item("Data", hash(core.data_hash)), item("Weights", hash(core.weights_hash)),
    item("Recipe", hash(core.recipes.join(", "))), item("Code", core.versions.join(", ")), item("Trials", String(core.trials.length))));
}
function rules() {
  const box = $("rules"), now = rule().name, one = seg("Chosen by the rule", core.rules.map(r => [r.name, h("span", {class: r.bound ? "bound" : null}, spaced(r.name) + (r.bound ? " †" : "")), r.bound ? {title: "No result: labels of the held-out environment choose"} : {}]), now, v => { put({rule: v}); all(); });
  box.replaceChildren(...one.children);
}
function theme() {
  document.documentElement.dataset.theme = state.theme;
  $("theme").textContent = "Theme: " + state.theme;
}
let turn = 0;
async function all() {
  const mine = ++turn;
  const [tables_, core_] = await Promise.all([load("shared"), load("core-" + state.set)]);
  if (mine !== turn) return;
  shared = tables_; core = core_;
  for (const el of document.querySelectorAll(".js")) el.hidden = false;
  tables();
  others("ablations", $("ablation-tables"), "No ablation: no method was run with two values of one setting.");
  others("published", $("published-tables"), "Not compared; ", h("code", {}, "icm-bench report --against published"), " does.");
  if (!core) {
    for (const id of ["explorer", "spans", "behind-table", "protocol-view"]) $(id).replaceChildren(mute(LEFT));
    $("rules").hidden = true;
    return;
  }
  rules(); behind(); protocol();
  await Promise.all([drill(), explorer(), subspace()]);
  document.documentElement.setAttribute("data-ready", String(mine));
}

$("theme").addEventListener("click", () => { put({theme: {auto: "light", light: "dark", dark: "auto"}[state.theme]}); theme(); });
for (const a of document.querySelectorAll(".links a, .skip")) a.addEventListener("click", e => {
  const to = document.querySelector(a.getAttribute("href"));
  e.preventDefault();
  to.scrollIntoView();
  to.setAttribute("tabindex", "-1");
  to.focus({preventScroll: true});
});
addEventListener("hashchange", () => { read(); theme(); all(); });
phone.addEventListener("change", () => { if (shared) all(); });
read(); theme();
requestAnimationFrame(() => setTimeout(all));
})();
