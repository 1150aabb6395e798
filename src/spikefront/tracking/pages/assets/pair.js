"use strict";
// Two points side by side: what they were set to, what came of it, and where the energy goes in each.
const sides = { a: null, b: null };
let pairAsked = false;
const sameRow = (r, q) => !!r && !!q && r.study === q.study && r.number === q.number && r.t === q.t;
const called = r => `${data.studies.length > 1 ? `${r.study}, ` : ""}trial ${r.number}${r.final ? "" : `, t = ${r.t}`}`;

function drawPair() {
  const members = rows.filter(r => r.front && r.y !== null).sort((a, b) => b.y - a.y || a.x - b.x);
  for (const k of ["a", "b"]) sides[k] = sides[k] && (rows.find(r => sameRow(r, sides[k])) || null);
  sides.a ??= members[0] || null;
  sides.b ??= members.filter(r => r.number !== sides.a.number && r.y >= sides.a.y - .01).at(-1) || members.find(r => r.number !== sides.a?.number) || members[1] || null;
  $("pair-section").hidden = !sides.a || !sides.b;
  if ($("pair-section").hidden) return;
  for (const k of ["a", "b"]) {
    const list = members.some(r => sameRow(r, sides[k])) ? members : [sides[k], ...members], select = $(`pair-${k}`);
    select.replaceChildren(...list.map(r => el("option", `${called(r)}: ${figure(data.gain, r.y)}, ${figure(data.cost, r.x)}`, { value: r.i })));
    select.value = sides[k].i;
  }
  const only = $("pair-differing").checked, body = [];
  const part = (name, lines) => { const kept = lines.filter(l => !only || l.differs); if (kept.length) body.push(heading(name), ...kept.map(l => l.tr)); };
  const { a, b } = sides, keys = kind => [...new Set([...Object.keys(a[kind] || {}), ...Object.keys(b[kind] || {})])];
  part("what came of it", [
    ...(a.study !== b.study ? [compared("study", a.study, b.study), compared("energies", data.studies[a.s].convention, data.studies[b.s].convention)] : []),
    compared("stopped at t", a.t, b.t), ...keys("values").map(k => compared(k === "accuracy" ? "accuracy (validation)" : k, a.values[k], b.values[k], k)),
    ...(a.interval && b.interval ? [compared("95 % interval", range(...a.interval), range(...b.interval), null, apart(a, b))] : []),
    compared("accuracy (test)", (a.test || {}).accuracy, (b.test || {}).accuracy, "accuracy"), ...["firing rate", "parameters", "seconds", "epochs"].map(k => compared(k, a.get(k), b.get(k), k)),
    ...(a.silent || b.silent ? [compared("neurons", a.silent ? "none fires" : "fire", b.silent ? "none fires" : "fire")] : [])]);
  part("what they were set to", keys("params").map(k => compared(k, a.params[k], b.params[k], "")));
  part("where the energy goes, all timesteps", bars(Object.entries(a.energy_groups || {}), Object.entries(b.energy_groups || {})));
  const layers = r => (r.energy_layers || []).map(l => [l.name, l.joules, l.firing_rate]);
  part("layer by layer: energy, and the firing rate of what enters", bars(layers(a), layers(b)));
  const head = el("tr");
  head.append(el("th", "", { scope: "col" }), ...["a", "b"].map(k => el("th", `${k.toUpperCase()}: ${called(sides[k])}`, { scope: "col", class: `side-${k}` })), el("th", "B beside A", { scope: "col" }));
  $("pair-head").replaceChildren(head); $("pair").replaceChildren(...body);
  const without = [a, b].filter(r => r.state === "complete" && !(r.energy_layers || []).length);
  $("pair-note").textContent = without.length ? `Layer by layer is kept for networks on the front; not for ${without.map(called).join(" and ")}.` : "";
}
function heading(name) { const tr = el("tr", undefined, { class: "part" }); tr.append(el("th", name, { colspan: 4, scope: "rowgroup" })); return tr; }
function compared(name, u, v, kind = "", said = null) { // kind: the column's name, where it has a unit
  const blank = x => x === undefined || x === null || x === "", differs = !(blank(u) && blank(v)) && u !== v, show = x => blank(x) ? "–" : kind === null ? x : figure(kind, x);
  return line(name, differs, [el("td", show(u)), el("td", show(v))], said ?? (differs ? difference(u, v, kind) : "="), blank(u) && blank(v));
}
function line(name, differs, cells, said, empty = false) {
  const tr = el("tr", undefined, { class: differs ? "differs" : "" });
  tr.hidden = empty; tr.append(el("th", name, { scope: "row" }), ...cells, el("td", said));
  return { tr, differs };
}
function difference(u, v, kind) {
  if (typeof u !== "number" || typeof v !== "number") return "≠";
  if (isAccuracy(kind)) return `${v >= u ? "+" : "−"}${(100 * Math.abs(v - u)).toFixed(2)} points`;
  return u > 0 && v > 0 ? `× ${(v / u).toPrecision(3)}` : `${v >= u ? "+" : "−"}${figure(kind, Math.abs(v - u))}`;
}
function apart(a, b) { // the interval of their difference, as analysis/confidence.py has it
  const [more, less] = a.y >= b.y ? [a, b] : [b, a];
  return more.y - less.y > Math.hypot(more.y - more.interval[0], less.interval[1] - less.y) ? "told apart (95 %)" : "can't be told apart (95 %)";
}
function bars(own, other) { // [name, joules, rate] of each side
  const left = new Map(own.map(l => [l[0], l])), right = new Map(other.map(l => [l[0], l])), most = Math.max(...own.map(l => l[1]), ...other.map(l => l[1]), 0);
  if (!(most > 0) || !own.length || !other.length) return [];
  const cell = (l, k) => {
    const td = el("td", undefined, { class: `side-${k}` });
    if (!l) { td.textContent = "–"; return td; }
    const i = el("i", undefined, { class: "share" });
    i.style.width = `${100 * l[1] / most}%`;
    td.append(i, el("span", si(l[1], "J") + (l.length > 2 ? `, ${l[2] === null || l[2] === undefined ? "analog" : l[2].toFixed(3)}` : "")));
    return td;
  };
  return [...new Set([...left.keys(), ...right.keys()])].map(name => {
    const l = left.get(name), r = right.get(name), differs = !l || !r || l[1] !== r[1] || l[2] !== r[2];
    return line(name, differs, [cell(l, "a"), cell(r, "b")], !l ? "only in B" : !r ? "only in A" : differs ? difference(l[1], r[1], "energy") : "=");
  });
}
function pairButtons(r) { // beside a selected point
  const box = el("p", "Compare it ", { class: "note as" });
  for (const k of ["a", "b"]) {
    const button = el("button", `as ${k.toUpperCase()}`, { type: "button", "aria-pressed": sameRow(sides[k], r), class: `as-${k}` });
    button.onclick = () => { pairAsked = true; sides[k] = r; drawPair(); drawSelected(); say(`${called(sides.a)} beside ${called(sides.b)}`); $("pair-section").scrollIntoView({ block: "nearest" }); };
    box.append(button, " ");
  }
  return box;
}
