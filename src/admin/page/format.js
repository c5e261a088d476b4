// Numbers and times as people read them.

const NONE = "–";
const is = (value) => typeof value === "number" && Number.isFinite(value);

const digits = (value) => {
	const size = Math.abs(value);
	return value.toFixed(size >= 100 || size === 0 ? 0 : size >= 10 ? 1 : 2).replace(/(\.\d*?)0+$/, "$1").replace(/\.$/, "");
};

const scaled = (value, step, units, gap = " ") => {
	let unit = 0;
	while (Math.abs(value) >= step && unit < units.length - 1) (value /= step), unit++;
	return digits(value) + (units[unit] ? gap + units[unit] : "");
};

export const count = (value) => (is(value) ? scaled(value, 1000, ["", "k", "M", "G"], "\u202f") : NONE);
export const rate = (value) => (is(value) ? (value > 0 && value < 0.01 ? "<0.01" : count(value)) : NONE);
export const per = (value) => (is(value) ? `${rate(value)}/s` : NONE);
export const bytes = (value) => (is(value) ? scaled(value, 1024, ["B", "KiB", "MiB", "GiB", "TiB"]) : NONE);
export const percent = (share) => (is(share) ? (share > 0 && share < 0.0001 ? "<0.01" : digits(share * 100)) + " %" : NONE);

// Milliseconds.
export const ms = (value) => {
	if (!is(value)) return NONE;
	if (value > 0 && value < 1) return digits(value * 1000) + " µs";
	if (value < 1000) return digits(value) + " ms";
	return seconds(value / 1000);
};

export const seconds = (value) => {
	if (!is(value)) return NONE;
	if (value > 0 && value < 1) return ms(value * 1000);
	if (value < 60) return digits(value) + " s";
	const parts = [[86400, "d"], [3600, "h"], [60, "m"], [1, "s"]];
	let left = Math.round(value);
	const said = [];
	for (const [size, unit] of parts) {
		const many = Math.floor(left / size);
		left -= many * size;
		if (many && said.length < 2) said.push(many + unit);
		else if (said.length) break;
	}
	return said.join(" ");
};

const valid = (text) => {
	const date = new Date(text);
	return text && !Number.isNaN(date.getTime()) ? date : null;
};

export const clock = (text) => valid(text)?.toLocaleTimeString([], { hour12: false }) ?? NONE;

// With the day, unless it is today.
export const when = (text) => {
	const date = valid(text);
	if (!date) return NONE;
	const day = date.toDateString() === new Date().toDateString() ? "" : date.toLocaleDateString() + " ";
	return day + clock(text);
};

export const ago = (text) => {
	const date = valid(text);
	if (!date) return NONE;
	const past = (Date.now() - date) / 1000;
	return past < 1.5 ? "now" : seconds(Math.round(past)) + " ago";
};

export const left = (text) => {
	const date = valid(text);
	return date ? seconds(Math.max(0, Math.round((date - Date.now()) / 1000))) : NONE;
};

export const plural = (many, one, more = one + "s") => `${count(many)} ${many === 1 ? one : more}`;
