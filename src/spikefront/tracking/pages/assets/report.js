"use strict";
// The page of one or several studies: everything is drawn from the JSON beside it, nothing is fetched (unless live).
const OKABE_ITO = ["#0072b2", "#d55e00", "#009e73", "#cc79a7", "#e69f00", "#56b4e9", "#8c8c8c", "#b3a300"];
const SYMBOLS = ["circle", "square", "diamond", "triangle-up", "cross", "hexagon"];
const CIVIDIS = [[0, "#00224e"], [.2, "#35456c"], [.4, "#666970"], [.6, "#948e77"], [.8, "#c8b866"], [1, "#fee838"]];
const OPERATORS = { "=": (a, b) => a == b, ":": (a, b) => a == b, "!=": (a, b) => a != b, "<": (a, b) => a < b, ">": (a, b) => a > b,
                    "<=": (a, b) => a <= b, ">=": (a, b) => a >= b };
const PREFIX = { p: 1e-12, n: 1e-9, u: 1e-6, "µ": 1e-6, m: 1e-3, k: 1e3, M: 1e6, G: 1e9, "%": .01 };
const PAGE = 100;
const $ = id => document.getElementById(id);
let data = JSON.parse($("data").textContent), rows = [], shown = [], chosen = null, sorted = { key: null, down: false }, limit = PAGE, layersOpen = false;

// ---- figures as people read them
const si = (v, unit = "") => {
  if (v === null || v === undefined || !isFinite(v)) return "";
  if (v === 0) return `0 ${unit}`;
  for (const [p, s] of [["G", 1e9], ["M", 1e6], ["k", 1e3], ["", 1], ["m", 1e-3], ["µ", 1e-6], ["n", 1e-9], ["p", 1e-12]])
    if (Math.abs(v) >= s * .9995) return `${+(v / s).toPrecision(3)} ${p}${unit}`.trimEnd();
  return `${v.toPrecision(3)} ${unit}`;
};
const UNIT = { energy: "J", energy_joules: "J", latency: "s", seconds: "s", memory: "B" };
const isAccuracy = name => /accuracy/.test(name);
function figure(name, v) {
  if (v === null || v === undefined || v === "") return "";
  if (typeof v !== "number") return String(v);
  if (isAccuracy(name)) return `${(100 * v).toFixed(2)} %`;
  if (name in UNIT) return si(v, UNIT[name]);
  if (name === "parameters") return si(v);
  return Number.isInteger(v) ? String(v) : String(+v.toPrecision(4));
}
const title = name => ({ energy: "energy, joules a sample", latency: "latency, seconds a sample", accuracy: "accuracy (validation)" })[name] || name;
const safe = s => String(s).replace(/&/g, "&amp;").replace(/</g, "&lt;").replace(/>/g, "&gt;");
function el(tag, text, attributes = {}) {
  const e = document.createElement(tag);
  if (text !== undefined) e.textContent = text;
  for (const [k, v] of Object.entries(attributes)) e.setAttribute(k, v);
  return e;
}
const css = name => getComputedStyle(document.documentElement).getPropertyValue(name).trim();
const narrow = () => window.innerWidth < 620;

// ---- rows: one a trial, all studies together
function ingest() {
  rows = [];
  data.studies.forEach((study, s) => study.trials.forEach(t => {
    const row = { ...t, s, i: rows.length, study: study.name, front: t.on_front, x: t.values[data.cost], y: t.values[data.gain] };
    row.get = key => key === "study" ? study.name : key === "trial" ? t.number : key === "state" ? t.state : key in t.params ? t.params[key]
      : key in t.values ? t.values[key] : key === "test accuracy" ? (t.test || {}).accuracy : key === "firing rate" ? t.firing_rate
      : key === "front" ? (t.on_front ? "●" : "") : t[key];
    row.text = null;
    rows.push(row);
  }));
  data.params = [...new Set(rows.flatMap(r => Object.keys(r.params)))];
  if (chosen) chosen = rows.find(r => r.study === chosen.study && r.number === chosen.number) || null;
  if (!chosen) chosen = rows.filter(r => r.front && r.y !== undefined).sort((a, b) => b.y - a.y)[0] || null;
}
const words = row => row.text ??= [row.study, `trial ${row.number}`, row.state, row.front ? "front" : "", row.reason || "",
  ...Object.entries(row.params).map(([k, v]) => `${k}=${v}`)].join(" ").toLowerCase();

