"use strict";
// The page of one measured network: cards, and figures that Python made, in the colours of the theme.
const $ = id => document.getElementById(id);
const data = JSON.parse($("data").textContent);
const css = name => getComputedStyle(document.documentElement).getPropertyValue(name).trim();

function coloured(layout) {
  const ink = css("--ink"), line = css("--line");
  const axes = Object.keys(layout).filter(key => /^[xy]axis/.test(key));
  const hover = { bgcolor: css("--panel"), bordercolor: line, font: { color: ink } };
  const changed = { ...layout, template: {}, autosize: true, paper_bgcolor: "rgba(0,0,0,0)", plot_bgcolor: "rgba(0,0,0,0)", hoverlabel: hover,
    modebar: { bgcolor: "rgba(0,0,0,0)", color: css("--soft"), activecolor: css("--accent") },
    font: { color: ink, family: getComputedStyle(document.body).fontFamily, size: 12 } };
  for (const axis of axes) changed[axis] = { ...layout[axis], gridcolor: line, linecolor: line, zerolinecolor: line };
  return changed;
}
function draw() {
  for (const [name, figure] of Object.entries(data.figures))
    Plotly.react($(name), figure.data, coloured(figure.layout), { responsive: true, displaylogo: false, modeBarButtonsToRemove: ["lasso2d", "select2d"] });
}
function theme(name) { document.documentElement.dataset.theme = name; draw(); }

for (const [figure, label] of data.cards) {
  const card = document.createElement("div"), b = document.createElement("b"), span = document.createElement("span");
  card.className = "card"; b.textContent = figure; span.textContent = label;
  card.append(b, span); $("cards").append(card);
}
if (!data.figures.attention) $("attention-panel").hidden = true;
const notes = document.createElement("ul");
for (const note of data.notes) { const item = document.createElement("li"); item.textContent = note; notes.append(item); }
if (data.notes.length) $("footer").append(notes);
const system = matchMedia("(prefers-color-scheme: dark)");
theme(system.matches ? "dark" : "light");
system.addEventListener("change", e => theme(e.matches ? "dark" : "light"));
$("theme").onclick = () => theme(document.documentElement.dataset.theme === "dark" ? "light" : "dark");
