// Rate, errors and durations by route: what is wrong, how it came, and where.

import { get } from "./api.js";
import { chart, spark } from "./chart.js";
import { h } from "./dom.js";
import * as format from "./format.js";
import { TARGETS, against, button, direction, empty, red, select, state, table, tile, words } from "./parts.js";

export const title = "Overview";
export const needs = () => [
	{ path: "/upstreams", every: 5000 },
	{ path: "/cache?top=0", every: 5000 },
	{ path: "/filters", every: 10000 },
];

const SPANS = [["60", "1 minute"], ["300", "5 minutes"], ["900", "15 minutes"]];

// What one should know first, each with the way there.
const attention = (ctx, routes) => {
	const items = [];
	const add = (level, text, to) => items.push({ level, node: h("li", { key: text }, h("a", { href: to }, state(level, text))) });
	const beyond = routes.filter(({ now }) => now.rate > 0 && (now.errors > TARGETS.errors || now.p95 > TARGETS.p95)).sort((a, b) => b.now.errors - a.now.errors);
	for (const { route, direction, now } of beyond.slice(0, 6))
		add("over", `${route}: ${now.errors > TARGETS.errors ? format.percent(now.errors) + " errors" : "p95 " + format.ms(now.p95)}`, ctx.link("overview", "", { route, direction }));
	if (beyond.length > 6) add("over", `${beyond.length - 6} more routes beyond target`, ctx.link("overview", "", { by: "p95" }));
	const { upstreams = [], breakers = [] } = get("/upstreams").data || {};
	for (const breaker of breakers)
		if (breaker.state !== "closed" || breaker.forced)
			add(breaker.state === "open" ? "over" : "near", `Breaker of ${breaker.upstream} is ${breaker.state.replace("_", "-")}${breaker.forced ? ", forced" : ""}`, ctx.link("upstreams"));
	for (const { name, members, panicking } of upstreams) {
		const out = members.filter((member) => !member.in_service).length;
		if (panicking) add("over", `${name}: too few endpoints in service, all are used`, ctx.link("upstreams"));
		else if (out) add(out === members.length ? "over" : "near", `${name}: ${out} of ${format.plural(members.length, "endpoint")} out of service`, ctx.link("upstreams"));
	}
	for (const filter of get("/filters").data?.filters || [])
		if (filter.overridden) add("info", `Filter ${filter.name} is overridden`, ctx.link("filters"));
	const order = ["over", "near", "info"];
	return items.sort((a, b) => order.indexOf(a.level) - order.indexOf(b.level)).map((item) => item.node);
};

const hits = () => {
	let asked = 0;
	let hit = 0;
	for (const cache of get("/cache?top=0").data?.caches || [])
		for (const route of cache.routes) {
			const many = Object.values(route.requests).reduce((sum, each) => sum + each, 0);
			if (many && Number.isFinite(route.hit_ratio)) (asked += many), (hit += many * route.hit_ratio);
		}
	return asked ? hit / asked : NaN;
};

const judged = (value, target, text, aside, high) => {
	const level = against(value, target, high);
	return { level, note: words(level, text, high) || `target ${text}`, aside };
};

const key = (route) => `${route.direction} ${route.route}`;

