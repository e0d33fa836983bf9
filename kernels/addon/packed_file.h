// Packed weights on disk: the image that loading makes, kept for the next load.
//
// A file is a head and, from a huge-page boundary on, the image. Whoever maps it believes
// nothing it says: its head has to be, byte for byte, the one that this process would write
// for this model file, layout and kernel table, and its size has to be what follows from it.
// It must belong to this user and be writable by nobody else. So a file that was cut off,
// forged or left by another version is never read any further.
#pragma once
#include <atomic>
#include <functional>
#include <thread>

#include "weights.h"

namespace quetzal {

/// The first bytes of the file that holds this model's weights.
std::vector<uint8_t> packedHead(const ModelSpec& spec, const Plan& plan, const KernelTable& table,
                                const WeightPlaces& places, const FileStamp& source);

/// Maps the image behind `head` and brings its pages in, by all load threads. Without such
/// a file `memory` stays empty and nothing is wrong; the message says why one that is there
/// cannot be used.
Status mapPacked(const std::string& path, const std::vector<uint8_t>& head, uint64_t bytes,
                 int64_t threads, Memory& memory);

/// Writes a file in the background: beside its name first, so that it is there whole or not
/// at all, and never by two processes at once. The thread has the lowest priority and keeps
/// no more than a few megabytes waiting for the disk.
class PackedWriter {
 public:
  /// Told on the writer's thread. Not written and no fault: another process writes it or
  /// has written it, or the writer was stopped.
  using Done = std::function<void(Status status, bool isWritten)>;

  /// `data` must outlive the writer. Throws std::system_error when there is no thread.
  PackedWriter(std::string path, std::vector<uint8_t> head, const Memory& data, Done done);
  /// Stops at the next piece of 4 MB and waits for it.
  ~PackedWriter();
  PackedWriter(const PackedWriter&) = delete;
  PackedWriter& operator=(const PackedWriter&) = delete;

 private:
  void run();
  Status write(bool& isWritten);
  Status fill(int fd);
  Status put(int fd, const uint8_t* from, uint64_t count, uint64_t at);

  const std::string path_, unfinished_;
  const std::vector<uint8_t> head_;
  const Memory& data_;
  const Done done_;
  std::atomic<bool> isStopped_{false};
  std::thread thread_;
};

}  // namespace quetzal
