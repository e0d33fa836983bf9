import { conditions, modelSource, observedGeneration } from "./fragments.ts";
import {
  choice,
  defaulted,
  type Infer,
  integer,
  number,
  object,
  optional,
  required,
  text,
} from "./schema.ts";

const outputFormats = ["q8_0", "q6_k", "q5_k", "q4_k", "q4_0"] as const;

export const quantizationJobSpec = object({
  source: required(modelSource),
  format: required(choice(outputFormats, {
    description: "What the weights become.",
  })),
  output: required(object({
    path: required(text({
      description:
        "Absolute path of the GGUF file to write, on a volume that the quantizer mounts.",
      pattern: "^/.+\\.gguf$",
      expected: "an absolute path that ends in .gguf",
      lengthMax: 4_096,
    })),
  }, { description: "Where the result goes." })),
  calibration: optional(object({
    path: required(text({
      description: "Text file whose lines are run through the model.",
      pattern: "^/.+",
      expected: "an absolute path",
    })),
    tokensMax: defaulted(
      integer({
        description: "Tokens of it that are used at most.",
        min: 1_000,
        max: 10_000_000,
      }),
      100_000,
    ),
  }, { description: "Data that shows which weights matter." })),
  quality: defaulted(
    object({
      perplexityRatioMax: defaulted(
        number({
          description:
            "The job fails when the result's perplexity exceeds the source's by this factor.",
          min: 1,
          max: 100,
        }),
        1.05,
      ),
    }, { description: "What the result must reach." }),
    {},
  ),
}, { description: "One conversion of one model file." });
export type QuantizationJobSpec = Infer<typeof quantizationJobSpec>;

export const quantizationJobStatus = object({
  observedGeneration: optional(observedGeneration),
  state: optional(choice(
    ["Invalid", "Pending", "Running", "Succeeded", "Failed"],
    { description: "How far the job is." },
  )),
  progress: optional(text({ description: "Share that is done: 40%." })),
  reason: optional(text({ description: "Why, in one word." })),
  conditions: optional(conditions),
}, { description: "What the controller sees." });
export type QuantizationJobStatus = Infer<typeof quantizationJobStatus>;
