// A libcuda.so.1 of our own: the driver calls that the backend makes, on host memory, with
// the kernels run by the emulation. Work happens at once, so every stream is always idle.
//
// For tests, by environment, read at each call: QUETZAL_FAKE_CUDA_BYTES is the device's
// memory (default 2 GiB), QUETZAL_FAKE_CUDA_LOST makes launches fail as on a lost device.
// QUETZAL_FAKE_CUDA_PTX is what kernels say they were compiled for (default 90).
// QUETZAL_FAKE_CUDA_LAZY=N makes work happen late: what is put on a stream waits until
// somebody waits for it, or has asked an event N times per piece of work. So memory that
// is used again too early is seen. QUETZAL_FAKE_CUDA_TRACE names a file that tells, one a
// line, when a graph was launched ("launch") and when an event was waited for ("read").
#include <atomic>
#include <cstdio>
#include <cstdlib>
#include <deque>
#include <functional>
#include <map>
#include <mutex>
#include <set>
#include <string>
#include <vector>

#include "../kernels.cu"
#include "../../addon/cuda_driver.h"

// Kernels that do wrong on purpose: what the emulation has to catch.
namespace quetzal::cuda {

struct FaultyArgs {
  float* data;
  int32_t count;
};

/// Hands each value to the next thread, with the barrier in between left out.
extern "C" __global__ void faulty_barrier(const FaultyArgs args) {
  Shared shared;
  float* values = shared.take<float>(args.count);
  values[threadIdx.x] = static_cast<float>(threadIdx.x);
  args.data[threadIdx.x] = values[(threadIdx.x + 1) % args.count];
}
extern "C" __global__ void correct_barrier(const FaultyArgs args) {
  Shared shared;
  float* values = shared.take<float>(args.count);
  values[threadIdx.x] = static_cast<float>(threadIdx.x);
  __syncthreads();
  args.data[threadIdx.x] = values[(threadIdx.x + 1) % args.count];
}
extern "C" __global__ void faulty_global(const FaultyArgs args) {
  args.data[args.count + threadIdx.x / 32 * 32] = 1;
}
extern "C" __global__ void faulty_global_before(const FaultyArgs args) {
  args.data[0] = args.data[-1024 - static_cast<int>(threadIdx.x)];
}
extern "C" __global__ void faulty_shared(const FaultyArgs args) {
  Shared shared;
  float* values = shared.take<float>(args.count);
  float* others = shared.take<float>(args.count);
  others[threadIdx.x] = 0;
  values[args.count + threadIdx.x] = 1;
  args.data[threadIdx.x] = others[threadIdx.x];
}
extern "C" __global__ void faulty_divergence(const FaultyArgs args) {
  if (threadIdx.x % 2 == 0) {
    __syncthreads();
  } else {
    __syncthreads();
  }
  args.data[threadIdx.x] = 1;
}
extern "C" __global__ void faulty_exit(const FaultyArgs args) {
  if (threadIdx.x >= 32) return;
  __syncthreads();
  args.data[threadIdx.x] = 1;
}
extern "C" __global__ void faulty_warp(const FaultyArgs args) {
  if (threadIdx.x % 32 == 7) return;
  args.data[threadIdx.x] = __shfl_xor_sync(allLanes, 1.0f, 1);
}
extern "C" __global__ void faulty_async(const FaultyArgs args) {
  Shared shared;
  float* values = shared.take<float>(4 * static_cast<int>(blockDim.x));
  copyAsync16(values + 4 * threadIdx.x, args.data + 4 * threadIdx.x);
  commitCopies();
  __syncthreads();  // but nobody waited for the copy
  args.data[4 * threadIdx.x] = values[4 * threadIdx.x] + 1;
}
extern "C" __global__ void correct_async(const FaultyArgs args) {
  Shared shared;
  float* values = shared.take<float>(4 * static_cast<int>(blockDim.x));
  copyAsync16(values + 4 * threadIdx.x, args.data + 4 * threadIdx.x);
  commitCopies();
  asyncCopiesLeft<0>();
  __syncthreads();
  args.data[4 * threadIdx.x] = values[4 * threadIdx.x] + 1;
}
extern "C" __global__ void faulty_uninitialized(const FaultyArgs args) {
  Shared shared;
  float* values = shared.take<float>(args.count);
  if (threadIdx.x % 2 == 0) values[threadIdx.x] = 1;
  __syncthreads();
  args.data[threadIdx.x] = values[threadIdx.x];
}

}  // namespace quetzal::cuda

