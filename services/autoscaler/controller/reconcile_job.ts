import {
  faultText,
  parse,
  quantizationJobSpec,
  type QuantizationJobStatus,
} from "../crds/mod.ts";
import { withJudgements } from "../status/conditions.ts";
import { checkQuantizationJob } from "../workload/check_spec.ts";
import type { Context } from "./context.ts";
import { noteFaults } from "./reconcile_pool.ts";
import { jobType } from "./resources.ts";

/** Checks a job. No service of this version takes one, and its status says so. */
export async function reconcileJob(
  name: string,
  context: Context,
): Promise<void> {
  const key = `job/${name}`;
  const job = context.informers.jobs.get(name);
  if (!job || job.metadata.deletionTimestamp !== undefined) {
    return void context.invalid.delete(key);
  }
  const parsed = parse(quantizationJobSpec, job.spec ?? {}, "spec");
  const faults = parsed.kind === "invalid"
    ? parsed.faults
    : checkQuantizationJob(parsed.value);
  noteFaults(job, faults, context, key);
  const { generation = 0 } = job.metadata;
  const isValid = faults.length === 0;
  const reason = isValid ? "NoQuantizer" : "InvalidSpec";
  const status: QuantizationJobStatus = {
    observedGeneration: generation,
    state: isValid ? "Pending" : "Invalid",
    reason,
    conditions: withJudgements(job.status?.conditions ?? [], [{
      type: "Ready",
      status: false,
      reason,
      message: isValid
        ? "No service of this version takes quantization jobs"
        : faults.map(faultText).join("; "),
    }], { nowMs: context.wallMs(), generation }),
  };
  const written = await context.writer.status(jobType, job, { ...status });
  if (written) context.informers.jobs.absorb(written);
}
