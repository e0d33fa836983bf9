/** Who may open a connection to whom, as NetworkPolicies define it. */
import type { Manifest } from "./render.ts";

type Labels = Readonly<Record<string, string>>;

interface Selector {
  readonly matchLabels?: Labels;
  readonly matchExpressions?: readonly {
    readonly key: string;
    readonly operator: string;
    readonly values?: readonly string[];
  }[];
}

interface Rule {
  readonly from?: readonly Peer[];
  readonly to?: readonly Peer[];
  readonly ports?: readonly {
    readonly protocol?: string;
    readonly port: number;
  }[];
}

interface Peer {
  readonly podSelector?: Selector;
  readonly namespaceSelector?: Selector;
}

export interface Pod {
  readonly name: string;
  readonly labels: Labels;
}

/** True when both ends let a TCP connection pass. */
export function mayConnect(
  policies: readonly Manifest[],
  { from, to, port }: { from: Pod; to: Pod; port: number },
): boolean {
  return passes(policies, {
    direction: "egress",
    of: from,
    other: to,
    port,
  }) && passes(policies, { direction: "ingress", of: to, other: from, port });
}

/** A pod that no policy selects is open; one that some select needs a rule that allows. */
function passes(
  policies: readonly Manifest[],
  { direction, of, other, port }: {
    direction: "ingress" | "egress";
    of: Pod;
    other: Pod;
    port: number;
  },
): boolean {
  const type = direction === "ingress" ? "Ingress" : "Egress";
  const own = policies.filter(({ spec }) =>
    spec.policyTypes.includes(type) && selects(spec.podSelector, of.labels)
  );
  if (own.length === 0) return true;
  return own.flatMap(({ spec }) => (spec[direction] ?? []) as Rule[])
    .some((rule) => {
      const peers = direction === "ingress" ? rule.from : rule.to;
      const peerFits = peers === undefined ||
        peers.some(({ podSelector, namespaceSelector }) =>
          // Pods of other namespaces are not ours.
          namespaceSelector === undefined && podSelector !== undefined &&
          selects(podSelector, other.labels)
        );
      const portFits = rule.ports === undefined ||
        rule.ports.some((entry) =>
          entry.port === port && (entry.protocol ?? "TCP") === "TCP"
        );
      return peerFits && portFits;
    });
}

export function selects(
  { matchLabels = {}, matchExpressions = [] }: Selector,
  labels: Labels,
): boolean {
  return Object.entries(matchLabels)
    .every(([key, value]) => labels[key] === value) &&
    matchExpressions.every(({ key, operator, values = [] }) => {
      if (operator === "In") return values.includes(labels[key]);
      throw new Error(`needs the operator In, found ${operator}`);
    });
}
