"use strict";
// The page of one or several studies: everything is drawn from the JSON beside it, nothing is fetched (unless live).
const OKABE_ITO = { // their colours, each at least 3:1 on its theme's panel (WCAG AA for marks): darker on white
  light: ["#0072b2", "#d55e00", "#009e73", "#c2719e", "#b07a00", "#3d8fc4", "#8c8c8c", "#8f8200"],
  dark: ["#56b4e9", "#d55e00", "#009e73", "#cc79a7", "#e69f00", "#2a86bd", "#8c8c8c", "#b3a300"] };
const SYMBOLS = ["circle", "square", "diamond", "triangle-up", "cross", "hexagon"];
const SCALE = { // the part of plasma, and of cividis, that stands out so
  light: [[0, "#0d0887"], [.25, "#5302a3"], [.5, "#8b0aa5"], [.75, "#b83289"], [1, "#db5c68"]],
  dark: [[0, "#6f717a"], [.33, "#948e77"], [.67, "#c8b866"], [1, "#fee838"]] };
const OPERATORS = { "=": (a, b) => a == b, ":": (a, b) => a == b, "!=": (a, b) => a != b, "<": (a, b) => a < b, ">": (a, b) => a > b,
                    "<=": (a, b) => a <= b, ">=": (a, b) => a >= b };
const PREFIX = { p: 1e-12, n: 1e-9, u: 1e-6, "µ": 1e-6, m: 1e-3, k: 1e3, M: 1e6, G: 1e9, "%": .01 };
const PAGE = 100, CROWD = 1000; // rows of the table at first; points below the front that are drawn at once
const $ = id => document.getElementById(id);
let data = JSON.parse($("data").textContent), rows = [], shown = [], chosen = null, sorted = { key: null, down: false }, heads = null, sight = null, limit = PAGE, layersOpen = false, beside = false, wrong = "", listening = false, exporting = false;

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

// ---- rows: one a point (a trial stopped after t timesteps), and one for each trial that has none, all studies together
function ingest() {
  rows = []; heads = null;
  data.studies.forEach((study, s) => {
    const points = Map.groupBy ? Map.groupBy(study.points, p => p.number) : study.points.reduce((m, p) => m.set(p.number, [...(m.get(p.number) || []), p]), new Map());
    for (const t of study.trials) for (const p of points.get(t.number) || [null]) rows.push(made(study, s, t, p));
  });
  data.params = [...new Set(rows.flatMap(r => Object.keys(r.params)))];
  const same = chosen && (rows.find(r => r.study === chosen.study && r.number === chosen.number && r.t === chosen.t) || rows.find(r => r.study === chosen.study && r.number === chosen.number));
  chosen = same || rows.filter(r => r.front && r.y !== undefined).sort((a, b) => b.y - a.y)[0] || null;
}
const OWN = { study: r => r.study, trial: r => r.number, t: r => r.t, state: r => r.state, front: r => r.front ? "●" : r.near ? "≈" : "", low: r => (r.interval || [])[0], high: r => (r.interval || [])[1], samples: r => r.samples,
  "test accuracy": r => (r.test || {}).accuracy, "test samples": r => (r.test || {}).samples, "firing rate": r => r.final ? r.firing_rate : null, silent: r => r.silent ? "no neuron fires" : "" };
const ROW = { get(key) { return key in this.params ? this.params[key] : key in this.values ? this.values[key] : key in OWN ? OWN[key](this) : this[key]; } };
function made(study, s, t, p) {
  const row = { __proto__: ROW, ...t, s, i: rows.length, study: study.name, text: null, hover: null, t: p ? p.t : null, final: !p || !!p.final, front: !!p && !!p.member, near: p ? p.near : null, beyond: !!p && !!p.beyond, x: p ? p.x : null, y: p ? p.y : null };
  if (p) Object.assign(row, { interval: p.interval, samples: p.samples });
  if (p && !p.final) Object.assign(row, { values: p.values || { [data.gain]: p.y, [data.cost]: p.x }, test: p.test, breaks: (t.anytime.find(s => s.t === p.t) || {}).breaks });
  return row;
}
const words = row => row.text ??= [row.study, `trial ${row.number}`, row.t ? `t=${row.t}` : "", row.state, row.front ? "front" : "", row.near ? "near" : "", row.silent ? "silent" : "", row.beyond ? "beyond" : "", row.reason || "",
  ...Object.entries(row.params).map(([k, v]) => `${k}=${v}`)].join(" ").toLowerCase();

// ---- filter: words, and key<value with SI prefixes
function quantity(s) {
  const m = /^(-?(?:\d+\.?\d*|\.\d+)(?:e[-+]?\d+)?)([pnuµmkMG%]?)(?:J|s|B)?$/.exec(s);
  return m ? Number(m[1]) * (PREFIX[m[2]] ?? 1) : null;
}
function compile(query) { // {test}, or {wrong: what can't be read}
  const tests = [], close = query.trim().replace(/\s*(<=|>=|!=|=|<|>|:)\s*/g, "$1").replace(/([\d.])\s+(%|[pnuµmkMG]?[JsB])(?=\s|$)/g, "$1$2");
  for (const token of close.split(/\s+/).filter(Boolean)) {
    const m = /^([^=<>!:]*)(<=|>=|!=|=|<|>|:)(.*)$/.exec(token);
    if (!m) { tests.push(r => words(r).includes(token.toLowerCase())); continue; }
    const known = ["study", "trial", "t", "state", "firing rate", "parameters", "seconds", "epochs", "seed", "samples", "test accuracy", data.gain, data.cost, ...data.params];
    const wanted = m[1].replace(/_/g, " ").toLowerCase();
    const key = known.find(k => k.replace(/_/g, " ").toLowerCase() === wanted) || known.find(k => k.toLowerCase().split(".").pop() === m[1].toLowerCase());
    if (!key) return { wrong: m[1] ? `no column is called ${m[1]}` : `nothing stands before ${token}` };
    if (!m[3]) return { wrong: `nothing stands behind ${token}` };
    const test = OPERATORS[m[2]], values = rows.map(r => r.get(key)).filter(v => v !== null && v !== undefined), numbers = values.length && values.every(v => typeof v === "number");
    let number = quantity(m[3]);
    if (number === null && numbers) return { wrong: `${m[3]} is no number` };
    if (number > 1 && isAccuracy(key) && !m[3].endsWith("%")) number /= 100; // accuracy>90
    tests.push(r => {
      const v = r.get(key);
      if (v === null || v === undefined) return false;
      return typeof v === "number" ? number !== null && test(v, number) : test(String(v).toLowerCase(), m[3].toLowerCase());
    });
  }
  return { test: r => tests.every(t => t(r)) };
}

