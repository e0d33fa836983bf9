/** What our code reads of Kubernetes objects; everything else stays opaque. */

export interface OwnerReference {
  readonly apiVersion: string;
  readonly kind: string;
  readonly name: string;
  readonly uid: string;
  readonly controller?: boolean;
  readonly blockOwnerDeletion?: boolean;
}

export interface ObjectMeta {
  readonly name: string;
  readonly namespace?: string;
  readonly uid?: string;
  readonly resourceVersion?: string;
  readonly generation?: number;
  readonly creationTimestamp?: string;
  readonly deletionTimestamp?: string;
  readonly labels?: Readonly<Record<string, string>>;
  readonly annotations?: Readonly<Record<string, string>>;
  readonly finalizers?: readonly string[];
  readonly ownerReferences?: readonly OwnerReference[];
}

export interface KubeObject {
  readonly apiVersion?: string;
  readonly kind?: string;
  readonly metadata: ObjectMeta;
  readonly [field: string]: unknown;
}

export interface KubeList<T> {
  readonly metadata: {
    readonly resourceVersion: string;
    readonly continue?: string;
  };
  readonly items: readonly T[];
}

/** Where the objects of one kind are found. */
export interface ResourceType {
  readonly apiVersion: string;
  readonly kind: string;
  readonly plural: string;
}

export const resourceTypes = {
  deployment: {
    apiVersion: "apps/v1",
    kind: "Deployment",
    plural: "deployments",
  },
  service: { apiVersion: "v1", kind: "Service", plural: "services" },
  configMap: { apiVersion: "v1", kind: "ConfigMap", plural: "configmaps" },
  pod: { apiVersion: "v1", kind: "Pod", plural: "pods" },
  event: { apiVersion: "v1", kind: "Event", plural: "events" },
  lease: {
    apiVersion: "coordination.k8s.io/v1",
    kind: "Lease",
    plural: "leases",
  },
} satisfies Record<string, ResourceType>;

/** `/apis/apps/v1/namespaces/default/deployments/x/status` */
export function pathOf(
  { apiVersion, plural }: ResourceType,
  { namespace, name, subresource }: {
    readonly namespace?: string;
    readonly name?: string;
    readonly subresource?: string;
  },
): string {
  const parts = [apiVersion.includes("/") ? "apis" : "api", apiVersion];
  if (namespace) parts.push("namespaces", encodeURIComponent(namespace));
  parts.push(plural);
  if (name) parts.push(encodeURIComponent(name));
  if (subresource) parts.push(subresource);
  return `/${parts.join("/")}`;
}
