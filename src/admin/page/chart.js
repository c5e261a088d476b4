// Charts, drawn by hand: lines over time with a scale, a target, and the time one points at shared by all of them.

import { h, s } from "./dom.js";
import { clock } from "./format.js";

const GAP = 15000;
const PAD = { top: 8, right: 6, bottom: 18, left: 48 };
let pointed = null;
let redraw = () => {};

export const onPoint = (listener) => (redraw = listener);

// A round number at or above `value`, and how many steps lead there.
const scale = (value) => {
	if (!(value > 0)) return { top: 1, step: 0.5 };
	const size = 10 ** Math.floor(Math.log10(value));
	const step = [0.2, 0.25, 0.5, 1, 2, 2.5, 5].map((part) => part * size).find((step) => step * 4 >= value) || size * 5;
	return { top: Math.ceil(value / step) * step, step };
};

// The path of a line, broken where nothing was measured. A lone point is drawn as a dash.
const path = (points, x, y) => {
	let text = "";
	let last = null;
	points.forEach(({ at, value }, index) => {
		if (!Number.isFinite(value)) return (last = null);
		const isNew = last === null || at - last > GAP;
		text += `${isNew ? "M" : "L"}${x(at).toFixed(1)} ${y(value).toFixed(1)}`;
		const next = points[index + 1];
		if (isNew && (!next || !Number.isFinite(next.value) || next.at - at > GAP)) text += "h2";
		last = at;
	});
	return text;
};

const nearest = (points, at) =>
	points.reduce((best, point) => (!best || Math.abs(point.at - at) < Math.abs(best.at - at) ? point : best), null);

// `lines`: { name, of: point → value, style }, the values told by `say`; `target` is drawn where it is in sight.
export const chart = ({ title, points, lines, say, target, targetText, width, span, height = 170 }) => {
	const end = points.length ? points[points.length - 1].at : Date.now();
	// A short history fills the width, from a minute on.
	if (points.length) span = Math.min(span, Math.max(60000, end - points[0].at));
	const begin = end - span;
	const seen = points.filter((point) => point.at >= begin - 5000);
	const right = width - PAD.right;
	const base = height - PAD.bottom;
	const high = Math.max(0, ...lines.flatMap((line) => seen.map(line.of)).filter(Number.isFinite));
	const { top, step } = scale(Math.max(high, target && high > target * 0.5 ? target : 0));
	const x = (at) => PAD.left + Math.max(0, (at - begin) / span) * (right - PAD.left);
	const y = (value) => base - (value / top) * (base - PAD.top);
	const at = pointed !== null && seen.length ? nearest(seen, pointed) : null;
	const current = at || seen[seen.length - 1];
	const ticks = [];
	for (let tick = 0; tick <= top * 1.001; tick += step) ticks.push(tick);
	const words = lines.map((line) => `${line.name} ${say(current ? line.of(current) : NaN)}`).join(", ");
	const point = (event) => {
		const box = event.currentTarget.getBoundingClientRect();
		const place = ((event.clientX - box.left) / box.width) * width;
		pointed = begin + ((place - PAD.left) / (right - PAD.left)) * span;
		redraw();
	};
	const leave = () => ((pointed = null), redraw());
	return h(
		"figure",
		{ class: "chart", key: title },
		h("figcaption", {}, h("span", { class: "title" }, title), h("span", { class: "at" }, at ? clock(at.at) : "")),
		s(
			"svg",
			{ viewBox: `0 0 ${width} ${height}`, role: "img", "aria-label": `${title}: ${words}; highest in view ${say(high)}`, onpointermove: point, onpointerleave: leave },
			ticks.map((tick) => [
				s("line", { class: "grid", x1: PAD.left, x2: right, y1: y(tick), y2: y(tick) }),
				s("text", { x: PAD.left - 6, y: y(tick) + 4, "text-anchor": "end" }, tick ? say(tick) : "0"),
			]),
			[0, 0.5, 1].map((part) =>
				s("text", { x: PAD.left + part * (right - PAD.left), y: height - 4, "text-anchor": part === 0 ? "start" : part === 1 ? "end" : "middle" }, clock(begin + part * span))),
			target !== undefined && target <= top && [
				s("line", { class: "target", x1: PAD.left, x2: right, y1: y(target), y2: y(target) }),
				s("text", { class: "target", x: right, y: y(target) - 4, "text-anchor": "end" }, targetText),
			],
			lines.map((line) => {
				const d = path(seen.map((one) => ({ at: one.at, value: line.of(one) })), x, y);
				return s("path", { class: `line ${line.style}`, d });
			}),
			at && s("line", { class: "cursor", x1: x(at.at), x2: x(at.at), y1: PAD.top, y2: base }),
		),
		h("ul", { class: "legend" }, lines.map((line) => h("li", { class: line.style }, h("i", { "aria-hidden": "true" }), line.name, " ", h("b", {}, say(current ? line.of(current) : NaN))))),
	);
};

// A line of a word's height. The number stands beside it, so it has nothing to say to a screen reader.
export const spark = (points, of, style) => {
	const seen = points.slice(-60).map((point) => ({ at: point.at, value: of(point) }));
	const values = seen.map((one) => one.value).filter(Number.isFinite);
	const high = Math.max(...values, 0) || 1;
	const begin = seen.length ? seen[0].at : 0;
	const span = seen.length ? Math.max(1, seen[seen.length - 1].at - begin) : 1;
	const d = path(seen, (at) => 1 + ((at - begin) / span) * 78, (value) => 18 - (value / high) * 16);
	return s("svg", { class: "spark", viewBox: "0 0 80 20", "aria-hidden": "true", preserveAspectRatio: "none" }, d && s("path", { class: `line ${style || ""}`, d }));
};
