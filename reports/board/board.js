// Data are made in reports/board/build.py, elements with an id are in template.html.
"use strict";
(() => {
const $ = id => document.getElementById(id);
const {entries, views, words} = JSON.parse($("data").textContent);
const SVG = "http://www.w3.org/2000/svg", FIRST = 100;
const state = {view: "0", encoder: "", method: ""};
let all = false;
function fill(el, attrs, kids) {
  for (const [k, v] of Object.entries(attrs)) if (v !== null && v !== "") el.setAttribute(k, v);
  el.append(...kids.filter(k => k !== null && k !== ""));
  return el;
}
const h = (tag, attrs, ...kids) => fill(document.createElement(tag), attrs, kids);
const s = (tag, attrs, ...kids) => fill(document.createElementNS(SVG, tag), attrs, kids);
const fixed = v => v === null ? "—" : v.toFixed(1);
const count = n => n.toLocaleString("en");
const plural = (n, word, many = word + "s") => count(n) + " " + (n === 1 ? word : many);
// Fields of an entry, see `_ENTRY` in build.py.
const of = entries.map(e => {
  const [encoder, model, method, predictor, rule, variant] = e.slice(0, 6).map(k => words[k]);
  const [plain, bound, madeUp] = e.slice(6);
  return {encoder, model, plain, bound, method, madeUp, about: [rule, variant].filter(Boolean).join(", "),
    text: [(encoder + " " + model).toLowerCase(), (method + " " + predictor + " " + rule + " " + variant).toLowerCase()]};
});

function head(scale) {
  const col = (cls, words) => h("th", {scope: "col", class: cls}, words);
  const ends = scale ? [h("span", {}, "1"), h("span", {}, count(scale))] : [];
  return h("thead", {}, h("tr", {}, col("text", "Encoder"), col("text method", "Method"), col("acc", "Accuracy, %"),
    col("rank", "Rank interval"), h("td", {class: "plot"}, h("div", {class: "ends"}, ...ends)), col("n", "Images")));
}
function line([entry, accuracy, low, high, best, worst, tied, images, sets], view, scale) {
  const e = of[entry], span = low === null ? "" : fixed(low) + " to " + fixed(high);
  const rank = best === worst ? String(best) : best + "–" + worst;
  const x = at => 100 * at / scale + "%";
  const plot = () => s("svg", {"aria-hidden": "true"},
    s("line", {class: "grid", x1: "0%", x2: "100%", y1: 10, y2: 10}),
    s("line", {class: "span", x1: x(best - 1), x2: x(worst), y1: 10, y2: 10}));
  return h("tr", {class: [tied && "tied", e.plain && "plain-entry"].filter(Boolean).join(" ")},
    h("th", {scope: "row", class: "text"}, e.encoder, h("small", {}, e.model + (e.madeUp ? " (made up)" : ""))),
    h("td", {class: "text method"}, e.method, h("small", {}, e.about)),
    h("td", {class: "acc"}, fixed(accuracy), h("small", {}, span),
      sets < view.sets ? h("small", {}, sets + " of " + view.sets + " data sets") : ""),
    h("td", {class: "rank"}, e.bound ? "none" : rank, tied ? h("small", {}, "tied with best") : ""),
    h("td", {class: "plot"}, e.bound ? "" : plot()),
    h("td", {class: "n"}, count(images)));
}
function table(lines, view, caption) {
  const scale = Math.max(...lines.map(one => one[5]));
  return h("table", {class: "numbers board"}, h("caption", {class: "vh"}, caption), head(scale),
    h("tbody", {}, ...lines.map(one => line(one, view, scale))));
}
function show() {
  const view = views[+state.view], asked = [state.encoder, state.method].map(t => t.toLowerCase().split(" "));
  const wanted = ([entry]) => asked.every((parts, k) => parts.every(part => of[entry].text[k].includes(part)));
  const found = view.lines.filter(wanted), ranked = found.filter(([e]) => !of[e].bound);
  const bounds = found.filter(([e]) => of[e].bound), shown = all ? ranked : ranked.slice(0, FIRST);
  const tied = view.lines.filter(one => one[6]).length;
  $("about").textContent = view.title + ": " + view.about + ".";
  $("count").textContent = (ranked.length < view.ranked ? count(ranked.length) + " of " : "")
    + plural(view.ranked, "entry", "entries") + " with a rank, "
    + (tied ? count(tied) + " tied with the best" : "none shown to be the best")
    + (shown.length < ranked.length ? "; the first " + count(shown.length) + " are listed." : ".");
  $("table").replaceChildren(...(ranked.length ? [table(shown, view, "Entries by accuracy")]
    : [h("p", {}, view.ranked ? "No entry matches." : "No entry has a rank.")]));
  $("more").hidden = shown.length === ranked.length;
  $("more").textContent = "List all " + count(ranked.length) + " entries";
  $("bounds").hidden = !bounds.length;
  $("bounds-table").replaceChildren(...(bounds.length ? [table(bounds, view, "Bounds by accuracy")] : []));
}
function read() {
  const given = new URLSearchParams(location.hash.slice(1));
  for (const key of Object.keys(state)) {
    state[key] = given.get(key) ?? (key === "view" ? "0" : "");
    if (key === "view" && !views[+state.view]) state.view = "0";
    $(key).value = state[key];
  }
}
for (const key of Object.keys(state)) $(key).addEventListener(key === "view" ? "change" : "input", e => {
  state[key] = e.target.value;
  all = false;
  history.replaceState(null, "", "#" + new URLSearchParams(Object.entries(state).filter(([, v]) => v && v !== "0")));
  show();
});
$("more").addEventListener("click", () => { all = true; show(); $("table").focus(); });
addEventListener("hashchange", () => { if (location.hash !== "#table") { read(); show(); } });
document.querySelectorAll(".js").forEach(one => { one.hidden = false; });
read();
show();
document.documentElement.setAttribute("data-ready", "1");
})();
