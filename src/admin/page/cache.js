// What the caches hold, what they are good for, and how to make them forget.

import { ask, get } from "./api.js";
import { confirm, dialog } from "./dialog.js";
import { h } from "./dom.js";
import * as format from "./format.js";
import { TARGETS, against, aside, bar, button, direction, empty, field, given, number, select, table, tile, words } from "./parts.js";

export const title = "Cache";
export const needs = () => [{ path: "/cache?top=50", every: 3000 }];

export const render = (ctx) =>
	given(get("/cache?top=50"), "/cache", ({ caches }) =>
		caches.length ? caches.map((one) => cache(ctx, one)) : empty("No cache is on. `filters: { cache: { enabled: true } }` turns it on, or its switch under Filters."));

const sum = (counts) => Object.values(counts).reduce((all, each) => all + each, 0);

const cache = (ctx, one) => {
	const asked = one.routes.reduce((all, route) => all + sum(route.requests), 0);
	const weighed = one.routes.reduce((all, route) => all + (route.hit_ratio || 0) * sum(route.requests), 0);
	const ratio = asked ? weighed / asked : NaN;
	const full = one.capacity_bytes ? one.bytes / one.capacity_bytes : 0;
	const level = against(ratio, TARGETS.hits, true);
	return h("section", { class: "panel", key: `${one.direction} ${one.filter}` },
		h("div", { class: "row" }, h("h2", {}, one.filter), direction(one.direction), h("span", { class: "push" }), button("Forget responses…", () => purge(ctx, one), "", `Forget responses… of ${one.direction} ${one.filter}`)),
		h("dl", { class: "tiles" },
			tile("Hit ratio", format.percent(ratio), { level, note: words(level, "target, 80 %", true) || "nothing asked yet" }),
			tile("Responses", format.count(one.entries), { note: "stored" }),
			tile("Memory", format.bytes(one.bytes), { note: `${format.percent(full)} of ${format.bytes(one.capacity_bytes)}`, aside: bar(full, full > 0.95 ? "near" : "info", `${format.percent(full)} full`) }),
			tile("Upstream time saved", format.seconds(one.routes.reduce((all, route) => all + (route.upstream_seconds_saved || 0), 0)), { note: "since start" })),
		h("h3", {}, "By route"),
		table({
			caption: `Hit ratio of ${one.filter} by route`,
			none: "No route has asked this cache yet.",
			rows: [...one.routes].sort((a, b) => sum(b.requests) - sum(a.requests)),
			key: (route) => route.route,
			columns: [
				{ name: "Route", as: "path", cell: (route) => h("code", {}, route.route) },
				{ name: "Hit ratio", as: "num", cell: (route) => number(format.percent(route.hit_ratio), sum(route.requests) ? against(route.hit_ratio, TARGETS.hits, true) : "") },
				{ name: aside("Hit ratio as a bar"), as: "wide", cell: (route) => bar(route.hit_ratio, "info", format.percent(route.hit_ratio)) },
				{ name: "Requests", as: "num", cell: (route) => format.count(sum(route.requests)) },
				{ name: "Of which", as: "wide", cell: (route) => Object.entries(route.requests).filter(([, many]) => many).map(([result, many]) => h("span", { class: "tag" }, `${result.replaceAll("_", " ")} ${format.count(many)}`)) },
				{ name: "Time saved", as: "num wide", cell: (route) => format.seconds(route.upstream_seconds_saved) },
			],
		}),
		h("h3", {}, "Most used"),
		table({
			caption: `The most used responses of ${one.filter}`,
			none: "Nothing is stored.",
			rows: one.top,
			key: (entry) => entry.url + entry.status + entry.bytes,
			columns: [
				{ name: "URL", as: "path", cell: (entry) => h("code", {}, entry.url) },
				{ name: "Status", as: "num wide", cell: (entry) => entry.status },
				{ name: "Hits", as: "num", cell: (entry) => format.count(entry.hits) },
				{ name: "Size", as: "num wide", cell: (entry) => format.bytes(entry.bytes) },
				{ name: "Fresh for", as: "num wide", cell: (entry) => (entry.ttl_seconds > 0 ? format.seconds(entry.ttl_seconds) : "stale") },
				{ name: aside("Forget"), as: "num", cell: (entry) => button("Forget", () => forget(ctx, one, { url: entry.url }, entry.url), "", `Forget ${entry.url}`) },
			],
		}),
	);
};

const send = (one, what) => ask("POST", "/cache/purge", { ...what, direction: one.direction, filter: one.filter });
const told = (ctx, done) => done && ctx.say(`Forgot ${format.plural(done.purged, "response")}.`);

const forget = async (ctx, one, what, name) => {
	told(ctx, await confirm("Forget this response?", `${name} is fetched from the app again when somebody asks for it.`, "Forget it", () => send(one, what)));
};

const purge = async (ctx, one) => {
	const value = h("input", { type: "text", autocomplete: "off", spellcheck: "false" });
	const hint = h("p", { class: "hint" });
	const rest = field("Which", value);
	const HINTS = { url: "A whole URL, as under Most used.", prefix: "How the URLs begin.", tag: "A tag that the app gave its responses.", everything: `All ${format.plural(one.entries, "response")} of ${one.filter}. The app gets every request until it is warm again.` };
	const kind = select([["url", "One URL"], ["prefix", "All below a prefix"], ["tag", "All with a tag"], ["everything", "Everything"]], "url", () => turn());
	const turn = () => {
		hint.textContent = HINTS[kind.value];
		rest.hidden = kind.value === "everything";
		value.required = !rest.hidden;
	};
	turn();
	told(ctx, await dialog({
		title: `Forget responses of ${one.filter}`,
		content: [field("What", kind), rest, hint],
		action: "Forget them",
		danger: true,
		run: () => send(one, kind.value === "everything" ? { everything: true } : { [kind.value]: value.value.trim() }),
	}));
};
