import { deepEqual, equal, rejects, throws } from "node:assert/strict";
import { test } from "vitest";
import { type Api, type ApiAnswer, createOnce } from "./create_once.ts";
import { readSeedObject } from "./seed_object.ts";

const model = readSeedObject(
  "demo.yaml",
  "apiVersion: quetzal.dev/v1alpha1\nkind: Model\nmetadata:\n  name: demo\n",
);

const kinds = {
  status: 200,
  body: JSON.stringify({
    resources: [
      { kind: "Model", name: "models/status" },
      { kind: "Model", name: "models" },
    ],
  }),
};

/** Answers in this order; a text is an error of the network. */
function scripted(answers: readonly (ApiAnswer | string)[]) {
  const asked: string[] = [];
  const rest = [...answers];
  const api: Api = {
    namespace: "quetzal",
    request(method, path) {
      asked.push(`${method} ${path}`);
      const next = rest.shift();
      if (next === undefined) throw new Error("asked too often");
      return typeof next === "string"
        ? Promise.reject(new Error(next))
        : Promise.resolve(next);
    },
  };
  return { api, asked, wait: () => Promise.resolve() };
}

test("an object is created as soon as its kind is known", async () => {
  const it = scripted([
    { status: 404, body: "" },
    "connect ECONNREFUSED",
    kinds,
    { status: 201, body: "{}" },
  ]);
  equal(await createOnce(model, it), "created");
  deepEqual(it.asked.slice(-2), [
    "GET /apis/quetzal.dev/v1alpha1",
    "POST /apis/quetzal.dev/v1alpha1/namespaces/quetzal/models",
  ]);
});

test("an object that is there is left alone", async () => {
  const it = scripted([kinds, { status: 409, body: "{}" }]);
  equal(await createOnce(model, it), "was there");
});

test("an object that the API refuses is not tried again", async () => {
  const refusal = JSON.stringify({ message: "spec.pool: Required value" });
  const it = scripted([kinds, { status: 422, body: refusal }]);
  await rejects(
    createOnce(model, it),
    /Cannot create Model of demo\.yaml: .*422: spec\.pool: Required value/,
  );
});

test("a kind that never comes ends with what was found", async () => {
  const missing = { status: 404, body: "" };
  const it = scripted([missing, missing]);
  await rejects(
    createOnce(model, { ...it, triesMax: 2 }),
    /does not know quetzal\.dev\/v1alpha1 Model/,
  );
});

test("files that hold no single object are refused by name", () => {
  throws(
    () => readSeedObject("a.yaml", "kind: Model\n"),
    /a\.yaml.*apiVersion/,
  );
  const two = "---\napiVersion: v1\nkind: A\n---\napiVersion: v1\nkind: B\n";
  throws(() => readSeedObject("b.yaml", two), /b\.yaml.*found several/);
});
