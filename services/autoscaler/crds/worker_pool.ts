import {
  conditions,
  decisions,
  observedGeneration,
  podPart,
} from "./fragments.ts";
import {
  anyList,
  boolean,
  choice,
  countOrShare,
  defaulted,
  type Infer,
  integer,
  list,
  map,
  number,
  object,
  optional,
  quantity,
  text,
} from "./schema.ts";

const volume = (what: string) =>
  object({
    claimName: optional(text({
      description: `PersistentVolumeClaim that holds ${what}.`,
      lengthMax: 253,
    })),
    hostPath: optional(text({
      description:
        `Folder of the node that holds ${what}; shared by all pods of the node.`,
      pattern: "^/.+",
      expected: "an absolute path",
    })),
    sizeLimit: optional(quantity({
      description:
        "Without claimName and hostPath: an emptyDir of at most this size, gone with the pod.",
    })),
  }, {
    description: `Volume for ${what}. At most one of claimName and hostPath.`,
  });

const runtime = object({
  threads: optional(integer({
    description: "Threads of the engine; the engine decides unless set.",
    min: 1,
    max: 256,
  })),
  kvBlocks: optional(integer({
    description:
      "KV blocks of 16 tokens per model; the engine decides unless set.",
    min: 1,
    max: 2 ** 24,
  })),
  batchTokens: optional(integer({
    description: "Tokens of one step at most.",
    min: 1,
    max: 65_536,
  })),
  runningMax: optional(integer({
    description: "Sequences that run at once per model.",
    min: 1,
    max: 4_096,
  })),
  waitingMax: optional(integer({
    description: "Sequences that wait at a worker before it refuses more.",
    min: 1,
    max: 65_536,
  })),
  isa: optional(choice(["avx2", "avx512"], {
    description: "Instruction set of the CPU kernels; the best one unless set.",
  })),
  modelMemory: optional(quantity({
    description:
      "Memory that models may take on one worker, weights and KV together; the worker decides unless set.",
  })),
  logLevel: defaulted(
    choice(["trace", "debug", "info", "warn", "error"], {
      description: "What the workers log.",
    }),
    "info",
  ),
  env: optional(map(
    text({ description: "The value.", lengthMax: 32_768 }),
    {
      description:
        "Further environment of the worker container. Names that the controller sets itself are refused.",
    },
  )),
}, { description: "Settings of the worker processes." });

const scaling = object({
  replicasMin: defaulted(
    integer({
      description: "Pods kept even when nobody asks.",
      min: 0,
      max: 1_000,
    }),
    0,
  ),
  replicasMax: defaulted(
    integer({ description: "Pods at most.", min: 0, max: 1_000 }),
    1,
  ),
  idleSeconds: defaulted(
    integer({
      description:
        "Shrinking goes to the largest wish of this many seconds (shared pools; a dedicated one follows its model).",
      min: 0,
      max: 604_800,
    }),
    300,
  ),
  utilization: defaulted(
    number({
      description: "Share of a worker's time planned to be busy, 0.05 to 1.",
      min: 0.05,
      max: 1,
    }),
    0.7,
  ),
}, { description: "Bounds of the number of pods." });

const hardware = object({
  accelerator: optional(text({
    description:
      "Extended resource of the device, such as nvidia.com/gpu. Without it workers compute on CPUs.",
    pattern: "^[a-z0-9.-]+/[A-Za-z0-9._-]+$",
    expected: "domain/name",
  })),
  count: defaulted(
    integer({ description: "Devices per pod.", min: 1, max: 64 }),
    1,
  ),
}, { description: "Devices a pod gets." });

