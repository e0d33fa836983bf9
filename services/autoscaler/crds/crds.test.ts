import { deepEqual, equal, match, ok } from "node:assert/strict";
import { readFileSync } from "node:fs";
import { expect, test } from "vitest";
import { policyNames } from "../policies/mod.ts";
import { toCrd } from "./definition.ts";
import { generatedFiles } from "./generated_files.ts";
import {
  definitions,
  faultText,
  modelSpec,
  parse,
  workerPoolSpec,
} from "./mod.ts";

const root = new URL("../../../", import.meta.url).pathname;

test("the committed CRDs and their docs are those that the tables give", () => {
  for (const [name, content] of generatedFiles()) {
    equal(
      readFileSync(`${root}${name}`, "utf8"),
      content,
      `${name} is stale: run \`deno task crds\``,
    );
  }
});

for (const definition of definitions) {
  test(`every node of the ${definition.kind} schema has a type and a description`, () => {
    for (const [path, node] of nodesOf(openApiOf(definition), "")) {
      const typed = typeof node.type === "string" ||
        node["x-kubernetes-int-or-string"] === true;
      ok(typed, `${path} has no type`);
      if (path.startsWith("/spec") || path.startsWith("/status")) {
        match(`${node.description}`, /\.$/, `${path} says nothing`);
      }
      ok(!("x-kubernetes-validations" in node), `${path} needs CEL`);
    }
  });

  test(`every column of ${definition.kind} reads a field that its schema has`, () => {
    const known = new Set(
      [...nodesOf(openApiOf(definition), "")].map(([path]) => path),
    );
    for (const { jsonPath } of definition.columns) {
      const path = jsonPath.replace(/\[\?.*\]/, "[]").replaceAll(".", "/");
      ok(known.has(path), `${jsonPath} is none of its fields`);
    }
  });
}

test("the schema offers exactly the policies that exist", () => {
  const { properties: spec } = (openApiOf(definitions[0]).properties as Nodes)
    .spec as { properties: Nodes };
  const policy = (spec.scaling.properties as Nodes).policy;
  deepEqual([...policy.enum as string[]].sort(), [...policyNames].sort());
});

test("parse() fills defaults as the API server does", () => {
  const parsed = parse(modelSpec, {
    source: { path: "/models/a.gguf" },
    pool: "cpu",
  }, "spec");
  ok(parsed.kind === "valid");
  expect(parsed.value).toMatchObject({
    slo: { ttftMs: 10_000, share: 0.99 },
    scaling: { policy: "target", replicasMin: 0, idleSeconds: 300 },
  });
});

test("parse() names every fault with field, expectation and what was found", () => {
  const parsed = parse(workerPoolSpec, {
    role: "drafter",
    scaling: { replicasMax: 5_000 },
    resources: { limits: { memory: "lots" } },
    storage: { cache: { hostPath: "relative" } },
  }, "spec");
  ok(parsed.kind === "invalid");
  deepEqual(parsed.faults.map(faultText), [
    'spec.role: expected one of decode, prefill, found "drafter"',
    "spec.scaling.replicasMax: expected a whole number from 0 to 1000, found 5000",
    'spec.resources.limits.memory: expected a quantity such as 500m or 2Gi, found "lots"',
    'spec.storage.cache.hostPath: expected an absolute path, found "relative"',
  ]);
});

test("parse() says what is missing and survives what is no object at all", () => {
  for (const value of [undefined, null, 7, "text", [], { source: 1 }]) {
    equal(parse(modelSpec, value, "spec").kind, "invalid");
  }
  const parsed = parse(modelSpec, { source: {} }, "spec");
  ok(parsed.kind === "invalid");
  deepEqual(parsed.faults.map(faultText), [
    "spec.pool: expected the name of a resource, found nothing",
  ]);
});

test("parse() drops fields that nobody knows, also inherited ones", () => {
  const parsed = parse(modelSpec, {
    source: { path: "/a.gguf", colour: "red" },
    pool: "cpu",
    toString: 1,
  }, "spec");
  ok(parsed.kind === "valid");
  deepEqual(parsed.value.source, { path: "/a.gguf" });
  equal(Object.hasOwn(parsed.value, "toString"), false);
});

interface Node {
  readonly [key: string]: unknown;
}
type Nodes = Record<string, Node>;

function openApiOf(definition: typeof definitions[number]): Node {
  const crd = toCrd(definition) as {
    spec: { versions: { schema: { openAPIV3Schema: Node } }[] };
  };
  return crd.spec.versions[0].schema.openAPIV3Schema;
}

function* nodesOf(node: Node, path: string): Generator<[string, Node]> {
  yield [path, node];
  for (const [name, child] of Object.entries(node.properties ?? {})) {
    yield* nodesOf(child as Node, `${path}/${name}`);
  }
  if (node.items) yield* nodesOf(node.items as Node, `${path}[]`);
  if (node.additionalProperties) {
    yield* nodesOf(node.additionalProperties as Node, `${path}{}`);
  }
}
