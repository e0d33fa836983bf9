// The module's functions; kernels/addon/mod.ts gives them their TypeScript face.
#include <cstring>
#include <exception>

#include "crc32c.h"
#include "cuda_js.h"
#include "driver.h"

namespace quetzal {
namespace {

struct Call {
  napi_value args[2] = {};
  size_t count = 2;
};

bool readCall(napi_env env, napi_callback_info info, size_t needed, Call& call) {
  if (napi_get_cb_info(env, info, &call.count, call.args, nullptr, nullptr) == napi_ok &&
      call.count >= needed) {
    return true;
  }
  napi_throw_type_error(env, nullptr, "Cannot call native code: too few arguments");
  return false;
}

/// A promise of what `body` arranges; what it finds wrong rejects.
template <typename Body>
napi_value promised(napi_env env, Body body) {
  napi_deferred deferred;
  napi_value promise;
  if (napi_create_promise(env, &deferred, &promise) != napi_ok) return nullptr;
  Status status;
  try {
    status = body(deferred);
  } catch (const std::exception& problem) {
    status = failure("Cannot call native code: %s", problem.what());
  }
  if (!status.isOk()) napi_reject_deferred(env, deferred, js::error(env, status.message));
  return promise;
}

Status driverOf(napi_env env, napi_value handle, Driver*& driver) {
  napi_valuetype type = napi_undefined;
  void* data = nullptr;
  if (napi_typeof(env, handle, &type) != napi_ok || type != napi_external ||
      napi_get_value_external(env, handle, &data) != napi_ok || !data) {
    return failure("Cannot use model: needs the handle that loadModel gave");
  }
  driver = static_cast<std::shared_ptr<Driver>*>(data)->get();
  return driver->isClosed() ? failure("Cannot use model: it is closed") : Status{};
}

napi_value loadModel(napi_env env, napi_callback_info info) {
  Call call;
  if (!readCall(env, info, 1, call)) return nullptr;
  return promised(env, [&](napi_deferred deferred) -> Status {
    ModelSpec spec;
    QUETZAL_TRY(js::modelSpec(env, call.args[0], spec));
    return std::make_shared<Driver>(env, std::move(spec))->start(deferred);
  });
}

/// Where raw logits go, when the batch asks for them.
Status logitsTarget(napi_env env, napi_value batch, int64_t needed, napi_ref& target) {
  napi_value array;
  napi_valuetype type = napi_undefined;
  float* data = nullptr;
  size_t length = 0;
  QUETZAL_TRY(js::property(env, batch, "logits", array));
  if (napi_typeof(env, array, &type) == napi_ok && type == napi_undefined) return {};
  QUETZAL_TRY(js::floatView(env, array, "logits", data, length));
  if (static_cast<int64_t>(length) < needed) {
    return failure("Cannot step: logits need %lld entries, found %zu",
                   static_cast<long long>(needed), length);
  }
  if (napi_create_reference(env, array, 1, &target) == napi_ok) return {};
  return failure("Cannot step: the runtime refused a reference to logits");
}

napi_value step(napi_env env, napi_callback_info info) {
  Call call;
  if (!readCall(env, info, 2, call)) return nullptr;
  return promised(env, [&](napi_deferred deferred) -> Status {
    Driver* driver = nullptr;
    QUETZAL_TRY(driverOf(env, call.args[0], driver));
    auto task = std::make_unique<Task>();
    task->kind = Task::Kind::step;
    QUETZAL_TRY(js::stepInput(env, call.args[1], task->input));
    // A getter of the batch may have closed the model.
    QUETZAL_TRY(driverOf(env, call.args[0], driver));
    const Model& model = driver->model();
    QUETZAL_TRY(checkBatch(model.spec(), model.plan(), task->input, driver->outRowsBefore()));
    QUETZAL_TRY(logitsTarget(env, call.args[1], task->input.outRows * model.plan().vocabOut,
                             task->logits));
    QUETZAL_TRY(driverOf(env, call.args[0], driver));
    task->deferred = deferred;
    driver->step(std::move(task));
    return {};
  });
}

/// A promise of what `body` arranges with the model of the first argument.
template <typename Body>
napi_value promisedOfModel(napi_env env, napi_callback_info info, Body body) {
  Call call;
  if (!readCall(env, info, 1, call)) return nullptr;
  return promised(env, [&](napi_deferred deferred) -> Status {
    Driver* driver = nullptr;
    QUETZAL_TRY(driverOf(env, call.args[0], driver));
    return body(*driver, deferred);
  });
}

napi_value closeModel(napi_env env, napi_callback_info info) {
  return promisedOfModel(env, info, [](Driver& driver, napi_deferred deferred) -> Status {
    driver.close(deferred);
    return {};
  });
}

napi_value storePacked(napi_env env, napi_callback_info info) {
  return promisedOfModel(env, info, [](Driver& driver, napi_deferred deferred) -> Status {
    driver.storePacked(deferred);
    return {};
  });
}

napi_value sleepOrWake(napi_env env, napi_callback_info info, bool isWake) {
  return promisedOfModel(env, info, [&](Driver& driver, napi_deferred deferred) -> Status {
    if (!driver.model().cuda()) {
      return failure("Cannot put the model to sleep: needs one on a GPU, this one is on the CPU");
    }
    driver.sleep(deferred, isWake);
    return {};
  });
}

napi_value sleepModel(napi_env env, napi_callback_info info) {
  return sleepOrWake(env, info, false);
}

napi_value wakeModel(napi_env env, napi_callback_info info) { return sleepOrWake(env, info, true); }

napi_value checksum(napi_env env, napi_callback_info info) {
  Call call;
  if (!readCall(env, info, 1, call)) return nullptr;
  napi_typedarray_type type = napi_int8_array;
  bool isTyped = false, isPlain = false;
  void* data = nullptr;
  size_t length = 0;
  napi_value result = nullptr;
  if (napi_is_typedarray(env, call.args[0], &isTyped) != napi_ok || !isTyped ||
      napi_get_typedarray_info(env, call.args[0], &type, &length, &data, nullptr, nullptr) !=
          napi_ok ||
      type != napi_uint8_array) {
    napi_throw_type_error(env, nullptr, "Cannot compute a checksum: needs a Uint8Array");
    return nullptr;
  }
  if (call.count > 1) napi_get_value_bool(env, call.args[1], &isPlain);
  const auto* bytes = static_cast<const uint8_t*>(data);
  if (!data) length = 0;
  napi_create_uint32(env, isPlain ? crc32cPlain(bytes, length) : crc32c(bytes, length), &result);
  return result;
}

bool define(napi_env env, napi_value exports, const char* name, napi_callback callback) {
  napi_value function;
  return napi_create_function(env, name, NAPI_AUTO_LENGTH, callback, nullptr, &function) ==
      napi_ok && napi_set_named_property(env, exports, name, function) == napi_ok;
}

bool defineIsas(napi_env env, napi_value exports) {
  napi_value list, name;
  uint32_t index = 0;
  if (napi_create_array(env, &list) != napi_ok) return false;
  for (const NamedTable& supported : supportedTables()) {
    if (napi_create_string_utf8(env, supported.name, NAPI_AUTO_LENGTH, &name) != napi_ok ||
        napi_set_element(env, list, index++, name) != napi_ok) {
      return false;
    }
  }
  return napi_set_named_property(env, exports, "isasSupported", list) == napi_ok;
}

}  // namespace
}  // namespace quetzal

extern "C" NAPI_EXTERN napi_value napi_register_module_v1(napi_env env, napi_value exports) {
  using namespace quetzal;
  const bool isDefined = define(env, exports, "loadModel", loadModel) &&
      define(env, exports, "step", step) && define(env, exports, "closeModel", closeModel) &&
      define(env, exports, "crc32c", checksum) && defineIsas(env, exports) &&
      define(env, exports, "storePacked", storePacked) &&
      define(env, exports, "sleepModel", sleepModel) && define(env, exports, "wakeModel", wakeModel) &&
      defineCuda(env, exports);
  if (!isDefined) napi_throw_error(env, nullptr, "Cannot set up native code");
  return exports;
}

extern "C" NAPI_EXTERN int32_t node_api_module_get_api_version_v1() { return 8; }
