/**
 * Builds Kubernetes 1.20.2 from Debian's source package with Debian's Go 1.19.
 *
 * No suite of Debian has binary packages of the API server or the kubelet, but
 * bookworm's source package `kubernetes` is the whole tree with its vendored
 * dependencies and builds without a network: on two cores about 4 minutes for
 * the control plane and 75 s more for the node's two programs. The programs stay
 * in the user's cache folder; sources and Go's cache are removed when all are made.
 */
import {
  copyFileSync,
  cpSync,
  existsSync,
  mkdirSync,
  readdirSync,
  readFileSync,
  renameSync,
  rmSync,
} from "node:fs";
import { join } from "node:path";
import { findProgram, runProgram } from "../../process/mod.ts";
import {
  kubernetesFolder,
  kubernetesVersion,
  missingPrograms,
} from "../../setup/mod.ts";
import { UserError } from "../../terminal/mod.ts";
import { holdLock } from "./build_lock.ts";
import { openApiPackages } from "./openapi_packages.ts";
import type { ClusterMode } from "./programs.ts";
import { fetchSource } from "./source_package.ts";

type Env = Readonly<Record<string, string | undefined>>;

/** bookworm's Go; newer ones refuse this old tree. */
const goRoot = "/usr/lib/go-1.19";
const reflect2 = "/usr/share/gocode/src/github.com/modern-go/reflect2";

export async function buildKubernetes(
  { mode, env, detail }: {
    mode: ClusterMode;
    env: Env;
    detail: (text: string) => void;
  },
): Promise<void> {
  if (missingPrograms(env, mode).length === 0) return;
  const folder = kubernetesFolder(env);
  mkdirSync(join(folder, "bin"), { recursive: true });
  using _lock = await holdLock(join(folder, "build.lock"), {
    onWait: (pid) => detail(`waiting for process ${pid}, which builds too`),
  });
  // Whoever held the lock may have built them.
  const missing = missingPrograms(env, mode);
  if (missing.length === 0) return;
  requireTools();
  const work = join(folder, "work");
  const tree = await unpackedSource(work, detail);
  const go = goCommand(work, tree);
  await generateOpenApi({ work, tree, go, detail });
  for (const [index, name] of missing.entries()) {
    detail(`${name}, ${index + 1} of ${missing.length}`);
    const made = join(work, name);
    await go("build", "-ldflags", linkFlags, "-o", made, `./cmd/${name}`);
    // Renamed when it is whole: what is in bin/ can be run.
    renameSync(made, join(folder, "bin", name));
  }
  if (missingPrograms(env, "node").length === 0) {
    rmSync(work, { recursive: true });
  }
}

function requireTools(): void {
  const missing = [
    ...(existsSync(join(goRoot, "bin/go")) ? [] : ["golang-1.19-go"]),
    ...(existsSync(reflect2) ? [] : ["golang-github-modern-go-reflect2-dev"]),
    ...["patch", "tar", "xz", "apt-get"].filter((name) => !findProgram(name))
      .map((name) => name === "xz" ? "xz-utils" : name),
  ];
  if (missing.length === 0) return;
  throw new UserError(
    `Cannot build Kubernetes: needs ${missing.join(", ")}, found none`,
    {
      hints: [
        `sudo apt-get install -y ${missing.join(" ")}`,
        "Debian 12 has them all. Elsewhere let KUBEBUILDER_ASSETS name a folder with the programs.",
      ],
    },
  );
}

