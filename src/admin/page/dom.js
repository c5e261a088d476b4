// Elements without a framework: `h` makes them, `morph` turns what is shown into what is to be shown, so that focus,
// selection and scroll positions outlive an update. Data only ever becomes text or an attribute, never markup.

const SVG = "http://www.w3.org/2000/svg";

const build = (element, props, children) => {
	for (const [name, value] of Object.entries(props || {})) {
		if (value === undefined || value === null || value === false) continue;
		if (name === "key") element.key = String(value);
		else if (name.startsWith("on")) {
			element[name] = value;
			(element.heard ||= []).push(name);
		} else if (name === "style") {
			// Through the object: the content security policy forbids the attribute.
			for (const [rule, is] of Object.entries(value)) element.style.setProperty(rule, is);
		} else if (name === "value" || name === "checked") {
			element[name] = value;
			element.wanted = { ...element.wanted, [name]: value };
		} else element.setAttribute(name, value === true ? "" : value);
	}
	add(element, children);
	if (element.wanted && "value" in element.wanted) element.value = element.wanted.value;
	return element;
};

const add = (element, children) => {
	for (const child of children) {
		if (Array.isArray(child)) add(element, child);
		else if (child !== undefined && child !== null && child !== false && child !== "")
			element.append(child instanceof Node ? child : String(child));
	}
};

export const h = (tag, props, ...children) => build(document.createElement(tag), props, children);
export const s = (tag, props, ...children) => build(document.createElementNS(SVG, tag), props, children);

// Makes the children of `root` what is given.
export const show = (root, ...children) => {
	const wanted = root.cloneNode(false);
	add(wanted, children);
	morphChildren(root, wanted);
};

const same = (a, b) => a.nodeType === b.nodeType && a.nodeName === b.nodeName && a.key === b.key;

const morph = (from, to) => {
	if (from.nodeType !== Node.ELEMENT_NODE) {
		if (from.nodeValue !== to.nodeValue) from.nodeValue = to.nodeValue;
		return;
	}
	for (const { name } of [...from.attributes])
		// Whether a disclosure is open is the reader's affair.
		if (!to.hasAttribute(name) && !(name === "open" && from.nodeName === "DETAILS") && name !== "style") from.removeAttribute(name);
	for (const { name, value } of to.attributes) if (from.getAttribute(name) !== value && name !== "style") from.setAttribute(name, value);
	if (to.style && from.style.cssText !== to.style.cssText) from.style.cssText = to.style.cssText;
	for (const name of from.heard || []) from[name] = null;
	for (const name of to.heard || []) from[name] = to[name];
	from.heard = to.heard;
	morphChildren(from, to);
	for (const [name, value] of Object.entries(to.wanted || {}))
		// What somebody is typing or choosing stays.
		if (from !== document.activeElement && from[name] !== value) from[name] = value;
};

const morphChildren = (from, to) => {
	const keyed = new Map();
	for (const child of from.childNodes) if (child.key) keyed.set(child.key, child);
	let at = from.firstChild;
	for (const wanted of [...to.childNodes]) {
		const known = wanted.key && keyed.get(wanted.key);
		if (known && known !== at && same(known, wanted)) from.insertBefore(known, at), (at = known);
		if (at && same(at, wanted)) {
			const next = at.nextSibling;
			morph(at, wanted);
			at = next;
		} else from.insertBefore(wanted, at);
	}
	while (at) {
		const next = at.nextSibling;
		at.remove();
		at = next;
	}
};

// What is kept of a reader's choices, where the browser keeps anything.
export const kept = (store, name, value) => {
	try {
		if (value !== undefined) window[store].setItem(name, value);
		return window[store].getItem(name) || "";
	} catch {
		return "";
	}
};
