// What several views are made of.

import { enterToken } from "./api.js";
import { spark } from "./chart.js";
import { h } from "./dom.js";
import { count, ms, per, percent } from "./format.js";

// The targets that the colours go by.
export const TARGETS = { p95: 200, errors: 0.05, hits: 0.8 };

// "ok", "near" or "over"; nothing for what is not known. A share that should be high has its target below it.
export const against = (value, target, high) => {
	if (!Number.isFinite(value)) return "";
	if (high) return value >= target ? "ok" : value >= target * 0.8 ? "near" : "over";
	return value > target ? "over" : value > target * 0.8 ? "near" : "ok";
};

const SHAPES = { ok: "●", near: "◆", over: "▲", off: "○", info: "■" };

// A state told by word, shape and colour.
export const state = (level, text, title) =>
	h("span", { class: `state ${level}`, title }, h("span", { "aria-hidden": "true" }, SHAPES[level] || ""), "\u00a0", text);

export const number = (text, level) =>
	level === "over" || level === "near"
		? h("span", { class: `state ${level}` }, h("span", { "aria-hidden": "true" }, SHAPES[level] + "\u00a0"), text, aside(level === "over" ? " beyond target" : " near target"))
		: text;

export const bar = (share, level, label) =>
	h("span", { class: "meter", role: "img", "aria-label": label }, h("span", { class: level || "info", style: { width: `${Math.max(0, Math.min(1, share || 0)) * 100}%` } }));

export const tile = (name, value, { level, note, aside } = {}) =>
	h("div", { class: `tile ${level || ""}`, key: name }, h("dt", {}, name), h("dd", {}, h("b", {}, value), aside, note && h("small", {}, level ? state(level, note) : note)));

// "over 200 ms", or "below 80 %" of what should be high.
export const words = (level, target, high) => level && `${{ ok: high ? "above" : "within", near: "close to", over: high ? "below" : "over" }[level]} ${target}`;

// Rate, errors and durations of a row: `now`, and `points` before it.
export const red = () => [
	{ id: "rate", name: "Rate", as: "num", sort: ({ now }) => now.rate ?? -1, cell: ({ now }) => per(now.rate) },
	{ id: "line", name: aside("Rate lately"), as: "wide", cell: ({ points }) => spark(points, (p) => p.rate) },
	{ id: "errors", name: "Errors", as: "num", sort: ({ now }) => now.errors ?? -1, cell: ({ now }) => (now.rate > 0 ? number(percent(now.errors), against(now.errors, TARGETS.errors)) : "–") },
	{ id: "p50", name: "p50", as: "num wide", sort: ({ now }) => now.p50 ?? -1, cell: ({ now }) => ms(now.p50) },
	{ id: "p95", name: "p95", as: "num", sort: ({ now }) => now.p95 ?? -1, cell: ({ now }) => number(ms(now.p95), against(now.p95, TARGETS.p95)) },
	{ id: "p99", name: "p99", as: "num wide", sort: ({ now }) => now.p99 ?? -1, cell: ({ now }) => ms(now.p99) },
	{ id: "slow", name: aside("p95 lately"), as: "wide", cell: ({ points }) => spark(points, (p) => p.p95) },
	{ id: "active", name: "In flight", as: "num wide", sort: ({ now }) => now.active ?? -1, cell: ({ now }) => count(now.active) },
];

// For who hears the page.
export const aside = (text) => h("span", { class: "hidden" }, text);

export const section = (title, ...content) => h("section", { class: "panel", key: title }, h("h2", {}, title), content);

export const empty = (text) => h("p", { class: "empty" }, text);

// An answer, or why there is none, in words.
export const given = (answer, path, draw) => {
	if (answer.data) return draw(answer.data);
	const { error } = answer;
	if (!error) return h("p", { class: "empty", "aria-busy": "true" }, "Asking the sidecar…");
	if (error.status === 404) return empty(`This sidecar does not offer ${path}. Another version may; all else works.`);
	if (error.status === 401)
		return h("p", { class: "empty" }, "A token is needed to see this. ", h("button", { type: "button", onclick: enterToken }, "Enter the token"));
	return h("div", { class: "empty" }, h("p", {}, `The sidecar did not give ${path}:`), h("pre", { class: "wrong" }, error.message));
};

// `columns`: { name, cell(row), sort(row), as: "num", "path", "wide" where it is for wide screens }. With `order`, headings sort.
export const table = ({ caption, columns, rows, key, order, onOrder, selected, none = "Nothing here." }) => {
	if (!rows.length) return empty(none);
	const by = order && columns.find((column) => column.id === order.by);
	if (by?.sort) {
		const value = (row) => {
			const is = by.sort(row);
			return typeof is === "number" && Number.isNaN(is) ? -Infinity : is;
		};
		const sign = order.down ? -1 : 1;
		rows = [...rows].sort((a, b) => (value(a) < value(b) ? -sign : value(a) > value(b) ? sign : 0));
	}
	const heading = (column) => {
		const isBy = by === column;
		const direction = isBy ? (order.down ? "descending" : "ascending") : null;
		const label = column.sort && onOrder
			? h("button", { type: "button", class: "sort", onclick: () => onOrder(column.id, isBy ? !order.down : /num/.test(column.as)) }, column.name, h("span", { "aria-hidden": "true" }, isBy ? (order.down ? " ↓" : " ↑") : ""))
			: column.name;
		return h("th", { scope: "col", class: column.as, "aria-sort": direction }, label);
	};
	return h(
		"div",
		{ class: "scroll", tabindex: "0", role: "region", "aria-label": caption },
		h(
			"table",
			{},
			h("caption", { class: "hidden" }, caption),
			h("thead", {}, h("tr", {}, columns.map(heading))),
			h("tbody", {}, rows.map((row, at) =>
				h("tr", { key: key ? key(row) : at, class: selected?.(row) ? "selected" : null },
					columns.map((column, first) => h(first ? "td" : "th", { scope: first ? null : "row", class: column.as }, column.cell(row)))))),
		),
	);
};

let ids = 0;
// A labelled control. One of a view brings its own id, so that an update finds it again.
export const field = (label, control, hint) => {
	control.id ||= `field-${ids++}`;
	return h("div", { class: "field" }, h("label", { for: control.id }, label), control, hint && h("p", { class: "hint" }, hint));
};

export const select = (options, value, onchange, props) =>
	h("select", { ...props, onchange, value }, options.map(([is, text]) => h("option", { value: is }, text)));

export const button = (text, onclick, cls, label) => h("button", { type: "button", class: cls, onclick, "aria-label": label }, text);

export const direction = (name) => h("span", { class: "tag" }, name === "inbound" ? "in" : name === "outbound" ? "out" : name, aside(name === "inbound" || name === "outbound" ? "bound" : ""));
