#include "cuda_driver.h"

#include <dlfcn.h>

#include <map>
#include <mutex>

namespace quetzal::cuda {

Status openApi(const std::string& path, const Api*& api) {
  static std::mutex mutex;
  static std::map<std::string, std::unique_ptr<Api>> opened;
  const std::lock_guard lock(mutex);
  if (const auto found = opened.find(path); found != opened.end()) {
    api = found->second.get();
    return {};
  }
  auto fresh = std::make_unique<Api>();
  fresh->library = dlopen(path.c_str(), RTLD_NOW | RTLD_LOCAL);
  if (!fresh->library) {
    return failure("Cannot use CUDA: needs the driver's library %.200s, found: %.200s",
                   path.c_str(), dlerror());
  }
  const char* missing = nullptr;
#define QUETZAL_CUDA_LOAD(symbol, member, parameters)                                       \
  fresh->member = reinterpret_cast<Result(*) parameters>(dlsym(fresh->library, #symbol)); \
  if (!fresh->member) missing = #symbol;
  QUETZAL_CUDA_FUNCTIONS(QUETZAL_CUDA_LOAD)
#undef QUETZAL_CUDA_LOAD
  if (missing) {
    dlclose(fresh->library);
    return failure("Cannot use CUDA: needs a driver for CUDA 12 or newer, %.200s lacks %s",
                   path.c_str(), missing);
  }
  if (const Result result = fresh->init(0); result != resultOk) {
    const Status status = check(*fresh, result, "use CUDA");
    dlclose(fresh->library);
    return status;
  }
  api = (opened[path] = std::move(fresh)).get();
  return {};
}

std::string describe(const Api& api, Result result) {
  const char* name = nullptr;
  if (api.errorName(result, &name) != resultOk || !name) name = "unknown error";
  return std::string(name) + " (" + std::to_string(result) + ")";
}

Status check(const Api& api, Result result, const char* action) {
  if (result == resultOk) return {};
  return failure("Cannot %s: CUDA says %s", action, describe(api, result).c_str());
}

Status canOverlap(const Api& api, Handle function, bool& can) {
  int version = 0;
  QUETZAL_CUDA_TRY(api, functionAttribute(&version, attributePtxVersion, function),
                   "ask what the kernels were compiled for");
  can = version >= 90;
  return {};
}

Status findDevice(const Api& api, int index, Device& device, DeviceFacts& facts) {
  int count = 0;
  QUETZAL_CUDA_TRY(api, deviceCount(&count), "count CUDA devices");
  if (index < 0 || index >= count) {
    return failure("Cannot use CUDA: needs device %d, found %d devices", index, count);
  }
  QUETZAL_CUDA_TRY(api, deviceGet(&device, index), "open the CUDA device");
  char name[128] = {};
  size_t bytes = 0;
  int managed = 0;
  QUETZAL_CUDA_TRY(api, deviceName(name, sizeof name - 1, device), "ask the device's name");
  QUETZAL_CUDA_TRY(api, deviceMemory(&bytes, device), "ask the device's memory");
  const struct {
    int attribute;
    int* value;
  } wanted[] = {{attributeMajor, &facts.major},
                {attributeMinor, &facts.minor},
                {attributeMultiprocessors, &facts.multiprocessors},
                {attributeConcurrentManaged, &managed}};
  for (const auto& [attribute, value] : wanted) {
    QUETZAL_CUDA_TRY(api, deviceAttribute(value, attribute, device), "ask the device");
  }
  facts.name = name;
  facts.memoryBytes = bytes;
  facts.hasManagedMemory = managed != 0;
  if (facts.major >= 8) return {};
  return failure("Cannot use CUDA: needs compute capability 8.0 or newer, %.100s has %d.%d", name,
                 facts.major, facts.minor);
}

}  // namespace quetzal::cuda
