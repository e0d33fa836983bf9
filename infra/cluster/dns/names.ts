/** The names that Kubernetes gives to Services and to the pods behind headless ones. */

/** The part of a Service and of its Endpoints that names need. */
export interface ServiceItem {
  readonly metadata: { readonly name: string; readonly namespace: string };
  readonly spec?: { readonly clusterIP?: string };
}

export interface EndpointsItem {
  readonly metadata: { readonly name: string; readonly namespace: string };
  readonly subsets?: readonly {
    readonly addresses?: readonly {
      readonly ip: string;
      readonly hostname?: string;
    }[];
  }[];
}

export type Names = ReadonlyMap<string, readonly string[]>;

/** Addresses by full name, without the last dot. */
export function namesOf(
  services: readonly ServiceItem[],
  endpoints: readonly EndpointsItem[],
): Names {
  const names = new Map<string, string[]>();
  const behind = new Map(endpoints.map((item) => [fullName(item), item]));
  for (const service of services) {
    const name = fullName(service);
    const clusterIp = service.spec?.clusterIP;
    if (clusterIp && clusterIp !== "None") {
      names.set(name, [clusterIp]);
      continue;
    }
    const pods = behind.get(name)?.subsets
      ?.flatMap(({ addresses }) => addresses ?? []) ?? [];
    names.set(name, pods.map(({ ip }) => ip));
    for (const { hostname, ip } of pods) {
      if (hostname) names.set(`${hostname}.${name}`, [ip]);
    }
  }
  return names;
}

function fullName(
  { metadata }: { metadata: { name: string; namespace: string } },
): string {
  return `${metadata.name}.${metadata.namespace}.svc.cluster.local`;
}
