/**
 * Who may talk to the API server, and how it proves itself: a certificate
 * authority of the cluster's own, certificates signed by it, random tokens, and a
 * kubeconfig for each user. All of it dies with the cluster.
 */
import { randomBytes } from "node:crypto";
import { mkdirSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { runProgram } from "../../process/mod.ts";
import { UserError } from "../../terminal/mod.ts";

export interface CredentialsOptions {
  /** Gets everything; readable by us only. */
  readonly folder: string;
  /** Where the API server is reached: `https://127.0.0.1:6443`. */
  readonly url: string;
  /** Addresses in its certificate, besides 127.0.0.1. */
  readonly addresses: readonly string[];
  /** Makes credentials for a kubelet of this name and address. */
  readonly node?: { readonly name: string; readonly address: string };
}

const validDays = 365;

/** Files in `folder`, by what they are for. */
export interface Credentials {
  readonly caCertificate: string;
  readonly serverCertificate: string;
  readonly serverKey: string;
  readonly adminCertificate: string;
  readonly adminKey: string;
  readonly serviceAccountPublicKey: string;
  readonly serviceAccountKey: string;
  readonly tokens: string;
  readonly kubeconfig: Readonly<
    Record<
      "admin" | "controllerManager" | "scheduler" | "kubeProxy" | "kubelet",
      string
    >
  >;
  readonly kubeletCertificate: string;
  readonly kubeletKey: string;
}

export async function makeCredentials(
  { folder, url, addresses, node }: CredentialsOptions,
): Promise<Credentials> {
  mkdirSync(folder, { recursive: true, mode: 0o700 });
  const file = (name: string) => join(folder, name);
  await makeAuthority(folder);
  const sign = (name: string, subject: string, extensions: string[]) =>
    signCertificate({ folder, name, subject, extensions });
  await sign("server", "/CN=kube-apiserver", [
    subjectNames([
      "localhost",
      ...["", ".default", ".default.svc", ".default.svc.cluster.local"]
        .map((suffix) => `kubernetes${suffix}`),
    ], ["127.0.0.1", ...addresses]),
  ]);
  await sign("admin", "/O=system:masters/CN=admin", [
    "extendedKeyUsage=clientAuth",
  ]);
  if (node) {
    await sign("kubelet", `/O=system:nodes/CN=system:node:${node.name}`, [
      "extendedKeyUsage=clientAuth,serverAuth",
      subjectNames([node.name], [node.address]),
    ]);
  }
  await makeServiceAccountKey(folder);

  const certificate = (name: string) =>
    `client-certificate: ${file(`${name}.crt`)}, client-key: ${
      file(`${name}.key`)
    }`;
  const kubeconfig = (name: string, user: string) => {
    const text = kubeconfigText({ url, ca: file("ca.crt"), user });
    const path = file(`${name}.kubeconfig`);
    writeFileSync(path, text, { mode: 0o600 });
    return path;
  };
  const users = ["controller-manager", "scheduler", "kube-proxy"].map((
    name,
  ) => ({ name, token: randomBytes(24).toString("hex") }));
  writeFileSync(
    file("tokens.csv"),
    users.map(({ name, token }) =>
      `${token},system:${
        name.startsWith("kube-") ? name : `kube-${name}`
      },${name}\n`
    ).join(""),
    { mode: 0o600 },
  );
  const [controllerManager, scheduler, kubeProxy] = users.map((
    { name, token },
  ) => kubeconfig(name, `token: ${token}`));
  return {
    caCertificate: file("ca.crt"),
    serverCertificate: file("server.crt"),
    serverKey: file("server.key"),
    adminCertificate: file("admin.crt"),
    adminKey: file("admin.key"),
    serviceAccountPublicKey: file("service-account.pub"),
    serviceAccountKey: file("service-account.key"),
    tokens: file("tokens.csv"),
    kubeconfig: {
      admin: kubeconfig("admin", certificate("admin")),
      kubelet: kubeconfig("kubelet", certificate("kubelet")),
      controllerManager,
      scheduler,
      kubeProxy,
    },
    kubeletCertificate: file("kubelet.crt"),
    kubeletKey: file("kubelet.key"),
  };
}

const curve = ["-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1"];

async function makeAuthority(folder: string): Promise<void> {
  await openssl(folder, [
    ...["req", "-x509", ...curve, "-nodes"],
    ...["-keyout", "ca.key", "-out", "ca.crt", "-days", `${validDays}`],
    ...["-subj", "/CN=quetzal-cluster"],
  ]);
}

async function signCertificate(
  { folder, name, subject, extensions }: {
    folder: string;
    name: string;
    subject: string;
    extensions: readonly string[];
  },
): Promise<void> {
  const extensionFile = `${name}.ext`;
  writeFileSync(join(folder, extensionFile), `${extensions.join("\n")}\n`);
  await openssl(folder, [
    ...["req", ...curve, "-nodes", "-subj", subject],
    ...["-keyout", `${name}.key`, "-out", `${name}.csr`],
  ]);
  await openssl(folder, [
    ...["x509", "-req", "-in", `${name}.csr`, "-out", `${name}.crt`],
    ...["-CA", "ca.crt", "-CAkey", "ca.key", "-CAcreateserial"],
    ...["-days", `${validDays}`, "-extfile", extensionFile],
  ]);
}

async function makeServiceAccountKey(folder: string): Promise<void> {
  const key = "service-account.key";
  await openssl(
    folder,
    ["ecparam", "-name", "prime256v1", "-genkey"].concat([
      ...["-noout", "-out", key],
    ]),
  );
  await openssl(
    folder,
    ["ec", "-in", key, "-pubout"].concat([
      ...["-out", "service-account.pub"],
    ]),
  );
}

function subjectNames(
  names: readonly string[],
  addresses: readonly string[],
): string {
  const entries = [
    ...names.map((name) => `DNS:${name}`),
    ...addresses.map((address) => `IP:${address}`),
  ];
  return `subjectAltName=${entries.join(",")}`;
}

function kubeconfigText(
  { url, ca, user }: { url: string; ca: string; user: string },
): string {
  return `apiVersion: v1
kind: Config
clusters: [{name: quetzal, cluster: {server: "${url}", certificate-authority: ${ca}}}]
users: [{name: user, user: {${user}}}]
contexts: [{name: quetzal, context: {cluster: quetzal, user: user}}]
current-context: quetzal
`;
}

async function openssl(folder: string, args: readonly string[]): Promise<void> {
  const { exitCode, tail } = await runProgram("openssl", args, { cwd: folder });
  if (exitCode === 0) return;
  throw new UserError(
    `Cannot make the cluster's certificates: openssl ${
      args[0]
    } ended with ${exitCode}`,
    { hints: tail.map((line) => `| ${line}`) },
  );
}
