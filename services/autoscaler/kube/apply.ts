import type { KubeClient } from "./kube_client.ts";
import { KubeError } from "./kube_error.ts";
import { type KubeObject, pathOf, type ResourceType } from "./objects.ts";
import { parseQuantity } from "./quantity.ts";
import { hashOf } from "./stable_json.ts";

export interface ApplyRequest {
  readonly type: ResourceType;
  /** All that we want of the object, and nothing else. */
  readonly desired: KubeObject;
  /** The object as the informer knows it. */
  readonly live: KubeObject | undefined;
}

export type ApplyOutcome =
  | { readonly kind: "unchanged" }
  | {
    readonly kind: "applied";
    readonly object: KubeObject;
    /** Fields left to others who own them. */
    readonly conflicts: readonly FieldConflict[];
  };

export interface FieldConflict {
  /** `.spec.replicas` */
  readonly field: string;
  /** `kubectl`, as the server names it. */
  readonly manager: string;
}

export interface ApplierOptions {
  readonly client: KubeClient;
  /** The field manager. */
  readonly manager: string;
}

/** Lets an applier that has just started know what it applied before. */
const hashAnnotation = "quetzal.dev/applied-hash";

/**
 * Brings objects to what we want by server-side apply.
 *
 * Fields that nobody but us wants are ours; what others add stays. Where
 * somebody else has taken over a field that we want too, theirs stays and the
 * conflict is reported: overwriting it would start a fight that neither wins.
 *
 * Nothing is sent when the wish and the object are what they were after the last
 * apply, so a mesh at rest causes no writes.
 */
export class Applier {
  readonly #options: ApplierOptions;
  readonly #settled = new Map<string, Settled>();

  constructor(options: ApplierOptions) {
    this.#options = options;
  }

  async apply({ type, desired, live }: ApplyRequest): Promise<ApplyOutcome> {
    const key = keyOf(type, desired);
    const wishHash = hashOf(desired);
    if (live && this.#isSettled(key, { wishHash, live, desired })) {
      return { kind: "unchanged" };
    }
    const { object, conflicts } = await this.#send(
      type,
      withHash(desired, wishHash),
    );
    this.#settled.set(key, { wishHash, liveHash: contentHash(object) });
    return { kind: "applied", object, conflicts };
  }

  /** The object is gone or no longer ours to keep. */
  forget(type: ResourceType, object: KubeObject): void {
    this.#settled.delete(keyOf(type, object));
  }

  #isSettled(
    key: string,
    { wishHash, live, desired }: {
      readonly wishHash: string;
      readonly live: KubeObject;
      readonly desired: KubeObject;
    },
  ): boolean {
    const liveHash = contentHash(live);
    const settled = this.#settled.get(key);
    if (settled) {
      return settled.wishHash === wishHash && settled.liveHash === liveHash;
    }
    const before = live.metadata.annotations?.[hashAnnotation];
    const { apiVersion: _apiVersion, kind: _kind, ...wish } = desired;
    if (before !== wishHash || !contains(live, wish)) return false;
    this.#settled.set(key, { wishHash, liveHash });
    return true;
  }

  async #send(
    type: ResourceType,
    desired: KubeObject,
  ): Promise<{ object: KubeObject; conflicts: FieldConflict[] }> {
    try {
      return { object: await this.#patch(type, desired), conflicts: [] };
    } catch (reason) {
      const conflicts = conflictsOf(reason);
      if (conflicts.length === 0) throw reason;
      const rest = conflicts.reduce(
        (object, { field }) => withoutField(object, field),
        desired,
      );
      return { object: await this.#patch(type, rest), conflicts };
    }
  }

  #patch(type: ResourceType, desired: KubeObject): Promise<KubeObject> {
    const { namespace, name } = desired.metadata;
    return this.#options.client.call<KubeObject>({
      method: "PATCH",
      path: pathOf(type, { namespace, name }),
      query: { fieldManager: this.#options.manager, force: "false" },
      contentType: "application/apply-patch+yaml",
      body: desired,
    });
  }
}

interface Settled {
  readonly wishHash: string;
  readonly liveHash: string;
}

function keyOf({ plural }: ResourceType, { metadata }: KubeObject): string {
  return `${plural}/${metadata.namespace}/${metadata.name}`;
}

