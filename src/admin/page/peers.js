// Several sidecars side by side, as the one we ask sees them.

import { get } from "./api.js";
import { h } from "./dom.js";
import * as format from "./format.js";
import { given, red, state, table } from "./parts.js";
import { History } from "./series.js";

export const title = "Peers";
const known = new Map();

const taken = ({ peers }) => {
	for (const { name, url, stats } of peers) {
		const key = `${name} ${url || ""}`;
		if (!known.has(key)) known.set(key, new History());
		if (stats) known.get(key).take(stats);
	}
};
export const needs = () => [{ path: "/peers", every: 2000, taken }];

// An address of a configuration, but still: only what leads to a web page becomes a link.
const linked = (url, text) => (/^https?:\/\//.test(url || "") ? h("a", { href: url, target: "_blank", rel: "noreferrer noopener" }, text) : text);

export const render = (ctx) =>
	given(get("/peers"), "/peers", ({ peers }) => {
		const rows = peers.map((peer) => {
			const history = known.get(`${peer.name} ${peer.url || ""}`);
			return { ...peer, stats: peer.stats || {}, points: history?.of("all") || [], now: (peer.reachable && history?.now("all")) || {}, own: (peer.reachable && history?.own.at(-1)) || {} };
		});
		const away = rows.filter((row) => !row.reachable);
		return h("section", { class: "panel" },
			h("div", { class: "row" }, h("h2", {}, format.plural(peers.length, "sidecar")), away.length ? state("over", `${away.length} not reachable: ${away.map((row) => row.name).join(", ")}`) : state("ok", "all reachable")),
			table({
				caption: "Sidecars with rate, errors and durations of all their routes",
				rows,
				key: (row) => `${row.name} ${row.url || ""}`,
				order: { by: ctx.param("by"), down: ctx.param("up") !== "1" },
				onOrder: (by, down) => ctx.set({ by, up: down ? "" : "1" }),
				columns: [
					{ id: "name", name: "Sidecar", as: "path", sort: (row) => row.name, cell: (row) => [h("b", {}, linked(row.url, row.name)), row.url ? h("small", { class: "under" }, row.url) : h("small", { class: "under" }, "this one")] },
					{ id: "state", name: "State", sort: (row) => (row.reachable ? (row.stats.ready ? 2 : 1) : 0), cell: (row) =>
						!row.reachable ? [state("over", "Not reachable"), h("small", { class: "under" }, row.error)]
							: row.stats.draining ? state("near", "Draining") : row.stats.ready ? state("ok", "Ready") : state("over", "Not ready") },
					...red(),
					{ id: "cpu", name: "CPU", as: "num wide", sort: (row) => row.own.cpu ?? -1, cell: (row) => format.percent(row.own.cpu) },
					{ id: "memory", name: "Memory", as: "num wide", sort: (row) => row.stats.resident_bytes ?? -1, cell: (row) => format.bytes(row.stats.resident_bytes) },
					{ id: "up", name: "Up", as: "num wide", sort: (row) => row.stats.uptime_seconds ?? -1, cell: (row) => format.seconds(row.stats.uptime_seconds) },
					{ id: "version", name: "Version", as: "wide", cell: (row) => row.stats.version || "–" },
				],
			}),
			h("p", { class: "hint" }, "This sidecar asks the others, once a second at most. Which ones: ", h("code", {}, "admin.peers"), " of its configuration."),
		);
	});
