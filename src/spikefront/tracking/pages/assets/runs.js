"use strict";
// Several runs of one search: the band between what all of them and what at least one of them attains.
const attained = () => $("show-attained").checked && !$("filter").value.trim() ? data.attained : [];
const together = s => attained().some(a => a.runs.includes(s));

function drawAttained(traces, floor, end) { // floor: below what is shown; end: the highest cost that is
  for (const { runs, best, median, worst } of attained()) {
    const colour = $("colour").value ? css("--soft") : coloured(runs[0]), name = runs.map(i => safe(data.studies[i].name)).join(", ");
    const stairs = points => [[best[0][0], floor], ...points, [end, points.at(-1)[1]]], xs = list => list.map(p => p[0]), ys = list => list.map(p => p[1]);
    const line = (points, extra) => ({ x: xs(points), y: ys(points), mode: "lines", hoverinfo: "skip", showlegend: false, ...extra });
    traces.push(line(stairs(worst), { line: { shape: "hv", width: 1, color: colour }, name: `all of ${name}` }),
      line(stairs(best), { line: { shape: "hv", width: 1, color: colour }, fill: "tonexty", fillcolor: translucent(colour, .2), name: `one of ${name}` }));
    if (median.length) traces.push(line(median, { line: { shape: "hv", width: 2.6, color: colour }, hoverinfo: "text", text: median.map(([x, y]) => `half of ${runs.length} runs have ${data.gain} ${figure(data.gain, y)} at ${data.cost} ${figure(data.cost, x)}`), name: `half of ${name}` }));
  }
}
function attainedKey() {
  return attained().flatMap(({ runs, median }) => {
    const colour = $("colour").value ? css("--soft") : coloured(runs[0]), of = `${runs.length} runs (${runs.map(i => data.studies[i].name).join(", ")})`;
    return [[`between what all and what one of ${of} attain`, colour, "band"], ...(median.length ? [["half of them attain", colour, "line"]] : [])];
  });
}
function drawVolumes() { // the table under the chart: both hypervolumes, labelled
  const known = data.studies.filter(s => s.volumes.length), head = el("tr"), decades = known.some(s => s.decades.length);
  head.append(...["", `${data.cost} as it is`, ...(decades ? [`${data.cost} in decades`] : [])].map(x => el("th", x, { scope: "col" })));
  const line = (name, ...values) => { const tr = el("tr"); tr.append(el("th", name, { scope: "row" }), ...values.map(v => el("td", v))); return tr; };
  const last = (s, kind) => s[kind].length ? +s[kind].at(-1).toPrecision(4) : null, told = v => v === null ? "" : String(v);
  const lines = known.map(s => line(s.name, ...["volumes", "decades"].slice(0, decades ? 2 : 1).map(k => told(last(s, k)))));
  for (const { runs } of data.attained) lines.push(line(`mean of ${runs.length} runs`, ...["volumes", "decades"].slice(0, decades ? 2 : 1).map(k => {
    const values = runs.map(i => last(data.studies[i], k)).filter(v => v !== null), mean = values.reduce((a, b) => a + b, 0) / values.length;
    return values.length > 1 ? `${+mean.toPrecision(4)} ± ${+Math.sqrt(values.reduce((a, v) => a + (v - mean) ** 2, 0) / (values.length - 1)).toPrecision(2)}` : "";
  })));
  $("volumes").replaceChildren(...(known.length ? [el("caption", "Hypervolume of the whole study"), head, ...lines] : []));
}
