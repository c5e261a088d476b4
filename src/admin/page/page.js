// Where everything begins: which view is shown, what it needs, and what stands above all views.

import * as api from "./page/api.js";
import { onPoint } from "./page/chart.js";
import { dialog } from "./page/dialog.js";
import { h, kept, show } from "./page/dom.js";
import * as format from "./page/format.js";
import { field, state } from "./page/parts.js";
import { History } from "./page/series.js";
import * as cache from "./page/cache.js";
import * as configuration from "./page/configuration.js";
import * as filters from "./page/filters.js";
import * as overview from "./page/overview.js";
import * as peers from "./page/peers.js";
import * as requests from "./page/requests.js";
import * as upstreams from "./page/upstreams.js";

const VIEWS = { overview, upstreams, cache, filters, requests, configuration, peers };
const at = (id) => document.getElementById(id);
const history_ = new History();
let current = null;

// Where we are: `#/view/rest?params`.
const place = () => {
	const [path, query] = location.hash.replace(/^#\/?/, "").split("?");
	const [name, ...rest] = path.split("/");
	const view = Object.hasOwn(VIEWS, name) ? name : "overview";
	return { view, rest: rest.map(decode).join("/"), params: new URLSearchParams(query || "") };
};

const decode = (text) => {
	try {
		return decodeURIComponent(text);
	} catch {
		return text;
	}
};

export const link = (view, rest, params) => {
	const query = new URLSearchParams(Object.entries(params || {}).filter(([, value]) => value)).toString();
	return `#/${view}${rest ? "/" + encodeURIComponent(rest) : ""}${query ? "?" + query : ""}`;
};

const context = () => {
	const here = place();
	return {
		...here,
		history: history_,
		link,
		say,
		draw,
		width: at("main").clientWidth,
		param: (name) => here.params.get(name) || "",
		// Changes what the address says of this view; `push` makes it a step to go back to.
		set: (changes, push) => {
			const params = { ...Object.fromEntries(place().params), ...changes };
			const to = link(here.view, here.rest, params);
			if (push) location.hash = to;
			else {
				history.replaceState(null, "", to);
				moved();
			}
		},
	};
};

// Tells what was done, to eyes and ears.
let saying;
const say = (text) => {
	show(at("say"), h("p", {}, text));
	clearTimeout(saying);
	saying = setTimeout(() => show(at("say")), 8000);
};

let drawing = false;
const draw = () => {
	if (drawing || document.hidden) return;
	drawing = true;
	requestAnimationFrame(() => {
		drawing = false;
		const here = context();
		const view = VIEWS[here.view];
		show(at("main"), h("h1", { tabindex: "-1", key: "h1" }, view.title), view.render(here));
		drawStanding();
	});
};

const drawStanding = () => {
	const stats = history_.latest;
	const gone = api.lost();
	const own = history_.own.at(-1);
	if (stats) at("service").textContent = stats.service;
	const wrong = stats && Object.entries(stats.checks || {}).filter(([, said]) => said !== "ok");
	const standing = gone
		? state("over", "No connection")
		: !stats
			? state("off", "Asking…")
			: stats.draining
				? state("near", "Draining")
				: stats.ready
					? state("ok", "Ready")
					: state("over", "Not ready", wrong.map(([name, said]) => `${name}: ${said}`).join("; "));
	const fact = (name, value) => h("span", { class: "fact wide" }, name, " ", h("b", {}, value));
	show(
		at("standing"),
		standing,
		stats && [
			fact("up", format.seconds(stats.uptime_seconds)),
			fact("configuration", `#${stats.generation}`),
			fact("CPU", own ? format.percent(own.cpu) : "–"),
			fact("memory", format.bytes(stats.resident_bytes)),
			fact("connections", `${stats.connections.inbound} in, ${stats.connections.outbound} out`),
		],
	);
	const banner = at("banner");
	banner.hidden = !(gone || (stats && !stats.ready && !stats.draining));
	if (gone) show(banner, h("b", {}, `Connection lost since ${format.clock(gone.since)}: `), `${gone.why}. What you see is from then. Asking again by itself. `, h("button", { type: "button", onclick: () => api.again() }, "Ask now"));
	else if (!banner.hidden) show(banner, h("b", {}, "Not ready: "), wrong.map(([name, said]) => `${name}: ${said}`).join("; "));
	else show(banner);
	const title = `${VIEWS[place().view].title} · ${stats?.service || "Pillion"}`;
	if (document.title !== title) document.title = title;
};

const moved = () => {
	const here = context();
	const isNew = current !== here.view + "/" + here.rest;
	const first = current === null;
	current = here.view + "/" + here.rest;
	const own = { path: "/stats", every: here.view === "overview" ? 2000 : 5000, taken: (stats) => history_.take(stats) };
	api.want([own, ...VIEWS[here.view].needs(here)]);
	show(
		at("tabs"),
		Object.entries(VIEWS).map(([name, view]) =>
			h("li", {}, h("a", { href: link(name), "aria-current": name === here.view ? "page" : null }, view.title))),
	);
	at("tabs").querySelector("[aria-current]").scrollIntoView({ block: "nearest", inline: "nearest" });
	draw();
	if (isNew && !first) {
		window.scrollTo(0, 0);
		requestAnimationFrame(() => requestAnimationFrame(() => at("main").querySelector("h1")?.focus({ preventScroll: true })));
	}
};

// Light, dark, or as the system is.
const THEMES = ["system", "light", "dark"];
const theme = (name) => {
	document.documentElement.dataset.theme = name;
	const button = at("theme");
	button.textContent = { system: "◐ Auto", light: "☀ Light", dark: "☾ Dark" }[name];
	button.setAttribute("aria-label", `Theme: ${name}. Change it.`);
};
let chosen = kept("localStorage", "theme");
if (!THEMES.includes(chosen)) chosen = "system";
at("theme").onclick = () => {
	chosen = THEMES[(THEMES.indexOf(chosen) + 1) % THEMES.length];
	kept("localStorage", "theme", chosen);
	theme(chosen);
};
theme(chosen);

document.querySelector(".skip").onclick = (event) => {
	event.preventDefault();
	at("main").focus();
};

api.onToken(async (wasWrong) => {
	const input = h("input", { type: "password", autocomplete: "off", required: true });
	const given = await dialog({
		title: "This sidecar wants a token",
		content: [h("p", {}, wasWrong ? "The one it was shown is not right. " : "", "It is ", h("code", {}, "admin.token"), " of its configuration, and is kept until this tab is closed."), field("Token", input)],
		action: "Use it",
		run: async () => input.value.trim(),
	});
	return given || "";
});
api.onChange(draw);
onPoint(draw);
window.addEventListener("hashchange", moved);
window.addEventListener("resize", draw);
document.addEventListener("visibilitychange", draw);
// What was said a while ago is older by now.
setInterval(draw, 1000);
moved();
