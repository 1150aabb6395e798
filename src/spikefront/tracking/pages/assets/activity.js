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
    font: { color: ink, family: getComputedStyle(document.body).fontFamily, size: 12, ...layout.font } };
  for (const axis of axes) changed[axis] = { ...layout[axis], gridcolor: line, linecolor: line, zerolinecolor: line };
  return changed;
}
// On a phone: the two halves of the layers under each other, the raster's layers down the page, the maps' titles in small print.
const across = rows => rows[0].map((_, i) => rows.map(row => row[i]));
const stacked = {
  layers({ data, layout }) {
    const each = 120 + 19 * layout.yaxis.categoryarray.length, side = { tickfont: { size: 9 } };
    const bar = { ...data[0].colorbar, x: 1, xanchor: "right", len: .9, nticks: 4 };
    return { data: [{ ...data[0], colorbar: bar }, ...data.slice(1)], layout: { ...layout, height: 2 * each, margin: { ...layout.margin, r: 40, b: 60 },
      xaxis: { ...layout.xaxis, domain: [0, 1] }, xaxis2: { ...layout.xaxis2, domain: [0, 1], nticks: 4 }, yaxis: { ...layout.yaxis, ...side, domain: [.55, 1] },
      yaxis2: { ...layout.yaxis2, ...side, domain: [0, .4], showticklabels: true }, legend: { x: 1, xanchor: "right", y: .41, yanchor: "bottom", font: { size: 10 } } } };
  },
  raster({ data, layout }) {
    const turned = data.map(trace => ({ ...trace, z: across(trace.z), text: across(trace.text) }));
    const { title, autorange, ...bare } = layout.yaxis;
    return { data: turned, layout: { ...layout, height: 120 + 7 * turned[0].z.length, margin: { l: 10, r: 10, t: 10, b: 40 }, xaxis: { ...bare, title },
      yaxis: { ...layout.xaxis, tickangle: 0, tickfont: { size: 9 }, autorange: "reversed" } } };
  },
  attention({ data, layout }) {
    const columns = layout.annotations.length, blocks = layout.images.length / columns, titled = {};
    for (const [key, axis] of Object.entries(layout).filter(([key]) => key.startsWith("xaxis")))
      titled[key] = { ...axis, title: { ...axis.title, text: axis.title.text.replace("<br>open ", "<br>open<br>"), font: { size: 8 } } };
    return { data, layout: { ...layout, ...titled, height: 90 + 130 * blocks, margin: { ...layout.margin, t: 30 },
      annotations: layout.annotations.map(a => ({ ...a, text: a.text.replace("leaves the operator", "leaves"), font: { size: 10 } })) } };
  },
};
const phone = matchMedia("(max-width: 620px)");
function draw() {
  for (const [name, wide] of Object.entries(data.figures)) {
    const figure = phone.matches ? stacked[name](wide) : wide;
    Plotly.react($(name), figure.data, coloured(figure.layout), { responsive: true, displaylogo: false, displayModeBar: !phone.matches, modeBarButtonsToRemove: ["lasso2d", "select2d"] });
  }
}
phone.addEventListener("change", draw);
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