// ---- filter: words, and key<value with SI prefixes
function quantity(s) {
  const m = /^(-?[\d.]+(?:e[-+]?\d+)?)\s*([pnuµmkMG%]?)[a-zA-Z]*$/i.exec(s);
  return m && m[1] !== "." ? Number(m[1]) * (PREFIX[m[2]] ?? 1) : null;
}
function compile(query) {
  const tests = [];
  for (const token of query.trim().split(/\s+/).filter(Boolean)) {
    const m = /^([^=<>!:]+)(<=|>=|!=|=|<|>|:)(.+)$/.exec(token);
    if (!m) { tests.push(r => words(r).includes(token.toLowerCase())); continue; }
    const known = ["study", "trial", "state", "firing rate", "parameters", "seconds", "epochs", "seed", "test accuracy", data.gain, data.cost, ...data.params];
    const wanted = m[1].replace(/_/g, " ").toLowerCase();
    const key = known.find(k => k.replace(/_/g, " ").toLowerCase() === wanted) || known.find(k => k.toLowerCase().split(".").pop() === m[1].toLowerCase());
    if (!key) return null;
    const number = quantity(m[3]), test = OPERATORS[m[2]];
    tests.push(r => {
      const v = r.get(key);
      if (v === null || v === undefined) return false;
      return typeof v === "number" ? number !== null && test(v, number) : test(String(v).toLowerCase(), m[3].toLowerCase());
    });
  }
  return r => tests.every(t => t(r));
}

// ---- drawing
const colours = () => OKABE_ITO.map((c, i) => i === 0 && document.documentElement.dataset.theme === "dark" ? "#56b4e9" : i === 5 && document.documentElement.dataset.theme === "dark" ? "#0072b2" : c);
const font = () => ({ family: "system-ui, -apple-system, Segoe UI, Roboto, DejaVu Sans, sans-serif", size: narrow() ? 11 : 13, color: css("--ink") });
const axis = extra => ({ gridcolor: css("--line"), linecolor: css("--line"), zeroline: false, automargin: true, ...extra, title: { text: extra.title, font: { size: 13 }, standoff: 8 } });
const layout = extra => ({
  paper_bgcolor: "rgba(0,0,0,0)", plot_bgcolor: "rgba(0,0,0,0)", font: font(), margin: { l: 8, r: 10, t: 10, b: 8 },
  hoverlabel: { bgcolor: css("--panel"), bordercolor: css("--line"), font: { ...font(), size: 12 }, align: "left" },
  legend: { orientation: "h", y: 1.02, yanchor: "bottom", x: 0, font: { size: 12 } }, ...extra });
const options = { responsive: true, displaylogo: false, displayModeBar: false };

function ticks(values) { // a log axis people can read: 1, 2, 5 with SI prefixes
  const good = values.filter(v => v > 0), lo = Math.min(...good), hi = Math.max(...good);
  if (!good.length) return {};
  const steps = hi / lo > 300 ? [1] : hi / lo > 12 ? [1, 2, 5] : hi / lo > 3 ? [1, 1.5, 2, 3, 4, 5, 7] : [1, 1.2, 1.4, 1.6, 1.8, 2, 2.5, 3, 3.5, 4, 5, 6, 7, 8, 9];
  const at = [];
  for (let e = Math.floor(Math.log10(lo)) - 1; e <= Math.ceil(Math.log10(hi)) + 1; e++) for (const s of steps) at.push(+(s * 10 ** e).toPrecision(3));
  return { tickmode: "array", tickvals: at, ticktext: at.map(v => si(v, UNIT[data.cost] || "")) };
}
const logarithmic = () => ["energy", "latency", "parameters", "memory"].includes(data.cost);

function hover(row, t, x, y) {
  const lines = [`<b>${safe(row.study)} · trial ${row.number}</b>${t ? ` stopped at t = ${t}` : ""}`,
    `${data.gain} ${figure(data.gain, y)} · ${data.cost} ${figure(data.cost, x)}`];
  if (row.firing_rate != null && !t) lines.push(`firing rate ${row.firing_rate.toFixed(3)}`);
  if (row.parameters) lines.push(`${si(row.parameters)} parameters`);
  for (const [k, v] of Object.entries(row.params)) lines.push(`${safe(k)} = <b>${safe(figure(k, v))}</b>`);
  return lines.join("<br>");
}
const curve = row => data.gain === "accuracy" && data.cost === "energy" ? (row.anytime || []).map(p => ({ t: p.t, x: p.energy_joules, y: p.accuracy })) : [];

