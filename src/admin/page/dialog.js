// Questions before something is changed. The browser's own dialogs: they hold the focus and close on Escape.

import { h, show } from "./dom.js";
import { button } from "./parts.js";

// Asks; `run` does it and may throw, which is shown word for word. Gives what `run` gave, or nothing if it was called off.
export const dialog = ({ title, content, action, danger, run, cancel = "Cancel" }) =>
	new Promise((resolve) => {
		const before = document.activeElement;
		const wrong = h("div", { role: "alert" });
		const act = h("button", { type: "submit", class: danger ? "danger" : "primary" }, action);
		let result;
		const box = h("dialog", { "aria-labelledby": "dialog-title" });
		const submit = async (event) => {
			event.preventDefault();
			act.disabled = true;
			show(wrong);
			try {
				result = await run();
				box.close();
			} catch (error) {
				show(wrong, h("pre", { class: "wrong" }, error.message || String(error)));
			}
			act.disabled = false;
		};
		box.append(
			h("form", { onsubmit: submit },
				h("h2", { id: "dialog-title" }, title),
				content,
				wrong,
				h("div", { class: "actions" }, button(cancel, () => box.close()), act)),
		);
		box.addEventListener("close", () => {
			box.remove();
			if (before?.isConnected) before.focus();
			resolve(result);
		});
		document.body.append(box);
		box.showModal();
	});

export const confirm = (title, text, action, run, danger = true) =>
	dialog({ title, content: h("p", {}, text), action, danger, run: async () => (await run()) ?? true });
