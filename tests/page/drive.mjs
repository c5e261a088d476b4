// Drives the page: every view, light and dark, on a desk and on a phone; what it shows is asserted, and what it changes is seen in
// the traffic.

import { execFileSync } from "node:child_process";
import fs from "node:fs";
import path from "node:path";
import { chromium } from "playwright-core";
import { assert, names, page_ } from "./checks.mjs";
import { ask, stage, until } from "./stage.mjs";

const ROOT = path.resolve(import.meta.dirname, "../..");
const BINARY = process.env.PILLION || path.join(ROOT, "target/debug/pillion");
const SHOTS = process.env.SHOTS || path.join(ROOT, "docs/page");
const MOST = 100 * 1024;
const VIEWS = ["overview", "upstreams", "cache", "filters", "requests", "configuration", "peers"];

const browserAt = () => {
  const found = [process.env.CHROMIUM, "/usr/bin/chromium", "/usr/bin/chromium-browser", "/usr/bin/google-chrome"].find((file) => file && fs.existsSync(file));
  if (!found) throw new Error("no Chromium: apt-get install chromium, or set CHROMIUM");
  return found;
};

const only = process.argv[2];
const steps = [];
// `needs`: what of the admin API it drives. A sidecar that has it not yet is told, not failed.
const step = (name, run, ...needs) => (!only || name.includes(only)) && steps.push({ name, run, needs });
const PARTS = ["/filters", "/requests", "/connections", "/config/values", "/config/history", "/log", "/drain"];
let absent = [];
let stand;
let browser;

// A page whose every fault is noted. `refusals`: answers that are no fault, as they are asked for.
const open = async (options = {}, refusals = []) => {
  const context = await browser.newContext({ viewport: { width: 1280, height: 860 }, ...options });
  const page = await context.newPage();
  const faults = [];
  page.on("console", (message) => {
    const { url } = message.location();
    if (message.type() === "error" && ![...refusals, ...absent].some((refused) => url.includes(refused))) faults.push(`${message.text()} (${url})`);
  });
  page.on("pageerror", (error) => faults.push(error.stack));
  page.on("request", (request) => request.url().startsWith(stand.admin + "/") || faults.push(`asked elsewhere: ${request.url()}`));
  page.faults = () => assert(!faults.length, faults.join("\n"));
  page.view = async (hash) => {
    await page.goto(`${stand.admin}/#/${hash}`);
    await page.waitForFunction(() => document.querySelector("main > h1") && !document.querySelector("[aria-busy]"));
  };
  return page;
};

const shot = async (page, name) => {
  fs.mkdirSync(SHOTS, { recursive: true });
  const file = path.join(SHOTS, `${name}.png`);
  await page.screenshot({ path: file });
  try {
    execFileSync("pngquant", ["--force", "--skip-if-larger", "--strip", "--speed", "1", "--output", file, "64", file]);
  } catch (error) {
    if (error.code === "ENOENT") console.warn("no pngquant: the screenshots are large");
    else if (error.status !== 98) throw error;
  }
};

const sound = async (page, what) => {
  const wrong = await page_(page);
  assert(!wrong.length, `${what}: ${[...new Set(wrong)].join("\n")}`);
  await names(page);
  page.faults();
};

const text = (page, selector) => page.locator(selector).innerText();
const has = (page, selector, words) => until(`${words} in ${selector}`, async () => (await page.locator(selector).allInnerTexts()).join("\n").includes(words));

step("it is small and comes from here alone", async () => {
  const page = await open();
  const sizes = [];
  page.on("response", async (response) => {
    const { pathname } = new URL(response.url());
    if (pathname === "/" || pathname.startsWith("/page")) sizes.push(response.body().then((body) => body.length));
  });
  await page.view("overview");
  const bytes = (await Promise.all(sizes)).reduce((sum, size) => sum + size, 0);
  assert(bytes > 20000 && bytes < MOST, `${bytes} bytes`);
  console.log(`  ${bytes} bytes in ${sizes.length} files`);
  page.faults();
});

// Waits for as long as it takes to have a line to look at.
const lines = (page, points) =>
  page.waitForFunction((points) => document.querySelector(".chart .line")?.getAttribute("d").split("L").length > points, points, { timeout: 60000 });

