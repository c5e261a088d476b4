// A front end as Next.js services are: it is rendered on the server, from what another service says.

import { headers } from "next/headers";

const API = process.env.API_URL ?? "http://127.0.0.1:8000";

export default async function Page() {
  // Passed on, so that both services are in one trace; the sidecar in front wrote it.
  const traceparent = (await headers()).get("traceparent");
  const answer = await fetch(`${API}/items?limit=5`, { headers: traceparent ? { traceparent } : {}, cache: "no-store" });
  const { items } = await answer.json();
  return (
    <ul>
      {items.map((item) => (
        <li key={item.id}>{item.name}</li>
      ))}
    </ul>
  );
}
