/**
 * The node lives in a network namespace: kube-proxy's rules, the pods' bridge and
 * all ports are inside, and vanish with it. One link leads there, and through it
 * this machine reaches the API, the pods and the Services.
 */
import { existsSync, readdirSync } from "node:fs";
import { dirname } from "node:path";
import { runProgram } from "../../process/mod.ts";
import {
  addresses,
  inNamespace,
  namespaceFile,
  namespaceName,
} from "./addresses.ts";
import { run } from "./shell.ts";

const hostLink = "quetzal0";
const nodeLink = "node0";

export async function createNetwork(): Promise<void> {
  const ip = (command: string) =>
    run(["ip", ...command.split(" ")], "make the node's network");
  const inside = (command: string) =>
    run([...inNamespace, ...command.split(" ")], "set up the node's network");
  await ip(`netns add ${namespaceName}`);
  await ip(
    `link add ${hostLink} type veth peer name ${nodeLink} netns ${namespaceName}`,
  );
  await ip(`address add ${addresses.host}/24 dev ${hostLink}`);
  await ip(`link set ${hostLink} up`);
  await inside("ip link set lo up");
  await inside(`ip address add ${addresses.node}/24 dev ${nodeLink}`);
  await inside(`ip link set ${nodeLink} up`);
  // Nothing leads outside, and who tries is told at once: kubelet looks for the
  // metadata servers of three clouds and would wait 10 s for their silence.
  await inside("ip route add unreachable default");
  // Where it seems to lead does not matter: kube-proxy's rules turn it away.
  await inside(`ip route add ${addresses.serviceRange} via ${addresses.host}`);
  for (const range of [addresses.podRange, addresses.serviceRange]) {
    await ip(`route add ${range} via ${addresses.node} dev ${hostLink}`);
  }
  await setInside("net/ipv4/ip_forward", "1");
  // Services reach pods of the same bridge only when its frames pass iptables.
  await setInside("net/bridge/bridge-nf-call-iptables", "1");
}

/** A setting of the namespace's own network. */
function setInside(name: string, value: string): Promise<void> {
  const script = `echo ${value} > /proc/sys/${name}`;
  return run([...inNamespace, "sh", "-c", script], `set ${name}`);
}

/** The link and its routes go with the namespace; pods have namespaces of their own. */
export async function removeNetwork(): Promise<void> {
  for (const name of await podNamespaces()) {
    await run(["ip", "netns", "delete", name], "remove a pod's namespace");
  }
  if (!existsSync(namespaceFile)) return;
  await run(["ip", "netns", "delete", namespaceName], "remove the namespace");
}

/** Those with an address of our pods: another runtime on this machine names its own alike. */
export async function podNamespaces(): Promise<string[]> {
  const folder = dirname(namespaceFile);
  if (!existsSync(folder)) return [];
  const ours: string[] = [];
  const prefix = addresses.podRange.replace(/\.0\/24$/, ".");
  for (const name of readdirSync(folder)) {
    if (!name.startsWith("cni-")) continue;
    const args = ["-n", name, "-4", "-oneline", "address"];
    const { tail } = await runProgram("ip", args);
    if (tail.some((line) => line.includes(` ${prefix}`))) ours.push(name);
  }
  return ours;
}
