// What holds for every view: each control has a name, text can be read, nothing is wider than the screen.

export const assert = (is, what) => {
  if (!is) throw new Error(what);
};

const CONTROLS = ["button", "link", "textbox", "searchbox", "combobox", "checkbox", "switch", "image", "img", "dialog", "region", "navigation", "table"];

// What assistive technology is told: everything that can be used or looked at has a name.
export const names = async (page) => {
  const client = await page.context().newCDPSession(page);
  const { nodes } = await client.send("Accessibility.getFullAXTree");
  const unnamed = nodes.filter((node) => !node.ignored && CONTROLS.includes(node.role?.value) && !node.name?.value?.trim());
  assert(!unnamed.length, `without a name: ${unnamed.map((node) => node.role.value).join(", ")}`);
  const roles = nodes.filter((node) => !node.ignored).map((node) => node.role?.value);
  // A question on top of the page hides the rest from everybody.
  const landmarks = roles.includes("dialog") ? ["dialog"] : ["banner", "navigation", "main"];
  for (const landmark of landmarks) assert(roles.includes(landmark), `no landmark ${landmark}`);
  await client.detach();
};

// Ids that are there twice, labels for nothing, contrast below WCAG 2.2's AA (4.5 for text, 3 for large text).
export const page_ = (page) =>
  page.evaluate(() => {
    const wrong = [];
    const ids = [...document.querySelectorAll("[id]")].map((element) => element.id);
    for (const id of new Set(ids)) if (ids.filter((other) => other === id).length > 1) wrong.push(`id ${id} is there twice`);
    for (const label of document.querySelectorAll("label[for]")) if (!document.getElementById(label.htmlFor)) wrong.push(`label for nothing: ${label.textContent}`);
    const parse = (text) => (text.match(/[\d.]+/g) || []).map(Number);
    const over = (top, below) => {
      const alpha = top[3] ?? 1;
      return [0, 1, 2].map((at) => top[at] * alpha + below[at] * (1 - alpha));
    };
    const ground = (element) => {
      const layers = [];
      for (let at = element; at; at = at.parentElement) layers.push(parse(getComputedStyle(at).backgroundColor));
      return layers.reverse().reduce((below, layer) => over(layer, below), [255, 255, 255]);
    };
    const light = (colour) => {
      const [r, g, b] = colour.map((part) => ((part /= 255) <= 0.04045 ? part / 12.92 : ((part + 0.055) / 1.055) ** 2.4));
      return 0.2126 * r + 0.7152 * g + 0.0722 * b;
    };
    const walker = document.createTreeWalker(document.body, NodeFilter.SHOW_TEXT);
    const seen = new Set();
    for (let node = walker.nextNode(); node; node = walker.nextNode()) {
      const element = node.parentElement;
      if (!node.textContent.trim() || seen.has(element) || !element.checkVisibility()) continue;
      seen.add(element);
      const style = getComputedStyle(element);
      const under = ground(element);
      const text = element instanceof SVGElement ? style.fill : style.color;
      const a = light(over(parse(text), under));
      const b = light(under);
      const ratio = (Math.max(a, b) + 0.05) / (Math.min(a, b) + 0.05);
      const size = parseFloat(style.fontSize);
      const large = size >= 24 || (size >= 18.66 && Number(style.fontWeight) >= 700);
      if (ratio < (large ? 3 : 4.5)) wrong.push(`contrast ${ratio.toFixed(2)}: ${node.textContent.trim().slice(0, 40)}`);
    }
    const { scrollWidth } = document.documentElement;
    if (scrollWidth > innerWidth) wrong.push(`${scrollWidth} px wide on ${innerWidth}`);
    return wrong;
  });
