import { randomUUID } from "node:crypto";
import { readFileSync } from "node:fs";
import { hostname } from "node:os";
import { type Env, logLevels, readConfig } from "../../lib/config/mod.ts";

export interface AutoscalerConfig {
  /** The one namespace whose Models and WorkerPools are ours. */
  readonly namespace: string;
  /** Absent: the service account of the pod. */
  readonly kubeconfig: string | undefined;
  /** Pod name and a random part. */
  readonly identity: string;
  readonly natsUrl: string;
  readonly host: string;
  /** `/metrics`, `/health` and `/healthz`. */
  readonly port: number;
  /** For pools that name none. */
  readonly workerImage: string;
  /** What workers are told; the controller's own URL unless set. */
  readonly workerNatsUrl: string;
  readonly workerNatsSecret: string | undefined;
  readonly leaseName: string;
  readonly leaseMs: number;
  /** Reports everything as changed that often, to heal what went unnoticed. */
  readonly resyncMs: number;
  readonly tickMs: number;
  readonly otlpEndpoint: string | undefined;
  readonly workerOtlpEndpoint: string | undefined;
  readonly logLevel: typeof logLevels[number];
  readonly logPretty: boolean;
}

const namespaceFile = "/var/run/secrets/kubernetes.io/serviceaccount/namespace";

/** Reads `process.env` or a plain record; all faults are reported together. */
export function parseConfig(
  env: Env,
  readNamespace: () => string | undefined = namespaceOfPod,
): AutoscalerConfig {
  const options = {
    what: "the autoscaler",
    env,
    prefix: "QUETZAL_AUTOSCALER_",
    secrets: ["QUETZAL_NATS_URL", "QUETZAL_AUTOSCALER_WORKER_NATS_URL"],
  };
  return readConfig(options, (read) => {
    const namespace = read.text(
      "QUETZAL_AUTOSCALER_NAMESPACE",
      readNamespace() ?? "",
    );
    if (!/^[a-z0-9]([-a-z0-9]{0,61}[a-z0-9])?$/.test(namespace)) {
      read.fault(
        `QUETZAL_AUTOSCALER_NAMESPACE is "${namespace}", expected the name of a namespace`,
      );
    }
    const natsUrl = read.url(
      "QUETZAL_NATS_URL",
      ["nats", "tls"],
      "nats://127.0.0.1:4222",
    );
    const otlpEndpoint = read.url(
      "OTEL_EXPORTER_OTLP_ENDPOINT",
      ["http", "https"],
      undefined,
    );
    const pod = read.text("QUETZAL_POD_NAME", hostname());
    return {
      namespace,
      kubeconfig: read.path("QUETZAL_AUTOSCALER_KUBECONFIG", undefined),
      identity: `${pod}_${randomUUID().slice(0, 8)}`,
      natsUrl,
      host: read.text("QUETZAL_HOST", "127.0.0.1"),
      port: read.integer("QUETZAL_AUTOSCALER_PORT", [0, 65_535], 9_464),
      workerImage: read.text(
        "QUETZAL_AUTOSCALER_WORKER_IMAGE",
        "quetzal/mesh:latest",
      ),
      workerNatsUrl: read.url(
        "QUETZAL_AUTOSCALER_WORKER_NATS_URL",
        ["nats", "tls"],
        natsUrl,
      ),
      workerNatsSecret: read.text(
        "QUETZAL_AUTOSCALER_WORKER_NATS_SECRET",
        undefined,
      ),
      leaseName: read.text("QUETZAL_AUTOSCALER_LEASE", "quetzal-autoscaler"),
      leaseMs: read.durationMs(
        "QUETZAL_AUTOSCALER_LEASE_TIME",
        [3_000, 600_000],
        10_000,
      ),
      resyncMs: read.durationMs(
        "QUETZAL_AUTOSCALER_RESYNC",
        [1_000, 86_400_000],
        600_000,
      ),
      tickMs: read.durationMs(
        "QUETZAL_AUTOSCALER_TICK",
        [50, 60_000],
        1_000,
      ),
      otlpEndpoint,
      workerOtlpEndpoint: read.url(
        "QUETZAL_AUTOSCALER_WORKER_OTLP_ENDPOINT",
        ["http", "https"],
        otlpEndpoint,
      ),
      logLevel: read.oneOf("QUETZAL_LOG_LEVEL", logLevels, "info"),
      logPretty: read.boolean("QUETZAL_LOG_PRETTY", false),
    };
  });
}

/** The namespace that the kubelet wrote into the pod. */
function namespaceOfPod(): string | undefined {
  try {
    return readFileSync(namespaceFile, "utf8").trim();
  } catch {
    // Outside a pod the setting is needed, and its fault says so.
    return undefined;
  }
}
