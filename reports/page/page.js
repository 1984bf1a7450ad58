// Keys of the data are made in reports/page/data.py and `page` of build.py, elements with an id in template.html.
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
const bar = (...kids) => h("div", {class: "bar"}, ...kids);
const note = (...kids) => h("p", {class: "note"}, ...kids);
const h3 = (...kids) => h("h3", {}, ...kids);
const fold = (open, title, ...kids) => h("details", {open}, h("summary", {}, title), ...kids);
const rowHead = (...kids) => h("th", {scope: "row"}, ...kids);
const colHead = words => h("th", {scope: "col"}, words);
const hidden = words => h("caption", {class: "vh"}, words);
const scroller = (label, ...kids) =>
  h("div", {class: "scroll", tabindex: "0", role: "region", "aria-label": label}, ...kids);
const dot = family => h("span", {class: "key f-" + family, "aria-hidden": "true"});
const MID = {"text-anchor": "middle", class: "m"}, END = {"text-anchor": "end", class: "m"};
const LEFT = "Left out, so that this page stays below 2 MB.";
const known = v => v !== null && v !== undefined;
// Round half to even, as in the printed tables.
function fixed(v, d) {
  const x = Math.abs(v), m = 10 ** d, half = x * m % 1 === .5 && Number.isInteger(x * 2 ** (d + 1));
  return half ? 2 * Math.round(x * m / 2) / m : +x.toFixed(d);
}
function fmt(v, d = 1) {
  if (!known(v)) return GAP;
  const digits = {minimumFractionDigits: d, maximumFractionDigits: d};
  return (v < 0 && fixed(v, d) ? MINUS : "") + fixed(v, d).toLocaleString("en", digits);
}
const signed = (v, d = 1) => known(v) ? (v > 0 && fixed(v, d) ? "+" : "") + fmt(v, d) : GAP;
const lam = v => known(v) ? "λ " + v : "";
const sum = vs => vs.reduce((a, b) => a + b, 0);
const ends = (f, low, high) => `95 % interval ${f(low)} to ${f(high)}`;
const short = t => t.length > 18 ? t.slice(0, 17) + "…" : t;
const plural = (n, word, words = word + "s") => n + " " + (n === 1 ? word : words);

// ---- data: gzip in base64, opened when it is needed
const opened = new Map();
const there = key => $("data-" + key) !== null;
function load(key) {
  if (!opened.has(key)) opened.set(key, there(key) ? unpack($("data-" + key).textContent) : Promise.resolve(null));
  return opened.get(key);
}
async function unpack(text) {
  const bytes = Uint8Array.from(atob(text.trim()), c => c.charCodeAt(0));
  return new Response(new Blob([bytes]).stream().pipeThrough(new DecompressionStream("gzip"))).json();
}

// ---- state, kept in the address
const DEFAULTS = {
  rule: "", theme: "auto", open: "", set: "0", table: "", ablation: "", show: "accuracy", sort: "", cell: "",
  pred: "", method: "", kinds: "0", env: "", lam: "", rank: "",
};
const NEW_SET = {cell: "", sort: "", pred: "", method: "", kinds: "0", env: "", lam: "", rank: ""};
const state = {...DEFAULTS};
function read() {
  const given = new URLSearchParams(location.hash.slice(1));
  for (const key of Object.keys(DEFAULTS)) state[key] = given.get(key) ?? DEFAULTS[key];
  if (!head.settings[+state.set]) state.set = "0";
  if (state.cell) open("classes");
  if (state.lam || state.rank) open("explore");
  if (state.table) open("tables");
  if ($(location.hash.slice(1))?.matches("details.fold")) open(location.hash.slice(1));
}
const isOpen = id => state.open.split(".").includes(id);
function open(id, value = true) {
  state.open = [...state.open.split(".").filter(one => one && one !== id), ...(value ? [id] : [])].join(".");
}
let pending = 0;
function put(changes) {
  Object.assign(state, changes);
  clearTimeout(pending);
  pending = setTimeout(() => {
    const changed = Object.entries(state).filter(([key, value]) => String(value) !== DEFAULTS[key]);
    history.replaceState(null, "", "#" + new URLSearchParams(changed));
  }, 120);
}

// ---- small parts
function seg(label, options, value, pick) {
  const press = e => {
    for (const b of e.currentTarget.parentNode.children) b.setAttribute("aria-pressed", String(b === e.currentTarget));
  };
  return h("div", {class: "seg", role: "group", "aria-label": label}, options.map(([key, text]) => h("button", {
    type: "button", "aria-pressed": String(key === value), onclick: e => { press(e); pick(key); },
  }, text)));
}
function choice(label, options, value, pick) {
  const of = options.map(([key, text]) => h("option", {value: key, selected: String(key) === String(value)}, text));
  return h("label", {class: "field"}, label, h("select", {onchange: e => pick(e.target.value)}, of));
}
function say(text) {
  $("status").textContent = text;
  document.querySelector(".saved")?.remove();
  const toast = h("div", {class: "saved", "aria-hidden": "true"}, text);
  document.body.append(toast);
  setTimeout(() => toast.remove(), 1600);
}
async function copy(text, what) {
  try { await navigator.clipboard.writeText(text); }
  catch {
    const area = h("textarea", {"aria-label": "Text to copy"});
    area.value = text; document.body.append(area); area.select(); document.execCommand("copy"); area.remove();
  }
  say(what + " copied");
}
const copies = name => [["tex", "LaTeX"], ["csv", "CSV"], ["md", "Markdown"]].filter(([k]) => there("copies-" + k)).map(
  ([k, words]) => h("button", {
    class: "btn", type: "button", "data-copy": k,
    onclick: async () => { const texts = await load("copies-" + k); copy(texts[name] ?? "", words); },
  }, "Copy " + words));