// ---- drawing
const colours = () => OKABE_ITO[document.documentElement.dataset.theme], ramp = () => SCALE[document.documentElement.dataset.theme];
const coloured = i => colours()[i % colours().length];
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
  const decades = narrow() && hi / lo > 1e4 ? 2 : 1, steps = hi / lo > 300 ? [1] : hi / lo > 12 ? [1, 2, 5] : hi / lo > 3 ? [1, 1.5, 2, 3, 4, 5, 7] : [1, 1.2, 1.4, 1.6, 1.8, 2, 2.5, 3, 3.5, 4, 5, 6, 7, 8, 9];
  const at = [];
  for (let e = Math.floor(Math.log10(lo)) - 1; e <= Math.ceil(Math.log10(hi)) + 1; e++) for (const s of steps) if (e % decades === 0) at.push(+(s * 10 ** e).toPrecision(3));
  return { tickmode: "array", tickvals: at, ticktext: at.map(v => si(v, UNIT[data.cost] || "")) };
}
const logarithmic = () => ["energy", "latency", "parameters", "memory"].includes(data.cost);

function hover(row, t, x, y) {
  const lines = [`<b>${safe(row.study)} · trial ${row.number}</b>${t ? ` ${row.final ? "with" : "stopped at"} t = ${t}` : ""}`,
    `${data.gain} ${figure(data.gain, y)} · ${data.cost} ${figure(data.cost, x)}`];
  if (row.interval && row.t === t) lines.push(sure(row));
  if (row.firing_rate != null && row.final) lines.push(`firing rate ${row.firing_rate.toFixed(3)}`);
  if (row.silent) lines.push("<b>silent</b>: no neuron fires");
  if (row.parameters) lines.push(`${si(row.parameters)} parameters`);
  for (const [k, v] of Object.entries(row.params)) lines.push(`${safe(k)} = <b>${safe(figure(k, v))}</b>`);
  return lines.join("<br>");
}
const hovered = row => row.hover ??= hover(row, row.t, row.x, row.y); // thousands of them, at each click
const spread = t => `${data.gain} ${figure(data.gain, t.y)} ± ${figure(data.gain, t.dy)} · ${data.cost} ${figure(data.cost, t.x)} ± ${figure(data.cost, t.dx)}`;
const sure = row => row.interval ? `95 %: ${range(...row.interval)}${row.samples ? `, of ${row.samples} samples` : ""}` : "";
const range = (low, high) => `${(100 * low).toFixed(1)}–${(100 * high).toFixed(1)} %`;
const curve = row => data.gain === "accuracy" && data.cost === "energy" ? (row.anytime || []).map(p => ({ t: p.t, x: p.energy_joules, y: p.accuracy })) : [];

function colouring(list) { // marker colours by any column; a key in HTML for categories, a colour bar for numbers
  const key = $("colour").value;
  if (!key) return { colour: r => coloured(r.s), study: true, key: [] };
  const values = list.map(r => r.get(key)).filter(v => v !== undefined && v !== null);
  const distinct = [...new Set(values)];
  if (values.length && values.every(v => typeof v === "number") && distinct.length > 6) {
    const logs = values.every(v => v > 0) && Math.max(...values) / Math.min(...values) > 50;
    return { number: r => { const v = r.get(key); return typeof v !== "number" ? null : logs ? Math.log10(v) : v; }, logs, title: key, key: [] };
  }
  distinct.sort((a, b) => typeof a === "number" ? a - b : String(a).localeCompare(String(b)));
  const map = new Map(distinct.map((v, i) => [v, coloured(i)]));
  return { colour: r => map.get(r.get(key)) || css("--soft"), key: distinct.map(v => [`${key} = ${figure(key, v)}`, map.get(v)]) };
}