function colouring(list) { // marker colours by any column; a key in HTML for categories, a colour bar for numbers
  const key = $("colour").value;
  if (!key) return { colour: r => colours()[r.s % OKABE_ITO.length], key: [] };
  const values = list.map(r => r.get(key)).filter(v => v !== undefined && v !== null);
  const distinct = [...new Set(values)];
  if (values.length && values.every(v => typeof v === "number") && distinct.length > 6) {
    const logs = values.every(v => v > 0) && Math.max(...values) / Math.min(...values) > 50;
    return { number: r => { const v = r.get(key); return typeof v !== "number" ? null : logs ? Math.log10(v) : v; }, logs, title: key, key: [] };
  }
  distinct.sort((a, b) => typeof a === "number" ? a - b : String(a).localeCompare(String(b)));
  const map = new Map(distinct.map((v, i) => [v, colours()[i % OKABE_ITO.length]]));
  return { colour: r => map.get(r.get(key)) || css("--soft"), key: distinct.map(v => [`${key} = ${figure(key, v)}`, map.get(v)]) };
}

function drawFront() {
  const ok = r => r.x !== undefined && r.x !== null && r.y !== undefined && r.y !== null;
  const list = shown.filter(ok), paint = colouring(list), traces = [], seen = new Set(shown), xs = [], ys = [];
  const marker = (group, extra) => paint.number
    ? { color: group.map(paint.number), coloraxis: "coloraxis", ...extra } : { color: group.map(paint.colour), ...extra };
  const custom = group => group.map(r => r.i);
  data.studies.forEach((study, s) => {
    const own = list.filter(r => r.s === s), top = own.filter(r => r.front), below = own.filter(r => !r.front);
    const colour = colours()[s % OKABE_ITO.length], symbol = SYMBOLS[s % SYMBOLS.length], several = data.studies.length > 1;
    if ($("show-anytime").checked) {
      const x = [], y = [];
      for (const r of top) { for (const p of curve(r)) { x.push(p.x); y.push(p.y); } x.push(null); y.push(null); }
      if (x.length) traces.push({ x, y, mode: "lines+markers", line: { color: colour, width: 1, dash: "dot" }, marker: { size: 3.5, color: colour }, opacity: .5,
        name: several ? `anytime, ${safe(study.name)}` : "anytime: the same network stopped at t", hoverinfo: "skip", connectgaps: false, showlegend: !several });
    }
    if ($("show-dominated").checked && below.length) {
      traces.push({ x: below.map(r => r.x), y: below.map(r => r.y), mode: "markers", customdata: custom(below), text: below.map(r => hover(r, null, r.x, r.y)),
        hovertemplate: "%{text}<extra></extra>", marker: marker(below, { size: 7, symbol, opacity: .34, line: { width: 0 } }), name: several ? `${safe(study.name)}, dominated` : "dominated trials", showlegend: !several && !paint.number });
    }
    const points = study.front.filter(p => { const r = rows.find(q => q.s === s && q.number === p.number); return r && seen.has(r); });
    const owner = p => rows.find(r => r.s === s && r.number === p.number);
    points.sort((a, b) => a.x - b.x);
    if (points.length) {
      traces.push({ x: points.map(p => p.x), y: points.map(p => p.y), mode: "lines", line: { shape: "hv", color: colour, width: 2.2 }, hoverinfo: "skip", name: several ? `front of ${safe(study.name)}` : "front" });
      for (const final of [true, false]) {
        const group = points.filter(p => p.final === final);
        if (!group.length) continue;
        traces.push({ x: group.map(p => p.x), y: group.map(p => p.y), mode: "markers", customdata: custom(group.map(owner)),
          text: group.map(p => hover(owner(p), final ? null : p.t, p.x, p.y)), hovertemplate: "%{text}<extra></extra>", name: final ? "on the front" : "on the front, stopped early",
          marker: { ...marker(group.map(owner), { size: final ? 11 : 9, symbol: final ? symbol : `${symbol}-open` }), line: final ? { color: css("--panel"), width: 1.2 } : { width: 2 } }, showlegend: !several && !final && !paint.number });
      }
    }
    for (const p of [...own, ...points]) { xs.push(p.x); ys.push(p.y); }
    if (study.seeds.length) traces.push({ x: study.seeds.map(g => g.cost.mean), y: study.seeds.map(g => g.gain.mean), mode: "markers", marker: { symbol: "line-ew-open", size: 9, color: css("--ink") },
      error_y: { array: study.seeds.map(g => g.gain.half), color: css("--ink"), thickness: 1.4, width: 4 }, error_x: { array: study.seeds.map(g => g.cost.half), color: css("--ink"), thickness: 1.4, width: 4 },
      text: study.seeds.map(g => `<b>${safe(study.name)}</b>: mean of ${g.n} seeds, 95 % interval<br>${data.gain} ${figure(data.gain, g.gain.mean)} ± ${figure(data.gain, g.gain.half)}<br>${data.cost} ${figure(data.cost, g.cost.mean)} ± ${figure(data.cost, g.cost.half)}`),
      hovertemplate: "%{text}<extra></extra>", name: "mean of several seeds, 95 %", showlegend: s === 0 || !several });
  });
  const annotations = [], shapes = [];
  if ($("show-published").checked) {
    const marks = data.published.filter(p => p.energy), levels = data.published.filter(p => !p.energy);
    if (marks.length) traces.push({ x: marks.map(p => p.energy), y: marks.map(p => p.accuracy), mode: narrow() ? "markers" : "markers+text", text: labels(marks, levels, list), textposition: marks.map(p => p.source === marks[0].source ? "bottom center" : "top center"), textfont: { size: 10.5, color: css("--soft") },
      marker: { symbol: "star", size: 11, color: css("--soft") }, hovertext: marks.map(p => `<b>${safe(p.name)}</b>, published<br>accuracy ${figure("accuracy", p.accuracy)} · energy ${si(p.energy, "J")}${p.parameters ? `<br>${si(p.parameters)} parameters` : ""}<br>${safe(p.note || "")}<br><i>${safe(p.source)}</i>`), hovertemplate: "%{hovertext}<extra></extra>", name: "published" });
    for (const p of marks) { xs.push(p.energy); ys.push(p.accuracy); }
    for (const p of levels) {
      shapes.push({ type: "line", xref: "paper", x0: 0, x1: 1, y0: p.accuracy, y1: p.accuracy, line: { color: css("--soft"), width: 1, dash: "dot" }, opacity: .6 });
      annotations.push({ xref: "paper", x: 1, xanchor: "right", y: p.accuracy, yanchor: "bottom", showarrow: false, text: `${safe(p.name)} (no energy published)`, font: { size: 10.5, color: css("--soft") }, hovertext: p.source });
      ys.push(p.accuracy);
    }
  }
  if (chosen && ok(chosen) && seen.has(chosen)) {
    const path = curve(chosen);
    traces.push({ x: path.map(p => p.x), y: path.map(p => p.y), mode: "lines+markers", line: { color: css("--ink"), width: 1.6, dash: "dot" }, marker: { size: 6, color: css("--ink") }, text: path.map(p => hover(chosen, p.t, p.x, p.y)), hovertemplate: "%{text}<extra></extra>", showlegend: false });
    traces.push({ x: [chosen.x], y: [chosen.y], mode: "markers", marker: { size: 19, symbol: "circle-open", color: css("--ink"), line: { width: 2.2 } }, hoverinfo: "skip", name: "selected", showlegend: false });
    xs.push(...path.map(p => p.x));
  }
  const numbers = paint.number ? { coloraxis: { colorscale: CIVIDIS, colorbar: { ...bar(paint, list), title: { text: paint.title, side: "right", font: { size: 12 } }, thickness: 11, outlinewidth: 0, len: .85 } } } : {};
  const log = logarithmic();
  const range = fit(ys);
  Plotly.react("front", traces, layout({ ...numbers, annotations, shapes, hovermode: "closest", dragmode: narrow() ? false : "zoom", uirevision: "keep",
    xaxis: axis({ title: title(data.cost), type: log ? "log" : "linear", ...(log ? ticks(xs) : {}), tickangle: 0 }),
    yaxis: axis({ title: title(data.gain), tickformat: isAccuracy(data.gain) ? ".1~%" : "", ...(range ? { range } : {}) }) }), options);
  $("key").replaceChildren(...paint.key.map(([label, colour]) => { const span = el("span"); const dot = el("i"); dot.style.background = colour; span.append(dot, label); return span; }));
}
function labels(marks, levels, list) { // names of the marks, most accurate first, where there is room; the rest on hover
  const xs = [...marks.map(p => p.energy), ...list.map(r => r.x)].filter(v => v > 0).map(Math.log), ys = [...marks.map(p => p.accuracy), ...list.map(r => r.y)];
  const width = Math.max(...xs) - Math.min(...xs) || 1, height = Math.max(...ys) - Math.min(...ys) || 1, kept = [];
  for (const p of marks.slice().sort((a, b) => b.accuracy - a.accuracy))
    if (levels.every(q => Math.abs(p.accuracy - q.accuracy) > .025 * height) && kept.every(q => Math.abs(Math.log(p.energy) - Math.log(q.energy)) > .16 * width || Math.abs(p.accuracy - q.accuracy) > .06 * height)) kept.push(p);
  return marks.map(p => kept.includes(p) ? p.name : "");
}
function bar(paint, list) { // ticks of a logarithmic colour bar, as values
  if (!paint.logs) return {};
  const values = list.map(paint.number).filter(v => v !== null), at = [];
  for (let e = Math.floor(Math.min(...values)); e <= Math.max(...values); e++) for (const s of [1, 3]) at.push(+(s * 10 ** e).toPrecision(1));
  return { tickvals: at.map(Math.log10), ticktext: at.map(v => v.toExponential(0).replace("e+", "e")) };
}
function fit(ys) { // the interesting part of the accuracies: single collapsed trials shouldn't flatten the front
  const good = ys.filter(v => typeof v === "number").sort((a, b) => a - b);
  if (good.length < 8 || !isAccuracy(data.gain)) return null;
  const low = good[Math.floor(good.length * .1)], high = good[good.length - 1], pad = Math.max(.004, (high - low) * .1);
  return [Math.max(good[0] - pad, low - (high - low) * .5), Math.min(1.0 + pad / 3, high + pad)];
}
function drawHypervolume() {
  const traces = data.studies.filter(s => s.volumes.length).map(s => {
    const i = data.studies.indexOf(s), y = s.volumes;
    return { x: y.map((_, k) => k + 1), y, mode: y.length < 3 ? "lines+markers" : "lines", name: safe(s.name) + (s.sampler ? ` (${s.sampler})` : ""), line: { shape: "hv", width: 2.2, color: colours()[i % OKABE_ITO.length], dash: s.sampler === "random" ? "dash" : "solid" },
      hovertemplate: "after %{x} trials<br>%{y:.4~g}<extra>" + safe(s.name) + "</extra>" };
  });
  Plotly.react("hypervolume", traces, layout({ showlegend: true, xaxis: axis({ title: "trials finished", rangemode: "tozero" }), yaxis: axis({ title: "hypervolume", exponentformat: "SI" }) }), options);
  const random = data.studies.some(s => s.sampler === "random");
  $("hypervolume-note").textContent = `What the front so far dominates, up to ${data.gain} 0 and ${data.cost} ${figure(data.cost, data.reference)} (the worst trial shown).`
    + (random ? " Dashed: random search." : " To hold it against random search, run the same sweep with the random sampler and give both studies to the report.");
}
function drawImportance() {
  const many = data.studies.filter(s => Object.values(s.importance).some(o => Object.keys(o).length));
  const all = many.flatMap(s => Object.entries(s.importance).map(([objective, shares]) => ({ s, objective, shares })));
  const names = [...new Set(all.flatMap(a => Object.keys(a.shares)))].map(n => [n, Math.max(...all.map(a => a.shares[n] || 0))]).sort((a, b) => a[1] - b[1]).map(n => n[0]).slice(-14);
  const traces = all.map((a, i) => ({ type: "bar", orientation: "h", y: names, x: names.map(n => a.shares[n] ?? null), name: many.length > 1 ? `${safe(a.objective)}, ${safe(a.s.name)}` : safe(a.objective),
    marker: many.length > 1 ? { color: colours()[data.studies.indexOf(a.s) % OKABE_ITO.length], pattern: { shape: a.objective === data.gain ? "" : "/", fgopacity: .75 } }
      : { color: colours()[[0, 4, 2, 3][i % 4]] }, hovertemplate: "%{y}: %{x:.0%} of " + safe(a.objective) + "<extra></extra>" }));
  Plotly.react("importance", traces, layout({ barmode: "group", bargap: .3, showlegend: true, legend: { orientation: "h", y: 1.02, yanchor: "bottom", x: 0, traceorder: "normal" }, xaxis: axis({ title: "share of the variance", tickformat: ".0%", rangemode: "tozero" }), yaxis: axis({ title: "", type: "category" }) }), options);
  $("importance-note").textContent = names.length ? "Share of each objective's variance that a parameter explains among the finished trials (fANOVA)." : "Too few finished trials to say.";
}

