import { deepEqual, equal } from "node:assert/strict";
import { test } from "vitest";
import { readQuestion, writeAnswer } from "./message.ts";
import { namesOf } from "./names.ts";

/** What glibc sends for the address of `nats.mesh`. */
const query = Buffer.from(
  "1234" + "0100" + "0001" + "0000" + "0000" + "0000" +
    "046e617473" + "046d657368" + "00" + "0001" + "0001",
  "hex",
);

test("a question is read", () => {
  const { id, name, type, recursion } = readQuestion(query)!;
  deepEqual({ id, name, type, recursion }, {
    id: 0x1234,
    name: "nats.mesh",
    type: 1,
    recursion: true,
  });
});

test("an answer repeats the question and names the addresses", () => {
  const answer = Buffer.from(
    writeAnswer(readQuestion(query)!, ["198.19.0.7"]),
  );
  equal(
    answer.toString("hex"),
    "1234" + "8580" + "0001" + "0001" + "0000" + "0000" +
      "046e617473" + "046d657368" + "00" + "0001" + "0001" +
      "c00c" + "0001" + "0001" + "00000001" + "0004" + "c6130007",
  );
});

test("an unknown name is told from one without addresses", () => {
  const question = readQuestion(query)!;
  equal(writeAnswer(question, undefined)[3] & 0xf, 3);
  equal(writeAnswer(question, [])[3] & 0xf, 0);
});

const broken = [
  { label: "a header alone", bytes: query.subarray(0, 12) },
  { label: "a cut name", bytes: query.subarray(0, 19) },
  { label: "a cut type", bytes: query.subarray(0, query.length - 2) },
  { label: "an answer", bytes: withByte(query, 2, 0x81) },
  { label: "two questions", bytes: withByte(query, 5, 2) },
  { label: "a name that points", bytes: withByte(query, 12, 0xc0) },
];

function withByte(bytes: Uint8Array, at: number, value: number): Uint8Array {
  const copy = Uint8Array.from(bytes);
  copy[at] = value;
  return copy;
}

for (const { label, bytes } of broken) {
  test(`${label} is no question`, () => equal(readQuestion(bytes), undefined));
}

test("a Service has its own address, a headless one those of its pods", () => {
  const metadata = (name: string) => ({ name, namespace: "mesh" });
  const names = namesOf(
    [
      { metadata: metadata("router"), spec: { clusterIP: "198.19.0.9" } },
      { metadata: metadata("nats"), spec: { clusterIP: "None" } },
      { metadata: metadata("idle"), spec: { clusterIP: "None" } },
    ],
    [{
      metadata: metadata("nats"),
      subsets: [{
        addresses: [
          { ip: "198.18.64.2", hostname: "nats-0" },
          { ip: "198.18.64.3" },
        ],
      }],
    }],
  );
  deepEqual(Object.fromEntries(names), {
    "router.mesh.svc.cluster.local": ["198.19.0.9"],
    "nats.mesh.svc.cluster.local": ["198.18.64.2", "198.18.64.3"],
    "nats-0.nats.mesh.svc.cluster.local": ["198.18.64.2"],
    "idle.mesh.svc.cluster.local": [],
  });
});