step("every view is sound, light and dark, wide and narrow", async () => {
  for (const colorScheme of ["light", "dark"]) {
    const wide = await open({ colorScheme });
    await wide.view("overview");
    await lines(wide, 12);
    for (const view of [...VIEWS, "overview?route=%2Fflaky&direction=inbound"]) {
      await wide.view(view);
      if (view === "peers") await has(wide, "main table", "orders");
      if (view === "peers") await wide.waitForFunction(() => document.querySelector("main .spark path"));
      await sound(wide, `${view}, ${colorScheme}`);
      await shot(wide, `${view.includes("?") ? "route" : view}-${colorScheme}`);
    }
    await wide.context().close();
  }
  const narrow = await open({ viewport: { width: 360, height: 780 } });
  await narrow.view("overview");
  await lines(narrow, 4);
  for (const view of VIEWS) {
    await narrow.view(view);
    await sound(narrow, `${view}, 360 px`);
    if (["overview", "filters", "requests"].includes(view)) await shot(narrow, `${view}-phone`);
  }
});

step("a route has its own charts, an address, and the way back", async () => {
  const page = await open();
  await page.view("overview");
  await page.getByRole("button", { name: "Charts of inbound /search" }).click();
  await has(page, "section h2", "/search");
  assert(page.url().includes("route=%2Fsearch"), page.url());
  await page.goBack();
  await has(page, "section h2", "All routes");
  page.faults();
});

step("what strangers send is text", async () => {
  const page = await open();
  const nasty = "/products/%3Cimg%20src=x%20onerror=window.struck=1%3E";
  await ask(stand.shop + nasty, { "user-agent": "<img src=x onerror=window.struck=1>" });
  for (const view of ["cache", "requests"]) await page.view(view);
  assert(await page.evaluate(() => window.struck === undefined && !document.querySelector("main img")), "data became markup");
  page.faults();
});

step("nothing is asked while nobody looks", async () => {
  const page = await open();
  await page.addInitScript(() => {
    window.away = false;
    Object.defineProperty(document, "hidden", { get: () => window.away });
  });
  let asked = 0;
  await page.view("overview");
  page.on("request", () => asked++);
  await until("a question", async () => asked > 0);
  await page.evaluate(() => ((window.away = true), document.dispatchEvent(new Event("visibilitychange"))));
  // What was under way when it was hidden may end.
  await page.waitForTimeout(500);
  asked = 0;
  await page.waitForTimeout(5000);
  assert(asked === 0, `${asked} questions while hidden`);
  await page.evaluate(() => ((window.away = false), document.dispatchEvent(new Event("visibilitychange"))));
  await until("a question, at once", async () => asked > 0, 1000);
});

step("it says when the sidecar is gone, and when it is back", async () => {
  const page = await open({}, ["/"]);
  await page.view("overview");
  await page.route("**/*", (route) => route.abort());
  await has(page, "#banner", "Connection lost since");
  await page.unroute("**/*");
  await page.getByRole("button", { name: "Ask now" }).click();
  await page.waitForSelector("#banner", { state: "hidden" });
});

step("the keyboard reaches everything", async () => {
  const page = await open();
  await page.view("upstreams");
  await page.keyboard.press("Tab");
  assert((await page.evaluate(() => document.activeElement.className)) === "skip", "the skip link is not first");
  await page.keyboard.press("Enter");
  assert((await page.evaluate(() => document.activeElement.id)) === "main", "it skips nowhere");
  const reached = new Set();
  const all = await page.evaluate(() => [...document.querySelectorAll("main :is(a[href], button:not(:disabled), input, select, summary)")].filter((one) => one.checkVisibility()).length);
  for (let presses = 0; presses < all + 30; presses++) {
    await page.keyboard.press("Tab");
    const at = await page.evaluate(() => {
      const one = document.activeElement;
      const { outlineStyle } = getComputedStyle(one);
      return { main: !!one.closest("main"), name: one.textContent + one.tagName, seen: outlineStyle !== "none" };
    });
    if (!at.main) break;
    assert(at.seen, `focus cannot be seen on ${at.name}`);
    reached.add(at.name);
  }
  assert(reached.size >= Math.min(all, 3), `${reached.size} of ${all}`);
  page.faults();
});

