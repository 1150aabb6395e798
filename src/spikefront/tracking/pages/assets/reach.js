"use strict";
// What a keyboard, a screen reader and a sheet of paper get of the page.
const say = text => { $("said").textContent = text; };
const told = r => `${called(r)}${r.final && r.t ? `, t = ${r.t}` : ""}: ${data.gain} ${figure(data.gain, r.y)}, ${data.cost} ${figure(data.cost, r.x)}, ${r.silent ? "silent, " : ""}${r.front ? "on the front" : r.beyond ? "breaks a constraint" : r.near ? "too close to the front to be told apart" : "dominated"}`;

function drawReach() { // the chart as a slider along the front
  const along = onFront(), place = along.findIndex(r => sameRow(r, chosen)), chart = $("front");
  const set = { "aria-valuemin": 0, "aria-valuemax": Math.max(1, along.length), "aria-valuenow": place + 1, "aria-valuetext": chosen && chosen.x !== null ? told(chosen) + (place < 0 ? "" : `, ${place + 1} of ${along.length}`) : "no point selected" };
  for (const [k, v] of Object.entries(set)) chart.setAttribute(k, v);
  chart.setAttribute("aria-label", `${data.gain} against ${data.cost}: ${shown.filter(r => r.x !== null).length} points, ${along.length} of them on the front`);
}
const onFront = () => shown.filter(r => r.front && r.x !== null).sort((a, b) => a.x - b.x || a.y - b.y);
const byCost = () => shown.filter(r => r.x !== null).sort((a, b) => a.x - b.x || a.y - b.y);
function travel(e) {
  const step = { ArrowRight: 1, ArrowLeft: -1, Home: -Infinity, End: Infinity, ArrowUp: 1, ArrowDown: -1, PageUp: 10, PageDown: -10 }[e.key];
  if (step === undefined || e.ctrlKey || e.altKey || e.metaKey) return;
  const list = /Up|Down/.test(e.key) ? byCost() : onFront();
  if (!list.length) return;
  e.preventDefault();
  let at = list.findIndex(r => sameRow(r, chosen));
  if (at < 0) at = Math.max(0, list.findIndex(r => chosen && r.x >= chosen.x) - (step > 0 ? 1 : 0));
  choose(list[Math.min(list.length - 1, Math.max(0, at + step))]);
}
function drawStates() { // how the trials ended, each a filter; why some were never trained
  const trials = data.studies.flatMap(s => s.trials), count = test => trials.filter(test).length;
  const kinds = [...["complete", "pruned", "failed", "infeasible", "running", "waiting"].map(s => [s, `state=${s}`, count(t => t.state === s)]), ["silent", "silent", count(t => t.silent)], ["beyond", "beyond", count(t => t.breaks)]].filter(k => k[2]);
  $("states").hidden = kinds.length < 2;
  $("states").replaceChildren(...kinds.map(([name, token, n]) => {
    const on = $("filter").value.split(/\s+/).includes(token), button = el("button", `${n} ${name}`, { type: "button", class: `state ${name}`, "aria-pressed": on });
    button.onclick = () => {
      const others = $("filter").value.split(/\s+/).filter(w => w && !w.startsWith("state=") && w !== "silent" && w !== "beyond");
      $("filter").value = (on ? others : [...others, token]).join(" "); limit = PAGE; refilter();
      document.querySelector(`#states .${name}`)?.focus();
    };
    return button;
  }));
  const reasons = new Map();
  for (const t of trials) if (t.state === "infeasible") for (const why of new Set((t.reason || "no reason kept").split("; ").map(w => w.replace(/ does not hold:.*/, " does not hold").replace(/^(the same as) trial .*/, "$1 another").trim()))) reasons.set(why, (reasons.get(why) || 0) + 1);
  $("why").textContent = [reasons.size ? `Infeasible, so never trained and in no chart: ${[...reasons].map(([why, n]) => `${n} × ${why}`).join(", ")}.` : "",
    count(t => t.breaks) ? "Beyond: trained, but what was measured breaks a constraint; on no front." : "",
    count(t => t.silent) ? "Silent: no neuron fires; what it costs is the energy of a network that computes nothing." : ""].filter(Boolean).join(" ");
}
function stay() { // the columns that name a row keep their place while the others scroll
  let left = 0;
  const box = document.querySelector("#trials").parentElement;
  document.querySelectorAll("#trials th.stay").forEach((th, i) => { box.style.setProperty(`--left-${i}`, `${left}px`); left += th.getBoundingClientRect().width; });
}

// ---- paper: light, as wide as a sheet, the front's table alone
const SHEET = { front: [680, 310], hypervolume: [330, 190], importance: [330, 190] };
let printing = false, before = null;
function toPaper() {
  if (printing) return;
  printing = true; before = { theme: document.documentElement.dataset.theme, chosen };
  document.documentElement.dataset.theme = "light"; document.body.classList.toggle("paired", pairAsked);
  chosen = null; drawFront(); drawTable(); drawHypervolume(); drawImportance();
  for (const [id, [width, height]] of Object.entries(SHEET)) if ($(id).layout) Plotly.relayout(id, { width, height, autosize: false });
}
function fromPaper() {
  if (!printing) return;
  printing = false; chosen = before.chosen; document.documentElement.dataset.theme = before.theme;
  drawFront(); drawTable(); drawHypervolume(); drawImportance(); drawSelected();
  for (const id of Object.keys(SHEET)) if ($(id).layout) { Plotly.relayout(id, { width: null, height: null, autosize: true }); Plotly.Plots.resize(id); }
}