/* A table. columns: [{text, cls}]; blocks: [{title, rows: [{head, same, cells}]}]; cells: [{kids, value, cls, title,
   open, on}]. Headings sort within blocks; cells that open something are buttons. */
function grid({label, corner, columns, blocks, sort, onsort, cls}) {
  const [by, down] = sort ? sort.split(".").map(Number) : [null, 0];
  const arrow = k => by === k ? (down ? " ↓" : " ↑") : "", order = down ? "descending" : "ascending";
  const sorter = (c, k) => h("button", {
    type: "button", onclick: () => onsort(by === k ? (down ? k + ".0" : "") : k + ".1"),
  }, c.text, arrow(k));
  const heads = columns.map((c, k) => h("th", {
    scope: "col", class: c.cls, "aria-sort": onsort ? (by === k ? order : "none") : null,
  }, onsort ? sorter(c, k) : c.text));
  const table = h("table", {class: "numbers " + (cls || "")}, hidden(label),
    h("thead", {}, h("tr", {}, colHead(corner), heads)));
  const buttons = [];
  function cell(c, k, line) {
    const where = [columns[k]?.cls, c.cls, c.open && "has", c.on && "on"].filter(Boolean).join(" ");
    if (!c.open) return h("td", {class: where, title: c.title}, c.kids);
    line.push(h("button", {
      type: "button", tabindex: "-1", title: c.title, "aria-pressed": String(!!c.on), onclick: c.open,
    }, c.kids));
    return h("td", {class: where}, line.at(-1));
  }
  for (const {title, rows} of blocks) {
    const at = r => r.cells[by]?.value ?? -Infinity;
    const sorted = by !== null && columns[by] ? [...rows].sort((a, b) => (down ? 1 : -1) * (at(b) - at(a))) : rows;
    const wide = {scope: "rowgroup", colspan: columns.length + 1};
    table.append(h("tbody", {}, title ? h("tr", {class: "block"}, h("th", wide, title)) : null, sorted.map(row => {
      const line = [], cells = row.cells.map((c, k) => cell(c, k, line));
      if (line.length) buttons.push(line);
      return h("tr", {class: row.same ? "same" : null}, rowHead(row.head), cells);
    })));
  }
  roving(table, buttons);
  return table;
}
// Roving tabindex: one button of a table is in the tab order; arrow keys move between buttons.
function roving(within, buttons) {
  if (!buttons.length) return;
  (buttons.flat().find(b => b.getAttribute("aria-pressed") === "true") || buttons[0][0]).tabIndex = 0;
  within.addEventListener("keydown", e => {
    const r = buttons.findIndex(line => line.includes(e.target));
    if (r < 0) return;
    const c = buttons[r].indexOf(e.target);
    const to = {
      ArrowLeft: [r, c - 1], ArrowRight: [r, c + 1], ArrowUp: [r - 1, c], ArrowDown: [r + 1, c],
      Home: [r, 0], End: [r, buttons[r].length - 1],
    }[e.key];
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
    const width = Math.floor(place.clientWidth);
    if (!width || (width === last && force !== true)) return;
    last = width;
    const [height, nodes] = draw(width);
    const box = {width, height, viewBox: `0 0 ${width} ${height}`, role: "img", "aria-label": label};
    place.replaceChildren(s("svg", box, nodes));
  };
  watcher.observe(place);
  const behind = fold(false, "The numbers");
  behind.addEventListener("toggle", () => {
    if (!behind.open || behind.children.length > 1) return;
    const {columns: [corner, ...columns], rows} = numbers();
    const lines = rows.map(([name, ...cells]) => ({head: name, cells: cells.map(t => ({kids: [t]}))}));
    const table = grid({label, corner, columns: columns.map(text => ({text})), blocks: [{rows: lines}]});
    behind.append(scroller("Numbers: " + label, table));
  });
  const whole = div(place, behind);
  whole.redraw = () => {
    place.redraw(true);
    if (behind.children.length > 1 && !behind.open) behind.lastChild.remove();
  };
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

// ---- data of the selected setting (`core`)
let core = null;
const rule = () => core.rules.find(r => r.name === state.rule) || core.rules.find(r => r.name === core.rule);
const results = () => core.results[rule().name];
const count = () => core.environments.length; // the average has this number
const places = () => [...core.environments, "average"];
function settingName(one) {
  const fields = ["dataset", "backbone", "precision", "protocol", "test_split", "half"];
  const told = fields.filter(n => n === "dataset" || new Set(head.settings.map(o => o[n])).size > 1);
  return one.banner + told.map(n => one[n] || (n === "half" ? "all classes" : "")).join(" · ");
}
const settingChoice = () => head.settings.length > 1 &&
  choice("setting", head.settings.map((one, k) => [k, settingName(one)]), state.set, set => {
    put({...NEW_SET, set});
    refresh();
  });
const pickWords = ([rank, lambda, set, more, n]) =>
  ["rank " + rank, lam(lambda), set ? "set " + set : "", more].filter(Boolean).join(", ") + (n > 1 ? ` (${n}×)` : "");

// ---- printed tables: each cell has the key of its setting, method and environment
function tables(every, ablation) {
  const mine = every.filter(t => t.ablation === ablation), field = ablation ? "ablation" : "table";
  const t = mine.find(o => o.name === state[field]) || mine[0], place = h("div");
  const title = name => name === "main" ? "Table 1" : (name[0].toUpperCase() + name.slice(1)).replace(/[-_]/g, " ");
  place.innerHTML = t.html;
  place.firstElementChild.classList.add("numbers");
  const rows = [...place.querySelectorAll("tbody tr:not(.block)")];
  roving(place, rows.map((tr, r) => [...tr.querySelectorAll("td")].map((td, c) => {
    const at = {...t.key, ...t.lines[r], ...t.columns[c]}, k = found(at, t.columns[c]);
    if (k < 0 || ablation || !td.dataset.value) return null;
    const b = h("button", {type: "button", tabindex: "-1", onclick: () => show(k, at)}, [...td.childNodes]);
    td.classList.add("has");
    td.append(b);
    return b;
  }).filter(Boolean)).filter(line => line.length));
  const pick = v => { put({[field]: v}); refresh(); };
  return [
    bar(mine.length > 1 && choice("table", mine.map(o => [o.name, title(o.name)]), t.name, pick), ...copies(t.name)),
    scroller("Table: " + title(t.name), ...place.childNodes),
    state.rule ? note(`Tables use the selection rule in their notes, not ${state.rule}.`) : null,
  ];
}
// Index of the only setting with the values of a key; -1 if there is none or several.
function found(at, column) {
  const same = one => Object.keys(one).every(name => !(name in at) || at[name] === one[name]);
  const fits = [...head.settings.keys()].filter(k => same(head.settings[k]));
  return Object.keys(column).length && at.method && fits.length === 1 ? fits[0] : -1;
}
async function show(k, at) {
  const one = await load("core-" + k);
  const m = one ? one.methods.findIndex(o => o.label === at.method) : -1;
  if (m < 0) { say("This line has no further data"); return; }
  const e = at.held_out ? one.environments.indexOf(at.held_out) : one.environments.length;
  open("classes");
  put({...NEW_SET, set: String(k), cell: m + "." + e});
  await refresh();
  $("drill-title")?.scrollIntoView();
  $("drill-title")?.focus({preventScroll: true});
}

// ---- every method in every environment, and details of a number
function classes(classesOf, images, sprites) {
  const table = div(), drill = h("div", {class: "drill"});
  if (sprites && !document.adoptedStyleSheets.length) dress(sprites);
  const draw = move => {
    const [m, e] = state.cell.split(".").map(Number), one = state.cell && results()[m];
    table.replaceChildren(scroller("Accuracy on each held-out environment", environments(draw)));
    drill.hidden = !one;
    drill.replaceChildren(...(one ? behind(classesOf, images, sprites, m, e, one, draw) : []));
    if (move === "drill") $("drill-title")?.focus({preventScroll: true});
    else if (move) table.querySelector(move)?.focus({preventScroll: true});
  };
  draw();
  const shown = [["accuracy", "accuracy"], ["difference", "difference to plain"]];
  const signs = " ± one standard error over test images. Colour: the interval of the difference to plain excludes 0.";
  return [
    bar(settingChoice(), seg("What is shown", shown, state.show, v => { put({show: v, sort: ""}); draw(); })),
    note("A number opens its picks, classes and images; a heading sorts."), table,
    note(`${settingName(head.settings[+state.set])}. ${rule().words}${rule().bound ? "" : signs}`), drill,
  ];
}
function environments(draw) {
  const difference = state.show === "difference", r = rule(), n = count(), names = places(), blocks = [];
  const columns = [...names.keys()];
  if (phone.matches) columns.unshift(columns.pop());
  core.methods.forEach((m, k) => {
    if (blocks.at(-1)?.title !== m.predictor) blocks.push({title: m.predictor, rows: []});
    const one = results()[k], plain = m.family === "plain", [own, all] = one?.plain[n] || [0, 0];
    const same = !plain && all && own === all;
    const words = same ? "= plain in all picks" : `plain in ${own} of ${all} picks`;
    const cells = columns.map(e => {
      const c = one?.cells[e] || {}, diff = difference && !plain, v = diff ? c.d : c.v, key = k + "." + e;
      const own_ = known(c.l) ? `${ends(fmt, c.l, c.h)}; ${c.n} images` : null;
      const pick = () => {
        put({cell: state.cell === key ? "" : key});
        draw(state.cell ? "drill" : "td button[tabindex='0']");
      };
      return {
        value: v, title: c.why || (diff && known(c.dl) ? ends(signed, c.dl, c.dh) : own_), on: state.cell === key,
        cls: diff && known(c.dl) ? (c.dl > 0 ? "up" : c.dh < 0 ? "down" : "") : "",
        kids: [diff ? signed(v) : fmt(v), r.bound && known(v) ? "†" : "",
          !diff && known(c.e) ? h("small", {}, " ±" + fmt(c.e)) : ""],
        open: known(c.v) && pick,
      };
    });
    const head_ = [dot(m.family), m.name, own && !plain ? h("small", {class: "mute"}, words) : ""];
    blocks.at(-1).rows.push({same, head: head_, cells});
  });
  return grid({
    label: "Accuracy on each held-out environment", corner: "Method", cls: r.bound ? "bound-rule" : "", blocks,
    columns: columns.map(e => ({text: names[e], cls: e === n ? "avg" : ""})), sort: state.sort,
    onsort: v => { put({sort: v}); draw("th[aria-sort$='ending'] button"); },
  });
}
function behind(classesOf, images, sprites, m, e, one, draw) {
  const method = core.methods[m], n = count(), cell = one.cells[e] || {};
  const where = e === n ? "the average" : core.environments[e];
  const plain = method.plain >= 0 && method.plain !== m ? results()[method.plain]?.cells[e] : null;
  const picks = e === n ? merged(one.picks) : one.picks[e], [kept, all] = one.plain[e];
  const close = () => { put({cell: ""}); draw("td button[tabindex='0']"); };
  const more = picks.length > 6 ? ` and ${picks.length - 6} others` : "";
  const details = [
    known(cell.e) ? ` ± ${fmt(cell.e)}` : "", plain ? `, plain ${fmt(plain.v)} %` : "",
    known(cell.d) ? `: ${signed(cell.d)} points` : "",
    known(cell.dl) ? ` [${signed(cell.dl)}, ${signed(cell.dh)}]` : "",
    known(cell.n) ? `, ${cell.n} test images` : "", ". ",
    kept && plain ? `Of ${all} picks ${kept} are plain prediction. ` : "",
  ];
  return [
    h("div", {class: "drill-head"}, h("h3", {id: "drill-title", tabindex: "-1"}, `${method.label} on ${where}`),
      h("button", {class: "btn", type: "button", onclick: close}, "Close")),
    h("p", {}, h("b", {}, fmt(cell.v) + " %" + (rule().bound ? " †" : "")), details, h("span", {class: "mute"},
      `${rule().name} picked: ${picks.slice(0, 6).map(pickWords).join(" · ")}${more}.`)),
    h("div", {class: "grid2"}, [rankCurve(m, e, picks), classDots(classesOf, m, e)].map(part => part && div(part))),
    ...confusion(images, sprites, m, e),
  ];
}
function merged(lists) {
  const all = new Map();
  for (const p of lists.flat()) { const k = JSON.stringify(p.slice(0, 4)); all.set(k, (all.get(k) || 0) + p[4]); }
  return [...all].map(([k, n]) => [...JSON.parse(k), n]).sort((a, b) => b[4] - a[4]);
}
// Accuracy by rank of a method and of others with its predictor; empty for methods without ranks.
function rankCurve(m, e, picks) {
  const method = core.methods[m], curves = core.curves[rule().name] || [];
  if (!curves[m]) return null;
  const drawn = curves.map((c, k) => ({...core.methods[k], ranks: c?.ranks, values: c?.accuracy[e], own: k === m}))
    .filter(d => d.ranks && d.predictor === method.predictor && (d.family !== "other" || d.own));
  const level = method.plain >= 0 ? results()[method.plain]?.cells[e]?.v : null;
  const vs = [...drawn.flatMap(d => d.values), level].filter(known);
  const ranks = [...new Set(drawn.flatMap(d => d.ranks))].sort((a, b) => a - b);
  const top = Math.max(...vs), bottom = Math.max(Math.min(...vs), top - 25), t = ticks(bottom, top);
  const lo = Math.min(bottom, t[0]), hi = Math.max(top, t.at(-1)), times = new Map();
  for (const p of picks) times.set(p[0], (times.get(p[0]) || 0) + p[4]);
  const draw = w => {
    const H = 270, L = 34, B = 46, wide = Math.log(ranks.at(-1) / ranks[0]) || 1;
    const x = v => L + 6 + (w - L - 22) * Math.log(v / ranks[0]) / wide;
    const y = v => 10 + (H - B - 10) * (1 - (v - lo) / (hi - lo || 1));
    const out = t.map(v => [line(L, y(v), w, y(v), "grid"), text(L - 6, y(v) + 4, String(v), END)]).flat();
    let last = -99;
    for (const v of ranks) if (x(v) - last > 26) { out.push(text(x(v), H - B + 30, String(v), MID)); last = x(v); }
    out.push(text(w, H - 2, "rank kept", END));
    if (known(level)) out.push(line(L, y(level), w, y(level), "ref"));
    for (const d of [...drawn].sort((a, b) => a.own - b.own)) {
      const pts = d.ranks.map((v, k) => [x(v), d.values[k]]).filter(p => known(p[1]));
      const at = pts.map(([a, v]) => `${a.toFixed(1)},${y(Math.max(v, lo)).toFixed(1)}`).join(" ");
      out.push(s("polyline", {points: at, class: `line f-${d.family}${d.own ? " main" : ""}`}));
    }
    for (const [v, k] of times) {
      if (!ranks.includes(v)) continue;
      out.push(s("path", {d: `M${x(v)} ${H - B + 3}l5 9h-10z`, class: "mark f-" + method.family}));
      if (k > 1 && w / ranks.length > 34) out.push(text(x(v) + 8, H - B + 13, k + "×", {class: "m"}));
    }
    return [H, out];
  };
  const numbers = () => ({
    columns: ["rank", ...drawn.map(d => d.name)],
    rows: ranks.map(v => [String(v), ...drawn.map(d => fmt(d.values[d.ranks.indexOf(v)]))]),
  });
  return [
    h3("Accuracy by rank, everything else chosen"),
    chart(`Accuracy by rank of ${method.predictor}`, draw, numbers),
    h("ul", {class: "legend"}, drawn.map(d => h("li", {}, dot(d.family), d.name)), h("li", {}, "dashed: plain")),
    note(`Triangles: ranks that ${rule().name} picked. Choosing the best rank from this figure would be an oracle.`),
  ];
}
function classDots(given, m, e) {
  const title = h3("Class by class, against plain"), n = count(), own = given?.right[rule().name];
  const totals = k => {
    const lines = (own[k] || []).filter((o, j) => o && (e === n || j === e));
    return lines.length ? core.classes.map((_, c) => ({
      right: sum(lines.map(o => o[1][c])), of: sum(lines.map(o => given.totals[o[0]][c])),
      images: sum(lines.map(o => given.images[o[0]][c])),
    })) : null;
  };
  const a = own?.[m] ? totals(m) : null, p = core.methods[m].plain;
  if (!a) return [title, note(given ? "No predictions here." : LEFT)];
  const b = p >= 0 && p !== m ? totals(p) : null, share = o => o?.of ? 100 * o.right / o.of : null;
  const whole = core.classes.map((name, k) => ({name, v: share(a[k]), w: b ? share(b[k]) : null, n: a[k].images}))
    .filter(o => known(o.v)).sort((x, y) => x.v - y.v || (x.name < y.name ? -1 : 1));
  const by = o => Math.abs(o.v - (o.w ?? o.v)), top = new Set([...whole].sort((x, y) => by(y) - by(x)).slice(0, 24));
  const list = whole.filter(o => top.has(o)), few = whole.length > list.length;
  const draw = w => {
    const L = Math.min(128, 14 + 7 * Math.max(...list.map(o => short(o.name).length))), R = 44;
    const H = list.length * 22 + 36, x = v => L + (w - L - R) * v / 100, out = [text(w, H - 12, "n", END)];
    for (const v of [0, 25, 50, 75, 100]) {
      out.push(line(x(v), 4, x(v), H - 28, "grid"), text(x(v), H - 12, String(v), MID));
    }
    list.forEach((o, k) => {
      const y = 16 + 22 * k, circle = (cx, r, cls) => s("circle", {cx, cy: y, r, class: cls});
      out.push(text(L - 10, y + 4, short(o.name), {"text-anchor": "end"}), text(w, y + 4, String(o.n), END));
      if (known(o.w)) out.push(line(x(o.w), y, x(o.v), y, "stem"), circle(x(o.w), 4.5, "hollow"));
      out.push(circle(x(o.v), 5, "mark f-" + core.methods[m].family));
    });
    return [H, out];
  };
  const numbers = () => ({
    columns: ["class", "accuracy", "plain", "images"],
    rows: whole.map(o => [o.name, fmt(o.v), fmt(o.w), String(o.n)]),
  });
  return [title, chart("Accuracy of each class", draw, numbers),
    note("Filled: this method; hollow: plain. n: distinct test images.",
      few ? ` The ${list.length} of ${whole.length} classes that differ most.` : "")];
}
// One CSS rule per sprite: each is decoded once, when it is first visible.
function dress(sprites) {
  const sheet = new CSSStyleSheet();
  const of = (data, k) => `.sprite-${k} { background-image: url(data:image/webp;base64,${data}) }`;
  sheet.replaceSync(sprites.webp.map(of).join(""));
  document.adoptedStyleSheets = [sheet];
}
function thumb({size, rows}, place) {
  const box = h("span", {class: "thumb sprite-" + Math.floor(place / rows), "aria-hidden": "true"});
  box.style.backgroundPositionY = -size * (place % rows) + "px";
  return box;
}
function confusion(images, sprites, m, e) {
  const answers = images?.answers[rule().name], own = answers?.[m], base = answers?.[core.methods[m].plain];
  if (!own) return [note("This page has no predictions of single images of this method.")];
  const here = o => o.predicted >= 0 && (e === count() || images.environment[o.image] === e);
  const asked = (image, k) => ({image, truth: images.class[image], predicted: own[k], plain: base ? base[k] : null});
  const rows = images.asked.map(asked).filter(here);
  const C = core.classes.length, kept = C <= 30 ? [...Array(C).keys()] : worst(rows, C, 20);
  const key = o => o.truth + "." + o.predicted, cell = new Map(), total = new Map(), list = div(), buttons = [];
  for (const o of rows) {
    cell.set(key(o), (cell.get(key(o)) || 0) + 1);
    total.set(o.truth, (total.get(o.truth) || 0) + 1);
  }
  let filter = null;
  const item = o => {
    const name = images.names[o.image], wrong = o.predicted !== o.truth ? ", not " + core.classes[o.predicted] : "";
    return h("li", {title: name}, sprites && images.thumbs[o.image] >= 0 && thumb(sprites, images.thumbs[o.image]),
      h("span", {class: "name"}, name), h("span", {class: "mute"}, core.classes[o.truth] + wrong));
  };
  const show_ = () => {
    const some = filter ? rows.filter(o => key(o) === filter) : rows, right = o => o.predicted === o.truth;
    const groups = [
      ["Correct only with this method", o => right(o) && o.plain !== null && o.plain !== o.truth],
      ["Wrong only with this method", o => !right(o) && o.plain === o.truth],
      ["Wrong with both", o => !right(o) && o.plain !== null && o.plain !== o.truth],
      ...(filter && some.every(right) ? [["Correct with both", o => o.plain === o.truth]] : []),
    ];
    list.replaceChildren(...groups.map(([words, test]) => {
      const found_ = some.filter(test), first = found_.slice(0, 120), more = found_.length - first.length;
      return fold(found_.length > 0 && found_.length < 60, `${words} (${found_.length})`,
        h("ul", {class: "images"}, first.map(item)), more ? note(`and ${more} more`) : null);
    }));
  };
  const press = k => {
    filter = filter === k ? null : k;
    for (const b of buttons.flat()) b.setAttribute("aria-pressed", String(b.dataset.key === filter));
    show_();
  };
  const body = kept.map(t => {
    const of = [], cells = kept.map(p => {
      const k = t + "." + p, v = cell.get(k);
      if (!v) return h("td", {});
      of.push(h("button", {
        type: "button", tabindex: "-1", "aria-pressed": "false", "data-key": k,
        "aria-label": `${core.classes[t]} predicted as ${core.classes[p]}: ${v}`, onclick: () => press(k),
      }, fmt(100 * v / total.get(t), 0)));
      return h("td", {class: t === p ? "right" : "wrong"}, of.at(-1));
    });
    if (of.length) buttons.push(of);
    return h("tr", {}, rowHead(core.classes[t]), cells);
  });
  const heads = kept.map(c => colHead(h("span", {}, core.classes[c])));
  const caption = hidden("Rows: true class; columns: predicted class; percent of the row");
  const table = h("table", {class: "cm"}, caption,
    h("thead", {}, h("tr", {}, h("td", {}), heads)), h("tbody", {}, body));
  roving(table, buttons);
  show_();
  const few = C > kept.length ? ` The ${kept.length} classes most often confused of ${C}.` : "";
  return [h("div", {class: "grid2"},
    div(h3("Confusion matrix"), scroller("Confusion matrix", table),
      note(`Percent of the true class (rows), ${plural(rows.length, "prediction")}. A cell filters the images.${few}`)),
    div(h3("Images, compared with plain prediction"), list))];
}
function worst(rows, C, n) {
  const errors = Array(C).fill(0);
  for (const o of rows) if (o.truth !== o.predicted) errors[o.truth]++;
  return [...errors.keys()].sort((a, b) => errors[b] - errors[a]).slice(0, n).sort((a, b) => a - b);
}

// ---- effect of lambda and rank
function explorer(given) {
  const r = rule(), list = given?.[r.name] || [];
  if (!list.length) return [bar(settingChoice()), note("No method here has several λ or ranks.")];
  const of = g => core.methods[g.method], predictors = [...new Set(list.map(g => of(g).predictor))];
  const pred = predictors.includes(state.pred) ? state.pred : predictors[0];
  const same = list.filter(g => of(g).predictor === pred), but = same.filter(g => of(g).family !== "pca");
  const mine = but.length ? but : same;
  const g = mine.find(o => String(o.method) === state.method) || mine.find(o => of(o).family === "icm") || mine[0];
  const m = of(g), n = count(), lambdas = g.lambdas.length ? g.lambdas : [null];
  const all = lambdas.flatMap((_, l) => g.ranks.map((_, c) => [l, c]));
  const k = Math.min(+state.kinds || 0, g.sets.length), env = state.env === "" || !(+state.env < n) ? n : +state.env;
  const pca = same.find(o => of(o).family === "pca" && String(o.ranks) === String(g.ranks) && o !== g);
  const score = (l, c) => g.score[k][env][l][c], accuracy = (l, c) => g.accuracy[k][env][l][c];
  const picked = g.picks.filter(p => env === n || p[0] === env), some = picked.filter(p => k === 0 || p[1] === k);
  const times = (l, c) => sum(some.filter(p => p[2] === l && p[3] === c).map(p => p[4]));
  const best = all.reduce((a, b) => (times(...b) > times(...a) ? b : a));
  const held = (v, list_, other) => v === "" || !(+v < list_.length) ? other : +v;
  let L = held(state.lam, lambdas, best[0]), R = held(state.rank, g.ranks, best[1]);
  const again = change => { put({lam: "", rank: "", ...change}); refresh(); };
  const lead = h("p", {class: "lead"}), plainOf = m.plain >= 0 ? results()[m.plain]?.cells : null;
  const value = e => g.accuracy[k][e][L][R];
  const rod = w => {
    const names = places(), H = names.length * 26 + 34, V = 96, vs = names.map((_, e) => value(e));
    const side = Math.min(130, 14 + 7 * Math.max(...names.map(t => short(t).length))), out = [];
    const highest = Math.max(...vs.filter(known), ...(plainOf || []).map(c => c.v || 0), 10);
    const top = Math.ceil(highest / 10) * 10, x = v => side + (w - side - V) * v / top;
    for (const v of ticks(0, top, 4)) out.push(line(x(v), 2, x(v), H - 30, "grid"), text(x(v), H - 14, String(v), MID));
    names.forEach((name, e) => {
      const y = 4 + 26 * e, p = plainOf?.[e]?.v, v = vs[e], strong = e === env ? {"font-weight": 600} : {};
      const box = {x: side, y: y + 2, width: Math.max(1, x(v) - side), height: 15, rx: 2, opacity: e === n ? 1 : .72};
      out.push(text(side - 8, y + 14, short(name), {"text-anchor": "end", ...strong}));
      if (known(v)) out.push(s("rect", {...box, class: "rod f-" + m.family}));
      if (known(p)) out.push(line(x(p), y - 1, x(p), y + 20, "plain"));
      const less = known(p) && known(v) ? ` (${signed(v - p)})` : "";
      out.push(text(w, y + 14, fmt(v) + less, {"text-anchor": "end", ...strong}));
    });
    return [H, out];
  };
  const bars = chart("Accuracy in each environment at this λ and rank", rod, () => ({
    columns: ["held out", "accuracy", "plain"],
    rows: places().map((name, e) => [name, fmt(value(e)), fmt(plainOf?.[e]?.v)]),
  }));
  const maps = [["Source score of the rule", score, "score"],
    ["Held-out accuracy", accuracy, "accuracy"]].map(one => heat(...one));
  function heat(title, at, what) {
    const vs = all.map(p => at(...p)).filter(known), hi = Math.max(...vs), lo = Math.max(Math.min(...vs), hi - 8);
    const share = v => Math.max(0, Math.min(4, Math.floor(5 * (v - lo) / (hi - lo || 1))));
    const shade = v => !known(v) ? "h0" : v >= hi - 1e-9 ? "h5" : "h" + share(v);
    const buttons = lambdas.map((x, l) => g.ranks.map((rank, c) => {
      const v = at(l, c), t = times(l, c), words = `${lam(x)} rank ${rank}: ${fmt(v)}${t ? `, picked ${t} times` : ""}`;
      return h("button", {
        type: "button", tabindex: "-1", "aria-pressed": "false", class: shade(v), "aria-label": words,
        onclick: () => move(l, c),
      }, fmt(v), t ? h("span", {class: "pk"}, t + "×") : "");
    }));
    const body = buttons.map((row, l) => h("tr", {}, rowHead(lam(lambdas[l]) || GAP), row.map(b => h("td", {}, b))));
    if (pca && g.lambdas.length) {
      const cells = pca[what][0][env][0].map(v => h("td", {class: "mute"}, fmt(v)));
      body.unshift(h("tr", {}, rowHead("PCA"), cells));
    }
    const table = h("table", {class: "heat"}, hidden(title),
      h("thead", {}, h("tr", {}, h("td", {}), g.ranks.map(v => colHead(String(v))))), h("tbody", {}, body));
    roving(table, buttons);
    return {buttons, node: div(h3(title), table)};
  }
  const slide = (id, words, list_, value_, pick) => {
    const out = h("output", {}), set = v => {
      out.textContent = list_[v] ?? "";
      input.value = v;
      input.setAttribute("aria-valuetext", out.textContent);
    };
    const range = {min: 0, max: list_.length - 1, step: 1, value: value_};
    const input = h("input", {id, type: "range", ...range, oninput: e => pick(+e.target.value)});
    return {set, node: list_.length > 1 && h("div", {class: "slider"}, h("label", {for: id}, words), input, out)};
  };
  const sl = slide("lam", "λ", lambdas, L, v => move(v, R)), sr = slide("rank", "rank", g.ranks, R, v => move(L, v));
  function words() {
    sl.set(L);
    sr.set(R);
    const v = accuracy(L, R), p = plainOf?.[env]?.v, b = score(L, R), both = known(p) && known(v);
    const place = 1 + all.filter(one => known(score(...one)) && known(b) && score(...one) > b + 1e-9).length;
    const of_all = `${times(L, R)} of ${sum(picked.map(q => q[4]))} times`;
    const point = [lam(lambdas[L]), g.ranks.length > 1 ? "rank " + g.ranks[R] : ""].filter(Boolean).join(", ");
    lead.replaceChildren(h("b", {}, point), ": " + fmt(v) + " % on " +
      (env === n ? "the average of the held-out environments" : core.environments[env]),
      ...(both ? [", ", h("b", {}, signed(v - p)), ` against plain (${fmt(p)} %)`] : []),
      known(b) ? `. Of ${all.length} points its source score ranks ${place}; ${r.name} picked it ${of_all}.` : ".");
    for (const map of maps) map.buttons.forEach((row, l) => row.forEach((b_, c) => {
      const on = l === L && c === R;
      b_.classList.toggle("on", on);
      b_.setAttribute("aria-pressed", String(on));
      b_.tabIndex = on ? 0 : -1;
    }));
  }
  function move(l, c) { L = l; R = c; put({lam: String(l), rank: String(c)}); words(); bars.redraw(); }
  const kinds = ["chosen by the rule", ...g.sets].map((name, j) => [j, name]);
  const held_outs = [[n, "average of all"], ...core.environments.map((name, j) => [j, name])];
  const top = bar(settingChoice(),
    predictors.length > 1 &&
      choice("predictor", predictors.map(p => [p, p]), pred, v => again({pred: v, method: "", kinds: "0"})),
    mine.length > 1 &&
      choice("method", mine.map(o => [o.method, of(o).name]), g.method, v => again({method: v, kinds: "0"})),
    g.sets.length > 0 && choice("interventions", kinds, k, v => again({kinds: v})),
    choice("held out", held_outs, env,
      v => again({env: v === String(n) ? "" : v, lam: state.lam, rank: state.rank})));
  words();
  return [top, h("div", {class: "grid2"}, div(lead, sl.node || "", sr.node || ""), bars),
    h("div", {class: "grid2", id: "maps"}, maps.map(o => o.node)),
    note(`Rows: λ; columns: rank. n×: how often ${r.name} picked the point. Colour: the highest in full, down to 8 `,
      "points below. The rule selects all other settings. Black line: plain.",
      g.more_sets ? ` ${g.more_sets} further intervention sets are not shown.` : "")];
}

// ---- how it was measured
function protocol() {
  const more = n => n > 0 ? ` and ${n} more` : "";
  const few = (list, max, joint) => list.slice(0, max).join(joint) + more(list.length - max);
  const hash = value => h("span", {class: "hash"}, value);
  const item = (what, value) => div(h("dt", {}, what), h("dd", {}, value));
  return [bar(settingChoice()), note(core.protocol_words), h("dl", {class: "ledger"},
    item("Setting", head.settings[+state.set].title),
    item("Rules", core.rules.map(r => r.name + (r.bound ? " † (no result)" : "")).join(", ")),
    item("Environments", core.environments.join(", ")),
    item(plural(core.classes.length, "class", "classes"), few(core.classes, 40, ", ")),
    item("Seeds", core.seeds.join(", ")), item("Prompts", few(core.prompts, 8, " · ")),
    item("Data", hash(core.data_hash)), item("Weights", hash(core.weights_hash)),
    item("Recipe", hash(core.recipes.join(", "))),
    item("Code", core.versions.join(", ")), item("Trials", String(core.trials)))];
}

// ---- folds: built when opened, and rebuilt on changes while open
const every = screen => {
  const box = div();
  box.innerHTML = screen.every;
  return box.children.length ? [h3("All comparisons"), scroller("All comparisons", ...box.childNodes)] : [];
};
const FOLDS = {
  trust: [["rule-@"], every],
  classes: [["core-#", "classes-#", "images-#", "thumbs"], (_, ...data) => classes(...data)],
  explore: [["core-#", "grids-#"], (_, given) => explorer(given)],
  ablations: [["tables"], list => tables(list, true)],
  tables: [["tables"], list => tables(list, false)],
  protocol: [["core-#"], protocol],
};
const folds = [...document.querySelectorAll("details.fold")];
let turn = 0;
const ruleNow = () => there("rule-" + state.rule) ? state.rule : head.rule;
async function build(el) {
  const mine = turn, [needs, made] = FOLDS[el.id], key = one => one.replace("#", state.set).replace("@", ruleNow());
  el.dataset.turn = mine;
  const data = await Promise.all(needs.map(one => load(key(one))));
  if (mine !== turn) return;
  const at = needs.indexOf("core-#");
  if (at >= 0) core = data[at];
  const parts = at >= 0 && !core ? [bar(settingChoice()), note(LEFT)] : made(...data);
  el.querySelector(".inside").replaceChildren(...parts.filter(Boolean));
}
let shown = head.rule;
async function refresh() {
  const mine = ++turn, now = ruleNow();
  if (now !== shown) {
    const screen = await load("rule-" + now);
    if (mine !== turn) return;
    $("answer").innerHTML = screen.answer;
    $("sentences").innerHTML = screen.sentences;
    document.querySelector("#trust summary span")?.replaceChildren(screen.short);
    shown = now;
    say("Selection rule " + now);
  }
  if ($("rule")) $("rule").value = now;
  for (const el of folds) el.open = isOpen(el.id);
  await Promise.all(folds.filter(el => el.open && FOLDS[el.id]).map(build));
  if (mine === turn) document.documentElement.setAttribute("data-ready", String(mine));
}
function theme() {
  document.documentElement.dataset.theme = state.theme;
  $("theme").textContent = "Theme: " + state.theme;
}

for (const el of folds) el.addEventListener("toggle", () => {
  if (el.open !== isOpen(el.id)) { open(el.id, el.open); put({}); }
  if (el.open && FOLDS[el.id] && el.dataset.turn !== String(turn)) build(el);
});
$("rule")?.addEventListener("change", ({target: {value}}) => {
  put({rule: value === head.rule ? "" : value});
  refresh();
});
$("theme").addEventListener("click", () => {
  put({theme: {auto: "light", light: "dark", dark: "auto"}[state.theme]});
  theme();
});
addEventListener("hashchange", () => { read(); theme(); refresh(); });
phone.addEventListener("change", refresh);
for (const el of document.querySelectorAll(".js")) el.hidden = false;
read(); theme();
requestAnimationFrame(() => setTimeout(refresh));
})();
