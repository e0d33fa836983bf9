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

uint64_t WeightReader::place() {
  uint64_t total = 0;
  for (size_t id = 0; id < spec_.weights.size(); ++id) {
    const WeightSpec& weight = spec_.weights[id];
    const auto type = static_cast<WeightType>(weight.type);
    matrixAt_.push_back(total);
    if (plan_.usedAsMatrix[id]) total += aligned(table_.packedBytes(type, weight.rows, weight.cols));
    vectorAt_.push_back(total);
    if (plan_.usedAsVector[id]) total += aligned(weight.cols * 4);
    // Whole panels per job, about a megabyte each.
    const int64_t fit = std::max<int64_t>(readBytes / rowBytes(type, weight.cols), 1);
    const int64_t rows = (fit + table_.panelRows - 1) / table_.panelRows * table_.panelRows;
    if (!plan_.usedAsMatrix[id] && !plan_.usedAsVector[id]) continue;
    for (int64_t row = 0; row < weight.rows; row += rows) {
      jobs_.push_back({static_cast<int32_t>(id), row, std::min(rows, weight.rows - row)});
    }
  }
  return total;
}

Status WeightReader::read(uint8_t* memory) {
  const OpenFile file(spec_.path.c_str());
  QUETZAL_TRY(checkFile(spec_, file));
  std::vector<std::thread> helpers;
  try {
    for (int64_t i = 1; i < spec_.threads && i < static_cast<int64_t>(jobs_.size()); ++i) {
      helpers.emplace_back([&] {
        prepareThread("quetzal-load");
        work(file, memory);
      });
    }
  } catch (...) {
    // Fewer helpers: the reading below goes on alone.
  }
  work(file, memory);
  for (std::thread& helper : helpers) helper.join();
  for (size_t id = 0; id < weights_.size(); ++id) {
    const WeightSpec& weight = spec_.weights[id];
    weights_[id].matrix = {memory + matrixAt_[id], static_cast<WeightType>(weight.type),
                           weight.rows, weight.cols};
    weights_[id].vector = reinterpret_cast<const float*>(memory + vectorAt_[id]);
  }
  return status_;
}

void WeightReader::work(const OpenFile& file, uint8_t* memory) {
  std::vector<uint8_t> buffer;
  for (size_t at = next_++; at < jobs_.size(); at = next_++) {
    Status status;
    try {
      status = readJob(file, jobs_[at], buffer, memory);
    } catch (const std::bad_alloc&) {
      status = failure("Cannot load model: no memory for a read buffer");
    }
    if (status.isOk()) continue;
    const std::lock_guard lock(mutex_);
    if (status_.isOk()) status_ = std::move(status);
    next_ = jobs_.size();
  }
}

Status WeightReader::readJob(const OpenFile& file, const ReadJob& job,
                             std::vector<uint8_t>& buffer, uint8_t* memory) {
  const WeightSpec& weight = spec_.weights[job.weight];
  const auto type = static_cast<WeightType>(weight.type);
  const int64_t bytes = rowBytes(type, weight.cols), wanted = job.rows * bytes;
  buffer.resize(wanted);
  int64_t done = 0;
  while (done < wanted) {
    const ssize_t got = pread(file.fd, buffer.data() + done, wanted - done,
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
    table_.pack(type, weight.rows, weight.cols, job.rowBegin, job.rows, buffer.data(),
                memory + matrixAt_[job.weight]);
  }
  if (plan_.usedAsVector[job.weight]) {
    fillVector(weight, buffer.data(), reinterpret_cast<float*>(memory + vectorAt_[job.weight]));
  }
  return {};
}

void WeightReader::fillVector(const WeightSpec& weight, const uint8_t* src, float* dst) const {
  const Matrix row = {src, static_cast<WeightType>(weight.type), 1, weight.cols};
  const int32_t first = 0;
  refTable.embed(&row, &first, 1, dst);  // the reference reads the layout of the file
}

}  // namespace quetzal
