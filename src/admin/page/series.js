// Rates and percentiles from counters: the difference between two times of asking, as Prometheus does.

// Long enough to be steady, short enough to see what happens now.
const WINDOW = 10000;
const KEPT = 15 * 60 * 1000;

// The value below which the share `q` of the observations lie, in seconds; interpolated within its bucket. Beyond the last
// bound nothing is known but that bound.
export const quantile = (q, bounds, counts) => {
	const all = counts[counts.length - 1];
	if (!(all > 0) || !bounds.length) return NaN;
	const rank = q * all;
	const at = counts.findIndex((many) => many >= rank);
	if (at < 0 || at >= bounds.length) return bounds[bounds.length - 1];
	const below = at ? counts[at - 1] : 0;
	const from = at ? bounds[at - 1] : 0;
	const inside = counts[at] - below;
	return inside > 0 ? from + (bounds[at] - from) * ((rank - below) / inside) : bounds[at];
};

const zero = { requests: 0, server_errors: 0, seconds: 0, request_bytes: 0, response_bytes: 0, active: 0, buckets: [] };

// The sum of several routes' counters.
export const total = (routes) =>
	routes.reduce((sum, route) => {
		const result = { buckets: route.buckets.map((many, at) => many + (sum.buckets[at] || 0)) };
		for (const name of Object.keys(zero)) if (name !== "buckets") result[name] = sum[name] + (route[name] || 0);
		return result;
	}, zero);

const numbers = (now, before, bounds, span) => {
	const by = (name) => Math.max(0, now[name] - before[name]);
	const requests = by("requests");
	const counts = now.buckets.map((many, at) => Math.max(0, many - (before.buckets[at] || 0)));
	const of = (q) => quantile(q, bounds, counts) * 1000;
	return {
		rate: requests / span,
		errors: requests ? by("server_errors") / requests : NaN,
		p50: of(0.5),
		p95: of(0.95),
		p99: of(0.99),
		active: now.active,
		bytes: (by("request_bytes") + by("response_bytes")) / span,
	};
};

// One sidecar as it was over the last quarter of an hour: bounded in points, and in routes by what the sidecar has.
export class History {
	constructor() {
		this.clear();
	}

	clear() {
		this.raw = [];
		this.points = new Map();
		this.own = [];
		this.latest = null;
	}

	take(stats) {
		const at = Date.parse(stats.now) || Date.now();
		const last = this.raw[this.raw.length - 1];
		// Another process has other counters; and an answer may come twice.
		if (last && (last.pid !== stats.pid || stats.started_at !== last.started_at || at < last.at)) this.clear();
		else if (last && at === last.at) return;
		const groups = new Map(stats.routes.map((route) => [`${route.direction} ${route.route}`, route]));
		for (const direction of ["inbound", "outbound"])
			groups.set(direction, total(stats.routes.filter((route) => route.direction === direction)));
		groups.set("all", total(stats.routes));
		const { pid, started_at, cpu_seconds } = stats;
		this.raw.push({ at, groups, pid, started_at, cpu_seconds });
		this.latest = stats;
		while (this.raw.length > 2 && at - this.raw[1].at >= WINDOW) this.raw.shift();
		const before = this.raw[0];
		const span = (at - before.at) / 1000;
		if (span <= 0) return;
		for (const [name, now] of groups) {
			const then = before.groups.get(name) || zero;
			this.push(name, { at, ...numbers(now, then, stats.buckets, span) });
		}
		for (const name of this.points.keys()) if (!groups.has(name)) this.points.delete(name);
		this.own.push({ at, cpu: Math.max(0, cpu_seconds - before.cpu_seconds) / span, memory: stats.resident_bytes });
		this.own = this.own.filter((point) => at - point.at < KEPT);
	}

	push(name, point) {
		const points = this.points.get(name) || [];
		points.push(point);
		while (point.at - points[0].at > KEPT) points.shift();
		this.points.set(name, points);
	}

	of(name) {
		return this.points.get(name) || [];
	}

	now(name) {
		return this.of(name).at(-1) || {};
	}
}