export const workerPoolSpec = object({
  role: defaulted(
    choice(["decode", "prefill"], {
      description: "decode answers requests; prefill runs prompts for others.",
    }),
    "decode",
  ),
  sharing: defaulted(
    choice(["shared", "dedicated"], {
      description:
        "shared: many models come and go on the same pods. dedicated: every pod has the one Model that names the pool.",
    }),
    "shared",
  ),
  replicas: optional(integer({
    description:
      "Exactly this many pods, whatever the policies say; set by `kubectl scale`. Remove it to let the controller decide.",
    min: 0,
    max: 1_000,
  })),
  scaling: defaulted(scaling, {}),
  image: optional(text({
    description: "Container image; the controller's default unless set.",
    lengthMin: 1,
    lengthMax: 1_024,
  })),
  imagePullPolicy: defaulted(
    choice(["Always", "IfNotPresent", "Never"], {
      description: "When nodes fetch the image.",
    }),
    "IfNotPresent",
  ),
  imagePullSecrets: optional(list(
    text({ description: "Name of a Secret.", lengthMax: 253 }),
    {
      description: "Secrets for the image's registry.",
      countMax: 16,
      set: true,
    },
  )),
  hardware: optional(hardware),
  resources: defaulted(
    object({
      requests: defaulted(
        map(quantity({ description: "Amount." }), {
          description: "What the scheduler reserves per pod.",
        }),
        { cpu: "1", memory: "1Gi" },
      ),
      limits: defaulted(
        map(quantity({ description: "Amount." }), {
          description: "What a pod may use at most.",
        }),
        { memory: "2Gi" },
      ),
    }, { description: "CPU and memory per pod; devices belong in hardware." }),
    {},
  ),
  storage: defaulted(
    object({
      models: optional(volume("model files, mounted read-only at /models")),
      cache: defaulted(
        volume(
          "downloaded models, mounted at /var/cache/quetzal and shared by the pods that mount it",
        ),
        {},
      ),
    }, { description: "Volumes of the pods." }),
    {},
  ),
  runtime: defaulted(runtime, {}),
  drainSeconds: defaulted(
    integer({
      description:
        "How long running requests may go on when a pod stops, seconds. Those left are continued elsewhere.",
      min: 0,
      max: 3_600,
    }),
    30,
  ),
  disruption: defaulted(
    object({
      maxUnavailable: defaulted(
        countOrShare({
          description:
            "Pods that node drains may take at once (PodDisruptionBudget).",
        }),
        1,
      ),
    }, { description: "What voluntary disruptions may do." }),
    {},
  ),
  rollout: defaulted(
    object({
      maxUnavailable: defaulted(
        countOrShare({ description: "Pods that may be missing meanwhile." }),
        1,
      ),
      maxSurge: defaulted(
        countOrShare({
          description: "Pods beyond the wanted number; each needs its device.",
        }),
        0,
      ),
    }, { description: "How a changed pod template reaches the pods." }),
    {},
  ),
  spread: defaulted(
    object({
      enabled: defaulted(
        boolean({ description: "Spread pods over nodes (best effort)." }),
        true,
      ),
      topologyKey: defaulted(
        text({ description: "Node label to spread over.", lengthMin: 1 }),
        "kubernetes.io/hostname",
      ),
    }, { description: "Topology spread of the pods." }),
    {},
  ),
  nodeSelector: optional(map(
    text({ description: "Value of the label." }),
    { description: "Labels that nodes must have." },
  )),
  tolerations: optional(anyList({
    description: "Tolerations of the pods, as in the Pod API.",
  })),
  affinity: optional(podPart("Affinity of the pods, as in the Pod API.")),
  serviceAccountName: defaulted(
    text({
      description: "Service account of the pods; it needs no permissions.",
      lengthMax: 253,
    }),
    "quetzal-worker",
  ),
  priorityClassName: optional(text({
    description: "PriorityClass of the pods.",
    lengthMax: 253,
  })),
  runtimeClassName: optional(text({
    description: "RuntimeClass of the pods, such as nvidia.",
    lengthMax: 253,
  })),
  podLabels: optional(map(
    text({ description: "Value of the label.", lengthMax: 63 }),
    { description: "Further labels of the pods." },
  )),
  podAnnotations: optional(map(
    text({ description: "Value of the annotation." }),
    { description: "Further annotations of the pods." },
  )),
}, { description: "Pods of one kind that run models." });
export type WorkerPoolSpec = Infer<typeof workerPoolSpec>;

export const workerPoolStatus = object({
  observedGeneration: optional(observedGeneration),
  wanted: optional(integer({ description: "Pods wanted.", min: 0 })),
  replicas: optional(integer({
    description: "Pods there are, starting ones included.",
    min: 0,
  })),
  readyReplicas: optional(integer({
    description: "Pods that are ready.",
    min: 0,
  })),
  joined: optional(integer({
    description: "Workers that are registered in NATS.",
    min: 0,
  })),
  ready: optional(text({ description: "Ready pods of those wanted: 1/2." })),
  models: optional(integer({
    description: "Models that name this pool.",
    min: 0,
  })),
  reason: optional(text({ description: "Why this many, in one word." })),
  selector: optional(text({
    description: "Label selector of the pods, for the scale subresource.",
  })),
  decisions: optional(decisions),
  conditions: optional(conditions),
}, { description: "What the controller sees and last did." });
export type WorkerPoolStatus = Infer<typeof workerPoolStatus>;