// One that no cache answers.
const fresh = (headers) => ask(`${stand.shop}/users/1?${Math.random()}`, headers);

step("a breaker is forced, after a question", async () => {
  const page = await open({}, ["/upstreams/breakers"]);
  await page.view("upstreams");
  await page.getByRole("button", { name: "Force open app" }).click();
  await page.keyboard.press("Escape");
  assert((await fresh()).status === 200, "it was forced without an answer");
  await page.getByRole("button", { name: "Force open app" }).click();
  await page.getByRole("dialog").getByRole("button", { name: "Force open" }).click();
  await has(page, "#say", "forced open");
  await until("a refusal", async () => (await fresh()).status === 503);
  await has(page, ".card", "Open, forced");
  await sound(page, "a forced breaker");
  await page.getByRole("button", { name: "Automatic app" }).click();
  await page.getByRole("dialog").getByRole("button", { name: "Back to automatic" }).click();
  await until("an answer", async () => (await fresh()).status === 200);
});

step("a cache forgets, after a question", async () => {
  const page = await open({}, ["/cache/purge"]);
  const hit = async () => /hit/.test((await ask(stand.shop + "/products/1")).headers["cache-status"] || "");
  await until("a hit", hit);
  await page.view("cache");
  await page.getByRole("button", { name: "of inbound cache" }).click();
  await page.getByLabel("Which").fill("no url");
  await page.getByRole("button", { name: "Forget them" }).click();
  await page.waitForSelector("dialog [role=alert] pre");
  await page.getByLabel("What").selectOption("everything");
  await page.getByRole("button", { name: "Forget them" }).click();
  await has(page, "#say", "Forgot");
});

step("a filter is turned off and traffic changes", async () => {
  const coded = async () => (await fresh({ "accept-encoding": "gzip" })).headers["content-encoding"] === "gzip";
  assert(await coded(), "nothing is compressed");
  const page = await open();
  await page.view("filters");
  const toggle = page.getByRole("switch", { name: "compression" });
  await toggle.focus();
  await page.keyboard.press("Space");
  await page.getByLabel("Your name").fill("alice");
  await page.getByLabel("Reason").fill("shown in a browser");
  await sound(page, "the dialog");
  await page.getByRole("button", { name: "Turn it off" }).click();
  await until("no compression", async () => !(await coded()));
  await has(page, ".override", "alice");
  await has(page, ".override", "left");
  assert((await toggle.getAttribute("aria-checked")) === "false", "the switch is on");
  await shot(page, "filters-override");
  await page.getByRole("button", { name: "Undo the overrides of compression" }).click();
  await page.getByRole("dialog").getByRole("button", { name: "Undo" }).click();
  await until("compression", coded);
  await page.view("configuration");
  await has(page, ".history", "shown in a browser");
}, "/filters", "/config/history");

step("a setting that is wrong is told word for word", async () => {
  const page = await open({}, ["/filters/"]);
  await page.view("filters");
  await page.getByRole("button", { name: "Tune cache" }).click();
  await page.getByLabel("Another setting").fill("ttl");
  await page.getByLabel("Its value").fill("soon");
  await page.getByRole("dialog").getByRole("button", { name: "Change it" }).click();
  await has(page, "dialog [role=alert]", "soon");
  await page.keyboard.press("Escape");
}, "/filters");

step("a failed request says why", async () => {
  await until("a failure", async () => (await ask(stand.shop + "/broken")).status === 502);
  const page = await open();
  await page.view("requests?status=5xx&route=%2Fbroken");
  await page.locator("main table a").first().click();
  await has(page, "main", "Ended");
  await has(page, "main", "failed");
  assert((await text(page, "main")).includes("Where the time went"), "no waterfall");
  assert(!(await text(page, "main")).includes("Bearer secret"), "a secret is shown");
  await sound(page, "a request");
  await shot(page, "request-light");
  await page.emulateMedia({ colorScheme: "dark" });
  await shot(page, "request-dark");
  await page.setViewportSize({ width: 360, height: 780 });
  await sound(page, "a request, 360 px");
  await shot(page, "request-phone");
}, "/requests");