namespace quetzal::cuda {
namespace {

struct Kernel {
  const char* name;
  void (*call)(const void*);
  size_t argBytes;
};

template <typename Args, void (*kernel)(Args)>
void callKernel(const void* args) {
  kernel(*static_cast<const Args*>(args));
}

#define KERNEL(name, Args) \
  { #name, callKernel<const Args, name>, sizeof(Args) }

const Kernel kernels[] = {
    KERNEL(matmul_gemv_1, MatmulArgs),    KERNEL(matmul_gemv_2, MatmulArgs),
    KERNEL(matmul_gemv_4, MatmulArgs),    KERNEL(matmul_tile_8, MatmulArgs),
    KERNEL(matmul_tile_16, MatmulArgs),   KERNEL(matmul_tile_32, MatmulArgs),
    KERNEL(norm_rows, NormArgs),          KERNEL(norm_groups, GroupNormArgs),
    KERNEL(silu_mul, ElementwiseArgs),    KERNEL(add_rows, ElementwiseArgs),
    KERNEL(gather_rows, GatherArgs),      KERNEL(embed_rows, EmbedArgs),
    KERNEL(rope_table, RopeTableArgs),    KERNEL(rope_kv, RopeKvArgs),
    KERNEL(attention_1, AttentionArgs),   KERNEL(attention_2, AttentionArgs),
    KERNEL(attention_4, AttentionArgs),   KERNEL(attention_finish, AttentionArgs),
    KERNEL(sample_scan, SampleArgs),      KERNEL(sample_rows, SampleArgs),
    KERNEL(verify_drafts, VerifyArgs),
    KERNEL(copy_bytes, CopyArgs),         KERNEL(fill_random, FillArgs),
    KERNEL(tensor_peak, PeakArgs),
    KERNEL(faulty_barrier, FaultyArgs),   KERNEL(correct_barrier, FaultyArgs),
    KERNEL(faulty_global, FaultyArgs),    KERNEL(faulty_global_before, FaultyArgs),
    KERNEL(faulty_shared, FaultyArgs),    KERNEL(faulty_divergence, FaultyArgs),
    KERNEL(faulty_exit, FaultyArgs),      KERNEL(faulty_warp, FaultyArgs),
    KERNEL(faulty_async, FaultyArgs),     KERNEL(correct_async, FaultyArgs),
    KERNEL(faulty_uninitialized, FaultyArgs),
};

constexpr Result invalidValue = 1, notFound = 500, illegalAddress = 700, notSupported = 801;

struct Node {
  const Kernel* kernel;
  emulation::Launch launch;
  std::vector<uint8_t> args;
};
struct Graph {
  std::vector<Node> nodes;
};
struct Stream {
  Graph* capture = nullptr;
  std::deque<std::function<Result()>> queue;
};
struct Event {
  double ms = 0;
  Stream* stream = nullptr;
  bool isPending = false;
  uint64_t queries = 0;
};

std::mutex mutex;
std::map<DevicePointer, uint64_t> held;
uint64_t heldBytes = 0;
bool isLost = false;
emulation::Order order = emulation::Order::forward;
uint64_t orderSeed = 1;
std::string fault;

uint64_t setting(const char* name, uint64_t otherwise) {
  const char* text = std::getenv(name);
  return text ? std::strtoull(text, nullptr, 10) : otherwise;
}

int ptxVersion() { return static_cast<int>(setting("QUETZAL_FAKE_CUDA_PTX", 90)); }

uint64_t memoryBytes() { return setting("QUETZAL_FAKE_CUDA_BYTES", uint64_t{2} << 30); }

Result perform(const Node& node) {
  if (isLost) return illegalAddress;
  if (setting("QUETZAL_FAKE_CUDA_LOST", 0) != 0) return illegalAddress;
  emulation::Launch launch = node.launch;
  launch.kernel = node.kernel->call;
  launch.args = node.args.data();
  launch.order = order;
  launch.seed = orderSeed++;
  const char* found = emulation::run(launch);
  if (!found[0]) return resultOk;
  fault = std::string(node.kernel->name) + ": " + found;
  if (!std::getenv("QUETZAL_FAKE_CUDA_QUIET")) std::fprintf(stderr, "fake CUDA: %s\n", fault.c_str());
  isLost = true;
  return illegalAddress;
}

Result runNext(Stream& stream) {
  const std::function<Result()> work = std::move(stream.queue.front());
  stream.queue.pop_front();
  return work();
}

Result runAll(Stream& stream) {
  Result result = resultOk;
  while (!stream.queue.empty()) {
    if (const Result found = runNext(stream); result == resultOk) result = found;
  }
  return result;
}

/// Now, or when somebody waits for it.
Result put(Handle handle, std::function<Result()> work) {
  auto* stream = static_cast<Stream*>(handle);
  if (stream && setting("QUETZAL_FAKE_CUDA_LAZY", 0) > 0) {
    stream->queue.push_back(std::move(work));
    return resultOk;
  }
  if (stream) runAll(*stream);
  return work();
}

void trace(const char* what) {
  const char* path = std::getenv("QUETZAL_FAKE_CUDA_TRACE");
  if (!path) return;
  if (std::FILE* file = std::fopen(path, "a")) {
    std::fprintf(file, "%s\n", what);
    std::fclose(file);
  }
}

Result allocateBytes(DevicePointer* pointer, size_t bytes) {
  const std::lock_guard lock(mutex);
  if (isLost) return illegalAddress;
  if (bytes == 0) return invalidValue;
  if (heldBytes + bytes > memoryBytes()) return resultOutOfMemory;
  void* memory = emulation::guardedAlloc(bytes);
  if (!memory) return resultOutOfMemory;
  *pointer = reinterpret_cast<DevicePointer>(memory);
  held[*pointer] = bytes;
  heldBytes += bytes;
  return resultOk;
}

double nowMs() {
  timespec now;
  clock_gettime(CLOCK_MONOTONIC, &now);
  return static_cast<double>(now.tv_sec) * 1e3 + static_cast<double>(now.tv_nsec) * 1e-6;
}

}  // namespace
}  // namespace quetzal::cuda

using namespace quetzal::cuda;
using quetzal::emulation::isAllocated;
#define EXPORT extern "C" __attribute__((visibility("default")))

EXPORT void quetzalFakeOrder(int which, uint64_t seed) {
  order = static_cast<quetzal::emulation::Order>(which);
  orderSeed = seed;
}
/// The last fault, and a device that works again.
EXPORT const char* quetzalFakeFault() {
  static std::string told;
  told.swap(fault);
  fault.clear();
  isLost = false;
  return told.c_str();
}

EXPORT Result cuInit(unsigned) { return setting("QUETZAL_FAKE_CUDA_ABSENT", 0) ? 100 : resultOk; }
EXPORT Result cuDriverGetVersion(int* version) {
  *version = 13000;
  return resultOk;
}
EXPORT Result cuGetErrorName(Result result, const char** name) {
  switch (result) {
    case resultOk: *name = "CUDA_SUCCESS"; break;
    case invalidValue: *name = "CUDA_ERROR_INVALID_VALUE"; break;
    case resultOutOfMemory: *name = "CUDA_ERROR_OUT_OF_MEMORY"; break;
    case 100: *name = "CUDA_ERROR_NO_DEVICE"; break;
    case notFound: *name = "CUDA_ERROR_NOT_FOUND"; break;
    case illegalAddress: *name = "CUDA_ERROR_ILLEGAL_ADDRESS"; break;
    case notSupported: *name = "CUDA_ERROR_NOT_SUPPORTED"; break;
    default: return invalidValue;
  }
  return resultOk;
}
EXPORT Result cuDeviceGetCount(int* count) {
  *count = 1;
  return resultOk;
}
EXPORT Result cuDeviceGet(Device* device, int index) {
  *device = index;
  return index == 0 ? resultOk : invalidValue;
}
EXPORT Result cuDeviceGetName(char* name, int length, Device) {
  std::snprintf(name, static_cast<size_t>(length), "Emulated GPU");
  return resultOk;
}
EXPORT Result cuDeviceGetAttribute(int* value, int attribute, Device) {
  switch (attribute) {
    case attributeMajor: *value = 9; break;
    case attributeMinor: *value = 0; break;
    case attributeMultiprocessors: *value = 4; break;
    default: *value = 1;
  }
  return resultOk;
}
EXPORT Result cuDeviceTotalMem_v2(size_t* bytes, Device) {
  *bytes = memoryBytes();
  return resultOk;
}
EXPORT Result cuDevicePrimaryCtxRetain(Handle* context, Device) {
  static int one;
  *context = &one;
  return resultOk;
}
EXPORT Result cuDevicePrimaryCtxRelease_v2(Device) { return resultOk; }
EXPORT Result cuCtxSetCurrent(Handle) { return resultOk; }
EXPORT Result cuMemGetInfo_v2(size_t* free, size_t* total) {
  const std::lock_guard lock(mutex);
  *total = memoryBytes();
  *free = *total > heldBytes ? *total - heldBytes : 0;
  return resultOk;
}
EXPORT Result cuMemAlloc_v2(DevicePointer* pointer, size_t bytes) {
  return allocateBytes(pointer, bytes);
}
EXPORT Result cuMemAllocManaged(DevicePointer* pointer, size_t bytes, unsigned) {
  return allocateBytes(pointer, bytes);
}
EXPORT Result cuMemFree_v2(DevicePointer pointer) {
  const std::lock_guard lock(mutex);
  const auto found = held.find(pointer);
  if (found == held.end()) return invalidValue;
  heldBytes -= found->second;
  held.erase(found);
  quetzal::emulation::guardedFree(reinterpret_cast<void*>(pointer));
  return resultOk;
}
EXPORT Result cuMemHostAlloc(void** pointer, size_t bytes, unsigned) {
  *pointer = std::malloc(bytes);
  return *pointer ? resultOk : resultOutOfMemory;
}
EXPORT Result cuMemFreeHost(void* pointer) {
  std::free(pointer);
  return resultOk;
}
EXPORT Result cuMemcpyHtoDAsync_v2(DevicePointer to, const void* from, size_t bytes, Handle stream) {
  if (isLost) return illegalAddress;
  if (!isAllocated(reinterpret_cast<void*>(to), bytes)) return invalidValue;
  return put(stream, [=] {
    std::memcpy(reinterpret_cast<void*>(to), from, bytes);
    return resultOk;
  });
}
EXPORT Result cuMemcpyDtoHAsync_v2(void* to, DevicePointer from, size_t bytes, Handle stream) {
  if (isLost) return illegalAddress;
  if (!isAllocated(reinterpret_cast<void*>(from), bytes)) return invalidValue;
  return put(stream, [=] {
    std::memcpy(to, reinterpret_cast<void*>(from), bytes);
    return resultOk;
  });
}
EXPORT Result cuMemsetD8Async(DevicePointer to, unsigned char value, size_t bytes, Handle stream) {
  if (isLost) return illegalAddress;
  if (!isAllocated(reinterpret_cast<void*>(to), bytes)) return invalidValue;
  return put(stream, [=] {
    std::memset(reinterpret_cast<void*>(to), value, bytes);
    return resultOk;
  });
}
EXPORT Result cuStreamCreate(Handle* stream, unsigned) {
  *stream = new Stream;
  return resultOk;
}
EXPORT Result cuStreamDestroy_v2(Handle stream) {
  delete static_cast<Stream*>(stream);
  return resultOk;
}
EXPORT Result cuStreamSynchronize(Handle stream) {
  const Result result = stream ? runAll(*static_cast<Stream*>(stream)) : resultOk;
  return isLost ? illegalAddress : result;
}
EXPORT Result cuEventCreate(Handle* event, unsigned) {
  *event = new Event;
  return resultOk;
}
EXPORT Result cuEventDestroy_v2(Handle event) {
  delete static_cast<Event*>(event);
  return resultOk;
}
EXPORT Result cuEventRecord(Handle handle, Handle stream) {
  auto* event = static_cast<Event*>(handle);
  *event = {0, static_cast<Stream*>(stream), true, 0};
  const Result result = put(stream, [event] {
    event->ms = nowMs();
    event->isPending = false;
    return resultOk;
  });
  return isLost ? illegalAddress : result;
}
EXPORT Result cuEventQuery(Handle handle) {
  auto* event = static_cast<Event*>(handle);
  if (event->isPending && ++event->queries % setting("QUETZAL_FAKE_CUDA_LAZY", 1) == 0) {
    runNext(*event->stream);
  }
  return event->isPending ? resultNotReady : isLost ? illegalAddress : resultOk;
}
EXPORT Result cuEventSynchronize(Handle handle) {
  auto* event = static_cast<Event*>(handle);
  trace("read");
  Result result = resultOk;
  while (event->isPending && result == resultOk) result = runNext(*event->stream);
  return isLost ? illegalAddress : result;
}
EXPORT Result cuEventElapsedTime(float* ms, Handle from, Handle to) {
  *ms = static_cast<float>(static_cast<Event*>(to)->ms - static_cast<Event*>(from)->ms);
  return resultOk;
}
EXPORT Result cuModuleLoadData(Handle* module, const void*) {
  static int one;
  *module = &one;
  return resultOk;
}
EXPORT Result cuModuleUnload(Handle) { return resultOk; }
EXPORT Result cuModuleGetFunction(Handle* function, Handle, const char* name) {
  for (const Kernel& kernel : kernels) {
    if (std::string(name) != kernel.name) continue;
    *function = const_cast<Kernel*>(&kernel);
    return resultOk;
  }
  return notFound;
}
EXPORT Result cuFuncGetAttribute(int* value, int, Handle) {
  *value = ptxVersion();
  return resultOk;
}
EXPORT Result cuLaunchKernelEx(const LaunchConfig* config, Handle function, void** args, void**) {
  const auto* kernel = static_cast<const Kernel*>(function);
  // Code that cannot wait for the kernel before must not be launched next to it.
  if (config->attributeCount > 0 && ptxVersion() < 90) return invalidValue;
  Node node = {kernel, {}, {}};
  node.launch.grid = {config->gridX, config->gridY, config->gridZ};
  node.launch.block = {config->blockX, config->blockY, config->blockZ};
  node.launch.sharedBytes = config->sharedBytes;
  const auto* bytes = static_cast<const uint8_t*>(args[0]);
  node.args.assign(bytes, bytes + kernel->argBytes);
  if (auto* stream = static_cast<Stream*>(config->stream); stream && stream->capture) {
    stream->capture->nodes.push_back(std::move(node));
    return resultOk;
  }
  return put(config->stream, [node = std::move(node)] { return perform(node); });
}
EXPORT Result cuStreamBeginCapture_v2(Handle stream, int) {
  if (isLost) return illegalAddress;
  static_cast<Stream*>(stream)->capture = new Graph;
  return resultOk;
}
EXPORT Result cuStreamEndCapture(Handle stream, Handle* graph) {
  *graph = static_cast<Stream*>(stream)->capture;
  static_cast<Stream*>(stream)->capture = nullptr;
  return *graph ? resultOk : invalidValue;
}
EXPORT Result cuGraphInstantiateWithFlags(Handle* exec, Handle graph, unsigned long long) {
  *exec = new Graph(*static_cast<Graph*>(graph));
  return resultOk;
}
EXPORT Result cuGraphLaunch(Handle exec, Handle stream) {
  trace("launch");
  return put(stream, [exec] {
    for (const Node& node : static_cast<Graph*>(exec)->nodes) {
      if (const Result result = perform(node); result != resultOk) return result;
    }
    return resultOk;
  });
}
EXPORT Result cuGraphExecDestroy(Handle exec) {
  delete static_cast<Graph*>(exec);
  return resultOk;
}
EXPORT Result cuGraphDestroy(Handle graph) {
  delete static_cast<Graph*>(graph);
  return resultOk;
}