function withHash(desired: KubeObject, hash: string): KubeObject {
  const { metadata } = desired;
  const annotations = { ...metadata.annotations, [hashAnnotation]: hash };
  return { ...desired, metadata: { ...metadata, annotations } };
}

/** What a user or we may change: not the status, not the server's bookkeeping. */
function contentHash(object: KubeObject): string {
  const { labels, annotations, ownerReferences, finalizers, uid } =
    object.metadata;
  // Lists of the API server leave out version and kind of their items.
  const {
    status: _status,
    metadata: _metadata,
    apiVersion: _apiVersion,
    kind: _kind,
    ...content
  } = object;
  // Written by the deployment controller, not part of anyone's wish.
  const { "deployment.kubernetes.io/revision": _revision, ...notes } =
    annotations ?? {};
  return hashOf({
    content,
    labels,
    notes,
    ownerReferences,
    finalizers,
    uid,
  });
}

/** Everything of `wanted` is in `found`; the server may have added or respelt. */
export function contains(found: unknown, wanted: unknown): boolean {
  if (Array.isArray(wanted)) {
    return Array.isArray(found) && found.length === wanted.length &&
      wanted.every((item, index) => contains(found[index], item));
  }
  if (typeof wanted === "object" && wanted !== null) {
    if (typeof found !== "object" || found === null) {
      // Empty objects may be left out by the server.
      return found === undefined && Object.keys(wanted).length === 0;
    }
    return Object.entries(wanted).every(([key, value]) =>
      value === undefined ||
      contains((found as Record<string, unknown>)[key], value)
    );
  }
  if (found === wanted) return true;
  const [a, b] = [found, wanted].map((value) =>
    typeof value === "string" || typeof value === "number"
      ? parseQuantity(value)
      : undefined
  );
  return a !== undefined && a === b;
}

function conflictsOf(reason: unknown): FieldConflict[] {
  if (!(reason instanceof KubeError) || !reason.isConflict) return [];
  return reason.causes
    .filter((cause) => cause.reason === "FieldManagerConflict" && cause.field)
    .map(({ field, message = "" }) => ({
      field: field!,
      manager: /conflict with "([^"]*)"/.exec(message)?.[1] ??
        "another manager",
    }));
}

/**
 * The object without one field, named as the server names it:
 * `.spec.template.spec.containers[name="worker"].image`. Names of labels hold
 * dots too, so the path is read along the object's own keys.
 */
export function withoutField(object: KubeObject, field: string): KubeObject {
  return drop(object, field) as KubeObject;
}

function drop(value: unknown, path: string): unknown {
  if (Array.isArray(value)) return dropItem(value, path);
  if (typeof value !== "object" || value === null) return value;
  const key = Object.keys(value)
    .filter((name) => isStep(path, name))
    .sort((a, b) => b.length - a.length)[0];
  if (key === undefined) return value;
  const { [key]: child, ...others } = value as Record<string, unknown>;
  const rest = path.slice(key.length + 1);
  return rest === "" ? others : { ...others, [key]: drop(child, rest) };
}

function isStep(path: string, name: string): boolean {
  const next = path[name.length + 1];
  return path.startsWith(`.${name}`) &&
    (next === undefined || next === "." || next === "[");
}

function dropItem(items: readonly unknown[], path: string): unknown {
  const [whole, selector] = /^\[([^\]]*)\]/.exec(path) ?? ["", ""];
  if (whole === "") return items;
  const wanted = Object.entries(selectorOf(selector));
  const rest = path.slice(whole.length);
  const isMeant = (item: unknown) =>
    wanted.every(([key, value]) =>
      (item as Record<string, unknown> | null)?.[key] === value
    );
  return rest === ""
    ? items.filter((item) => !isMeant(item))
    : items.map((item) => isMeant(item) ? drop(item, rest) : item);
}

/** `containerPort=50071,protocol="TCP"` */
function selectorOf(text: string): Record<string, unknown> {
  return Object.fromEntries(
    text.split(",").map((pair) => {
      const at = pair.indexOf("=");
      const value = pair.slice(at + 1);
      try {
        return [pair.slice(0, at), JSON.parse(value)];
      } catch {
        // A set's bare value: compared as text.
        return [pair.slice(0, at), value];
      }
    }),
  );
}