// ---- the selected model
function drawSelected() {
  const box = $("selected"), r = chosen;
  if (!r) { box.replaceChildren(el("h2", "No trial selected"), el("p", "Click a point.", { class: "note" })); return; }
  const h = el("h2", `Trial ${r.number} `);
  h.append(el("small", `${data.studies.length > 1 ? r.study + ", " : ""}${r.front ? "on the front" : r.state === "complete" ? "dominated" : r.state}`));
  const list = el("dl"), pair = (k, v) => { if (v !== "" && v !== undefined && v !== null) list.append(el("dt", k), el("dd", v)); };
  for (const [k, v] of Object.entries(r.values)) pair(`${k}${k === "accuracy" ? " (validation)" : ""}`, figure(k, v));
  pair("accuracy (test)", figure("accuracy", (r.test || {}).accuracy));
  pair("firing rate", figure("firing rate", r.firing_rate));
  if (!("parameters" in r.values)) pair("parameters", figure("parameters", r.parameters));
  pair("epochs", figure("epochs", r.epochs)); pair("trained for", figure("seconds", r.seconds));
  if (r.reason) pair("reason", r.reason);
  for (const [k, v] of Object.entries(r.params)) pair(k, figure(k, v));
  const parts = [h, list];
  const steps = r.anytime || [];
  if (steps.length > 1) {
    const table = el("table", undefined, { class: "steps" }), head = el("tr");
    head.append(...["stop at t", "accuracy", "energy"].map(x => el("th", x)));
    table.append(head, ...steps.map(p => { const tr = el("tr"); tr.append(el("td", p.t), el("td", figure("accuracy", p.accuracy)), el("td", si(p.energy_joules, "J"))); return tr; }));
    parts.push(el("h3", "Stopped early"), table);
  }
  const groups = Object.entries(r.energy_groups || {}), most = Math.max(...groups.map(g => g[1]), 0);
  if (most > 0) parts.push(el("h3", "Where the energy goes"), ...groups.map(([name, joules]) => share(name, joules / most, si(joules, "J"))));
  const layers = r.energy_layers || [], top = Math.max(...layers.map(l => l.joules), 0);
  if (top > 0) {
    const details = el("details", undefined, { id: "layers" });
    details.append(el("summary", `layer by layer (${layers.length})`), ...layers.map(l =>
      share(l.name, l.joules / top, si(l.joules, "J"), l.firing_rate === null || l.firing_rate === undefined ? "analog" : l.firing_rate.toFixed(3))));
    details.open = layersOpen; details.ontoggle = () => { layersOpen = details.open; };
    details.append(el("p", "energy, and the firing rate of what enters the layer", { class: "note" }));
    parts.push(details);
  }
  if (r.command) {
    const pre = el("pre", r.command, { id: "command", tabindex: "0", title: "click to copy" }), button = el("button", "copy", { type: "button", id: "copy" });
    const copy = async () => { await toClipboard(r.command); button.textContent = "copied"; setTimeout(() => button.textContent = "copy", 1200); };
    pre.onclick = button.onclick = copy;
    parts.push(el("h3", "Train it again"), pre, button);
  }
  box.replaceChildren(...parts);
}
function share(name, part, value, more) {
  const bar = el("div", undefined, { class: more === undefined ? "bar" : "bar rated" }), holder = el("span"), i = el("i");
  i.style.display = "block"; i.style.width = `${100 * part}%`; holder.append(i);
  bar.append(el("span", name, { title: name }), holder, el("span", value)); if (more !== undefined) bar.append(el("span", more));
  return bar;
}
async function toClipboard(text) {
  try { await navigator.clipboard.writeText(text); } catch {
    const area = el("textarea"); area.value = text; document.body.append(area); area.select(); document.execCommand("copy"); area.remove();
  }
}
function choose(row) { chosen = row; drawSelected(); drawFront(); drawTable(); }