step("a wrong file is refused with its place, and the history says so", async () => {
  const page = await open({}, ["/reload"]);
  const right = fs.readFileSync(stand.file, "utf8");
  await page.view("configuration");
  fs.writeFileSync(stand.file, right.replace("ttl: 5m", "ttk: 5m"));
  await page.getByRole("button", { name: "Reload", exact: true }).click();
  await has(page, "dialog", "ttk");
  await page.getByRole("dialog").getByRole("button", { name: "Close" }).click();
  fs.writeFileSync(stand.file, right);
  await page.getByRole("button", { name: "Reload", exact: true }).click();
  await has(page, "#say", "read again");
  await has(page, ".history", "refused");
  // With something to tell.
  await page.emulateMedia({ colorScheme: "light" });
  await shot(page, "configuration-light");
  await page.emulateMedia({ colorScheme: "dark" });
  await shot(page, "configuration-dark");
}, "/config/history");

step("the log level is changed and a sidecar is drained, after a question", async () => {
  const page = await open({}, ["/log", "/drain", "/readyz"]);
  await page.view("configuration");
  await page.getByRole("button", { name: "Change…" }).click();
  await page.getByRole("dialog").getByLabel("Level").selectOption("debug");
  await page.getByRole("button", { name: "Change it" }).and(page.locator("dialog *")).click();
  await has(page, "#say", "debug");
  await has(page, ".tools", "left, then info");
  await page.getByRole("button", { name: "Drain…" }).click();
  await page.getByRole("dialog").getByRole("button", { name: "Drain" }).click();
  await has(page, "#standing", "Draining");
  assert((await ask(`${stand.admin}/readyz`)).status === 503, "it is ready");
  await sound(page, "a sidecar that drains");
  await page.getByRole("button", { name: "Serve again" }).click();
  await page.getByRole("dialog").getByRole("button", { name: "Serve again" }).click();
  await has(page, "#standing", "Ready");
}, "/log", "/drain");

step("a token that comes while it is open is asked for, and kept in the tab alone", async () => {
  // Every path is refused until it has the token.
  const page = await open({}, ["/"]);
  const without = fs.readFileSync(stand.file, "utf8");
  const token = "opener-of-this-page";
  await page.view("overview");
  fs.writeFileSync(stand.file, without.replace("admin:\n", `admin:\n  token: ${token}\n`));
  const use = async (given) => {
    await has(page, "dialog", "wants a token");
    await page.getByRole("dialog").getByLabel("Token").fill(given);
    await page.getByRole("button", { name: "Use it" }).click();
  };
  await use("guess");
  await has(page, "dialog", "is not right");
  await sound(page, "the question for a token");
  await use(token);
  await has(page, "#standing", "Ready");
  await has(page, "main", "Routes");
  await page.view("configuration");
  await has(page, "main", "admin.token");
  const seen = await page.evaluate(() => ({ shown: document.body.innerText, kept: JSON.stringify(localStorage), tab: JSON.stringify(sessionStorage), cookie: document.cookie, where: location.href }));
  assert(seen.tab.includes(token) && ![seen.shown, seen.kept, seen.cookie, seen.where].join().includes(token), JSON.stringify(seen.kept));
  fs.writeFileSync(stand.file, without);
  await until("nobody needs it", async () => (await ask(`${stand.admin}/stats`)).status === 200);
}, "/config/history");

const main = async () => {
  stand = await stage(BINARY);
  browser = await chromium.launch({ executablePath: browserAt(), args: ["--no-sandbox"] });
  let [failed, skipped] = [0, 0];
  try {
    for (const part of PARTS) if ((await ask(stand.admin + part)).status === 404) absent.push(part);
    for (const { name, run, needs } of steps) {
      const missing = needs.filter((part) => absent.includes(part));
      if (missing.length) {
        skipped++;
        console.warn(`NOT RUN ${name}: there is no ${missing.join(", ")}`);
        continue;
      }
      const began = Date.now();
      try {
        await run();
        console.log(`ok    ${name} (${((Date.now() - began) / 1000).toFixed(1)} s)`);
      } catch (error) {
        failed++;
        console.error(`FAIL  ${name}\n${error.stack}`);
      }
      for (const context of browser.contexts()) await context.close();
    }
  } finally {
    await browser.close();
    await stand.stop();
  }
  console.log(`${steps.length - failed - skipped} of ${steps.length} passed, ${skipped} not run`);
  process.exitCode = failed ? 1 : 0;
};
await main();
