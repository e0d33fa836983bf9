// What JavaScript asks about CUDA before it loads a model.
#pragma once
#include "js.h"

namespace quetzal {

/// Adds `cudaSetup({library, fatbin})` and `cudaProbe()` to the module.
bool defineCuda(napi_env env, napi_value exports);

}  // namespace quetzal
