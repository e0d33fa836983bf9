// The CUDA driver, opened when the program runs: a machine without libcuda.so.1 loses
// nothing. Only what we call is declared, by the names and the layout of cuda.h.
#pragma once
#include <cstddef>
#include <cstdint>
#include <memory>
#include <string>

#include "status.h"

namespace quetzal::cuda {

using Result = int;
using Device = int;
using DevicePointer = uint64_t;
using Handle = void*;  // context, module, function, stream, event, graph, graphExec

constexpr Result resultOk = 0, resultOutOfMemory = 2, resultNotReady = 600;

enum Attribute : int {
  attributeMultiprocessors = 16,
  attributeMemoryClockKhz = 36,
  attributeBusBits = 37,
  attributeMajor = 75,
  attributeMinor = 76,
  attributeConcurrentManaged = 89,
};

/// Of a function: the architecture its code was compiled for, 90 for sm_90a.
constexpr int attributePtxVersion = 5;

struct LaunchAttribute {
  int id;
  char pad[4];
  union {
    char bytes[64];
    int isProgrammatic;
  } value;
};
constexpr int launchAttributeProgrammatic = 6;

struct LaunchConfig {
  unsigned gridX, gridY, gridZ, blockX, blockY, blockZ, sharedBytes;
  Handle stream;
  LaunchAttribute* attributes;
  unsigned attributeCount;
};

/// Name of the symbol, name of the member, parameters.
#define QUETZAL_CUDA_FUNCTIONS(X)                                                              \
  X(cuInit, init, (unsigned))                                                                  \
  X(cuDriverGetVersion, driverVersion, (int*))                                                 \
  X(cuGetErrorName, errorName, (Result, const char**))                                         \
  X(cuDeviceGetCount, deviceCount, (int*))                                                     \
  X(cuDeviceGet, deviceGet, (Device*, int))                                                    \
  X(cuDeviceGetName, deviceName, (char*, int, Device))                                         \
  X(cuDeviceGetAttribute, deviceAttribute, (int*, int, Device))                                \
  X(cuDeviceTotalMem_v2, deviceMemory, (size_t*, Device))                                      \
  X(cuDevicePrimaryCtxRetain, contextRetain, (Handle*, Device))                                \
  X(cuDevicePrimaryCtxRelease_v2, contextRelease, (Device))                                    \
  X(cuCtxSetCurrent, contextSet, (Handle))                                                     \
  X(cuMemGetInfo_v2, memoryInfo, (size_t*, size_t*))                                           \
  X(cuMemAlloc_v2, allocate, (DevicePointer*, size_t))                                         \
  X(cuMemAllocManaged, allocateManaged, (DevicePointer*, size_t, unsigned))                    \
  X(cuMemFree_v2, release, (DevicePointer))                                                    \
  X(cuMemHostAlloc, hostAllocate, (void**, size_t, unsigned))                                  \
  X(cuMemFreeHost, hostRelease, (void*))                                                       \
  X(cuMemcpyHtoDAsync_v2, copyIn, (DevicePointer, const void*, size_t, Handle))                \
  X(cuMemcpyDtoHAsync_v2, copyOut, (void*, DevicePointer, size_t, Handle))                     \
  X(cuMemsetD8Async, fill, (DevicePointer, unsigned char, size_t, Handle))                     \
  X(cuStreamCreate, streamCreate, (Handle*, unsigned))                                         \
  X(cuStreamDestroy_v2, streamDestroy, (Handle))                                               \
  X(cuStreamSynchronize, streamSynchronize, (Handle))                                          \
  X(cuEventCreate, eventCreate, (Handle*, unsigned))                                           \
  X(cuEventDestroy_v2, eventDestroy, (Handle))                                                 \
  X(cuEventRecord, eventRecord, (Handle, Handle))                                              \
  X(cuEventQuery, eventQuery, (Handle))                                                        \
  X(cuEventSynchronize, eventSynchronize, (Handle))                                            \
  X(cuEventElapsedTime, eventElapsed, (float*, Handle, Handle))                                \
  X(cuModuleLoadData, moduleLoad, (Handle*, const void*))                                      \
  X(cuModuleUnload, moduleUnload, (Handle))                                                    \
  X(cuModuleGetFunction, moduleFunction, (Handle*, Handle, const char*))                       \
  X(cuFuncGetAttribute, functionAttribute, (int*, int, Handle))                                \
  X(cuLaunchKernelEx, launch, (const LaunchConfig*, Handle, void**, void**))                   \
  X(cuStreamBeginCapture_v2, captureBegin, (Handle, int))                                      \
  X(cuStreamEndCapture, captureEnd, (Handle, Handle*))                                         \
  X(cuGraphInstantiateWithFlags, graphInstantiate, (Handle*, Handle, unsigned long long))      \
  X(cuGraphLaunch, graphLaunch, (Handle, Handle))                                              \
  X(cuGraphExecDestroy, graphExecDestroy, (Handle))                                            \
  X(cuGraphDestroy, graphDestroy, (Handle))

/// The functions of one libcuda; stays open for the life of the process.
struct Api {
#define QUETZAL_CUDA_MEMBER(symbol, member, parameters) Result(*member) parameters = nullptr;
  QUETZAL_CUDA_FUNCTIONS(QUETZAL_CUDA_MEMBER)
#undef QUETZAL_CUDA_MEMBER
  void* library = nullptr;
};

/// Opens `path` once and remembers it; a second path opens a second one.
Status openApi(const std::string& path, const Api*& api);

/// What the driver says of `result`, e.g. `CUDA_ERROR_OUT_OF_MEMORY (2)`.
std::string describe(const Api& api, Result result);

/// `action` as in "Cannot <action>: CUDA says ...".
Status check(const Api& api, Result result, const char* action);

#define QUETZAL_CUDA_TRY(api, call, action) \
  QUETZAL_TRY(::quetzal::cuda::check((api), (api).call, (action)))

struct DeviceFacts {
  std::string name;
  int major = 0, minor = 0, multiprocessors = 0;
  uint64_t memoryBytes = 0;
  bool hasManagedMemory = false;
};

/// Whether kernels that were loaded from an image as `function` was may overlap: only code
/// for sm_90 and later waits for the kernel before it, and PTX for older ones never does.
Status canOverlap(const Api& api, Handle function, bool& can);

/// The device with number `index`, or why there is none.
Status findDevice(const Api& api, int index, Device& device, DeviceFacts& facts);

}  // namespace quetzal::cuda
