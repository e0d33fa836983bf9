#include "cuda_js.h"

#include "cuda_model.h"

namespace quetzal {
namespace {

/// Where libcuda and the kernels are, and how many graphs a model keeps.
napi_value setup(napi_env env, napi_callback_info info) {
  napi_value options = nullptr, nothing = nullptr;
  size_t count = 1;
  std::string library, fatbin;
  int64_t graphsMax = 0;
  Status status;
  if (napi_get_cb_info(env, info, &count, &options, nullptr, nullptr) != napi_ok || count < 1) {
    status = failure("Cannot set CUDA up: needs library, fatbin and graphsMax");
  } else {
    status = js::string(env, options, "library", library);
    if (status.isOk()) status = js::string(env, options, "fatbin", fatbin);
    if (status.isOk()) status = js::integer(env, options, "graphsMax", graphsMax);
    if (status.isOk() && graphsMax < 1) {
      status = failure("Cannot set CUDA up: graphsMax needs a whole number from 1, found %lld",
                       static_cast<long long>(graphsMax));
    }
  }
  if (!status.isOk()) {
    napi_throw_type_error(env, nullptr, status.message.c_str());
    return nullptr;
  }
  cuda::cudaSetup() = {library, fatbin, static_cast<size_t>(graphsMax)};
  napi_get_undefined(env, &nothing);
  return nothing;
}

bool setNumber(napi_env env, napi_value object, const char* name, double number) {
  napi_value value;
  return napi_create_double(env, number, &value) == napi_ok &&
      napi_set_named_property(env, object, name, value) == napi_ok;
}

bool setText(napi_env env, napi_value object, const char* name, const std::string& text) {
  napi_value value;
  return napi_create_string_utf8(env, text.data(), text.size(), &value) == napi_ok &&
      napi_set_named_property(env, object, name, value) == napi_ok;
}

/// {name, memoryBytes, freeBytes, major, minor}, or {missing}.
napi_value probe(napi_env env, napi_callback_info) {
  napi_value result = nullptr;
  cuda::DeviceFacts facts;
  uint64_t freeBytes = 0;
  Status status;
  try {
    status = cuda::probeDevice(facts, freeBytes);
  } catch (const std::exception& problem) {
    status = failure("Cannot use CUDA: %s", problem.what());
  }
  if (napi_create_object(env, &result) != napi_ok) return nullptr;
  const bool isSet = !status.isOk()
      ? setText(env, result, "missing", status.message)
      : setText(env, result, "name", facts.name) &&
          setNumber(env, result, "memoryBytes", static_cast<double>(facts.memoryBytes)) &&
          setNumber(env, result, "freeBytes", static_cast<double>(freeBytes)) &&
          setNumber(env, result, "major", facts.major) &&
          setNumber(env, result, "minor", facts.minor);
  return isSet ? result : nullptr;
}

bool define(napi_env env, napi_value exports, const char* name, napi_callback callback) {
  napi_value function;
  return napi_create_function(env, name, NAPI_AUTO_LENGTH, callback, nullptr, &function) ==
      napi_ok && napi_set_named_property(env, exports, name, function) == napi_ok;
}

}  // namespace

bool defineCuda(napi_env env, napi_value exports) {
  return define(env, exports, "cudaSetup", setup) && define(env, exports, "cudaProbe", probe);
}

}  // namespace quetzal
