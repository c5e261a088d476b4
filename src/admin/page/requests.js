// Recent exchanges: what came, what became of it and why, moment by moment.

import { get } from "./api.js";
import { h } from "./dom.js";
import * as format from "./format.js";
import { direction, empty, field, given, section, select, state, table } from "./parts.js";

export const title = "Requests";
const FILTERS = ["route", "direction", "status", "method", "min_duration", "filter", "reason", "trace"];

const listed = (ctx) => {
	const asked = FILTERS.map((name) => [name, ctx.param(name).trim()]).filter(([, value]) => value);
	return `/requests?${new URLSearchParams([...asked, ["limit", "100"]])}`;
};
const one = (id) => `/requests/${encodeURIComponent(id)}`;
let stopped = null;

export const needs = (ctx) =>
	ctx.rest
		// It has ended, so it stays as it is.
		? [{ path: one(ctx.rest), every: 3600000 }]
		: [{ path: stopped || listed(ctx), every: stopped ? 3600000 : 2000 }, { path: "/filters", every: 30000 }];

const outcome = (request) => {
	const { status, end, failure } = request;
	const level = end === "failed" || status >= 500 ? "over" : end === "client_aborted" || status >= 400 ? "near" : "ok";
	const text = status ?? (end === "client_aborted" ? "client left" : failure ? failure.replaceAll("_", " ") : "none");
	return state(level, text);
};
const ENDS = { complete: "complete", client_aborted: "the client went away", failed: "failed" };
const KEPT = { error: "an error", slow: "slow", sample: "a sample" };

export const render = (ctx) => (ctx.rest ? single(ctx) : list(ctx));

const list = (ctx) => {
	const path = stopped || listed(ctx);
	const input = (name, label, props) =>
		field(label, h("input", { id: `by-${name}`, type: "search", value: ctx.param(name), autocomplete: "off", spellcheck: "false", onchange: (event) => ctx.set({ [name]: event.target.value.trim() }), ...props }));
	const choose = (name, label, options) => field(label, select(options, ctx.param(name), (event) => ctx.set({ [name]: event.target.value }), { id: `by-${name}` }));
	const names = (get("/filters").data?.filters || []).map((filter) => filter.name);
	const routes = [...new Set((ctx.history.latest?.routes || []).map((route) => route.route))];
	const known = (id, options) => h("datalist", { id }, options.map((option) => h("option", { value: option })));
	const statuses = [["", "any"], ["2xx", "2xx"], ["3xx", "3xx"], ["4xx", "4xx"], ["5xx", "5xx"]];
	const status = ctx.param("status");
	if (status && !statuses.some(([is]) => is === status)) statuses.push([status, status]);
	return [
		h("search", { class: "filters", key: "filters" },
			known("routes", routes), known("names", names),
			choose("status", "Status", statuses),
			input("route", "Route", { list: "routes", placeholder: "any" }),
			choose("direction", "Direction", [["", "both"], ["inbound", "inbound"], ["outbound", "outbound"]]),
			choose("min_duration", "Took at least", [["", "any time"], ["50ms", "50 ms"], ["200ms", "200 ms"], ["1s", "1 s"], ["5s", "5 s"]]),
			input("filter", "Filter took part", { list: "names", placeholder: "any" }),
			input("trace", "Trace id", { placeholder: "any" }),
			h("div", { class: "field" },
				h("button", { type: "button", "aria-pressed": String(!!stopped), onclick: () => { stopped = stopped ? null : listed(ctx); ctx.set({}); } }, stopped ? "Go on" : "Hold still")),
			FILTERS.some((name) => ctx.param(name)) && h("div", { class: "field" }, h("a", { class: "button", href: ctx.link("requests") }, "Clear"))),
		given(get(path), "/requests", (data) => h("section", { class: "panel", key: "list" },
			h("p", { class: "hint" }, `${format.plural(data.requests.length, "request")} shown${stopped ? ", held still" : ", newest first"}. ${format.count(data.recorded)} seen, ${format.count(data.kept)} kept (errors, slow ones, a sample of the rest) in ${format.bytes(data.bytes)} of ${format.bytes(data.capacity_bytes)}.`),
			table({
				caption: "Recent requests, newest first",
				none: FILTERS.some((name) => ctx.param(name)) ? "None that was kept is like that." : "None yet. What passes the sidecar shows here within two seconds.",
				rows: data.requests,
				key: (request) => request.id,
				columns: [
					{ name: "Request", as: "path", cell: (request) => [direction(request.direction), h("a", { href: ctx.link("requests", request.id) }, h("b", {}, request.method), " ", h("code", {}, request.target)), h("small", { class: "under" }, request.summary || request.route)] },
					{ name: "Status", cell: outcome },
					{ name: "Took", as: "num", cell: (request) => format.ms(request.duration_ms) },
					{ name: "When", as: "num wide", cell: (request) => h("time", { datetime: request.at, title: request.at }, format.ago(request.at)) },
					{ name: "Kept as", as: "wide", cell: (request) => KEPT[request.kept_because] || request.kept_because },
				],
			}))),
	];
};

