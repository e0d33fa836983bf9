// Reads weights from the file into the layout of a kernel table.
#pragma once
#include <atomic>
#include <mutex>

#include "model.h"

namespace quetzal {

/// A file that closes itself; `fd` is -1 when it could not be opened.
struct OpenFile {
  explicit OpenFile(const char* path);
  ~OpenFile();
  OpenFile(const OpenFile&) = delete;
  OpenFile& operator=(const OpenFile&) = delete;
  int fd;
  int64_t bytes = 0;
};

/// Whether the file was opened, directly before, and holds all weights.
Status checkFile(const ModelSpec& spec, const OpenFile& file);

/// A run of rows of one weight.
struct ReadJob {
  int32_t weight;
  int64_t rowBegin, rows;
};

class WeightReader {
 public:
  WeightReader(const ModelSpec& spec, const Plan& plan, const KernelTable& table,
               std::vector<LoadedWeight>& weights)
      : spec_(spec), plan_(plan), table_(table), weights_(weights) {}

  /// Bytes that all weights need, with their places noted.
  uint64_t place();
  Status read(uint8_t* memory);

 private:
  void work(const OpenFile& file, uint8_t* memory);
  Status readJob(const OpenFile& file, const ReadJob& job, std::vector<uint8_t>& buffer,
                 uint8_t* memory);
  void fillVector(const WeightSpec& weight, const uint8_t* src, float* dst) const;

  const ModelSpec& spec_;
  const Plan& plan_;
  const KernelTable& table_;
  std::vector<LoadedWeight>& weights_;
  std::vector<uint64_t> matrixAt_, vectorAt_;
  std::vector<ReadJob> jobs_;
  std::atomic<size_t> next_{0};
  std::mutex mutex_;
  Status status_;
};

}  // namespace quetzal
