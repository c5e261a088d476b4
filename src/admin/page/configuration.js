// What is configured, where each value comes from, and what changed when; with what an operator does to all of it.

import { again, ask, get } from "./api.js";
import { confirm, dialog } from "./dialog.js";
import { h } from "./dom.js";
import { origin } from "./filters.js";
import * as format from "./format.js";
import { aside, button, empty, field, given, section, select, state, table } from "./parts.js";

export const title = "Configuration";
export const needs = () => [
	{ path: "/config/history", every: 4000 },
	{ path: "/config/values", every: 10000 },
	{ path: "/log", every: 10000 },
	{ path: "/drain", every: 4000 },
];

export const render = (ctx) => [
	h("section", { class: "panel tools", key: "tools", "aria-label": "Operate" },
		h("div", {}, h("h2", {}, "Files"), h("p", { class: "hint" }, "Read again, taken if they are right."), button("Reload", () => reload(ctx), "primary")),
		h("div", {}, h("h2", {}, "Log level"), given(get("/log"), "/log", (log) => [
			h("p", { class: "hint" }, h("b", {}, log.level), log.until ? `, ${format.left(log.until)} left, then ${log.configured}` : log.level === log.configured ? ", as configured" : `, configured ${log.configured}`),
			button("Change…", () => level(ctx, log)),
		])),
		h("div", {}, h("h2", {}, "Drain"), given(get("/drain"), "/drain", ({ draining }) => [
			h("p", { class: "hint" }, draining ? state("near", "Draining: not ready for load balancers") : state("ok", "Serving")),
			button(draining ? "Serve again" : "Drain…", () => drain(ctx, !draining), draining ? "primary" : "danger"),
		]))),
	section("History", given(get("/config/history"), "/config/history", history)),
	section("Values in force", given(get("/config/values"), "/config/values", (data) => values(ctx, data))),
];

const reload = async (ctx) => {
	try {
		await ask("POST", "/reload");
		ctx.say("The files were read again.");
	} catch (error) {
		again();
		await dialog({ title: "Not reloaded: the files are wrong", content: [h("p", {}, "The configuration in force stays."), h("pre", { class: "wrong" }, error.message)], action: "Reload again", cancel: "Close", run: async () => (await ask("POST", "/reload"), true) });
	}
};

const level = async (ctx, log) => {
	const to = select(["error", "warn", "info", "debug", "trace"].map((name) => [name, name]), log.level);
	const ttl = select([["10m", "10 minutes, then back"], ["1h", "1 hour, then back"], ["", "until it is changed"]], "10m");
	const done = await dialog({
		title: "Log level",
		content: [field("Level", to), field("For how long", ttl)],
		action: "Change it",
		run: () => ask("PUT", "/log", { level: to.value, ...(ttl.value ? { ttl: ttl.value } : {}) }),
	});
	if (done) ctx.say(`The log level is ${done.level}.`);
};

const drain = async (ctx, to) => {
	const text = to ? "Readiness turns to 503, so load balancers send no more. Exchanges in flight go on, and so does the sidecar." : "Readiness turns to 200, and load balancers come back.";
	if (await confirm(to ? "Drain this sidecar?" : "Serve again?", text, to ? "Drain" : "Serve again", () => ask("POST", "/drain", { drain: to }), to)) ctx.say(to ? "Draining." : "Serving again.");
};

const TRIGGERS = { start: "Start", file: "A file changed", signal: "SIGHUP", api: "POST /reload", override: "Override", override_ended: "An override ended", override_removed: "An override was undone" };
const RESULTS = { applied: ["ok", "applied"], unchanged: ["off", "no change"], refused: ["over", "refused"] };

const history = ({ entries }) =>
	entries.length
		? h("ol", { class: "history" }, entries.map((one) => {
				const [how, text] = one.action ? ["info", "done"] : RESULTS[one.result] || ["info", one.result];
				return h("li", { key: one.id, class: how },
					h("div", { class: "row" }, state(how, text), h("b", {}, one.action || TRIGGERS[one.trigger] || one.trigger), one.by && h("span", {}, `by ${one.by}`), one.reason && h("q", {}, one.reason), h("span", { class: "push" }),
						h("span", { class: "muted" }, `#${one.generation} · `, h("time", { datetime: one.at, title: one.at }, format.when(one.at)), Number.isFinite(one.took_ms) ? ` · ${format.ms(one.took_ms)}` : "")),
					one.error && h("pre", { class: "wrong" }, one.error),
					one.changes?.length > 0 && h("ul", { class: "diff" }, one.changes.map((change) => h("li", { key: change.key },
						h("code", { class: "key" }, change.key), change.origin && h("span", { class: "muted" }, ` ${change.origin}`),
						change.was !== null && change.was !== undefined && h("del", {}, aside("was "), change.was),
						change.is !== null && change.is !== undefined && h("ins", {}, aside("is now "), change.is)))),
					one.more_changes > 0 && h("p", { class: "hint" }, `and ${format.plural(one.more_changes, "more change", "more changes")}`),
					one.needs_restart?.length > 0 && h("p", {}, state("near", `Takes effect at the next start: ${one.needs_restart.join(", ")}`)),
					one.warnings?.map((warning) => h("pre", { class: "warned" }, warning)),
					one.survived?.length > 0 && h("p", { class: "hint" }, `Lived on: ${one.survived.join("; ")}`));
			}))
		: empty("Nothing has happened since the start.");

const values = (ctx, { values: all, files }) => {
	const find = ctx.param("find").toLowerCase();
	const isDefault = (one) => one.origin === "default" || one.origin?.startsWith("(built-in");
	const own = ctx.param("all") !== "1";
	const rows = all.filter((one) => (!own || !isDefault(one)) && `${one.key} ${one.value} ${one.origin}`.toLowerCase().includes(find));
	return [
		h("div", { class: "row" },
			h("input", { type: "search", placeholder: "Find a key, value or file", "aria-label": "Find a key, value or file", value: ctx.param("find"), oninput: (event) => ctx.set({ find: event.target.value }) }),
			h("label", { class: "check" }, h("input", { type: "checkbox", checked: !own, onchange: (event) => ctx.set({ all: event.target.checked ? "1" : "" }) }), " with defaults"),
			h("span", { class: "hint" }, `${rows.length} of ${all.length}; from ${files?.length ? files.join(", ") : "no file"}`)),
		table({
			caption: "Configuration values with their origins",
			none: "No value is like that.",
			rows: rows.slice(0, 500),
			key: (one) => one.key,
			columns: [
				{ name: "Key", as: "path", cell: (one) => h("code", {}, one.key) },
				{ name: "Value", as: "path", cell: (one) => h("code", {}, one.value === null ? "null" : String(one.value)) },
				{ name: "From", as: "path", cell: (one) => origin(one.origin) },
			],
		}),
		rows.length > 500 && h("p", { class: "hint" }, `The first 500 of ${rows.length}: search for the rest.`),
	];
};