export const render = (ctx) => {
	const { history } = ctx;
	const stats = history.latest;
	if (!stats) return h("p", { class: "empty", "aria-busy": "true" }, "Asking the sidecar…");
	const side = ctx.param("side");
	const chosen = ctx.param("route") ? `${ctx.param("direction") || "inbound"} ${ctx.param("route")}` : "";
	const all = stats.routes.map((route) => ({ ...route, now: history.now(key(route)), points: history.of(key(route)) }));
	const shown = all.filter((route) => (!side || route.direction === side) && route.route.toLowerCase().includes(ctx.param("find").toLowerCase()));
	const whole = side || "all";
	const route = chosen && all.find((one) => key(one) === chosen);
	const name = route ? chosen : whole;
	const now = history.now(name);
	const points = history.of(name);
	const waits = !points.length;
	const span = Number(ctx.param("span")) || 300;
	const ratio = hits();
	const items = attention(ctx, all);
	const total = (route ? [route] : all.filter((one) => !side || one.direction === side)).reduce((sum, one) => sum + one.requests, 0);
	const own = history.own.at(-1) || {};

	const columns = ctx.width > 1040 ? 3 : 1;
	const width = Math.max(260, Math.floor((ctx.width - (columns - 1) * 12) / columns) - 26);
	const common = { points, width, span: span * 1000, height: columns > 1 ? 190 : 150 };
	const what = route ? route.route : side ? `all ${side} routes` : "all routes";
	const open = (one) => ctx.set({ route: one.route, direction: one.direction }, true);
	const order = { by: ctx.param("by") || "rate", down: ctx.param("up") !== "1" };

	return [
		items.length ? h("section", { class: "attention", "aria-label": "What needs attention", key: "attention" }, h("ul", {}, items)) : h("p", { class: "attention calm", key: "attention" }, waits ? state("off", "Measuring the first seconds…") : state("ok", "Nothing is beyond its target.")),
		h("dl", { class: "tiles", key: "tiles" },
			tile("Requests", format.per(now.rate), { note: `${format.count(total)} since start`, aside: spark(points, (p) => p.rate) }),
			tile("Errors (5xx)", now.rate > 0 ? format.percent(now.errors) : "–", judged(now.errors, TARGETS.errors, "5 %", spark(points, (p) => p.errors, "bad"))),
			tile("p95", format.ms(now.p95), judged(now.p95, TARGETS.p95, "200 ms", spark(points, (p) => p.p95))),
			tile("In flight", format.count(now.active), { note: "requests now", aside: spark(points, (p) => p.active) }),
			tile("Cache hits", format.percent(ratio), judged(ratio, TARGETS.hits, "80 %", null, true)),
			tile("CPU", format.percent(own.cpu), { note: "of one core", aside: spark(history.own, (p) => p.cpu) }),
			tile("Memory", format.bytes(stats.resident_bytes), { note: "resident", aside: spark(history.own, (p) => p.memory) }),
		),
		h("section", { class: "panel", key: "charts", "aria-label": `Charts of ${what}` },
			h("div", { class: "row" },
				h("h2", {}, route ? [direction(route.direction), " ", h("code", {}, route.route)] : what[0].toUpperCase() + what.slice(1)),
				route && h("a", { class: "button", href: ctx.link("overview", "", { side, span: ctx.param("span") }) }, "Show all routes"),
				route && h("a", { class: "button", href: ctx.link("requests", "", { route: route.route, direction: route.direction }) }, "Its recent requests"),
				h("span", { class: "push" }),
				select([["", "Both directions"], ["inbound", "Inbound"], ["outbound", "Outbound"]], side, (event) => ctx.set({ side: event.target.value, route: "", direction: "" }, true), { "aria-label": "Direction" }),
				select(SPANS, String(span), (event) => ctx.set({ span: event.target.value }), { "aria-label": "Time shown" }),
			),
			h("div", { class: "charts" },
				chart({ ...common, title: "Requests a second", say: format.per, lines: [{ name: "rate", of: (p) => p.rate, style: "main" }] }),
				chart({ ...common, title: "Errors (5xx)", say: format.percent, target: TARGETS.errors, targetText: "target 5 %", lines: [{ name: "errors", of: (p) => p.errors, style: "bad" }] }),
				chart({ ...common, title: "Duration", say: format.ms, target: TARGETS.p95, targetText: "target p95 200 ms", lines: [
					{ name: "p50", of: (p) => p.p50, style: "low" },
					{ name: "p95", of: (p) => p.p95, style: "main" },
					{ name: "p99", of: (p) => p.p99, style: "high" },
				] }),
			),
			route && details(route),
		),
		h("section", { class: "panel", key: "routes" },
			h("div", { class: "row" },
				h("h2", {}, "Routes"),
				h("span", { class: "push" }),
				all.length > 8 && h("input", { type: "search", placeholder: "Find a route", "aria-label": "Find a route", value: ctx.param("find"), oninput: (event) => ctx.set({ find: event.target.value }) }),
			),
			all.length
				? table({
						caption: "Routes with rate, errors and durations, over the last ten seconds",
						none: "No route is called so.",
						rows: shown,
						key,
						order,
						onOrder: (by, down) => ctx.set({ by, up: down ? "" : "1" }),
						selected: (one) => key(one) === chosen,
						columns: [
							{ id: "route", name: "Route", as: "path", sort: (one) => one.route, cell: (one) => [direction(one.direction), button(one.route, () => open(one), "link", `Charts of ${one.direction} ${one.route}`)] },
							...red(),
							{ id: "bytes", name: "Bytes", as: "num wide", sort: (one) => one.now.bytes ?? -1, cell: (one) => `${format.bytes(one.now.bytes)}/s` },
							{ id: "requests", name: "Total", as: "num wide", sort: (one) => one.requests, cell: (one) => format.count(one.requests) },
						],
					})
				: empty("No request has been counted yet. Send one through the sidecar and it shows here."),
			h("p", { class: "hint" }, "Over the last 10 s. A route whose metrics filter is off is not counted, so it is not here."),
		),
	];
};

// What a route has answered since the start, and why it failed.
const details = (route) => {
	const list = (counts) => Object.entries(counts).sort((a, b) => b[1] - a[1]);
	return h("div", { class: "facts", key: "facts" },
		h("h3", {}, "Since start"),
		h("ul", {}, list(route.status).map(([name, many]) => h("li", {}, h("b", {}, format.count(many)), name === "none" ? " without a status: the client went away" : ` × ${name}`))),
		list(route.failures).length > 0 && [h("h3", {}, "Failures"), h("ul", {}, list(route.failures).map(([name, many]) => h("li", {}, h("b", {}, format.count(many)), " × ", h("code", {}, name))))],
		h("p", {}, `Mean ${format.ms(route.requests ? (route.seconds / route.requests) * 1000 : NaN)}; ${format.bytes(route.request_bytes)} in, ${format.bytes(route.response_bytes)} out`),
	);
};
