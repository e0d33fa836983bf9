#include "weights.h"

#include <errno.h>
#include <fcntl.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include <algorithm>
#include <new>
#include <thread>

namespace quetzal {
namespace {

constexpr int64_t readBytes = 1 << 20;

uint64_t aligned(uint64_t bytes) { return (bytes + 63) / 64 * 64; }

}  // namespace

OpenFile::OpenFile(const char* path) : fd(open(path, O_RDONLY | O_CLOEXEC)) {
  struct stat info;
  if (fd >= 0 && fstat(fd, &info) == 0 && S_ISREG(info.st_mode)) bytes = info.st_size;
}

OpenFile::~OpenFile() {
  if (fd >= 0) close(fd);
}

FileStamp OpenFile::stamp() const {
  struct stat info;
  if (fstat(fd, &info) != 0) return {};
  return {static_cast<uint64_t>(info.st_size),
          info.st_mtim.tv_sec * int64_t{1'000'000'000} + info.st_mtim.tv_nsec, info.st_ino};
}

Status checkFile(const ModelSpec& spec, const OpenFile& file) {
  if (file.fd < 0) {
    return failure("Cannot load model %.300s: %s", spec.path.c_str(), strerror(errno));
  }
  for (const WeightSpec& weight : spec.weights) {
    if (weight.offset + weight.bytes <= file.bytes) continue;
    return failure("Cannot load weight %.200s: needs bytes %lld..%lld, the file has %lld",
                   weight.name.c_str(), static_cast<long long>(weight.offset),
                   static_cast<long long>(weight.offset + weight.bytes),
                   static_cast<long long>(file.bytes));
  }
  return {};
}

WeightPlaces placeWeights(const ModelSpec& spec, const Plan& plan, const KernelTable& table) {
  WeightPlaces places;
  for (size_t id = 0; id < spec.weights.size(); ++id) {
    const WeightSpec& weight = spec.weights[id];
    const auto type = static_cast<WeightType>(weight.type);
    places.matrixAt.push_back(places.bytes);
    if (plan.usedAsMatrix[id]) {
      places.bytes += aligned(table.packedBytes(type, weight.rows, weight.cols));
    }
    places.vectorAt.push_back(places.bytes);
    if (plan.usedAsVector[id]) places.bytes += aligned(weight.cols * 4);
  }
  return places;
}

void assignWeights(const ModelSpec& spec, const WeightPlaces& places, const uint8_t* memory,
                   std::vector<LoadedWeight>& weights) {
  for (size_t id = 0; id < weights.size(); ++id) {
    const WeightSpec& weight = spec.weights[id];
    weights[id].matrix = {memory + places.matrixAt[id], static_cast<WeightType>(weight.type),
                          weight.rows, weight.cols};
    weights[id].vector = reinterpret_cast<const float*>(memory + places.vectorAt[id]);
  }
}

void onLoadThreads(int64_t threads, const std::function<void()>& work) {
  std::vector<std::thread> helpers;
  try {
    for (int64_t i = 1; i < threads; ++i) {
      helpers.emplace_back([&] {
        prepareThread("quetzal-load");
        work();
      });
    }
  } catch (...) {
    // Fewer helpers: the work below goes on with those that are there.
  }
  work();
  for (std::thread& helper : helpers) helper.join();
}

Status WeightReader::read(const OpenFile& file, uint8_t* memory) {
  listJobs();
  onLoadThreads(std::min<int64_t>(spec_.threads, jobs_.size()), [&] { work(file, memory); });
  return status_;
}

/// Whole panels per job, about a megabyte each: it stays in the cache until it is packed.
void WeightReader::listJobs() {
  for (size_t id = 0; id < spec_.weights.size(); ++id) {
    if (!plan_.usedAsMatrix[id] && !plan_.usedAsVector[id]) continue;
    const WeightSpec& weight = spec_.weights[id];
    const int64_t bytes = rowBytes(static_cast<WeightType>(weight.type), weight.cols);
    const int64_t fit = std::max<int64_t>(readBytes / bytes, 1);
    const int64_t rows = (fit + table_.panelRows - 1) / table_.panelRows * table_.panelRows;
    for (int64_t row = 0; row < weight.rows; row += rows) {
      jobs_.push_back({static_cast<int32_t>(id), row, std::min(rows, weight.rows - row)});
      jobBytesMax_ = std::max(jobBytesMax_, jobs_.back().rows * bytes);
    }
  }
}

void WeightReader::work(const OpenFile& file, uint8_t* memory) {
  // Not a vector: that would fill it with zeros first.
  const std::unique_ptr<uint8_t[]> buffer(new (std::nothrow) uint8_t[jobBytesMax_]);
  for (size_t at = next_++; at < jobs_.size(); at = next_++) {
    Status status = buffer ? readJob(file, jobs_[at], buffer.get(), memory)
                           : failure("Cannot load model: no memory for a read buffer");
    if (status.isOk()) continue;
    const std::lock_guard lock(mutex_);
    if (status_.isOk()) status_ = std::move(status);
    next_ = jobs_.size();
  }
}

Status WeightReader::readJob(const OpenFile& file, const ReadJob& job, uint8_t* buffer,
                             uint8_t* memory) {
  const WeightSpec& weight = spec_.weights[job.weight];
  const auto type = static_cast<WeightType>(weight.type);
  const int64_t bytes = rowBytes(type, weight.cols), wanted = job.rows * bytes;
  int64_t done = 0;
  while (done < wanted) {
    const ssize_t got = pread(file.fd, buffer + done, wanted - done,
                              weight.offset + job.rowBegin * bytes + done);
    if (got < 0 && errno == EINTR) continue;
    if (got <= 0) {
      return failure("Cannot load weight %.200s: needs %lld more bytes, found %s",
                     weight.name.c_str(), static_cast<long long>(wanted - done),
                     got == 0 ? "the end of the file" : strerror(errno));
    }
    done += got;
  }
  if (plan_.usedAsMatrix[job.weight]) {
    table_.pack(type, weight.rows, weight.cols, job.rowBegin, job.rows, buffer,
                memory + places_.matrixAt[job.weight]);
  }
  if (plan_.usedAsVector[job.weight]) {
    fillVector(weight, buffer, reinterpret_cast<float*>(memory + places_.vectorAt[job.weight]));
  }
  return {};
}

void WeightReader::fillVector(const WeightSpec& weight, const uint8_t* src, float* dst) const {
  const Matrix row = {src, static_cast<WeightType>(weight.type), 1, weight.cols};
  const int32_t first = 0;
  refTable.embed(&row, &first, 1, dst);  // the reference reads the layout of the file
}

}  // namespace quetzal
