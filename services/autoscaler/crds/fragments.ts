/** What several of our resources have in common. */
import {
  anyObject,
  type Infer,
  integer,
  list,
  map,
  number,
  object,
  optional,
  required,
  text,
} from "./schema.ts";

export const modelSource = object({
  path: optional(text({
    description:
      "Absolute path of a GGUF file inside the worker and router containers: on a mounted volume (WorkerPool spec.storage) or in the image.",
    pattern: "^/.+",
    expected: "an absolute path",
    lengthMax: 4_096,
  })),
  url: optional(text({
    description:
      "https:// or http:// address of a GGUF file. Each node keeps one copy in the pool's cache; needs sha256.",
    pattern: "^https?://[^ ]+$",
    expected: "an http or https URL",
    lengthMax: 4_096,
  })),
  sha256: optional(text({
    description:
      "SHA-256 of the file in hexadecimal, checked once per node. Required with url.",
    pattern: "^[0-9a-f]{64}$",
    expected: "64 hexadecimal digits in lower case",
  })),
}, {
  description: "Where the weights come from: exactly one of path and url.",
});
export type ModelSource = Infer<typeof modelSource>;

const condition = object({
  type: required(text({ description: "What is judged.", lengthMax: 316 })),
  status: required(text({
    description: "True, False or Unknown.",
    pattern: "^(True|False|Unknown)$",
    expected: "True, False or Unknown",
  })),
  reason: required(text({
    description: "One word for programs.",
    lengthMax: 1_024,
  })),
  message: required(text({
    description: "A sentence for people: what was found, what was expected.",
    lengthMax: 32_768,
  })),
  lastTransitionTime: required(text({
    description: "When the status last changed.",
    format: "date-time",
  })),
  observedGeneration: optional(integer({
    description: "The generation of the spec that was judged.",
    min: 0,
    wide: true,
  })),
}, { description: "One judgement of the controller." });
export type Condition = Infer<typeof condition>;

export const conditions = list(condition, {
  description: "Judgements of the controller, one per type.",
  keys: ["type"],
});

const decision = object({
  time: required(text({
    description: "When it was made.",
    format: "date-time",
  })),
  what: required(text({
    description: "What was decided: `replicas 0 -> 1`, `residency shared`.",
  })),
  reason: required(text({
    description: "The branch of the policy that was taken.",
  })),
  numbers: required(map(
    number({ description: "As the policy reports it." }),
    { description: "The numbers that made the decision." },
  )),
}, { description: "One decision that changed something." });
export type DecisionRecord = Infer<typeof decision>;

export const decisions = list(decision, {
  description:
    "The last decisions that changed something, newest first, with their numbers.",
  countMax: 5,
});

export const observedGeneration = integer({
  description: "The generation of the spec that this status describes.",
  min: 0,
  wide: true,
});

/** Fields of the Pod API that are handed on unread. */
export const podPart = (description: string) => anyObject({ description });
