import { z } from "zod";
import { Code } from "../../../lib/errors/mesh_error.ts";
import type {
  InferParameter,
  ModelInferRequest,
  ModelInferResponse,
} from "../../../proto/gen/inference/grpc_service.ts";
import {
  check,
  type GenerationInput,
  RequestError,
  samplingFields,
  text,
} from "../core/mod.ts";

const parameters = z.strictObject(samplingFields);

/** The one input tensor and the parameters, as a generation. */
export function inferInput(request: ModelInferRequest): GenerationInput {
  checkOutputs(request);
  const sampling = check(parameters, {
    // As in quetzal.v1: absent means the most likely token.
    temperature: 0,
    ...plainParameters(request.parameters),
  });
  return {
    model: check(text.max(256), request.modelName),
    prompt: { kind: "text", text: inputText(request) },
    sampling,
    topLogprobs: undefined,
    tenant: "",
  };
}

/** The answer, in the form the request's text came in. */
export function textTensor(
  answer: string,
  { raw }: { raw: boolean },
): Pick<ModelInferResponse, "outputs" | "rawOutputContents"> {
  const bytes = Buffer.from(answer);
  const contents = {
    boolContents: [],
    intContents: [],
    int64Contents: [],
    uintContents: [],
    uint64Contents: [],
    fp32Contents: [],
    fp64Contents: [],
    bytesContents: [bytes],
  };
  return {
    outputs: [{
      name: "text_output",
      datatype: "BYTES",
      shape: [1n],
      parameters: {},
      contents: raw ? undefined : contents,
    }],
    rawOutputContents: raw ? [withLength(bytes)] : [],
  };
}

export function requireVersion(asked: string, known: string): void {
  if (asked === "" || asked === known) return;
  throw new RequestError(
    Code.notFound,
    `Cannot find version "${asked.slice(0, 100)}": known is ${known}`,
    { field: "model_version" },
  );
}

function checkOutputs({ outputs }: ModelInferRequest): void {
  const other = outputs.find(({ name }) => name !== "text_output");
  if (other) {
    throw invalid(
      "outputs",
      `needs "text_output", found "${other.name.slice(0, 100)}"`,
    );
  }
}

function inputText(request: ModelInferRequest): string {
  const [tensor, ...others] = request.inputs;
  if (
    tensor === undefined || others.length > 0 || tensor.name !== "text_input"
  ) {
    const found = request.inputs.map(({ name }) => name).join(", ").slice(
      0,
      200,
    );
    throw invalid("inputs", `needs one tensor "text_input", found [${found}]`);
  }
  if (tensor.datatype !== "BYTES") {
    throw invalid(
      "inputs[0].datatype",
      `needs BYTES, found ${tensor.datatype.slice(0, 100)}`,
    );
  }
  if (tensor.shape.length === 0 || tensor.shape.some((size) => size !== 1n)) {
    throw invalid(
      "inputs[0].shape",
      `needs [1], found [${tensor.shape.join(", ").slice(0, 100)}]`,
    );
  }
  return utf8(elementBytes(request));
}

/** The single element: typed, or raw with its length in front. */
function elementBytes(
  { inputs, rawInputContents }: ModelInferRequest,
): Uint8Array {
  const typed = inputs[0].contents?.bytesContents ?? [];
  if (rawInputContents.length === 0) {
    if (typed.length === 1) return typed[0];
    throw invalid(
      "inputs[0].contents",
      `needs 1 element of bytes_contents, found ${typed.length}`,
    );
  }
  if (inputs[0].contents !== undefined) {
    throw invalid(
      "inputs[0].contents",
      "must be absent beside raw_input_contents",
    );
  }
  const [raw] = rawInputContents;
  if (rawInputContents.length > 1 || raw === undefined || raw.length < 4) {
    throw invalid(
      "raw_input_contents",
      "needs 1 entry of 4 bytes length and the text",
    );
  }
  const length = new DataView(raw.buffer, raw.byteOffset).getUint32(0, true);
  if (length !== raw.length - 4) {
    throw invalid(
      "raw_input_contents",
      `says ${length} bytes follow, found ${raw.length - 4}`,
    );
  }
  return raw.subarray(4);
}

function utf8(bytes: Uint8Array): string {
  try {
    return new TextDecoder("utf-8", { fatal: true, ignoreBOM: true }).decode(
      bytes,
    );
  } catch {
    // The decoder only says that it failed.
    throw invalid("inputs[0].contents", "needs valid UTF-8");
  }
}

function plainParameters(
  parameters: Readonly<Record<string, InferParameter>>,
): Record<string, unknown> {
  const entries = Object.entries(parameters).map(
    ([name, { parameterChoice }]) => {
      const value = parameterChoice?.value;
      const exact = typeof value === "bigint" && name !== "seed"
        ? Number(value)
        : value;
      return [name, name === "stop" ? stopStrings(exact) : exact];
    },
  );
  return Object.fromEntries(entries);
}

/** A parameter holds one string; several stop strings come as a JSON array of them. */
function stopStrings(value: unknown): unknown {
  if (typeof value !== "string" || !value.startsWith("[")) return value;
  try {
    return JSON.parse(value);
  } catch {
    // Not JSON: then it is itself the stop string.
    return value;
  }
}

function withLength(bytes: Buffer): Buffer {
  const length = Buffer.alloc(4);
  length.writeUInt32LE(bytes.length);
  return Buffer.concat([length, bytes]);
}

function invalid(field: string, found: string): RequestError {
  return new RequestError(
    Code.invalidArgument,
    `Cannot accept "${field}": ${found}`,
    {
      field,
      reason: "invalid_value",
    },
  );
}
