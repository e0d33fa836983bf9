/**
 * The names of the node's cluster, on UDP port 53. Debian has no package of
 * CoreDNS, and pods that find one another by name are what real clusters have.
 * It asks the API once a second and answers nothing outside `cluster.local`.
 */
import { createSocket } from "node:dgram";
import { readFileSync } from "node:fs";
import { Agent, get } from "node:https";
import { setTimeout as delay } from "node:timers/promises";
import { parseArgs } from "node:util";
import { readQuestion, typeA, writeAnswer } from "./message.ts";
import {
  type EndpointsItem,
  type Names,
  namesOf,
  type ServiceItem,
} from "./names.ts";

const { values } = parseArgs({
  options: {
    listen: { type: "string", default: "127.0.0.1" },
    port: { type: "string", default: "53" },
    api: { type: "string", default: "" },
    ca: { type: "string", default: "" },
    cert: { type: "string", default: "" },
    key: { type: "string", default: "" },
  },
});

const agent = new Agent({
  keepAlive: true,
  ca: readFileSync(values.ca),
  cert: readFileSync(values.cert),
  key: readFileSync(values.key),
});

let names: Names = new Map();

const socket = createSocket("udp4");
socket.on("message", (message, { address, port }) => {
  const question = readQuestion(message);
  if (!question) return;
  const found = names.get(question.name);
  const answer = found && question.type !== typeA ? [] : found;
  socket.send(writeAnswer(question, answer), port, address);
});
socket.bind(Number(values.port), values.listen);

const lookEveryMs = 1_000;

while (true) {
  try {
    const [services, endpoints] = await Promise.all([
      list<ServiceItem>("services"),
      list<EndpointsItem>("endpoints"),
    ]);
    names = namesOf(services, endpoints);
  } catch (error) {
    // The API may be down for a while; what is known stays true.
    console.error(`Cannot ask ${values.api}: ${(error as Error).message}`);
  }
  await delay(lookEveryMs);
}

async function list<T>(resource: string): Promise<readonly T[]> {
  const text = await fetchText(`${values.api}/api/v1/${resource}`);
  return (JSON.parse(text) as { items: readonly T[] }).items;
}

function fetchText(url: string): Promise<string> {
  return new Promise((resolve, reject) => {
    const request = get(url, { agent, timeout: 5_000 }, (response) => {
      let text = "";
      response.setEncoding("utf8");
      response.on("data", (part) => text += part);
      response.on("end", () => {
        if (response.statusCode === 200) resolve(text);
        else reject(new Error(`it answers ${response.statusCode}`));
      });
      response.on("error", reject);
    });
    request.on("error", reject);
    request.on(
      "timeout",
      () => request.destroy(new Error("it does not answer")),
    );
  });
}
