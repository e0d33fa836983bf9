import { setTimeout as delay } from "node:timers/promises";
import type { KubeClient } from "./kube_client.ts";
import { KubeError } from "./kube_error.ts";
import { type KubeObject, pathOf, resourceTypes } from "./objects.ts";

export interface LeaderOptions {
  readonly client: KubeClient;
  readonly namespace: string;
  readonly leaseName: string;
  /** Names this process: pod name and a random part, so that a restarted pod is somebody else. */
  readonly identity: string;
  /** A lease not renewed for this long is free; 12,000 unless set. */
  readonly leaseMs?: number;
  /** The leader stops leading when it could not renew for this long; 8,000 unless set. */
  readonly renewMsMax?: number;
  /** Between two looks at the lease; 2,000 unless set. */
  readonly everyMs?: number;
  /** Only differences count: nobody's wall clock is trusted. */
  readonly nowMs: () => number;
  readonly random: () => number;
  readonly onNote?: (note: LeaderNote) => void;
}

export type LeaderNote =
  | { readonly kind: "waiting"; readonly holder: string }
  | { readonly kind: "leading" }
  | { readonly kind: "lost"; readonly why: string }
  | { readonly kind: "failed"; readonly reason: unknown };

interface LeaseSpec {
  readonly holderIdentity?: string;
  readonly leaseDurationSeconds?: number;
  readonly acquireTime?: string;
  readonly renewTime?: string;
  readonly leaseTransitions?: number;
}

type Lease = KubeObject & { readonly spec?: LeaseSpec };

/**
 * One leader among several controllers, by a Lease.
 *
 * Writes carry the resource version that was read, so of two that want the lease
 * one fails. A standby counts by its own clock for how long the lease has not
 * changed. The leader gives up `renewMsMax` after its last renewal, which is before anyone
 * else may take over (`leaseMs`), so two never act at once as long as clocks
 * run at about the same speed.
 */
export class LeaderElection {
  readonly #options: Required<Omit<LeaderOptions, "onNote">> & LeaderOptions;
  #seen: { readonly version: string; readonly atMs: number } | undefined;
  #holder = "";
  /** The lease as we wrote it last; absent when somebody else may have written since. */
  #own: Lease | undefined;
  #renewedAtMs = -Infinity;

