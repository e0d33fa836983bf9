#include "cuda_weights.h"

#include <errno.h>
#include <string.h>
#include <unistd.h>

#include <algorithm>
#include <system_error>
#include <thread>

#include "../ref/device_twins.h"
#include "cuda_repack.h"
#include "pool.h"
#include "weights.h"

namespace quetzal::cuda {
namespace {

/// Of the file, per turn of a thread: enough to keep the bus busy, small enough that a
/// few threads share a file fairly.
constexpr int64_t jobBytes = 4 << 20;

uint64_t aligned(uint64_t bytes) { return (bytes + 255) / 256 * 256; }

Status readAt(int fd, uint8_t* to, int64_t wanted, int64_t offset, const char* name) {
  int64_t done = 0;
  while (done < wanted) {
    const ssize_t got = pread(fd, to + done, wanted - done, offset + done);
    if (got < 0 && errno == EINTR) continue;
    if (got <= 0) {
      return failure("Cannot load weight %.200s: needs %lld more bytes, found %s", name,
                     static_cast<long long>(wanted - done),
                     got == 0 ? "the end of the file" : strerror(errno));
    }
    done += got;
  }
  return {};
}

}  // namespace

void DeviceWeights::place() {
  uint64_t total = 0;
  const size_t count = spec_.weights.size();
  quantsAt_.assign(count, 0);
  scalesAt_.assign(count, 0);
  vectorAt_.assign(count, 0);
  hostVectors_.resize(count);
  for (size_t id = 0; id < count; ++id) {
    const WeightSpec& weight = spec_.weights[id];
    if (plan_.usedAsMatrix[id]) {
      const DeviceBytes bytes = deviceBytes(weight.type, weight.rows, weight.cols);
      quantsAt_[id] = total;
      total += aligned(bytes.quants);
      scalesAt_[id] = total;
      total += aligned(bytes.scales);
    }
    if (plan_.usedAsVector[id]) {
      vectorAt_[id] = total;
      total += aligned(weight.cols * 4);
    }
    if (!plan_.usedAsMatrix[id] && !plan_.usedAsVector[id]) continue;
    const int64_t rows = std::max<int64_t>(jobBytes / (weight.bytes / weight.rows), 1);
    for (int64_t row = 0; row < weight.rows; row += rows) {
      jobs_.push_back({static_cast<int32_t>(id), row, std::min(rows, weight.rows - row)});
    }
  }
  bytes_ = total;
}

Status DeviceWeights::load() {
  place();
  const OpenFile file(spec_.path.c_str());
  QUETZAL_TRY(checkFile(spec_, file));
  QUETZAL_TRY(pool_.allocate(api_, bytes_, "weights"));
  std::vector<std::thread> helpers;
  try {
    for (int64_t i = 1; i < spec_.threads && i < static_cast<int64_t>(jobs_.size()); ++i) {
      helpers.emplace_back([&] {
        prepareThread("quetzal-load");
        work(file.fd);
      });
    }
  } catch (const std::system_error&) {
    // Fewer helpers: the reading below goes on alone.
  }
  work(file.fd);
  for (std::thread& helper : helpers) helper.join();
  return status_;
}

Status DeviceWeights::makeRandom(const Fill& fill) {
  place();
  QUETZAL_TRY(pool_.allocate(api_, bytes_, "weights"));
  for (size_t id = 0; id < spec_.weights.size(); ++id) {
    const WeightSpec& weight = spec_.weights[id];
    if (plan_.usedAsMatrix[id]) {
      const DeviceBytes bytes = deviceBytes(weight.type, weight.rows, weight.cols);
      QUETZAL_TRY(fill(matrix(static_cast<int32_t>(id)), bytes));
    }
    if (plan_.usedAsVector[id]) {
      hostVectors_[id].assign(weight.cols, 1.0f);
      QUETZAL_CUDA_TRY(api_, copyIn(pool_.pointer() + vectorAt_[id], hostVectors_[id].data(),
                                    hostVectors_[id].size() * 4, nullptr), "make weights");
      QUETZAL_CUDA_TRY(api_, streamSynchronize(nullptr), "make weights");
    }
  }
  return {};
}

void DeviceWeights::work(int fd) {
  Status status = check(api_, api_.contextSet(context_), "use the CUDA device");
  Stream stream;
  PinnedMemory pinned;
  uint64_t pinnedBytes = 0;
  std::vector<uint8_t> file;
  if (status.isOk()) status = stream.open(api_);
  while (status.isOk()) {
    const size_t at = next_++;
    if (at >= jobs_.size()) {
      status = check(api_, api_.streamSynchronize(stream.handle()), "upload weights");
      break;
    }
    try {
      status = upload(fd, jobs_[at], file, pinned, pinnedBytes, stream);
    } catch (const std::bad_alloc&) {
      status = failure("Cannot load model: no memory for a read buffer");
    }
  }
  const std::lock_guard lock(mutex_);
  next_ = jobs_.size();
  if (status_.isOk()) status_ = std::move(status);
}

/// Reads the next rows while the last ones are still on their way to the device.
Status DeviceWeights::upload(int fd, const Job& job, std::vector<uint8_t>& file,
                             PinnedMemory& pinned, uint64_t& pinnedBytes, Stream& stream) {
  const WeightSpec& weight = spec_.weights[job.weight];
  const int64_t rowFileBytes = weight.bytes / weight.rows, wanted = job.rows * rowFileBytes;
  file.resize(wanted);
  QUETZAL_TRY(readAt(fd, file.data(), wanted, weight.offset + job.rowBegin * rowFileBytes,
                     weight.name.c_str()));
  QUETZAL_CUDA_TRY(api_, streamSynchronize(stream.handle()), "upload weights");
  if (plan_.usedAsMatrix[job.weight]) {
    const DeviceBytes bytes = deviceBytes(weight.type, job.rows, weight.cols);
    if (pinnedBytes < bytes.quants + bytes.scales) {
      pinnedBytes = bytes.quants + bytes.scales;
      QUETZAL_TRY(pinned.allocate(api_, pinnedBytes));
    }
    auto* quants = pinned.as<uint8_t>();
    uint8_t* scales = quants + bytes.quants;
    repackRows(weight.type, job.rows, weight.cols, file.data(), quants, scales);
    const DeviceBytes before = deviceBytes(weight.type, job.rowBegin, weight.cols);
    QUETZAL_CUDA_TRY(api_, copyIn(pool_.pointer() + quantsAt_[job.weight] + before.quants, quants,
                                  bytes.quants, stream.handle()), "upload weights");
    if (bytes.scales > 0) {
      QUETZAL_CUDA_TRY(api_, copyIn(pool_.pointer() + scalesAt_[job.weight] + before.scales, scales,
                                    bytes.scales, stream.handle()), "upload weights");
    }
  }
  if (plan_.usedAsVector[job.weight]) {
    std::vector<float> values(weight.cols);
    for (int64_t i = 0; i < weight.cols; ++i) {
      values[i] = ref::storedValue(weight.type, file.data(), i);
    }
    QUETZAL_CUDA_TRY(api_, copyIn(pool_.pointer() + vectorAt_[job.weight], values.data(),
                                  values.size() * 4, stream.handle()), "upload weights");
    QUETZAL_CUDA_TRY(api_, streamSynchronize(stream.handle()), "upload weights");
    hostVectors_[job.weight] = std::move(values);
  }
  return {};
}

Status DeviceWeights::copyPool(bool isOut) {
  Stream stream;
  PinnedMemory pinned;
  QUETZAL_TRY(stream.open(api_));
  QUETZAL_TRY(pinned.allocate(api_, jobBytes));
  for (uint64_t at = 0; at < bytes_; at += jobBytes) {
    const uint64_t bytes = std::min<uint64_t>(jobBytes, bytes_ - at);
    if (!isOut) memcpy(pinned.as<void>(), host_.data() + at, bytes);
    QUETZAL_TRY(check(api_,
                      isOut ? api_.copyOut(pinned.as<void>(), pool_.pointer() + at, bytes, stream.handle())
                            : api_.copyIn(pool_.pointer() + at, pinned.as<void>(), bytes, stream.handle()),
                      "move weights"));
    QUETZAL_CUDA_TRY(api_, streamSynchronize(stream.handle()), "move weights");
    if (isOut) memcpy(host_.data() + at, pinned.as<void>(), bytes);
  }
  return {};
}

Status DeviceWeights::sleep() {
  if (isAsleep_) return {};
  host_ = Memory(bytes_);
  if (!host_.data()) {
    return failure("Cannot put the model to sleep: needs %llu bytes of host memory, the system has "
                   "no more", static_cast<unsigned long long>(bytes_));
  }
  QUETZAL_TRY(copyPool(true));
  pool_.reset();
  isAsleep_ = true;
  return {};
}

Status DeviceWeights::wake() {
  if (!isAsleep_) return {};
  QUETZAL_TRY(pool_.allocate(api_, bytes_, "weights that were asleep"));
  QUETZAL_TRY(copyPool(false));
  host_ = Memory();
  isAsleep_ = false;
  return {};
}

uint64_t DeviceWeights::matrixBytes(int32_t id) const {
  const WeightSpec& weight = spec_.weights[id];
  const DeviceBytes bytes = deviceBytes(weight.type, weight.rows, weight.cols);
  return aligned(bytes.quants) + aligned(bytes.scales);
}

DeviceMatrix DeviceWeights::matrix(int32_t id) const {
  const WeightSpec& weight = spec_.weights[id];
  const bool hasScales = blockOf(weight.type).scaleBytes > 0;
  return {pool_.as<uint8_t>(quantsAt_[id]), hasScales ? pool_.as<uint8_t>(scalesAt_[id]) : nullptr,
          weight.type, static_cast<int32_t>(weight.rows), static_cast<int32_t>(weight.cols)};
}

const float* DeviceWeights::vector(int32_t id) const {
  return id < 0 ? nullptr : pool_.as<float>(vectorAt_[id]);
}

}  // namespace quetzal::cuda
