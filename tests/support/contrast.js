// What of the report as it is drawn stands out too little from what is behind it: {what: its ratio}, and how many were asked.
const rgba = text => { const n = text.match(/[\d.]+/g).map(Number), s = text.startsWith("color(") ? 255 : 1; return [n[0] * s, n[1] * s, n[2] * s, n[3] ?? 1]; };
const over = (top, under) => [0, 1, 2].map(i => top[i] * top[3] + under[i] * (1 - top[3])).concat(1);
const luminance = c => [.2126, .7152, .0722].reduce((sum, w, i) => { const v = c[i] / 255; return sum + w * (v <= .04045 ? v / 12.92 : ((v + .055) / 1.055) ** 2.4); }, 0);
const ratio = (a, b) => { const [x, y] = [luminance(a), luminance(b)].sort((p, q) => q - p); return (x + .05) / (y + .05); };
const line = e => { const found = []; for (let p = e; p; p = p.parentElement) found.unshift(p); return found; };
const under = e => line(e).reduce((c, p) => over(rgba(getComputedStyle(p).backgroundColor), c), [255, 255, 255, 1]);
const strength = e => line(e).reduce((o, p) => o * getComputedStyle(p).opacity, 1);
const seen = e => { const s = getComputedStyle(e), r = e.getBoundingClientRect(); return s.visibility === "visible" && r.width + r.height > 0 && !e.closest(".unseen, .skip, option, svg.hidden"); };
const paint = (e, text, share) => { const c = rgba(text); return over([c[0], c[1], c[2], c[3] * share * strength(e)], under(e.parentElement)); };
const failed = new Map(), checked = new Set();
const check = (e, what, best, wanted) => { checked.add(what); if (best < wanted) failed.set(`${what} ${e.id || e.getAttribute("class") || e.tagName}`, +best.toFixed(2)); };
const walker = document.createTreeWalker(document.body, NodeFilter.SHOW_TEXT);
while (walker.nextNode()) {
  const e = walker.currentNode.parentElement, s = getComputedStyle(e), svg = e instanceof SVGElement;
  if (!walker.currentNode.data.trim() || e.closest("script, style") || !seen(e)) continue;
  const size = parseFloat(s.fontSize), large = size >= 24 || (size >= 18.66 && s.fontWeight >= 700);
  const ground = svg ? under(e) : over(rgba(s.backgroundColor), under(e.parentElement)), colour = rgba(svg ? s.fill : s.color);
  check(e, `text "${walker.currentNode.data.trim().slice(0, 30)}"`, ratio(over([...colour.slice(0, 3), colour[3] * strength(e)], ground), ground), large ? 3 : 4.5);
}
const marks = { point: ".scatterlayer path.point, .legendpoints path, .bars path", line: ".scatterlayer path.js-line, .shapelayer path, .legendlines path, .xerror, .yerror" };
for (const [kind, selector] of Object.entries(marks)) for (const e of document.querySelectorAll(selector)) {
  const s = getComputedStyle(e), found = [], ground = under(e.parentElement);
  if (!seen(e)) continue;
  if (kind === "point" && s.fill !== "none" && !s.fill.startsWith("url")) found.push(paint(e, s.fill, s.fillOpacity));
  if (s.stroke !== "none" && parseFloat(s.strokeWidth) > 0) found.push(paint(e, s.stroke, s.strokeOpacity));
  if (found.length) check(e, kind, Math.max(...found.map(c => ratio(c, ground))), 3);
}
for (const e of document.querySelectorAll(".key i, .bar i, .share, button, select, input[type=search]")) {
  const s = getComputedStyle(e), ground = under(e.parentElement);
  if (!seen(e) || getComputedStyle(e, "::before").content !== "none" || e.closest("#trials th")) continue;
  const edge = parseFloat(s.borderTopWidth) ? [s.borderTopColor] : [], own = e.matches("i") ? [s.backgroundColor] : [];
  check(e, "control or key", Math.max(1, ...[...edge, ...own].map(c => ratio(paint(e, c, 1), ground))), 3);
}
const ground = under(document.getElementById("front"));
for (const c of [...colours(), ...ramp().map(stop => stop[1])]) check(document.body, `colour ${c}`, ratio([1, 3, 5].map(i => parseInt(c.slice(i, i + 2), 16)), ground), 3);
return [Object.fromEntries(failed), checked.size];
