// What is driven: an app that behaves well and badly, a sidecar before it, a second one as its peer, and traffic.

import { spawn } from "node:child_process";
import fs from "node:fs";
import http from "node:http";
import net from "node:net";
import os from "node:os";
import path from "node:path";

export const until = async (what, is, patience = 20000) => {
  const deadline = Date.now() + patience;
  for (;;) {
    const found = await is().catch(() => false);
    if (found) return found;
    if (Date.now() > deadline) throw new Error(`in vain: ${what}`);
    await new Promise((resolve) => setTimeout(resolve, 50));
  }
};

export const ask = (url, headers = {}, method = "GET", body) =>
  new Promise((resolve, reject) => {
    const request = http.request(url, { method, headers, agent: false }, (response) => {
      const parts = [];
      response.on("data", (part) => parts.push(part));
      response.on("end", () => resolve({ status: response.statusCode, headers: response.headers, body: Buffer.concat(parts) }));
      response.on("error", reject);
    });
    request.on("error", reject);
    request.end(body);
  });

const wait = (ms) => new Promise((resolve) => setTimeout(resolve, ms));

const app = () =>
  new Promise((resolve) => {
    const text = JSON.stringify({ items: Array.from({ length: 80 }, (_, id) => ({ id, name: `item ${id}`, price: (id * 7919) % 1000 })) });
    const server = http.createServer(async (request, response) => {
      const { pathname } = new URL(request.url, "http://app");
      if (pathname.startsWith("/broken")) return request.socket.destroy();
      await wait(2 + Math.random() * 25);
      if (pathname.startsWith("/search")) await wait(120 + Math.random() * 260);
      if (pathname.startsWith("/flaky") && Math.random() < 0.3) response.statusCode = 503;
      const cached = pathname.startsWith("/products") ? { "cache-control": "max-age=300", "cache-tag": "products" } : {};
      response.writeHead(response.statusCode, { "content-type": "application/json", ...cached });
      response.end(text);
    });
    server.listen(0, "127.0.0.1", () => resolve(server));
  });

const freePort = () =>
  new Promise((resolve) => {
    const server = net.createServer().listen(0, "127.0.0.1", () => {
      const { port } = server.address();
      server.close(() => resolve(port));
    });
  });

const run = (binary, file) => {
  // Where the file is, so that origins are short.
  const child = spawn(binary, ["run", "--config", path.basename(file)], { cwd: path.dirname(file), stdio: ["ignore", "ignore", "pipe"] });
  let log = "";
  child.stderr.on("data", (part) => (log = (log + part).slice(-4000)));
  child.on("exit", (code) => code && console.error(`a sidecar ended with ${code}:\n${log}`));
  return child;
};

export const stage = async (binary) => {
  const folder = fs.mkdtempSync(path.join(os.tmpdir(), "pillion-page-"));
  const server = await app();
  const [inbound, admin, other, otherAdmin, nobody] = await Promise.all(Array.from({ length: 5 }, freePort));
  const to = `http://127.0.0.1:${server.address().port}`;
  const file = path.join(folder, "shop.yaml");
  fs.writeFileSync(
    file,
    `service: shop
workers: 1
inbound: { listen: "127.0.0.1:${inbound}", app: "${to}" }
outbound: { listen: "127.0.0.1:0" }
explain: { trace_url: "http://jaeger:16686/trace/{trace_id}" }
admin:
  listen: "127.0.0.1:${admin}"
  peers:
    - { name: orders, url: "http://127.0.0.1:${otherAdmin}" }
    - { name: mail, url: "http://127.0.0.1:${nobody}" }
filters:
  access_log: { enabled: false }
  cache: { enabled: true, ttl: 5m }
  circuit_breaker: { enabled: true }
routes:
  - match: { path: "/products/{id}" }
  - match: { path: "/users/{id}" }
  - match: { path: /search }
    filters: { cache: { enabled: false } }
  - match: { path: /flaky }
    filters: { cache: { enabled: false }, circuit_breaker: { enabled: false } }
  - match: { path: /broken }
    filters: { circuit_breaker: { enabled: false } }
`,
  );
  const second = path.join(folder, "orders.yaml");
  fs.writeFileSync(second, `service: orders\nworkers: 1\ninbound: { listen: "127.0.0.1:${other}", app: "${to}" }\nadmin: { listen: "127.0.0.1:${otherAdmin}" }\nfilters: { access_log: { enabled: false } }\n`);
  const children = [run(binary, file), run(binary, second)];
  for (const port of [admin, otherAdmin]) await until("a sidecar that is ready", async () => (await ask(`http://127.0.0.1:${port}/readyz`)).status === 200);

  let going = true;
  const clients = Array.from({ length: 6 }, async () => {
    while (going) {
      const id = Math.floor(Math.random() * 40);
      const paths = [`/products/${id}`, `/products/${id % 7}`, `/users/${id}`, `/search?q=secret-${id}`, "/flaky", `/products/${id}`, `/users/${id}?token=secret`];
      const target = Math.random() < 0.01 ? "/broken" : paths[Math.floor(Math.random() * paths.length)];
      await ask(`http://127.0.0.1:${inbound}${target}`, { "user-agent": "a shopper", ...(target.startsWith("/users") ? { authorization: "Bearer secret" } : {}) }).catch(() => {});
      if (Math.random() < 0.4) await ask(`http://127.0.0.1:${other}/orders`).catch(() => {});
      await wait(15);
    }
  });
  return {
    admin: `http://127.0.0.1:${admin}`,
    shop: `http://127.0.0.1:${inbound}`,
    file,
    stop: async () => {
      going = false;
      await Promise.all(clients);
      for (const child of children) child.kill("SIGTERM");
      await Promise.all(children.map((child) => child.exitCode ?? new Promise((resolve) => child.on("exit", resolve))));
      server.close();
      fs.rmSync(folder, { recursive: true });
    },
  };
};
