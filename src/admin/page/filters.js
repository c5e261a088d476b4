// The chain as it is in force, and what can be turned: for a while, with a name and a reason, and back by itself.

import { ask, get } from "./api.js";
import { confirm, dialog } from "./dialog.js";
import { h, kept } from "./dom.js";
import * as format from "./format.js";
import { button, direction, empty, field, given, select, state, table } from "./parts.js";

export const title = "Filters";
export const needs = () => [{ path: "/filters", every: 3000 }];

export const render = (ctx) =>
	given(get("/filters"), "/filters", ({ filters, generation }) => [
		h("p", { class: "hint", key: "hint" }, `Requests pass the chain from first to last, responses back. Configuration #${generation}. What is switched here lasts for a while or until it is undone, and is written to no file.`),
		filters.length ? h("ol", { class: "chain", key: "chain" }, filters.map((one, at) => filter(ctx, one, at))) : empty("The chain has no filter."),
	]);

const place = (one) => (one.route === null || one.route === undefined ? `all ${one.direction}` : `${one.direction} ${one.route}`);

const filter = (ctx, one, at) => {
	const on = one.places.filter((each) => each.enabled);
	const many = one.places.length;
	const where = !one.in_chain ? "not in the chain" : !on.length ? "off" : on.length === many ? "on everywhere" : many - on.length < 3 ? `on, but not for ${one.places.filter((each) => !each.enabled).map(place).join(", ")}` : `on for ${on.slice(0, 2).map(place).join(", ")}${on.length > 2 ? ` and ${on.length - 2} more` : ""}`;
	return h("li", { class: `card ${one.overridden ? "info" : ""}`, key: one.name },
		h("div", { class: "row" },
			h("span", { class: "index", "aria-hidden": "true" }, one.in_chain ? at + 1 : "–"),
			h("button", { type: "button", role: "switch", "aria-checked": String(one.enabled), "aria-label": one.name, class: "switch", disabled: !one.in_chain, onclick: () => turn(ctx, one) }, h("span", { class: "knob", "aria-hidden": "true" }), h("span", { class: "word", "aria-hidden": "true" }, one.enabled ? "on" : "off")),
			h("h2", {}, one.name), one.plugin !== one.name && h("span", { class: "tag" }, one.plugin),
			h("span", { class: "where" }, where),
			h("span", { class: "push" }),
			h("details", {}, h("summary", {}, `Settings (${format.plural(many, "place")})`),
			one.places.map((each) => h("div", { key: place(each), class: "place" },
				h("h3", {}, direction(each.direction), " ", each.route === null || each.route === undefined ? "every route without its own" : h("code", {}, each.route), " ", each.enabled ? state("ok", "on") : state("off", "off")),
				table({
					caption: `Settings of ${one.name} for ${place(each)}`,
					none: "It has no settings.",
					rows: each.settings,
					key: (setting) => setting.key,
					columns: [
						{ name: "Setting", cell: (setting) => h("code", {}, setting.key) },
						{ name: "Value", as: "path", cell: (setting) => h("code", {}, setting.value) },
						{ name: "From", as: "path", cell: (setting) => origin(setting.origin) },
					],
				})))),
			one.in_chain && button("Tune…", () => tune(ctx, one), "", `Tune ${one.name}`)),
		one.overrides.map((override) => overridden(ctx, one, override)),
	);
};

export const origin = (text) => (text === "(admin API)" ? state("info", "admin API") : h("span", { class: text === "default" || text?.startsWith("(built-in") ? "muted" : "" }, text || "–"));

const overridden = (ctx, one, override) => {
	const said = [
		override.enabled === false ? "turned off" : override.enabled === true ? "turned on" : "",
		override.settings ? Object.entries(flat(override.settings)).map(([key, value]) => `${key} = ${value}`).join(", ") : "",
	].filter(Boolean).join(", ");
	const where = override.route ? `for ${override.direction || ""} ${override.route}` : override.direction ? `for all ${override.direction}` : "everywhere";
	return h("div", { class: "override", key: override.since + where + said },
		state("info", "Overridden"), " ", `${said} ${where}`, override.by && ` by ${override.by}`, override.reason && h("q", {}, override.reason),
		h("span", { class: "muted" }, ` since ${format.when(override.since)}, `, override.until ? `${format.left(override.until)} left` : "until it is undone"), " ",
		button("Undo", async () => {
			const done = await confirm(`Undo the overrides of ${one.name}?`, `${one.name} goes by the files again, at once. All its overrides are taken back.`, "Undo", () => ask("DELETE", `/filters/${encodeURIComponent(one.name)}`), false);
			if (done) ctx.say(`${one.name} goes by the files again.`);
		}, "", `Undo the overrides of ${one.name}`));
};

