// Reads weights from the file into the layout of a kernel table.
#pragma once
#include <atomic>
#include <functional>
#include <memory>
#include <mutex>

#include "model.h"

namespace quetzal {

/// What a file is known by besides its content.
struct FileStamp {
  uint64_t bytes = 0;
  int64_t modifiedNs = 0;
  uint64_t inode = 0;
  bool operator==(const FileStamp&) const = default;
};

/// A file that closes itself; `fd` is -1 when it could not be opened.
struct OpenFile {
  explicit OpenFile(const char* path);
  ~OpenFile();
  OpenFile(const OpenFile&) = delete;
  OpenFile& operator=(const OpenFile&) = delete;
  FileStamp stamp() const;
  int fd;
  int64_t bytes = 0;
};

/// Whether the file was opened, directly before, and holds all weights.
Status checkFile(const ModelSpec& spec, const OpenFile& file);

/// Where each weight lies in packed memory, in bytes from its start.
struct WeightPlaces {
  std::vector<uint64_t> matrixAt, vectorAt;
  uint64_t bytes = 0;
};

WeightPlaces placeWeights(const ModelSpec& spec, const Plan& plan, const KernelTable& table);

/// Points the weights into memory that holds them packed.
void assignWeights(const ModelSpec& spec, const WeightPlaces& places, const uint8_t* memory,
                   std::vector<LoadedWeight>& weights);

/// Runs `work` on the calling thread and up to `threads` - 1 others; they share it out.
void onLoadThreads(int64_t threads, const std::function<void()>& work);

/// A run of rows of one weight.
struct ReadJob {
  int32_t weight;
  int64_t rowBegin, rows;
};

class WeightReader {
 public:
  WeightReader(const ModelSpec& spec, const Plan& plan, const KernelTable& table,
               const WeightPlaces& places)
      : spec_(spec), plan_(plan), table_(table), places_(places) {}

  Status read(const OpenFile& file, uint8_t* memory);

 private:
  void listJobs();
  void work(const OpenFile& file, uint8_t* memory);
  Status readJob(const OpenFile& file, const ReadJob& job, uint8_t* buffer, uint8_t* memory);
  void fillVector(const WeightSpec& weight, const uint8_t* src, float* dst) const;

  const ModelSpec& spec_;
  const Plan& plan_;
  const KernelTable& table_;
  const WeightPlaces& places_;
  std::vector<ReadJob> jobs_;
  int64_t jobBytesMax_ = 0;
  std::atomic<size_t> next_{0};
  std::mutex mutex_;
  Status status_;
};

}  // namespace quetzal
