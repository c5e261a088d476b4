// Where requests go: endpoints and their health, breakers and why they stand as they do, connections.

import { ask, get } from "./api.js";
import { confirm } from "./dialog.js";
import { h } from "./dom.js";
import * as format from "./format.js";
import { aside, bar, direction, empty, given, section, state, table } from "./parts.js";

export const title = "Upstreams";
export const needs = () => [
	{ path: "/upstreams", every: 2000 },
	{ path: "/connections", every: 4000 },
];

export const render = (ctx) => [
	given(get("/upstreams"), "/upstreams", ({ upstreams, breakers }) => [
		section("Circuit breakers", breakers.length ? h("ul", { class: "cards" }, breakers.map((one) => breaker(ctx, one))) : empty("No circuit breaker is on, or none has been needed yet.")),
		upstreams.map(upstream),
		!upstreams.length && section("Upstreams", empty("No upstream is named in the configuration.")),
	]),
	section("Connections", given(get("/connections"), "/connections", connections)),
];

const stands = (member) => {
	if (member.ejected_for !== null && member.ejected_for !== undefined) return state("over", `Ejected, ${format.seconds(member.ejected_for)} more`);
	if (!member.healthy) return state("over", "Fails its health check");
	if (!member.in_service) return state("over", "Out of service");
	if (member.slow_start_share < 1) return state("near", `Slow start, ${format.percent(member.slow_start_share)} of its share`);
	return state("ok", "In service");
};

const upstream = (one) => {
	const out = one.members.filter((member) => !member.in_service).length;
	return h("section", { class: "panel", key: one.name },
		h("div", { class: "row" },
			h("h2", {}, one.name),
			h("span", { class: "tag" }, one.algorithm),
			one.panicking ? state("over", "Panic: too few are in service, all are used") : out ? state("near", `${out} of ${one.members.length} out of service`) : state("ok", format.plural(one.members.length, "endpoint") + " in service"),
			h("span", { class: "push" }),
			h("span", { class: "hint" }, `${format.plural(one.ejections, "ejection")}, ${format.plural(one.spared, "spared", "spared")}, ${format.plural(one.panics, "panic")} since start`),
		),
		table({
			caption: `Endpoints of ${one.name}`,
			none: "It has no endpoint: its name was not found, or not yet.",
			rows: one.members,
			key: (member) => member.address,
			columns: [
				{ name: "Endpoint", as: "path", cell: (member) => h("code", {}, member.address) },
				{ name: "State", cell: stands },
				{ name: "Weight", as: "num wide", cell: (member) => member.weight },
				{ name: "In flight", as: "num", cell: (member) => member.active },
				{ name: "Latency", as: "num", cell: (member) => format.ms(member.latency_ms) },
				{ name: "Good answers lately", as: "wide", cell: (member) => member.success_share === null ? "–" : [bar(member.success_share, member.success_share < 0.95 ? "over" : "ok", `${format.percent(member.success_share)} good`), " ", format.percent(member.success_share)] },
				{ name: "Good", as: "num wide", cell: (member) => format.count(member.successes) },
				{ name: "Failed", as: "num wide", cell: (member) => format.count(member.failures) },
			],
		}),
	);
};

const LEVELS = { closed: "ok", half_open: "near", open: "over" };
const NAMES = { closed: "Closed", half_open: "Half-open", open: "Open" };
const MEANS = { closed: "requests pass", half_open: "a few requests probe it", open: "requests are refused at once" };

const breaker = (ctx, one) => {
	const name = one.upstream + (one.route ? ` (${one.route})` : "");
	const force = (to, text, words) => {
		const is = to === "auto" ? !one.forced : one.forced && one.state === to;
		return h("button", { type: "button", "aria-pressed": String(is), disabled: is, onclick: () => change(ctx, one, name, to, words) }, text, aside(` ${name}`));
	};
	return h("li", { class: `card ${LEVELS[one.state] || ""}`, key: `${one.direction} ${one.filter} ${name}` },
		h("div", { class: "row" }, direction(one.direction), h("b", {}, name), one.is_host && h("span", { class: "tag" }, "host"), state(LEVELS[one.state] || "off", (NAMES[one.state] || one.state) + (one.forced ? ", forced" : ""))),
		h("p", {}, `${NAMES[one.state] || one.state} for ${format.seconds(one.state_seconds)}: ${MEANS[one.state] || ""}. `, one.reason && h("span", {}, `Why: ${one.reason}. `), one.half_open_in_seconds !== null && one.state === "open" && (one.half_open_in_seconds > 0 ? `It is tried again in ${format.seconds(Math.ceil(one.half_open_in_seconds))}.` : "The next request probes it.")),
		h("p", { class: "hint" }, `In its window ${format.plural(one.calls, "call")}: ${one.failed} failed, ${one.slow} slow; ${one.consecutive_failures} failed one after another.`),
		h("div", { class: "segments", role: "group", "aria-label": `Force the breaker of ${name}` },
			force("auto", "Automatic", `The breaker of ${name} goes by what it sees again.`),
			force("closed", "Force closed", `All requests pass to ${name}, whatever comes of them, until it is set back to automatic.`),
			force("open", "Force open", `All requests to ${name} are refused at once, until it is set back to automatic.`)),
	);
};

const change = async (ctx, one, name, to, words) => {
	const done = await confirm(`${to === "auto" ? "Back to automatic" : `Force ${to}`}: ${name}?`, words, to === "auto" ? "Back to automatic" : `Force ${to}`, () =>
		ask("POST", "/upstreams/breakers", { direction: one.direction, upstream: one.upstream, ...(one.route ? { route: one.route } : {}), force: to }), to !== "auto");
	if (done) ctx.say(to === "auto" ? `The breaker of ${name} is automatic again.` : `The breaker of ${name} is forced ${to}.`);
};

const connections = ({ listeners = [], inbound, outbound, pools = [] }) => {
	const side = (name, is) =>
		is && h("div", { class: "fill", key: name }, h("h3", {}, name),
			h("p", {}, h("b", {}, format.count(is.open)), ` of ${format.count(is.max)} connections open `, bar(is.open / is.max, is.open / is.max > 0.8 ? "over" : "info", `${is.open} of ${is.max} open`)),
			is.clients?.length > 0 && table({ caption: `${name} clients`, rows: is.clients.slice(0, 20), key: (client) => client.address, columns: [{ name: "Client", cell: (client) => h("code", {}, client.address) }, { name: "Open", as: "num", cell: (client) => client.open }] }));
	return [
		h("ul", { class: "plain" }, listeners.map((one) => h("li", { key: one.direction + one.address }, direction(one.direction), " ", h("code", {}, one.bound || one.address), " ", one.state === "open" ? state("ok", "open") : state("near", "leaving: it takes no more")))),
		h("div", { class: "columns" }, side("Inbound", inbound), side("Outbound", outbound)),
		h("h3", {}, "Pools"),
		table({
			caption: "Kept connections to endpoints",
			none: "No connection to an endpoint is kept now.",
			rows: pools,
			key: (pool) => pool.endpoint,
			columns: [
				{ name: "Endpoint", cell: (pool) => h("code", {}, pool.endpoint) },
				{ name: "HTTP/1 idle", as: "num", cell: (pool) => pool.http1_idle },
				{ name: "HTTP/2", as: "num", cell: (pool) => pool.http2_connections },
				{ name: "Streams", as: "num", cell: (pool) => pool.http2_streams },
			],
		}),
	];
};