const flat = (settings, before = "") =>
	Object.entries(settings).reduce((all, [key, value]) =>
		Object.assign(all, value && typeof value === "object" && !Array.isArray(value) ? flat(value, `${before}${key}.`) : { [before + key]: typeof value === "string" ? value : JSON.stringify(value) }), {});

// The questions that both dialogs end with.
const terms = (one) => {
	const ttl = select([["5m", "5 minutes, then back"], ["10m", "10 minutes, then back"], ["1h", "1 hour, then back"], ["8h", "8 hours, then back"], ["", "until it is undone"]], "10m");
	const where = select([["", "everywhere"], ...[...new Set(one.places.map((each) => each.direction))].map((side) => [JSON.stringify([side]), `all ${side}`]), ...one.places.filter((each) => each.route).map((each) => [JSON.stringify([each.direction, each.route]), place(each)])], "");
	const by = h("input", { type: "text", autocomplete: "off", value: kept("sessionStorage", "by"), maxlength: "100" });
	const reason = h("input", { type: "text", autocomplete: "off", placeholder: "such as: incident 4711", maxlength: "200" });
	return {
		content: [field("For how long", ttl), field("Where", where), field("Your name", by, "It goes into the history."), field("Reason", reason)],
		read: () => {
			kept("sessionStorage", "by", by.value.trim());
			const [side, route] = where.value ? JSON.parse(where.value) : [];
			const said = { direction: side, route, ttl: ttl.value, by: by.value.trim(), reason: reason.value.trim() };
			return Object.fromEntries(Object.entries(said).filter(([, value]) => value));
		},
	};
};

const patch = async (ctx, one, question) => {
	const done = await dialog(question);
	if (done) {
		const shadowed = done.shadowed?.length ? ` Not where something nearer says otherwise: ${done.shadowed.join(", ")}.` : "";
		ctx.say(`${one.name} was changed.${shadowed}`);
	}
};

const turn = (ctx, one) => {
	const asked = terms(one);
	const to = !one.enabled;
	return patch(ctx, one, {
		title: `Turn ${to ? "on" : "off"} ${one.name}?`,
		content: asked.content,
		action: to ? "Turn it on" : "Turn it off",
		danger: !to,
		run: () => ask("PATCH", `/filters/${encodeURIComponent(one.name)}`, { enabled: to, ...asked.read() }),
	});
};

// What somebody types is a number, `true`, a list or a mapping where it reads as one, and text where it does not.
const typed = (text) => {
	try {
		return JSON.parse(text);
	} catch {
		const list = /^\[(.*)\]$/s.exec(text);
		return list ? list[1].split(",").map((part) => typed(part.trim())) : text;
	}
};

const tune = (ctx, one) => {
	const asked = terms(one);
	const known = new Map();
	for (const each of one.places) for (const { key, value } of each.settings) if (!known.has(key)) known.set(key, value);
	const inputs = [...known].map(([key, value]) => [key, String(value ?? ""), h("input", { type: "text", autocomplete: "off", spellcheck: "false", value: String(value ?? "") })]);
	const name = h("input", { type: "text", autocomplete: "off", spellcheck: "false", placeholder: "key.of.it" });
	const value = h("input", { type: "text", autocomplete: "off", spellcheck: "false", placeholder: "value" });
	const run = () => {
		const settings = {};
		const put = (key, text) => {
			const path = key.split(".");
			const last = path.pop();
			const inner = path.reduce((level, part) => (level[part] ??= Object.create(null)), settings);
			inner[last] = typed(text.trim());
		};
		for (const [key, was, input] of inputs) if (input.value !== was) put(key, input.value);
		if (name.value.trim()) put(name.value.trim(), value.value);
		if (!Object.keys(settings).length) throw new Error("Nothing was changed: give a setting another value.");
		return ask("PATCH", `/filters/${encodeURIComponent(one.name)}`, { settings, ...asked.read() });
	};
	return patch(ctx, one, {
		title: `Tune ${one.name}`,
		content: [
			h("fieldset", { class: "settings" }, h("legend", {}, "Settings"), inputs.map(([key, , input]) => field(key, input)), h("div", { class: "two" }, field("Another setting", name), field("Its value", value))),
			asked.content,
		],
		action: "Change it",
		run,
	});
};
