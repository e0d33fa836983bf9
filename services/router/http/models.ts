import type { ServedModel } from "../core/mod.ts";
import type { Exchange } from "./exchange.ts";
import type { HttpOptions } from "./http_options.ts";

/** `GET /v1/models` */
export function listModels(
  exchange: Exchange,
  { inference }: HttpOptions,
): Response {
  const data = inference.catalog.all.map((model) =>
    modelObject(model, inference.contextLength(model))
  );
  return exchange.json({ object: "list", data });
}

/** `GET /v1/models/NAME` */
export function showModel(
  exchange: Exchange,
  { inference }: HttpOptions,
): Response {
  const model = inference.catalog.resolve(exchange.req.param("model")!);
  return exchange.json(modelObject(model, inference.contextLength(model)));
}

function modelObject({ name, createdS }: ServedModel, contextLength: number) {
  return {
    id: name,
    object: "model",
    created: createdS,
    owned_by: "quetzal",
    max_model_len: contextLength,
  };
}