/** The source tree with Debian's patches, in the place where Go's GOPATH mode expects it. */
async function unpackedSource(
  work: string,
  detail: (text: string) => void,
): Promise<string> {
  const tree = join(work, "gopath/src/k8s.io/kubernetes");
  if (existsSync(tree)) return tree;
  const download = join(work, "download");
  rmSync(download, { recursive: true, force: true });
  mkdirSync(download, { recursive: true });
  detail("fetching the source package");
  await fetchSource(download, detail);

  detail("unpacking");
  const files = readdirSync(download);
  const archive = (part: string) => {
    const name = files.find((name) => name.includes(part));
    if (name) return join(download, name);
    throw new Error(`Cannot unpack Kubernetes: no ${part} in ${files}`);
  };
  const half = `${tree}.half`;
  rmSync(half, { recursive: true, force: true });
  mkdirSync(half, { recursive: true });
  await run("tar", ["xf", archive(".orig.tar."), "--strip-components=1"], half);
  await run("tar", ["xf", archive(".debian.tar.")], half);
  await applyPatches(half);
  // The vendored 1.0.1 predates the maps of Go 1.18 and crashes on them.
  const vendored = join(half, "vendor/github.com/modern-go/reflect2");
  rmSync(vendored, { recursive: true });
  cpSync(reflect2, vendored, { recursive: true, dereference: true });
  renameSync(half, tree);
  rmSync(download, { recursive: true });
  return tree;
}

async function applyPatches(tree: string): Promise<void> {
  const folder = join(tree, "debian/patches");
  const series = readFileSync(join(folder, "series"), "utf8").split("\n")
    .map((line) => line.replace(/#.*/, "").trim())
    .filter((line) => line !== "");
  for (const name of series) {
    await run("patch", ["-s", "-p1", "-i", join(folder, name)], tree);
  }
}

type Go = (...args: string[]) => Promise<void>;

function goCommand(work: string, tree: string): Go {
  const env = {
    GOROOT: goRoot,
    GOPATH: join(work, "gopath"),
    GOCACHE: join(work, "gocache"),
    GO111MODULE: "off",
    GOPROXY: "off",
    GOFLAGS: "",
    CGO_ENABLED: "0",
  };
  return (...args) => run(join(goRoot, "bin/go"), args, tree, env);
}

/** What `kubectl version` says; Debian's own build sets the same variables. */
const linkFlags = [
  "-s -w",
  ...["component-base", "client-go/pkg"].flatMap((part) => {
    const name = `k8s.io/kubernetes/vendor/k8s.io/${part}/version`;
    return [
      `-X ${name}.gitVersion=v${kubernetesVersion}`,
      `-X ${name}.gitMajor=1`,
      `-X ${name}.gitMinor=20`,
      `-X ${name}.gitTreeState=clean`,
    ];
  }),
].join(" ");

/** The one generated file that the source package does not hold. */
async function generateOpenApi(
  { work, tree, go, detail }: {
    work: string;
    tree: string;
    go: Go;
    detail: (text: string) => void;
  },
): Promise<void> {
  const name = "pkg/generated/openapi/zz_generated.openapi.go";
  if (existsSync(join(tree, name))) return;
  detail("generating the OpenAPI definitions");
  const generator = join(work, "openapi-gen");
  await go(
    "build",
    "-o",
    generator,
    "k8s.io/kubernetes/vendor/k8s.io/kube-openapi/cmd/openapi-gen",
  );
  const base = join(work, "generated");
  const target = "k8s.io/kubernetes/pkg/generated/openapi";
  await run(
    generator,
    [
      "--logtostderr",
      ...["-i", openApiPackages(tree).join(",")],
      ...["-p", target],
      ...["-O", "zz_generated.openapi"],
      ...["-h", "hack/boilerplate/boilerplate.generatego.txt"],
      ...["-r", join(work, "violations.txt")],
      ...["--output-base", base],
    ],
    tree,
    {
      GOROOT: goRoot,
      GOPATH: join(work, "gopath"),
      GO111MODULE: "off",
      PATH: `${join(goRoot, "bin")}:${process.env.PATH}`,
    },
  );
  copyFileSync(
    join(base, target, "zz_generated.openapi.go"),
    join(tree, name),
  );
}

async function run(
  program: string,
  args: readonly string[],
  cwd: string,
  env: Readonly<Record<string, string>> = {},
): Promise<void> {
  const { exitCode, tail } = await runProgram(program, args, { cwd, env });
  if (exitCode === 0) return;
  throw new UserError(
    `Cannot build Kubernetes: ${program} ${args[0]} ended with ${exitCode}`,
    { hints: tail.map((line) => `| ${line}`) },
  );
}
