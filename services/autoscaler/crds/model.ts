import {
  conditions,
  decisions,
  modelSource,
  observedGeneration,
} from "./fragments.ts";
import {
  anyObject,
  choice,
  defaulted,
  type Infer,
  integer,
  list,
  number,
  object,
  optional,
  quantity,
  required,
  text,
} from "./schema.ts";

/** Formats a GGUF file may hold; `mixed` for files that mix them. */
export const quantizations = [
  "f32",
  "f16",
  "bf16",
  "q8_0",
  "q6_k",
  "q5_k",
  "q5_1",
  "q5_0",
  "q4_k",
  "q4_1",
  "q4_0",
  "mixed",
] as const;

const scalingPolicies = [
  "target",
  "tail",
  "knative-kpa",
  "hpa",
  "scheduled",
  "aibrix-apa",
  "aibrix-kpa",
] as const;

const resourceName = (description: string) =>
  text({
    description,
    pattern: "^[a-z0-9]([-a-z0-9.]*[a-z0-9])?$",
    expected: "the name of a resource",
    lengthMax: 253,
  });

const servedName = (description: string) =>
  text({
    description,
    pattern: "^[!-~]+$",
    expected: "visible ASCII characters without blanks",
    lengthMin: 1,
    lengthMax: 256,
  });

const scaling = object({
  policy: defaulted(
    choice(scalingPolicies, {
      description:
        "The rule that decides; docs/operations/autoscaling.md compares them.",
    }),
    "target",
  ),
  replicasMin: defaulted(
    integer({
      description:
        "Workers that keep the model loaded even when nobody asks. 0 lets it go to zero.",
      min: 0,
      max: 1_000,
    }),
    0,
  ),
  replicasMax: defaulted(
    integer({
      description:
        "Workers that may have it loaded at once. The pool's own maximum holds too.",
      min: 1,
      max: 1_000,
    }),
    1_000,
  ),
  targetPerReplica: defaulted(
    integer({
      description:
        "Requests at once that one worker should have (policies target, hpa and knative-kpa).",
      min: 1,
      max: 100_000,
    }),
    4,
  ),
  idleSeconds: defaulted(
    integer({
      description:
        "How long the model stays loaded after its last request, and fewer replicas are wanted before one goes, seconds.",
      min: 0,
      max: 604_800,
    }),
    300,
  ),
  settings: optional(anyObject({
    description:
      "Further settings of the policy by their names in docs/operations/autoscaling.md; they win over the fields above.",
  })),
}, { description: "How many workers hold the model, and for how long." });

export const modelSpec = object({
  source: required(modelSource),
  pool: required(resourceName(
    "The WorkerPool (role decode) whose workers run the model.",
  )),
  prefillPool: optional(resourceName(
    "A WorkerPool (role prefill) that runs its prompts; without it decode workers do.",
  )),
  aliases: optional(list(
    servedName("A further name under which clients may ask for the model."),
    {
      description:
        "Further names for clients. The first name is that of the resource. Each name belongs to one Model.",
      countMax: 16,
      set: true,
    },
  )),
  quantization: optional(choice(quantizations, {
    description:
      "What the file's weights are stored as, shown to operators. Making other files is the work of a QuantizationJob.",
  })),
  size: optional(quantity({
    description:
      "Memory its weights take, such as 4Gi. Needed only for the first placement; measured once it was loaded.",
  })),
  draft: optional(object({
    model: required(resourceName(
      "The Model that proposes tokens for this one; it needs the same vocabulary.",
    )),
  }, { description: "A small model that drafts for this one." })),
  slo: defaulted(
    object({
      ttftMs: defaulted(
        integer({
          description: "Time to the first token aimed at, milliseconds.",
          min: 1,
          max: 3_600_000,
        }),
        10_000,
      ),
      share: defaulted(
        number({
          description:
            "Share of requests that should be in time (policy tail), 0 to 1.",
          min: 0,
          max: 1,
        }),
        0.99,
      ),
    }, { description: "What clients are promised." }),
    {},
  ),
  scaling: defaulted(scaling, {}),
  drainSeconds: defaulted(
    integer({
      description:
        "How long running requests may go on when the model is taken off a worker or deleted, seconds.",
      min: 0,
      max: 3_600,
    }),
    60,
  ),
  adapters: optional(list(
    object({
      name: required(servedName("The name under which clients ask for it.")),
      source: required(modelSource),
    }, { description: "One LoRA adapter." }),
    {
      description:
        "LoRA adapters on top of the model. Workers of this version load none: condition AdaptersReady says so.",
      countMax: 64,
      keys: ["name"],
    },
  )),
}, { description: "What the model is and how it is to be served." });
export type ModelSpec = Infer<typeof modelSpec>;

export const modelStates = [
  "Invalid",
  "Absent",
  "Pending",
  "Loading",
  "Running",
  "Asleep",
  "Failed",
  "Deleting",
] as const;

const podState = object({
  pod: required(text({ description: "Name of the pod." })),
  state: required(text({
    description: "running, asleep, loading, waking, failed or unloading.",
  })),
  progress: optional(text({
    description: "Share of the file that is there, while loading: 40%.",
  })),
  error: optional(text({
    description: "Why it failed there.",
    lengthMax: 1_024,
  })),
}, { description: "The model on one worker." });
export type ModelPod = Infer<typeof podState>;

export const modelStatus = object({
  observedGeneration: optional(observedGeneration),
  state: optional(choice(modelStates, {
    description:
      "Absent: on no worker. Pending: wanted, and no worker has room yet. Asleep: weights kept, no KV memory. Running: served.",
  })),
  ready: optional(text({
    description: "Workers that serve it of those wanted: 1/2.",
  })),
  reason: optional(text({
    description: "Why it is in this state, in one word.",
  })),
  wanted: optional(integer({
    description: "Workers that should have it.",
    min: 0,
  })),
  served: optional(integer({
    description: "Workers that serve it.",
    min: 0,
  })),
  lastWakeTime: optional(text({
    description: "When requests last waited for it with nobody to serve them.",
    format: "date-time",
  })),
  coldStart: optional(text({
    description:
      "How long the last wake took, from the first held request to a worker that serves: 2.4s.",
  })),
  weightBytes: optional(integer({
    description: "Memory its weights take, as a worker measured it.",
    min: 0,
    wide: true,
  })),
  sourceHash: optional(text({
    description:
      "Names the source that workers were last told, so that a changed one is noticed.",
  })),
  pods: optional(list(podState, {
    description: "Where it is, the first 20 pods by name.",
    countMax: 20,
    keys: ["pod"],
  })),
  decisions: optional(decisions),
  conditions: optional(conditions),
}, { description: "What the controller sees and last did." });
export type ModelStatus = Infer<typeof modelStatus>;