  constructor(options: LeaderOptions) {
    this.#options = {
      leaseMs: 12_000,
      renewMsMax: 8_000,
      everyMs: 2_000,
      ...options,
    };
  }

  /** Whether nobody else can lead now, whatever our timers have come to. */
  get holds(): boolean {
    const { nowMs, renewMsMax } = this.#options;
    return nowMs() - this.#renewedAtMs < renewMsMax;
  }

  /**
   * Waits to become the leader, runs `lead` with a signal that aborts when the
   * lease is lost, and gives the lease back when `lead` ends. Returns whether it led
   * to the end (`false`: the lease was lost).
   */
  async run(
    lead: (signal: AbortSignal) => Promise<void>,
    signal: AbortSignal,
  ): Promise<boolean> {
    await this.#acquire(signal);
    this.#note({ kind: "leading" });
    const lost = new AbortController();
    const renewing = new AbortController();
    const renewal = this.#keepRenewing(lost, renewing.signal);
    try {
      await lead(AbortSignal.any([signal, lost.signal]));
      return !lost.signal.aborted;
    } finally {
      renewing.abort();
      await renewal;
      this.#renewedAtMs = -Infinity;
      if (!lost.signal.aborted) await this.#release();
    }
  }

  async #acquire(signal: AbortSignal): Promise<void> {
    while (!await this.#attempt(signal)) {
      const { everyMs, random } = this.#options;
      await delay(everyMs * (0.75 + random() / 2), undefined, { signal });
    }
  }

  /** Whether we hold the lease now. */
  async #attempt(signal: AbortSignal): Promise<boolean> {
    const startedMs = this.#options.nowMs();
    try {
      const lease = await this.#read(signal);
      if (lease === undefined) await this.#create(signal);
      else if (!this.#isFree(lease)) return false;
      else await this.#write(lease, this.#spec(lease.spec, true), signal);
      this.#renewedAtMs = startedMs;
      return true;
    } catch (reason) {
      signal.throwIfAborted();
      // Somebody was quicker, which is no failure.
      const lostRace = reason instanceof KubeError && reason.isConflict;
      if (!lostRace) this.#note({ kind: "failed", reason });
      return false;
    }
  }

  #isFree(lease: Lease): boolean {
    const { nowMs, leaseMs, identity } = this.#options;
    const { holderIdentity = "", leaseDurationSeconds } = lease.spec ?? {};
    const version = lease.metadata.resourceVersion ?? "";
    if (this.#seen?.version !== version) {
      this.#seen = { version, atMs: nowMs() };
    }
    if (holderIdentity !== this.#holder) {
      this.#holder = holderIdentity;
      this.#note({ kind: "waiting", holder: holderIdentity });
    }
    if (holderIdentity === "" || holderIdentity === identity) return true;
    const lifeMs = (leaseDurationSeconds ?? leaseMs / 1_000) * 1_000;
    return nowMs() - this.#seen.atMs >= lifeMs;
  }

  async #keepRenewing(
    lost: AbortController,
    signal: AbortSignal,
  ): Promise<void> {
    const { nowMs, renewMsMax, everyMs } = this.#options;
    while (!signal.aborted) {
      await delay(everyMs, undefined, { signal }).catch(() => {
        // Stopped: the loop ends.
      });
      if (signal.aborted) return;
      const startedMs = nowMs();
      const untilMs = this.#renewedAtMs + renewMsMax;
      const outcome = await this.#renew(signal, untilMs);
      if (outcome === "renewed") this.#renewedAtMs = startedMs;
      const late = !this.holds;
      if (outcome === "taken" || late) {
        this.#renewedAtMs = -Infinity;
        const why = late ? "could not renew in time" : "another one holds it";
        this.#note({ kind: "lost", why });
        return lost.abort(new Error(`The lease is lost: ${why}`));
      }
    }
  }

  async #renew(
    signal: AbortSignal,
    untilMs: number,
  ): Promise<"renewed" | "taken" | "failed"> {
    const { identity, nowMs } = this.#options;
    const leftMs = Math.max(1, untilMs - nowMs());
    const bounded = AbortSignal.any([signal, AbortSignal.timeout(leftMs)]);
    try {
      // As long as nobody else writes it, its version is the one we were answered.
      const lease = this.#own ?? await this.#read(bounded);
      if (lease?.spec?.holderIdentity !== identity) return "taken";
      await this.#write(lease, this.#spec(lease.spec, false), bounded);
      return "renewed";
    } catch (reason) {
      const isStale = this.#own !== undefined &&
        reason instanceof KubeError && reason.isConflict;
      this.#own = undefined;
      if (isStale) return await this.#renew(signal, untilMs);
      if (!signal.aborted) this.#note({ kind: "failed", reason });
      return "failed";
    }
  }

  async #release(): Promise<void> {
    const signal = AbortSignal.timeout(3_000);
    try {
      const lease = await this.#read(signal);
      if (lease?.spec?.holderIdentity !== this.#options.identity) return;
      await this.#write(lease, { ...lease.spec, holderIdentity: "" }, signal);
    } catch (reason) {
      // It ends by itself after its life; the next leader only waits longer.
      this.#note({ kind: "failed", reason });
    }
  }

  async #read(signal: AbortSignal): Promise<Lease | undefined> {
    const { client, namespace, leaseName } = this.#options;
    const path = pathOf(resourceTypes.lease, { namespace, name: leaseName });
    try {
      return await client.call<Lease>({ path, signal, timeoutMs: 5_000 });
    } catch (reason) {
      if (reason instanceof KubeError && reason.isNotFound) return undefined;
      throw reason;
    }
  }

  async #create(signal: AbortSignal): Promise<void> {
    const { client, namespace, leaseName } = this.#options;
    const { apiVersion, kind } = resourceTypes.lease;
    this.#own = await client.call<Lease>({
      method: "POST",
      path: pathOf(resourceTypes.lease, { namespace }),
      body: {
        apiVersion,
        kind,
        metadata: { name: leaseName, namespace },
        spec: this.#spec(undefined, true),
      },
      signal,
      timeoutMs: 5_000,
    });
  }

  async #write(
    lease: Lease,
    spec: LeaseSpec,
    signal: AbortSignal,
  ): Promise<void> {
    const { client, namespace, leaseName } = this.#options;
    this.#own = await client.call<Lease>({
      method: "PUT",
      path: pathOf(resourceTypes.lease, { namespace, name: leaseName }),
      body: { ...lease, spec },
      signal,
      timeoutMs: 5_000,
    });
  }

  #spec(before: LeaseSpec | undefined, acquired: boolean): LeaseSpec {
    const { identity, leaseMs } = this.#options;
    // Microseconds, as the type MicroTime wants; for people only.
    const now = new Date().toISOString().replace("Z", "000Z");
    return {
      holderIdentity: identity,
      leaseDurationSeconds: Math.ceil(leaseMs / 1_000),
      acquireTime: acquired ? now : before?.acquireTime ?? now,
      renewTime: now,
      leaseTransitions: (before?.leaseTransitions ?? 0) +
        (acquired && before ? 1 : 0),
    };
  }

  #note(note: LeaderNote): void {
    this.#options.onNote?.(note);
  }
}