const single = (ctx) => [
	h("p", { key: "back" }, h("a", { href: ctx.link("requests") }, "← Recent requests")),
	get(one(ctx.rest)).error?.status === 404
		? empty("This one is not kept any more: newer ones took its place.")
		: given(get(one(ctx.rest)), `/requests/${ctx.rest}`, (request) => detail(ctx, request)),
];

const PHASES = { queue: "Waiting for its turn", connect: "Connecting", first_byte: "Waiting for the first byte", body: "Body" };

const detail = (ctx, request) => {
	const fact = (name, value) => value !== null && value !== undefined && value !== "" && h("div", {}, h("dt", {}, name), h("dd", {}, value));
	const trace = /^https?:\/\//.test(request.trace_url || "") ? h("a", { href: request.trace_url, target: "_blank", rel: "noreferrer noopener" }, h("code", {}, request.trace_id), " in the trace viewer") : request.trace_id && h("code", {}, request.trace_id);
	return [
		h("section", { class: "panel", key: "head" },
			h("div", { class: "row" }, direction(request.direction), h("h2", { class: "path" }, `${request.method} `, h("code", {}, request.target)), outcome(request), h("b", {}, format.ms(request.duration_ms))),
			request.summary && h("p", { class: "verdict" }, request.summary),
			h("dl", { class: "pairs" },
				fact("Route", h("a", { href: ctx.link("overview", "", { route: request.route, direction: request.direction }) }, h("code", {}, request.route))),
				fact("Ended", ENDS[request.end] + (request.failure ? `: ${request.failure.replaceAll("_", " ")}` : "")),
				fact("When", format.when(request.at)),
				fact("Host", request.authority), fact("Version", request.version), fact("Client", request.client), fact("Upstream", request.upstream),
				fact("Sizes", `${format.bytes(request.request_bytes)} in, ${format.bytes(request.response_bytes)} out`),
				fact("Request id", request.request_id && h("code", {}, request.request_id)),
				fact("Trace", trace && [trace, request.sampled ? "" : " (not sampled)"]),
				fact("Kept as", KEPT[request.kept_because] || request.kept_because))),
		section("What was decided", request.ledger?.length
			? h("ol", { class: "ledger" }, request.ledger.map((entry) => h("li", {}, h("code", {}, entry.filter), " ", entry.words || entry.reason.replaceAll("_", " "), h("small", {}, ` ${entry.reason}`))))
			: empty("No filter changed anything: it went through as it came."),
			request.ledger_dropped > 0 && h("p", { class: "hint" }, `and ${request.ledger_dropped} more, for which there was no room`)),
		section("Where the time went", waterfall(request)),
		request.request_headers?.length > 0 && section("Request headers", h("dl", { class: "pairs mono" }, request.request_headers.map(([name, value]) => h("div", {}, h("dt", {}, name), h("dd", { class: value === "[redacted]" ? "redacted" : null }, value))))),
	];
};

// Phases and attempts on one scale. The numbers stand beside the bars, so nothing is told by a bar alone.
const waterfall = (request) => {
	const phases = (request.phases || []).map((phase) => ({ name: PHASES[phase.name] || phase.name.replaceAll("_", " "), start: phase.start_ms, took: phase.duration_ms, style: phase.name }));
	const attempts = (request.attempts || []).map((attempt) => ({
		name: `Attempt ${attempt.number}: ${attempt.endpoint}`,
		note: [attempt.words || attempt.result, attempt.reused ? "connection reused" : Number.isFinite(attempt.connect_ms) ? `connected in ${format.ms(attempt.connect_ms)}` : ""].filter(Boolean).join(", "),
		start: attempt.start_ms, took: attempt.duration_ms, connect: attempt.connect_ms,
		style: /^[1-4]\d\d$/.test(attempt.result) ? "good" : attempt.result === "abandoned" ? "off" : "bad",
	}));
	const rows = [...attempts, ...phases];
	if (!rows.length) return empty("Its times were not kept.");
	const end = Math.max(request.duration_ms, ...rows.map((row) => row.start + row.took)) || 1;
	const at = (value) => `${Math.min(100, (value / end) * 100).toFixed(2)}%`;
	return [
		h("ol", { class: "waterfall" }, rows.map((row, index) =>
			h("li", { key: index },
				h("span", { class: "name" }, row.name, row.note && h("small", {}, row.note)),
				h("span", { class: "track", "aria-hidden": "true" },
					h("span", { class: `span ${row.style}`, style: { "margin-left": at(row.start), width: at(Math.min(row.took, end - row.start)) } },
						Number.isFinite(row.connect) && row.took > 0 && h("span", { class: "connect", style: { width: at((row.connect / row.took) * end) } }))),
				h("span", { class: "took" }, format.ms(row.took), h("small", {}, row.start > 0 ? `after ${format.ms(row.start)}` : "from the start"))))),
		h("p", { class: "hint scale", "aria-hidden": "true" }, h("span", {}, "0"), h("span", {}, format.ms(end / 2)), h("span", {}, format.ms(end))),
	];
};
