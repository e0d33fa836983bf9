#include <dlfcn.h>

#include <fstream>
#include <iterator>
#include <stdexcept>

#include "check.h"

namespace quetzal::cuda {

void Gpu::must(Result result, const char* action) {
  if (const Status status = cuda::check(*api_, result, action); !status.isOk()) {
    throw std::runtime_error(status.message);
  }
}

Gpu::Gpu(const std::string& library, const std::string& fatbin) {
  Status status = openApi(library, api_);
  if (status.isOk()) status = findDevice(*api_, 0, device_, facts_);
  if (!status.isOk()) throw std::runtime_error(status.message);
  must(api_->contextRetain(&context_, device_), "open the device");
  must(api_->contextSet(context_), "use the device");
  must(api_->streamCreate(&stream_, 1), "make a stream");
  order_ = reinterpret_cast<void (*)(int, uint64_t)>(dlsym(api_->library, "quetzalFakeOrder"));
  fault_ = reinterpret_cast<const char* (*)()>(dlsym(api_->library, "quetzalFakeFault"));
  if (!order_) {
    std::ifstream file(fatbin, std::ios::binary);
    image_.assign(std::istreambuf_iterator<char>(file), {});
    if (image_.empty()) {
      throw std::runtime_error("Cannot load kernels: needs " + fatbin + ", found nothing there");
    }
  }
  must(api_->moduleLoad(&module_, image_.data()), "load the kernels");
  status = cuda::canOverlap(*api_, function(kernelNames[0]), canOverlap_);
  if (!status.isOk()) throw std::runtime_error(status.message);
}

Gpu::~Gpu() {
  api_->moduleUnload(module_);
  api_->streamDestroy(stream_);
  api_->contextRelease(device_);
}

void Gpu::setOrder(int order, uint64_t seed) {
  if (order_) order_(order, seed);
}

std::string Gpu::takeFault(Result result) {
  if (fault_) {
    const std::string text = fault_();
    if (!text.empty()) return text;
  }
  return describe(*api_, result);
}

DevicePointer Gpu::allocate(uint64_t bytes) {
  DevicePointer pointer = 0;
  must(api_->allocate(&pointer, bytes), "allocate device memory");
  must(api_->fill(pointer, 0xff, bytes, stream_), "poison device memory");
  return pointer;
}

void Gpu::release(DevicePointer pointer) { api_->release(pointer); }

void Gpu::copyIn(DevicePointer to, const void* from, uint64_t bytes) {
  must(api_->copyIn(to, from, bytes, stream_), "copy to the device");
  must(api_->streamSynchronize(stream_), "copy to the device");
}

void Gpu::copyOut(void* to, DevicePointer from, uint64_t bytes) {
  must(api_->copyOut(to, from, bytes, stream_), "copy from the device");
  must(api_->streamSynchronize(stream_), "copy from the device");
}

Handle Gpu::function(const std::string& name) {
  Handle function = nullptr;
  must(api_->moduleFunction(&function, module_, name.c_str()), ("find kernel " + name).c_str());
  return function;
}

Result Gpu::launch(Handle function, const KernelLaunch& shape, const void* args, bool overlaps) {
  LaunchAttribute attribute = {};
  attribute.id = launchAttributeProgrammatic;
  attribute.value.isProgrammatic = 1;
  const bool isProgrammatic = overlaps && canOverlap_;
  const LaunchConfig config = {shape.gridX, shape.gridY, shape.gridZ, shape.threads, 1, 1,
                               shape.sharedBytes, stream_, isProgrammatic ? &attribute : nullptr,
                               isProgrammatic ? 1u : 0u};
  void* parameters[] = {const_cast<void*>(args)};
  return api_->launch(&config, function, parameters, nullptr);
}

Result Gpu::finish() { return api_->streamSynchronize(stream_); }

}  // namespace quetzal::cuda
