// Asks the admin API. What was asked last is kept by path; a view says what it needs and how often, and that is asked for as
// long as somebody looks.

import { kept } from "./dom.js";

const LIMIT = 6000;
const known = new Map();
let token = kept("sessionStorage", "token");
let needs = [];
let changed = () => {};
let lostSince = null;
let lastLoss = "";
let failures = 0;
let askToken = async () => {};
let asking = null;
let declined = false;

export const get = (path) => known.get(path) || {};
export const lost = () => lostSince && { since: lostSince, why: lastLoss };
export const onChange = (listener) => (changed = listener);
export const onToken = (ask) => (askToken = ask);

export class Refusal extends Error {
	constructor(status, text) {
		super(text);
		this.status = status;
	}
}

// One request; JSON or text. Throws a `Refusal` for any answer but a good one, a `TypeError` without an answer.
export const ask = async (method, path, body) => {
	const headers = {};
	const shown = token;
	if (shown) headers.authorization = `Bearer ${shown}`;
	if (body !== undefined) headers["content-type"] = "application/json";
	const response = await fetch(path, {
		method,
		headers,
		body: body === undefined ? undefined : JSON.stringify(body),
		cache: "no-store",
		credentials: "omit",
		redirect: "error",
		signal: AbortSignal.timeout(LIMIT),
	});
	const text = await response.text();
	if (response.status === 401) {
		await wantToken(shown);
		if (token !== shown || (token && !declined)) return ask(method, path, body);
	}
	if (!response.ok) throw new Refusal(response.status, text.trim() || `The sidecar answered ${response.status}.`);
	// What was changed shows at once.
	if (method !== "GET") again();
	return (response.headers.get("content-type") || "").includes("json") ? JSON.parse(text) : text;
};

// All who meet a 401 wait for the one question. Who does not answer it is not asked again until he wants to be.
const wantToken = (shown) => {
	if (shown !== token || declined) return;
	asking ||= askToken(!!shown).then((given) => {
		declined = !given;
		if (given) kept("sessionStorage", "token", (token = given));
		asking = null;
	});
	return asking;
};

export const enterToken = () => {
	declined = false;
	again();
};

const refresh = async (need) => {
	need.busy = true;
	try {
		const data = await ask("GET", need.path);
		known.set(need.path, { data, at: Date.now() });
		need.taken?.(data);
		failures = 0;
		lostSince = null;
	} catch (error) {
		const before = known.get(need.path);
		if (error instanceof Refusal || error instanceof SyntaxError) {
			known.set(need.path, { error, at: Date.now() });
			failures = 0;
			lostSince = null;
		} else {
			failures++;
			lostSince ||= new Date();
			lastLoss = error.name === "TimeoutError" ? "it does not answer in time" : "it cannot be reached";
			known.set(need.path, { ...before, at: Date.now() });
		}
	}
	need.busy = false;
	// What is not there is asked for less and less; a sidecar that is gone, up to every half minute.
	const missing = known.get(need.path)?.error ? 5 : 1;
	const wait = lostSince ? Math.min(30000, 1000 * 2 ** Math.min(failures, 5)) : need.every * missing;
	need.due = performance.now() + wait;
	changed();
};

const tick = () => {
	if (document.hidden) return;
	const now = performance.now();
	for (const need of needs) {
		// While it is gone one question is enough: the first, which every view has.
		if (!need.busy && now >= need.due && (!lostSince || need === needs[0])) refresh(need);
	}
};
setInterval(tick, 250);
document.addEventListener("visibilitychange", tick);

// What is to be asked: `{ path, every }` in milliseconds, `taken` being told of each answer.
export const want = (wanted) => {
	needs = wanted.map((need) => {
		const same = needs.find((old) => old.path === need.path);
		return same ? Object.assign(same, need) : { ...need, due: 0 };
	});
	// A bound on what is kept: what no view asks for now was a search or one exchange.
	for (const path of [...known.keys()]) if (known.size > 40 && !needs.some((need) => need.path === path)) known.delete(path);
	tick();
};

// Asks for everything again at once.
export const again = () => {
	for (const need of needs) need.due = 0;
	tick();
};