function drawFront() {
  const ok = r => r.x !== undefined && r.x !== null && r.y !== undefined && r.y !== null;
  const list = shown.filter(ok), paint = colouring(list), traces = [], seen = new Set(shown), xs = [], ys = [], several = data.studies.length > 1;
  const anything = rows.some(ok);
  $("front").hidden = !anything; $("front-empty").hidden = anything;
  if (!anything) return;
  const marker = (group, extra) => paint.number
    ? { color: group.map(paint.number), coloraxis: "coloraxis", ...extra } : { color: paint.study ? paint.colour(group[0]) : group.map(paint.colour), ...extra };
  const custom = group => group.map(r => r.i), everything = !$("filter").value.trim();
  const legend = [], marks_ = [], below_ = { drawn: 0, all: 0 };
  const seenRange = fit(list.map(r => r.y), list.filter(r => r.front).map(r => r.y)), every = list.map(r => r.y);
  if (list.length) drawAttained(traces, seenRange ? seenRange[0] : Math.min(...every), Math.max(...list.map(r => r.x)));
  const symbols = (group, symbol, open = "") => group.some(r => r.silent) ? group.map(r => (r.silent ? "x" : symbol) + open) : symbol + open;
  data.studies.forEach((study, s) => {
    const own = list.filter(r => r.s === s), top = own.filter(r => r.front).sort((a, b) => a.x - b.x);
    const below = own.filter(r => !r.front && (r.final || !everything)); // early points only where they are asked for
    const colour = $("colour").value ? css("--soft") : coloured(s), symbol = SYMBOLS[s % SYMBOLS.length];
    const band = together(s); // of several runs, of which this is one
    if (study.band.length && everything && !band) {
      const end = Math.max(...own.map(r => r.x)), stairs = study.front.map(p => [p.x, p.y]).sort((a, b) => a[0] - b[0]), close = list => [...list, [end, list.at(-1)[1]]];
      const up = close(stairs), low = close(study.band);
      traces.push({ x: up.map(p => p[0]), y: up.map(p => p[1]), mode: "lines", line: { shape: "hv", width: 0 }, hoverinfo: "skip", showlegend: false });
      traces.push({ x: low.map(p => p[0]), y: low.map(p => p[1]), mode: "lines", line: { shape: "hv", width: 1, dash: "1px,4px", color: colour }, fill: "tonexty", fillcolor: translucent(colour, .11), hoverinfo: "skip", name: "can't be told apart from the front", showlegend: false });
      legend.push("band");
    }
    if ($("show-anytime").checked) {
      const x = [], y = [], owners = new Set();
      for (const r of top) { if (owners.has(r.number)) continue; owners.add(r.number); for (const p of curve(r)) { x.push(p.x); y.push(p.y); } x.push(null); y.push(null); }
      if (x.length) { traces.push({ x, y, mode: "lines+markers", line: { color: colour, width: 1, dash: "1px,3px" }, marker: { size: 3.5, color: colour }, name: "the front's networks after each timestep", hoverinfo: "skip", connectgaps: false, showlegend: false }); legend.push("anytime"); }
    }
    if ($("show-dominated").checked && below.length) {
      const some = thinned(below);
      below_.drawn += some.length; below_.all += below.length;
      traces.push({ x: some.map(r => r.x), y: some.map(r => r.y), mode: "markers", customdata: custom(some), text: some.map(hovered),
        hovertemplate: "%{text}<extra></extra>", marker: marker(some, { size: 6.5, symbol: symbols(some, symbol), opacity: .75, line: { width: .8, color: css("--soft") } }), name: several ? `${safe(study.name)}, dominated` : "dominated trials", showlegend: false });
      legend.push("dominated");
      if (below.some(r => r.silent)) legend.push("silent");
    }
    if (top.length) {
      traces.push({ x: top.map(r => r.x), y: top.map(r => r.y), mode: "lines", line: { shape: "hv", color: colour, width: band ? 1 : 2.2 }, hoverinfo: "skip", name: several ? `front of ${safe(study.name)}` : "front", showlegend: several });
      for (const final of [true, false]) {
        const group = top.filter(r => r.final === final);
        if (!group.length) continue;
        traces.push({ x: group.map(r => r.x), y: group.map(r => r.y), mode: "markers", customdata: custom(group),
          text: group.map(hovered), hovertemplate: "%{text}<extra></extra>", name: final ? "on the front" : "on the front, stopped early",
          marker: { ...marker(group, { size: final ? 11 : 9, symbol: symbols(group, symbol, final ? "" : "-open") }), line: final ? { color: css("--panel"), width: 1.2 } : { width: 2 } }, showlegend: false });
        legend.push(final ? "final" : "early");
        if (group.some(r => r.silent)) legend.push("silent");
      }
    }
    for (const p of [...below, ...top]) { marks_.push(p); xs.push(p.x); ys.push(p.y); }
    if (study.seeds.length) traces.push({ x: study.seeds.map(g => g.cost.mean), y: study.seeds.map(g => g.gain.mean), mode: "markers", marker: { symbol: "line-ew-open", size: 9, color: css("--ink") },
      error_y: { array: study.seeds.map(g => g.gain.half), color: css("--ink"), thickness: 1.4, width: 4 }, error_x: { array: study.seeds.map(g => g.cost.half), color: css("--ink"), thickness: 1.4, width: 4 },
      text: study.seeds.map(g => `<b>${safe(study.name)}</b>: mean of ${g.n} seeds, 95 % interval<br>${data.gain} ${figure(data.gain, g.gain.mean)} ± ${figure(data.gain, g.gain.half)}<br>${data.cost} ${figure(data.cost, g.cost.mean)} ± ${figure(data.cost, g.cost.half)}`),
      hovertemplate: "%{text}<extra></extra>", name: "mean of several seeds, 95 %", showlegend: s === 0 || !several });
    if (study.taken.length) traces.push({ x: study.taken.map(t => t.x), y: study.taken.map(t => t.y), mode: "markers", marker: { symbol: "diamond-wide", size: 9, color: css("--ink") },
      error_y: { array: study.taken.map(t => t.dy), color: css("--ink"), thickness: 1.4, width: 4 }, error_x: { array: study.taken.map(t => t.dx), color: css("--ink"), thickness: 1.4, width: 4 },
      text: study.taken.map(t => `<b>trial ${t.number}${t.t ? `, t = ${t.t}` : ""}, ${t.n} other seeds</b><br>${spread(t)}`), hovertemplate: "%{text}<extra></extra>", name: "trained again with other seeds, mean ± deviation", showlegend: s === 0 || !several });
    for (const t of study.taken) { xs.push(t.x); ys.push(t.y); }
  });
  const annotations = [], shapes = [];
  if ($("show-published").checked) {
    const marks = data.published.filter(p => p.energy), levels = data.published.filter(p => !p.energy);
    if (marks.length) traces.push({ x: marks.map(p => p.energy), y: marks.map(p => p.accuracy), mode: narrow() ? "markers" : "markers+text", text: labels(marks, levels, marks_), textposition: marks.map(p => p.source === marks[0].source ? "bottom center" : "top center"), textfont: { size: 10.5, color: css("--soft") },
      marker: { symbol: "star", size: 11, color: css("--soft") }, hovertext: marks.map(p => `<b>${safe(p.name)}</b>, published<br>accuracy ${figure("accuracy", p.accuracy)} · energy ${si(p.energy, "J")}${p.parameters ? `<br>${si(p.parameters)} parameters` : ""}<br>${safe(p.note || "")}<br><i>${safe(p.source)}</i>`), hovertemplate: "%{hovertext}<extra></extra>", name: "published" });
    for (const p of marks) { xs.push(p.energy); ys.push(p.accuracy); }
    const named = roomy(levels.map(p => p.accuracy), [...ys, ...levels.map(p => p.accuracy)]);
    for (const p of levels) {
      shapes.push({ type: "line", xref: "paper", x0: 0, x1: 1, y0: p.accuracy, y1: p.accuracy, line: { color: css("--soft"), width: 1, dash: "dot" } });
      if (named.has(p.accuracy)) annotations.push({ xref: "paper", x: 1, xanchor: "right", y: p.accuracy, yanchor: "bottom", showarrow: false, text: safe(p.name) + (narrow() ? "" : " (no energy published)"), font: { size: 10.5, color: css("--soft") }, hovertext: p.source });
      ys.push(p.accuracy);
    }
  }
  if (chosen && ok(chosen) && seen.has(chosen)) {
    const path = curve(chosen);
    traces.push({ x: path.map(p => p.x), y: path.map(p => p.y), mode: "lines+markers", line: { color: css("--ink"), width: 1.6, dash: "dot" }, marker: { size: 6, color: css("--ink") }, text: path.map(p => hover(chosen, p.t, p.x, p.y)), hovertemplate: "%{text}<extra></extra>", showlegend: false });
    traces.push({ x: [chosen.x], y: [chosen.y], mode: "markers", marker: { size: 19, symbol: "circle-open", color: css("--ink"), line: { width: 2.2 } }, hoverinfo: "skip", name: "selected", showlegend: false });
    xs.push(...path.map(p => p.x));
  }
  const numbers = paint.number ? { coloraxis: { colorscale: ramp(), colorbar: { ...bar(paint, list), title: { text: paint.title, side: "right", font: { size: 12 } }, thickness: 11, outlinewidth: 0, len: .85 } } } : {};
  const log = logarithmic();
  const shownRange = fit(ys, list.filter(r => r.front).map(r => r.y));
  const dot = (label, css_, kind = "") => { const span = el("span"), i = el("i", undefined, { class: kind }); i.style.setProperty("--c", css_); span.append(i, label); return span; };
  const marks = { final: ["on the front", ""], early: ["on the front, stopped before its last timestep", "hollow"], dominated: [`dominated${below_.drawn < below_.all ? `, ${below_.drawn} of ${below_.all} drawn: zoom in or filter for the others` : ""}`, "pale"], anytime: ["the front's networks after each timestep", "dotted"], band: ["too close to the front to be told apart (95 %)", "band"], silent: ["silent: no neuron fires", "cross"] };
  $("key").replaceChildren(...paint.key.map(([label, colour]) => dot(label, colour)), ...Object.entries(marks).filter(([k]) => legend.includes(k)).map(([, [label, kind]]) => dot(label, css("--soft"), kind)), ...attainedKey().map(([label, colour, kind]) => dot(label, colour, kind)));
  const named = new Set(["selected"]);
  if (exporting) for (const t of traces) if (t.name && !named.has(t.name)) { named.add(t.name); t.showlegend = true; } // a picture has no key beside it
  Plotly.react("front", traces, layout({ ...numbers, annotations, shapes, hovermode: "closest", dragmode: narrow() ? false : "zoom", uirevision: "keep",
    xaxis: axis({ title: title(data.cost), type: log ? "log" : "linear", ...(log ? ticks(sight ? sight[0].map(e => 10 ** e) : xs) : {}), tickangle: 0 }),
    yaxis: axis({ title: title(data.gain), tickformat: isAccuracy(data.gain) ? ".1~%" : "", ...(shownRange ? { range: shownRange } : {}) }) }), options);
  drawReach();
  if (!listening) { listening = true; $("front").on("plotly_click", e => { const i = e.points[0].customdata; if (i !== undefined && i !== null) choose(rows[i]); }); $("front").on("plotly_relayout", look); }
}
function roomy(levels, ys) { // those of the levels whose names don't run into each other, the highest first
  const gap = (narrow() ? .05 : .03) * (Math.max(...ys) - Math.min(...ys)), kept = [];
  for (const y of levels.slice().sort((a, b) => b - a)) if (kept.every(k => k - y > gap)) kept.push(y);
  return new Set(kept);
}
function thinned(list) { // of thousands of points the most accurate in each cell of what is in sight, and the silent
  if (list.length <= CROWD) return list;
  const log = logarithmic(), all = list.filter(r => r.x > 0 || !log).map(r => ({ r, u: log ? Math.log10(r.x) : r.x, v: r.y })), edges = key => [Math.min(...all.map(p => p[key])), Math.max(...all.map(p => p[key]))];
  const [[left, right], [low, high]] = sight || [edges("u"), edges("v")], inside = all.filter(p => p.u >= left && p.u <= right && p.v >= low && p.v <= high);
  if (inside.length <= CROWD) return inside.map(p => p.r);
  for (let n = 128; ; n = Math.floor(n * .85)) {
    const cells = new Map();
    for (const { r, u, v } of inside) {
      const cell = Math.floor(n * (u - left) / (right - left)) * 1000 + Math.floor(n * (v - low) / (high - low)), kept = cells.get(cell);
      if (!kept || r.silent || (r.y > kept.y && !kept.silent)) cells.set(cell, r);
    }
    if (cells.size <= CROWD) return [...cells.values()];
  }
}
function look(change) { // after a zoom other points and ticks are in sight; a double click shows all
  if (!Object.keys(change).some(k => /axis/.test(k))) return;
  const { xaxis, yaxis } = $("front").layout;
  sight = "xaxis.autorange" in change ? null : [xaxis.range, yaxis.range];
  drawFront();
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
function fit(ys, members) { // the interesting part of the accuracies: single collapsed trials shouldn't flatten the front, which is never cut
  const good = ys.filter(v => typeof v === "number").sort((a, b) => a - b);
  if (good.length < 8 || !isAccuracy(data.gain)) return null;
  const low = good[Math.floor(good.length * .1)], high = good[good.length - 1], pad = Math.max(.004, (high - low) * .1);
  return [Math.min(Math.max(good[0] - pad, low - (high - low) * .5), ...members.map(v => v - pad)), Math.min(1.0 + pad / 3, high + pad)];
}
const translucent = (colour, opacity) => colour.startsWith("#") ? colour + Math.round(255 * opacity).toString(16).padStart(2, "0") : colour;
function drawHypervolume() {
  const some = data.studies.some(s => s.volumes.length);
  $("hypervolume").hidden = !some;
  const scale = $("scale").value, logarithmic = scale === "decades";
  $("scale-of").textContent = data.cost; $("scale-label").hidden = !data.studies.some(s => s.decades.length);
  drawVolumes();
  if (!some) { $("hypervolume-note").textContent = "No trial has finished yet."; return; }
  const traces = data.studies.filter(s => s.volumes.length).map(s => {
    const i = data.studies.indexOf(s), y = s[scale];
    const steps = [...y.keys()].filter(k => !k || k === y.length - 1 || y[k] !== y[k - 1]); // a staircase is its steps
    return { x: steps.map(k => k + 1), y: steps.map(k => y[k]), mode: y.length < 3 ? "lines+markers" : "lines", name: safe(s.name) + (s.sampler ? ` (${s.sampler})` : ""), line: { shape: "hv", width: 2.2, color: coloured(i), dash: s.sampler === "random" ? "dash" : "solid" },
      hovertemplate: "after %{x} trials<br>%{y:.4~g}<extra>" + safe(s.name) + "</extra>" };
  });
  Plotly.react("hypervolume", traces, layout({ showlegend: true, xaxis: axis({ title: "trials finished", rangemode: "tozero" }), yaxis: axis({ title: logarithmic ? `hypervolume, ${data.cost} in decades` : "hypervolume", exponentformat: "SI", rangemode: "tozero" }) }), options);
  const random = data.studies.some(s => s.sampler === "random");
  $("hypervolume-note").textContent = `What the front so far dominates, up to ${data.gain} 0 and ${data.cost} ${figure(data.cost, data.reference)} (the worst trial shown)${logarithmic ? ", by factors of ten and down to a thousandth: cheap networks count as much as dear ones" : ""}.`
    + (random ? " Dashed: random search." : " To hold it against random search, run the same sweep with the random sampler and give both studies to the report.");
}
const percent = v => `${Math.round(100 * v)} %`;
function drawImportance() {
  const many = data.studies.filter(s => Object.values(s.importance).some(o => Object.keys(o).length));
  const all = many.flatMap(s => Object.entries(s.importance).map(([objective, shares]) => ({ s, objective, shares, spread: s.spread[objective] || {} })));
  const names = [...new Set(all.flatMap(a => Object.keys(a.shares)))].map(n => [n, Math.max(...all.map(a => a.shares[n] || 0))]).sort((a, b) => a[1] - b[1]).map(n => n[0]).slice(-14);
  $("importance").hidden = !names.length;
  $("importance-note").textContent = names.length ? "Share of each objective's variance that a parameter explains among the finished trials (fANOVA); the whiskers are the deviation over bootstrapped trials." : `Too few finished trials to say: a study needs ${data.enough}, and more for many parameters.`;
  if (!names.length) return;
  $("importance").setAttribute("aria-label", `what matters: ${all.map(a => `${a.objective}${many.length > 1 ? ` of ${a.s.name}` : ""}: ${names.slice().reverse().map(n => `${n} ${percent(a.shares[n] || 0)}`).join(", ")}`).join("; ")}`);
  const traces = all.map((a, i) => ({ type: "bar", orientation: "h", y: names, x: names.map(n => a.shares[n] ?? null), error_x: { array: names.map(n => a.spread[n] ?? 0), color: css("--soft"), thickness: 1.3, width: 3 }, name: many.length > 1 ? `${safe(a.objective)}, ${safe(a.s.name)}` : safe(a.objective),
    marker: many.length > 1 ? { color: coloured(data.studies.indexOf(a.s)), pattern: { shape: a.objective === data.gain ? "" : "/", fgopacity: .75 } }
      : { color: colours()[[0, 4, 2, 3][i % 4]] }, hovertemplate: "%{y}: %{x:.0%} of " + safe(a.objective) + "<extra></extra>" }));
  Plotly.react("importance", traces, layout({ barmode: "group", bargap: .3, showlegend: true, legend: { orientation: "h", y: 1.02, yanchor: "bottom", x: 0, traceorder: "normal" }, xaxis: axis({ title: "share of the variance", tickformat: ".0%", range: [0, Math.min(1, 1.1 * Math.max(...all.flatMap(a => names.map(n => (a.shares[n] || 0) + (a.spread[n] || 0)))))] }), yaxis: axis({ title: "", type: "category" }) }), options);
}

// ---- the selected model
function drawSelected() {
  fill($("selected"), chosen);
  const row = document.querySelector("#trials tr.detail div");
  if (row && chosen) fill(row, chosen);
}
function fill(box, r) {
  if (!r) { box.replaceChildren(el("h2", "No trial selected"), el("p", "Click a point.", { class: "note" })); return; }
  const h = el("h2", `Trial ${r.number}${r.t && !r.final ? `, t = ${r.t}` : ""} `);
  h.append(el("small", `${data.studies.length > 1 ? r.study + ", " : ""}${r.front ? "on the front" : r.beyond ? "breaks a constraint: on no front" : r.near ? "too close to the front to be told apart" : r.state === "complete" ? "dominated" : r.state === "infeasible" ? "infeasible: not trained" : r.state}`));
  if (r.silent) h.append(el("span", "silent: no neuron fires, so this is the energy of a network that computes nothing", { class: "warn" }));
  const list = el("dl"), pair = (k, v) => { if (v !== "" && v !== undefined && v !== null) list.append(el("dt", k), el("dd", v)); };
  for (const [k, v] of Object.entries(r.values)) { pair(`${k}${k === "accuracy" ? " (validation)" : ""}`, figure(k, v)); if (k === "accuracy") pair("95 % interval", r.interval ? range(...r.interval) + (r.samples ? `, ${r.samples} samples` : "") : ""); }
  pair("accuracy (test)", figure("accuracy", (r.test || {}).accuracy) + ((r.test || {}).samples ? `, ${r.test.samples} samples` : ""));
  if (r.twin_joules && r.final && r.values.energy) pair("without spikes (ANN)", `${si(r.twin_joules, "J")}, ${(r.twin_joules / r.values.energy).toPrecision(3)} times as much`);
  if (r.final) pair("firing rate", figure("firing rate", r.firing_rate));
  if (!("parameters" in r.values)) pair("parameters", figure("parameters", r.parameters));
  if (r.unfed) pair("layers that get no spike", `${r.unfed.length}: ${r.unfed.slice(0, 3).join(", ")}${r.unfed.length > 3 ? " …" : ""}`);
  pair("epochs", figure("epochs", r.epochs)); pair("trained for", figure("seconds", r.seconds));
  for (const t of data.studies[r.s].taken) if (t.number === r.number && t.t === r.t) pair(`${t.n} other seeds`, spread(t));
  if (r.origin) pair("proposed by", r.origin);
  if (r.reason) pair("reason", r.reason);
  if (r.beyond) pair("breaks", (r.breaks || []).join("; "));
  for (const [k, v] of Object.entries(r.params)) pair(k, figure(k, v));
  const parts = [h, ...(r.x !== null ? [pairButtons(r)] : []), list], steps = r.anytime || [];
  if (steps.length > 1) {
    const table = el("table", undefined, { class: "steps" }), head = el("tr"), members = new Set(rows.filter(q => q.study === r.study && q.number === r.number && q.front).map(q => q.t));
    head.append(...["stop at t", "accuracy", "energy", ""].map(x => el("th", x)));
    table.append(head, ...steps.map(p => { const tr = el("tr", undefined, { class: p.t === r.t ? "chosen" : "" }); tr.append(el("td", p.t), el("td", figure("accuracy", p.accuracy)), el("td", si(p.energy_joules, "J")), el("td", members.has(p.t) ? "● front" : "")); return tr; }));
    parts.push(el("h3", "After each timestep"), table);
  }
  const test = r.test || {};
  if ((test.confused || []).length) parts.push(el("h3", "Test samples taken for another class"), ...lines(test.confused.map(c => `${c.true} taken for ${c.said}: ${c.count} of ${c.of}`)),
    el("h3", "Most surely wrong"), ...lines(test.wrong.map(w => `${w.sample || "a sample"}: ${w.said} ${w.probability.toFixed(2)}, is ${w.true}`)));
  const groups = Object.entries(r.energy_groups || {}), most = Math.max(...groups.map(g => g[1]), 0);
  if (most > 0) parts.push(el("h3", "Where the energy goes, all timesteps"), ...groups.map(([name, joules]) => share(name, joules / most, si(joules, "J"))));
  const layers = r.energy_layers || [], top = Math.max(...layers.map(l => l.joules), 0);
  if (top > 0) {
    const details = el("details", undefined, { class: "layers" });
    details.append(el("summary", `layer by layer (${layers.length})`), ...layers.map(l =>
      share(l.name, l.joules / top, si(l.joules, "J"), l.firing_rate === null || l.firing_rate === undefined ? "analog" : l.firing_rate.toFixed(3))));
    details.open = layersOpen; details.ontoggle = () => { layersOpen = details.open; };
    details.append(el("p", "energy, and the firing rate of what enters the layer", { class: "note" }));
    parts.push(details);
  }
  if (r.take && r.state === "complete") parts.push(el("h3", "Take it: five other seeds, mean and spread, a checkpoint"), ...copied("take", r.t ? `${r.take} t=${r.t}` : r.take));
  if (r.command) parts.push(el("h3", "Train it again, as it was"), ...copied("command", r.command));
  box.replaceChildren(...parts);
}
const lines = texts => texts.map(text => el("div", text, { class: "said" }));
function copied(kind, text) {
  const pre = el("pre", text, { class: kind, title: "click to copy" }), button = el("button", "copy", { type: "button", class: `copy-${kind}`, "aria-label": kind === "take" ? "copy the command that takes it" : "copy the command" });
  pre.onclick = button.onclick = async () => { await toClipboard(text); button.textContent = "copied"; setTimeout(() => button.textContent = "copy", 1200); };
  return [pre, button];
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
function choose(row, fromTable = false) {
  const again = fromTable && chosen === row && beside; // a second time closes it
  chosen = row; beside = fromTable && !again; drawTable(); drawSelected(); drawFront();
  if (fromTable) document.querySelector("#trials tr.chosen")?.focus({ preventScroll: true });
  else say(row.x === null ? called(row) : told(row));
}

// ---- the table
const columns = () => (heads ??= named()).keys, numeric = () => (heads ??= named()).numeric;
function named() { // the columns that have something in them, and which hold numbers: every row is asked, so once
  const values = [...new Set(rows.flatMap(r => Object.keys(r.values)))];
  const has = key => rows.some(r => r.get(key) !== undefined && r.get(key) !== null && r.get(key) !== "");
  const keys = [...(data.studies.length > 1 ? ["study"] : []), "trial", ...["t"].filter(has), "front", ...data.params, ...values.flatMap(v => v === "accuracy" ? [v, ...["95 %"].filter(() => has("low")), ...["samples"].filter(has)] : [v]),
    ...["test accuracy", "test samples", "firing rate"].filter(has), ...(values.includes("parameters") ? [] : ["parameters"].filter(has)), ...["epochs", "seconds"].filter(has), "state", ...["silent"].filter(has), ...["origin", "reason"].filter(has)];
  return { keys, numeric: new Set(keys.filter(k => k === "95 %" || rows.some(r => typeof r.get(k) === "number"))) };
}
const sorting = (r, key) => r.get(key === "95 %" ? "low" : key);
const cell = (r, key) => key === "epochs" && r.epochs && r.asked_epochs > r.epochs ? `${r.epochs} of ${r.asked_epochs}` : key === "95 %" ? (r.interval ? range(...r.interval) : "") : figure(key, r.get(key));
function order(list) {
  const key = sorted.key, sign = sorted.down ? -1 : 1, blank = v => v === undefined || v === null || v === "";
  if (!key) return list.slice().sort((a, b) => (b.front - a.front) || (!!b.near - !!a.near) || ((b.y ?? -1) - (a.y ?? -1)));
  return list.slice().sort((a, b) => {
    const u = sorting(a, key), v = sorting(b, key);
    if (blank(u) || blank(v)) return blank(u) - blank(v);
    return sign * (typeof u === "number" && typeof v === "number" ? u - v : String(u).localeCompare(String(v), undefined, { numeric: true }));
  });
}
function drawTable() {
  const keys = printing ? onPaper() : columns(), head = document.activeElement?.closest?.("#trials th button")?.dataset.key, tr = el("tr"), kept = ["study", "trial", "t"].filter(k => keys.includes(k));
  const kind = key => [numeric().has(key) ? "number" : "", kept.includes(key) ? `stay stay-${kept.indexOf(key)}` : "", key === "state" ? "state" : "", key === "study" ? "study" : ""].join(" ");
  for (const key of keys) {
    const th = el("th", undefined, { scope: "col", class: kind(key), "aria-sort": sorted.key === key ? (sorted.down ? "descending" : "ascending") : "none" });
    const button = el("button", (printing ? key.replace(/[._]/g, "$&\u200b") : key) + (sorted.key === key ? (sorted.down ? " ▾" : " ▴") : ""), { type: "button" });
    button.onclick = () => { sorted = { key, down: sorted.key === key ? !sorted.down : numeric().has(key) && key !== data.cost && key !== "trial" }; drawTable(); };
    button.dataset.key = key; th.append(button); tr.append(th);
  }
  const members = shown.filter(r => r.front), listed = order(printing && members.length ? members : shown), body = document.createDocumentFragment();
  for (const row of listed.slice(0, printing ? Infinity : limit)) {
    const line = el("tr", undefined, { tabindex: "-1", class: `${row === chosen ? "chosen" : ""} ${row.silent ? "silent" : row.state}`, ...(row === chosen ? { "aria-current": "true" } : {}) });
    for (const key of keys) line.append(el("td", cell(row, key), { class: kind(key) }));
    line.onclick = () => choose(row, true);
    line.onkeydown = e => {
      const to = { ArrowDown: "nextElementSibling", ArrowUp: "previousElementSibling" }[e.key];
      if (e.key === "Enter" || e.key === " ") { e.preventDefault(); choose(row, true); }
      if (to) { e.preventDefault(); let next = line[to]; if (next?.classList.contains("detail")) next = next[to]; next?.focus(); }
    };
    body.append(line);
    if (row === chosen && beside) {
      const detail = el("tr", undefined, { class: "detail" }), td = el("td", undefined, { colspan: keys.length });
      td.append(el("div")); detail.append(td); body.append(detail);
    }
  }
  document.querySelector("#trials thead").replaceChildren(tr);
  document.querySelector("#trials tbody").replaceChildren(body);
  (document.querySelector("#trials tr.chosen") || document.querySelector("#trials tbody tr"))?.setAttribute("tabindex", "0"); // one stop; arrows go on
  if (head) [...document.querySelectorAll("#trials th button")].find(b => b.dataset.key === head)?.focus();
  requestAnimationFrame(stay);
  const points = list => list.filter(r => r.x !== null).length, trials = list => new Set(list.map(r => 1e6 * r.s + r.number)).size;
  if (!wrong) $("count").textContent = shown.length === rows.length ? `${points(rows)} points of ${trials(rows)} trials`
    : `${points(shown)} of ${points(rows)} points, ${trials(shown)} of ${trials(rows)} trials`;
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
  const keys = columns(), quoted = v => { const s = v === undefined || v === null ? "" : String(v); return /[",\n]/.test(s) ? `"${s.replace(/"/g, '""')}"` : s; };
  const heads = keys.flatMap(k => k === "95 %" ? ["accuracy low", "accuracy high"] : k === "front" ? ["final", "front", "near"] : [k]);
  const out = r => keys.flatMap(k => k === "95 %" ? [r.get("low"), r.get("high")] : k === "front" ? [r.final ? 1 : 0, r.front ? 1 : 0, r.near === null || r.near === undefined ? "" : r.near ? 1 : 0] : [r.get(k)]);
  return [[...heads, "command"], ...order(shown).map(r => [...out(r), r.command])].map(l => l.map(quoted).join(",")).join("\n") + "\n";
}
const onPaper = () => columns().filter(k => !["state", "front", "reason", "origin", "seconds", "epochs"].includes(k));
function toLatex() {
  const list = order(shown.filter(r => r.front)), escape = s => String(s).replace(/\\/g, "\\textbackslash ").replace(/[&%$#_{}]/g, "\\$&").replace(/µ/g, "$\\mu$").replace(/~/g, "\\textasciitilde ").replace(/\^/g, "\\textasciicircum ");
  const keys = onPaper(), several = list.length ? list : order(shown);
  return ["% needs \\usepackage{booktabs}; " + data.studies.map(s => `${s.name}: ${s.convention || "energy convention not recorded"}`).join("; "),
    `\\begin{tabular}{${keys.map(k => k === "95 %" || several.some(r => typeof r.get(k) === "number") ? "r" : "l").join("")}}`, "\\toprule", keys.map(escape).join(" & ") + " \\\\", "\\midrule",
    ...several.map(r => keys.map(k => escape(cell(r, k).replace("–", "--"))).join(" & ") + " \\\\"), "\\bottomrule", "\\end{tabular}"].join("\n") + "\n";
}
async function printed(format, width, height) { // for a headless browser that reads the document: picture.py
  document.documentElement.dataset.theme = "light"; chosen = null; exporting = true; drawFront();
  document.body.replaceChildren(el("pre", await Plotly.toImage("front", { format, width, height, scale: format === "png" ? 2 : 1, setBackground: "#ffffff" }), { id: "picture" }));
}
async function picture(format) { // on white, whatever the theme
  const before = document.documentElement.dataset.theme;
  document.documentElement.dataset.theme = "light"; exporting = true; drawFront();
  await Plotly.downloadImage("front", { format, width: 1100, height: 650, scale: format === "png" ? 2 : 1, filename: `${stem()}-front`, setBackground: "#ffffff" });
  document.documentElement.dataset.theme = before; exporting = false; drawFront();
}

// ---- around it
function drawHead() {
  const every = data.studies.flatMap(s => s.trials), state = s => every.filter(t => t.state === s).length, cards = [], finished = rows.filter(r => r.y !== undefined && r.y !== null && r.x > 0);
  const asked = data.studies.every(s => s.asked) ? data.studies.reduce((n, s) => n + s.asked, 0) : 0;
  const card = (value, label, of = "") => { const c = el("div", undefined, { class: "card" }), b = el("b", value); if (of) b.append(el("span", " " + of, { class: "of" })); c.append(b, el("span", label)); cards.push(c); };
  document.title = `${data.studies.map(s => s.name).join(", ")} · Spikefront`;
  $("title").textContent = `${data.gain[0].toUpperCase()}${data.gain.slice(1)} against ${data.cost}`;
  $("subtitle").textContent = data.studies.map(s => `${s.name}${s.data ? ` on ${s.data}` : ""}`).join(" · ");
  card(state("complete") + state("pruned"), ["finished", ...["pruned", "failed", "infeasible", "running", "waiting"].filter(state).map(s => `${state(s)} ${s}`), ...data.studies.filter(s => s.left).map(s => `about ${s.left} left`)].join(", "), asked ? `of ${asked} trials asked for` : `of ${every.length} trials`);
  if (finished.length) {
    const best = finished.reduce((a, b) => b.y > a.y ? b : a);
    const named = r => `${data.studies.length > 1 ? `${r.study}, ` : ""}trial ${r.number}${r.final ? "" : `, stopped at t = ${r.t}`}`, members = rows.filter(r => r.front && r.y !== null);
    const cheap = members.filter(r => r.y >= best.y - .01).sort((a, b) => a.x - b.x)[0], near = rows.filter(r => r.near && !r.front).length;
    card(figure(data.gain, best.y), `best ${data.gain}, at ${figure(data.cost, best.x)}: ${named(best)}${best.interval ? `; 95 % ${range(...best.interval)}` : ""}`);
    if (cheap && isAccuracy(data.gain)) card(figure(data.cost, cheap.x), `within one point of it: ${named(cheap)}`);
    if (data.joint) card(data.joint.reduce((n, j) => n + j, 0), `points on the joint front: ${data.joint.map((n, i) => `${n} of ${data.studies[i].name}`).join(", ")}`);
    else card(members.length, near ? `points on the front, ${near} more too close to tell apart` : "points on the front");
  }
  $("cards").replaceChildren(...cards);
  $("fleet").replaceChildren(...data.studies.flatMap(s => s.fleet.map(line => el("p", `${data.studies.length > 1 ? s.name + ": " : ""}${line}`, { class: "note" }))));
  const goOn = data.studies.filter(s => s.command && !s.trials.some(t => t.state === "running"));
  $("go-on").hidden = !goOn.length;
  $("go-on").replaceChildren(...goOn.flatMap(s => [el("p", `${data.studies.length > 1 ? s.name + ": " : ""}not finished, and nothing runs; this goes on, each stopped trial from its last epoch:`, { class: "note" }), ...copied("go-on", s.command)]));
  $("published-label").hidden = !data.published.length; $("attained-label").hidden = !data.attained.length;
  const before = $("colour").value, choices = ["", ...data.params, "firing rate", "parameters", "test accuracy", "epochs"].filter(k => !k || rows.some(r => r.get(k) !== undefined && r.get(k) !== null));
  $("colour").replaceChildren(...choices.map(k => el("option", k || "study", { value: k })));
  $("colour").value = choices.includes(before) ? before : "";
  const notes = [el("p", `A point is a trained network stopped after t timesteps. Energies are joules a sample. ${data.studies.map(s => `${s.name}: ${s.convention || "convention not recorded"}`).join("; ")}. Points are of the validation part, which the search selected on; the test part stands beside them. An interval of one training is that of its share of right answers (Wilson, 95 %); another seed may fall outside. Made ${data.made} by Spikefront ${data.version}.`)];
  if (data.differing.length) {
    const ul = el("ul");
    ul.append(...data.differing.map(line => el("li", line)));
    notes.push(el("p", "What is not the same in these studies:"), ul);
  }
  if (data.published.length) {
    const ul = el("ul");
    for (const source of [...new Set(data.published.map(p => p.source))]) ul.append(el("li", `${data.published.filter(p => p.source === source).map(p => p.name).join(", ")}: ${source}`));
    notes.push(el("p", "Published results, as their authors counted them (conventions differ between papers):"), ul);
  }
  $("footer").replaceChildren(...notes);
  drawData();
}
function drawData() { // of users' own folders; of several studies on one of them once
  const told = data.studies.filter((s, i) => s.described && data.studies.findIndex(o => JSON.stringify(o.described) === JSON.stringify(s.described)) === i);
  $("data-section").hidden = !told.length;
  $("data-section").replaceChildren(el("h2", "Data"), ...told.flatMap(s => {
    const dl = el("dl");
    for (const [name, value] of s.described.rows) dl.append(el("dt", name), el("dd", value));
    const parts = told.length > 1 ? [el("h3", s.name), dl] : [dl];
    return s.described.sheet ? [...parts, el("img", undefined, { src: s.described.sheet, alt: "some samples of each class, as the network sees them" })] : parts;
  }));
}
function refilter() {
  const said = compile($("filter").value);
  wrong = said.wrong || "";
  $("filter").classList.toggle("wrong", !!wrong); $("filter").setAttribute("aria-invalid", !!wrong); $("count").textContent = wrong;
  if (said.test) shown = rows.filter(said.test);
  drawFront(); drawTable(); drawStates();
}
function everything() { ingest(); drawHead(); shown = rows; drawPair(); drawSelected(); refilter(); drawHypervolume(); drawImportance(); }
function theme(name) {
  document.documentElement.dataset.theme = name;
  if (rows.length || data.published.length) { drawFront(); drawHypervolume(); drawImportance(); drawSelected(); }
}

const system = matchMedia("(prefers-color-scheme: dark)");
document.documentElement.dataset.theme = system.matches ? "dark" : "light";
system.addEventListener("change", e => theme(e.matches ? "dark" : "light"));
if (narrow()) $("show-anytime").checked = false;
everything();
$("theme").onclick = () => theme(document.documentElement.dataset.theme === "dark" ? "light" : "dark");
$("scale").onchange = drawHypervolume;
for (const id of ["show-dominated", "show-anytime", "show-published", "show-attained", "colour"]) $(id).onchange = drawFront;
const drawn = new Map(); // the first size is the one it was drawn at
const sizes = new ResizeObserver(changes => { for (const { target, contentRect: { width, height } } of changes) {
  const size = `${width}x${height}`;
  if (drawn.has(target) && drawn.get(target) !== size) Plotly.Plots.resize(target);
  drawn.set(target, size);
} });
for (const id of ["front", "hypervolume", "importance"]) sizes.observe($(id));
let waiting; $("filter").oninput = () => { clearTimeout(waiting); waiting = setTimeout(() => { limit = PAGE; refilter(); }, 120); };
$("more").onclick = () => { const first = limit; limit = Infinity; drawTable(); document.querySelectorAll("#trials tbody tr:not(.detail)")[first]?.focus(); };
for (const k of ["a", "b"]) $(`pair-${k}`).onchange = e => { pairAsked = true; sides[k] = rows[+e.target.value]; drawPair(); drawSelected(); };
$("pair-differing").onchange = drawPair;
$("front").onkeydown = travel;
addEventListener("beforeprint", toPaper); addEventListener("afterprint", fromPaper);
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