// ---- the table
function columns() {
  const values = [...new Set(rows.flatMap(r => Object.keys(r.values)))];
  const has = key => rows.some(r => r.get(key) !== undefined && r.get(key) !== null && r.get(key) !== "");
  return [...(data.studies.length > 1 ? ["study"] : []), "trial", "state", "front", ...values, ...["test accuracy", "firing rate"].filter(has),
    ...(values.includes("parameters") ? [] : ["parameters"].filter(has)), ...["epochs", "seconds"].filter(has), ...data.params, ...["reason"].filter(has)];
}
function order(list) {
  const key = sorted.key, sign = sorted.down ? -1 : 1, blank = v => v === undefined || v === null || v === "";
  if (!key) return list.slice().sort((a, b) => (b.front - a.front) || ((b.y ?? -1) - (a.y ?? -1)));
  return list.slice().sort((a, b) => {
    const u = a.get(key), v = b.get(key);
    if (blank(u) || blank(v)) return blank(u) - blank(v);
    return sign * (typeof u === "number" && typeof v === "number" ? u - v : String(u).localeCompare(String(v), undefined, { numeric: true }));
  });
}
function drawTable() {
  const keys = columns(), numeric = new Set(keys.filter(k => rows.some(r => typeof r.get(k) === "number"))), tr = el("tr");
  for (const key of keys) {
    const th = el("th", undefined, { class: numeric.has(key) ? "number" : "", "aria-sort": sorted.key === key ? (sorted.down ? "descending" : "ascending") : "none" });
    const button = el("button", key + (sorted.key === key ? (sorted.down ? " ▾" : " ▴") : ""), { type: "button" });
    button.onclick = () => { sorted = { key, down: sorted.key === key ? !sorted.down : numeric.has(key) && key !== data.cost && key !== "trial" }; drawTable(); };
    th.append(button); tr.append(th);
  }
  const listed = order(shown), body = document.createDocumentFragment();
  for (const row of listed.slice(0, limit)) {
    const line = el("tr", undefined, { tabindex: "0", class: row === chosen ? "chosen" : "" });
    for (const key of keys) line.append(el("td", figure(key, row.get(key)), { class: numeric.has(key) ? "number" : "" }));
    line.onclick = () => choose(row);
    line.onkeydown = e => { if (e.key === "Enter") choose(row); };
    body.append(line);
  }
  document.querySelector("#trials thead").replaceChildren(tr);
  document.querySelector("#trials tbody").replaceChildren(body);
  $("count").textContent = shown.length === rows.length ? `${rows.length} trials` : `${shown.length} of ${rows.length} trials`;
  $("more").hidden = listed.length <= limit;
  $("more").textContent = `show all ${listed.length}`;
}

