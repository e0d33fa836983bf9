#include "packed_file.h"

#include <errno.h>
#include <fcntl.h>
#include <string.h>
#include <sys/file.h>
#include <sys/mman.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <unistd.h>

#include <algorithm>

#include "../cpu/packed.h"

namespace quetzal {
namespace {

// Both without padding, so that their bytes are all told.
struct HeadStart {
  char magic[8];
  uint32_t layoutVersion, weights;
  char layout[16];
  char source[64];
  FileStamp stamp;
  uint64_t imageAt, imageBytes, fileBytes;
};
static_assert(sizeof(HeadStart) == 8 + 8 + 16 + 64 + 24 + 24);

struct HeadWeight {
  uint64_t matrixAt, vectorAt;
  int64_t sourceAt, rows, cols;
  int32_t type;
  uint32_t uses;  // bit 0: as a matrix, bit 1: as a vector
};
static_assert(sizeof(HeadWeight) == 48);

constexpr char magic[] = "QZPACKED";
constexpr uint64_t pieceBytes = 4 << 20;
constexpr uint64_t faultBytes = 16 << 20;

uint64_t imageAt(size_t headBytes) { return (headBytes + hugePage - 1) / hugePage * hugePage; }

HeadStart startOf(const std::vector<uint8_t>& head) {
  HeadStart start;
  memcpy(&start, head.data(), sizeof start);
  return start;
}

Status faultOf(const char* what) { return failure("%s: %s", what, strerror(errno)); }

/// Owner, kind and size, before anything is read.
Status checkOwner(const struct stat& info) {
  if (!S_ISREG(info.st_mode)) return {"it is no regular file"};
  if (info.st_uid != geteuid()) return {"it belongs to another user"};
  if (info.st_mode & (S_IWGRP | S_IWOTH)) return {"others may write it"};
  return {};
}

Status compareHeads(const std::vector<uint8_t>& found, const std::vector<uint8_t>& head) {
  if (found == head) return {};
  const HeadStart is = startOf(found), needed = startOf(head);
  if (memcmp(is.magic, needed.magic, sizeof is.magic) != 0) {
    return {"it does not begin as a file of packed weights"};
  }
  if (is.layoutVersion != needed.layoutVersion) {
    return failure("its layout has version %u, needed is %u", is.layoutVersion,
                   needed.layoutVersion);
  }
  if (memcmp(is.layout, needed.layout, sizeof is.layout) != 0) return {"it has another layout"};
  if (memcmp(is.source, needed.source, sizeof is.source) != 0 || !(is.stamp == needed.stamp)) {
    return {"it was made from another model file"};
  }
  return {"its table of weights is another"};
}

Status checkPacked(int fd, const std::vector<uint8_t>& head) {
  struct stat info;
  if (fstat(fd, &info) != 0) return faultOf("it has no status");
  QUETZAL_TRY(checkOwner(info));
  std::vector<uint8_t> found(head.size());
  size_t done = 0;
  while (done < found.size()) {
    const ssize_t got = pread(fd, found.data() + done, found.size() - done, done);
    if (got < 0 && errno == EINTR) continue;
    if (got < 0) return faultOf("it cannot be read");
    if (got == 0) return {"it ends within its head"};
    done += got;
  }
  QUETZAL_TRY(compareHeads(found, head));
  const uint64_t needed = startOf(head).fileBytes, is = info.st_size;
  if (is == needed) return {};
  return failure("it has %llu bytes, needed are %llu", static_cast<unsigned long long>(is),
                 static_cast<unsigned long long>(needed));
}

/// Brings pages in and enters them, all load threads together: a page that cannot be read
/// is an error here and would be a signal later. Nothing is asked for ahead: that fills the
/// page cache with single pages, where faults of a mapping that wants huge ones bring in
/// huge ones (ext4, Linux 6.18: 700 MB from disk in 330 and 175 ms, decode 42 and 54 tok/s).
Status bringIn(const Memory& memory, int64_t threads) {
  constexpr int populateRead = 22;  // MADV_POPULATE_READ, Linux 5.14
  std::atomic<uint64_t> next{0};
  std::atomic<int> fault{0};
  onLoadThreads(threads, [&] {
    for (uint64_t at = next.fetch_add(faultBytes); at < memory.bytes();
         at = next.fetch_add(faultBytes)) {
      const uint64_t count = std::min(faultBytes, memory.bytes() - at);
      // Older kernels: pages come when they are used.
      if (madvise(memory.data() + at, count, populateRead) != 0 && errno != EINVAL) fault = errno;
    }
  });
  if (fault == 0) return {};
  return failure("its pages cannot be read: %s", strerror(fault));
}

struct Descriptor {
  int fd;
  ~Descriptor() {
    if (fd >= 0) close(fd);
  }
};

}  // namespace

std::vector<uint8_t> packedHead(const ModelSpec& spec, const Plan& plan, const KernelTable& table,
                                const WeightPlaces& places, const FileStamp& source) {
  const size_t count = spec.weights.size();
  std::vector<uint8_t> head(sizeof(HeadStart) + count * sizeof(HeadWeight));
  HeadStart start = {};
  memcpy(start.magic, magic, sizeof start.magic);
  start.layoutVersion = packedLayoutVersion;
  start.weights = static_cast<uint32_t>(count);
  strncpy(start.layout, table.layout, sizeof start.layout - 1);
  strncpy(start.source, spec.packed.source.c_str(), sizeof start.source - 1);
  start.stamp = source;
  start.imageAt = imageAt(head.size());
  start.imageBytes = places.bytes;
  start.fileBytes = start.imageAt + start.imageBytes;
  memcpy(head.data(), &start, sizeof start);
  for (size_t id = 0; id < count; ++id) {
    const WeightSpec& weight = spec.weights[id];
    const HeadWeight entry = {places.matrixAt[id], places.vectorAt[id], weight.offset,
                              weight.rows, weight.cols, weight.type,
                              plan.usedAsMatrix[id] + 2u * plan.usedAsVector[id]};
    memcpy(head.data() + sizeof start + id * sizeof entry, &entry, sizeof entry);
  }
  return head;
}

Status mapPacked(const std::string& path, const std::vector<uint8_t>& head, uint64_t bytes,
                 int64_t threads, Memory& memory) {
  const Descriptor file{open(path.c_str(), O_RDONLY | O_CLOEXEC | O_NOFOLLOW | O_NONBLOCK)};
  if (file.fd < 0 && (errno == ENOENT || errno == ENOTDIR)) return {};
  if (file.fd < 0) return faultOf("it cannot be opened");
  QUETZAL_TRY(checkPacked(file.fd, head));
  const uint64_t at = startOf(head).imageAt;
  Memory mapped = Memory::ofFile(file.fd, at, bytes);
  if (!mapped.data()) return faultOf("it cannot be mapped");
  QUETZAL_TRY(bringIn(mapped, threads));
  // Who clears up takes the files first that were not used for the longest time.
  const timespec times[] = {{0, UTIME_OMIT}, {0, UTIME_NOW}};
  if (futimens(file.fd, times) != 0) {
    // A folder that cannot be written: then nothing is cleared up in it either.
  }
  memory = std::move(mapped);
  return {};
}

PackedWriter::PackedWriter(std::string path, std::vector<uint8_t> head, const Memory& data,
                           Done done)
    : path_(std::move(path)),
      unfinished_(path_ + ".unfinished"),
      head_(std::move(head)),
      data_(data),
      done_(std::move(done)),
      thread_([this] { run(); }) {}

PackedWriter::~PackedWriter() {
  isStopped_ = true;
  thread_.join();
}

void PackedWriter::run() {
  prepareThread("quetzal-store");
  // Steps go first, on cores and at the disk. Refused, the thread is as others.
  constexpr int ofThread = 1, idleClass = 3 << 13;  // IOPRIO_WHO_PROCESS, IOPRIO_CLASS_IDLE
  syscall(SYS_ioprio_set, ofThread, 0, idleClass);
  setpriority(PRIO_PROCESS, static_cast<id_t>(syscall(SYS_gettid)), 19);
  bool isWritten = false;
  Status status;
  try {
    status = write(isWritten);
  } catch (const std::exception& problem) {
    status = failure("Cannot write %.300s: %s", path_.c_str(), problem.what());
  }
  done_(std::move(status), isWritten);
}

/// The lock lies on the unfinished file itself and ends with its process, so that one left
/// behind by a crash is taken over.
Status PackedWriter::write(bool& isWritten) {
  const char* name = unfinished_.c_str();
  const Descriptor file{open(name, O_RDWR | O_CREAT | O_CLOEXEC | O_NOFOLLOW | O_NONBLOCK, 0600)};
  if (file.fd < 0) return failure("Cannot write %.300s: %s", name, strerror(errno));
  if (flock(file.fd, LOCK_EX | LOCK_NB) != 0) return {};
  struct stat ours, named;
  if (fstat(file.fd, &ours) != 0) return failure("Cannot write %.300s: %s", name, strerror(errno));
  if (Status status = checkOwner(ours); !status.isOk()) {
    unlink(name);  // for the next load, which then makes its own
    return failure("Cannot write %.300s: %s", name, status.message.c_str());
  }
  // Its last owner may have finished it before our lock.
  if (lstat(name, &named) != 0 || named.st_ino != ours.st_ino) return {};
  const Descriptor finished{open(path_.c_str(), O_RDONLY | O_CLOEXEC | O_NOFOLLOW | O_NONBLOCK)};
  Status status;
  if (finished.fd < 0 || !checkPacked(finished.fd, head_).isOk()) {
    status = fill(file.fd);
    if (status.isOk() && !isStopped_) {
      isWritten = rename(name, path_.c_str()) == 0;
      if (!isWritten) status = failure("Cannot write %.300s: %s", path_.c_str(), strerror(errno));
    }
  }
  if (!isWritten) unlink(name);
  return status;
}

Status PackedWriter::fill(int fd) {
  const uint64_t at = startOf(head_).imageAt;
  const uint64_t total = startOf(head_).fileBytes;
  const bool isReserved = ftruncate(fd, 0) == 0 &&
      (fallocate(fd, 0, 0, static_cast<off_t>(total)) == 0 || errno == EOPNOTSUPP);
  if (!isReserved) {
    return failure("Cannot write %.300s: needs %llu bytes of disk: %s", unfinished_.c_str(),
                   static_cast<unsigned long long>(total), strerror(errno));
  }
  QUETZAL_TRY(put(fd, head_.data(), head_.size(), 0));
  for (uint64_t done = 0; done < data_.bytes() && !isStopped_; done += pieceBytes) {
    const uint64_t count = std::min(pieceBytes, data_.bytes() - done);
    QUETZAL_TRY(put(fd, data_.data() + done, count, at + done));
    // The piece goes to the disk while the next is copied, and the one before has arrived.
    sync_file_range(fd, at + done, count, SYNC_FILE_RANGE_WRITE);
    if (done >= pieceBytes) {
      sync_file_range(fd, at + done - pieceBytes, pieceBytes,
                      SYNC_FILE_RANGE_WAIT_BEFORE | SYNC_FILE_RANGE_WRITE |
                          SYNC_FILE_RANGE_WAIT_AFTER);
    }
  }
  if (isStopped_ || fsync(fd) == 0) return {};
  return failure("Cannot write %.300s: %s", unfinished_.c_str(), strerror(errno));
}

Status PackedWriter::put(int fd, const uint8_t* from, uint64_t count, uint64_t at) {
  for (uint64_t done = 0; done < count;) {
    const ssize_t put = pwrite(fd, from + done, count - done, static_cast<off_t>(at + done));
    if (put < 0 && errno == EINTR) continue;
    if (put <= 0) {
      return failure("Cannot write %.300s: %s", unfinished_.c_str(), strerror(errno));
    }
    done += put;
  }
  return {};
}

}  // namespace quetzal
