import { equal, throws } from "node:assert/strict";
import { chmodSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { test } from "vitest";
import { tempDir } from "../../../lib/testing/mod.ts";
import { fromAssets } from "./programs.ts";
import { minorVersionOf } from "./version.ts";

async function assets(...names: string[]) {
  const dir = await tempDir("assets");
  for (const name of names) {
    const file = join(dir.path, name);
    writeFileSync(file, "#!/bin/sh\necho Kubernetes v1.33.1-extra\n");
    chmodSync(file, 0o755);
  }
  return dir;
}

test("the three programs of envtest make a control plane without controllers", async () => {
  await using dir = await assets("etcd", "kube-apiserver", "kubectl");
  const programs = fromAssets(dir.path, "control");
  equal(programs.kubectl, join(dir.path, "kubectl"));
  equal(programs.controllerManager, undefined);
  equal(programs.origin, "KUBEBUILDER_ASSETS");
});

test("a node needs more of them, and what is missing is named", async () => {
  await using dir = await assets("etcd", "kube-apiserver", "kubelet");
  throws(
    () => fromAssets(dir.path, "node"),
    /node mode.*lacks kube-controller-manager, kube-scheduler, kube-proxy/,
  );
});

test("a program says which Kubernetes it belongs to", async () => {
  await using dir = await assets("kube-apiserver");
  equal(await minorVersionOf(join(dir.path, "kube-apiserver")), 33);
});