// ---- downloads
function save(name, text, type) {
  const a = el("a", undefined, { href: URL.createObjectURL(new Blob([text], { type })), download: name });
  document.body.append(a); a.click(); a.remove(); setTimeout(() => URL.revokeObjectURL(a.href), 1000);
}
const stem = () => data.studies.map(s => s.name).join("-").replace(/[^\w.-]+/g, "_") || "report";
function toCsv() {
  const keys = columns(), cell = v => { const s = v === undefined || v === null ? "" : String(v); return /[",\n]/.test(s) ? `"${s.replace(/"/g, '""')}"` : s; };
  return [[...keys, "command"], ...order(shown).map(r => [...keys.map(k => k === "front" ? (r.front ? 1 : 0) : r.get(k)), r.command])].map(l => l.map(cell).join(",")).join("\n") + "\n";
}
function toLatex() {
  const list = order(shown.filter(r => r.front)), escape = s => String(s).replace(/\\/g, "\\textbackslash ").replace(/[&%$#_{}]/g, "\\$&").replace(/µ/g, "$\\mu$").replace(/~/g, "\\textasciitilde ").replace(/\^/g, "\\textasciicircum ");
  const keys = columns().filter(k => !["state", "front", "reason", "seconds", "epochs"].includes(k)), several = list.length ? list : order(shown);
  return ["% needs \\usepackage{booktabs}; " + data.studies.map(s => `${s.name}: ${s.convention || "energy convention not recorded"}`).join("; "),
    `\\begin{tabular}{${keys.map(k => several.some(r => typeof r.get(k) === "number") ? "r" : "l").join("")}}`, "\\toprule", keys.map(escape).join(" & ") + " \\\\", "\\midrule",
    ...several.map(r => keys.map(k => escape(figure(k, r.get(k)))).join(" & ") + " \\\\"), "\\bottomrule", "\\end{tabular}"].join("\n") + "\n";
}
async function printed(format, width, height) { // for a headless browser that reads the document: picture.py
  document.documentElement.dataset.theme = "light"; chosen = null; drawFront();
  document.body.replaceChildren(el("pre", await Plotly.toImage("front", { format, width, height, scale: format === "png" ? 2 : 1, setBackground: "#ffffff" }), { id: "picture" }));
}
async function picture(format) { // on white, whatever the theme
  const before = document.documentElement.dataset.theme;
  document.documentElement.dataset.theme = "light"; drawFront();
  await Plotly.downloadImage("front", { format, width: 1100, height: 650, scale: format === "png" ? 2 : 1, filename: `${stem()}-front`, setBackground: "#ffffff" });
  document.documentElement.dataset.theme = before; drawFront();
}

// ---- around it
function drawHead() {
  const trials = rows.length, state = s => rows.filter(r => r.state === s).length, cards = [], finished = rows.filter(r => r.y !== undefined && r.y !== null && r.x > 0);
  const card = (value, label, of = "") => { const c = el("div", undefined, { class: "card" }), b = el("b", value); if (of) b.append(el("span", " " + of, { class: "of" })); c.append(b, el("span", label)); cards.push(c); };
  document.title = `${data.studies.map(s => s.name).join(", ")} · Spikefront`;
  $("title").textContent = `${data.gain[0].toUpperCase()}${data.gain.slice(1)} against ${data.cost}`;
  $("subtitle").textContent = data.studies.map(s => `${s.name}${s.data ? ` on ${s.data}` : ""}`).join(" · ");
  card(state("complete"), ["pruned", "failed", "infeasible", "running"].filter(state).map(s => `${state(s)} ${s}`).join(", ") || "trials finished", `of ${trials} trials`);
  if (finished.length) {
    const best = finished.reduce((a, b) => b.y > a.y ? b : a);
    const cheap = data.studies.flatMap((s, i) => s.front.map(p => ({ ...p, s: i }))).filter(p => p.y >= best.y - .01).sort((a, b) => a.x - b.x)[0];
    card(figure(data.gain, best.y), `best ${data.gain}, at ${figure(data.cost, best.x)}`);
    if (cheap && isAccuracy(data.gain)) card(figure(data.cost, cheap.x), `within one point of it: trial ${cheap.number}${cheap.final ? "" : `, stopped at t = ${cheap.t}`}`);
    card(data.studies.reduce((n, s) => n + s.front.length, 0), "points on the front", data.studies.length > 1 ? `of ${data.studies.length} studies` : "");
  }
  $("cards").replaceChildren(...cards);
  $("published-label").hidden = !data.published.length;
  const before = $("colour").value, choices = ["", ...data.params, "firing rate", "parameters", "test accuracy", "epochs"].filter(k => !k || rows.some(r => r.get(k) !== undefined && r.get(k) !== null));
  $("colour").replaceChildren(...choices.map(k => el("option", k || "study", { value: k })));
  $("colour").value = choices.includes(before) ? before : "";
  const notes = [el("p", `Energies are joules a sample. ${data.studies.map(s => `${s.name}: ${s.convention || "convention not recorded"}`).join("; ")}. Points are of the validation part, which the search selected on; the test part stands beside them. Made ${data.made} by Spikefront ${data.version}.`)];
  if (data.published.length) {
    const ul = el("ul");
    for (const source of [...new Set(data.published.map(p => p.source))]) ul.append(el("li", `${data.published.filter(p => p.source === source).map(p => p.name).join(", ")}: ${source}`));
    notes.push(el("p", "Published results, as their authors counted them (conventions differ between papers):"), ul);
  }
  $("footer").replaceChildren(...notes);
}
function refilter() {
  const test = compile($("filter").value);
  $("filter").classList.toggle("wrong", test === null);
  if (test) shown = rows.filter(test);
  drawFront(); drawTable();
}
function everything() { ingest(); drawHead(); shown = rows; refilter(); drawSelected(); drawHypervolume(); drawImportance(); }
function theme(name) {
  document.documentElement.dataset.theme = name;
  if (rows.length || data.published.length) { drawFront(); drawHypervolume(); drawImportance(); drawSelected(); }
}

const system = matchMedia("(prefers-color-scheme: dark)");
document.documentElement.dataset.theme = system.matches ? "dark" : "light";
system.addEventListener("change", e => theme(e.matches ? "dark" : "light"));
if (narrow()) $("show-anytime").checked = false;
everything();
$("front").on("plotly_click", e => { const i = e.points[0].customdata; if (i !== undefined) choose(rows[i]); });
$("theme").onclick = () => theme(document.documentElement.dataset.theme === "dark" ? "light" : "dark");
for (const id of ["show-dominated", "show-anytime", "show-published", "colour"]) $(id).onchange = drawFront;
const drawn = new Map(); // the first size is the one it was drawn at
const sizes = new ResizeObserver(changes => { for (const { target, contentRect: { width, height } } of changes) {
  const size = `${width}x${height}`;
  if (drawn.has(target) && drawn.get(target) !== size) Plotly.Plots.resize(target);
  drawn.set(target, size);
} });
for (const id of ["front", "hypervolume", "importance"]) sizes.observe($(id));
let waiting; $("filter").oninput = () => { clearTimeout(waiting); waiting = setTimeout(() => { limit = PAGE; refilter(); }, 120); };
$("more").onclick = () => { limit = Infinity; drawTable(); };
$("csv").onclick = () => save(`${stem()}.csv`, toCsv(), "text/csv");
$("latex").onclick = () => save(`${stem()}.tex`, toLatex(), "text/plain");
$("png").onclick = () => picture("png");
$("svg").onclick = () => picture("svg");

if (data.live) { // served by report.py watch=true: ask for news, keep what is shown if none come
  $("live").hidden = false;
  let tag = null;
  setInterval(async () => {
    try {
      const answer = await fetch("data.json", { headers: tag ? { "If-None-Match": tag } : {}, cache: "no-store" });
      if (answer.status === 200) { tag = answer.headers.get("ETag"); data = await answer.json(); everything(); }
      $("live").classList.remove("lost"); $("live").textContent = "live";
    } catch { $("live").classList.add("lost"); $("live").textContent = "not reachable"; }
  }, 2000);
}
const wanted = /^#picture-(png|svg)-(\d+)x(\d+)$/.exec(location.hash);
if (wanted) printed(wanted[1], +wanted[2], +wanted[3]);
document.documentElement.dataset.ready = "true";
