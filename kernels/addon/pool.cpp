#include "pool.h"

#include <immintrin.h>
#include <linux/futex.h>
#include <pthread.h>
#include <sched.h>
#include <signal.h>
#include <sys/syscall.h>
#include <time.h>
#include <unistd.h>

#include <algorithm>
#include <climits>

namespace quetzal {
namespace {

/// About two phases of a small model: shorter gaps are spun through.
constexpr int64_t spinNs = 20'000;

/// How often one who sleeps looks whether those who work get on.
constexpr timespec lookEvery = {0, 50'000};

// state: phase in bits 40.., chunk count in bits 20..39, next chunk below.
uint64_t stateOf(int phase, int count) {
  return static_cast<uint64_t>(phase) << 40 | static_cast<uint64_t>(count) << 20;
}
int phaseOf(uint64_t state) { return static_cast<int>(state >> 40); }
int countOf(uint64_t state) { return static_cast<int>(state >> 20 & 0xfffff); }
int nextOf(uint64_t state) { return static_cast<int>(state & 0xfffff); }

/// Nanoseconds of a clock, or -1.
int64_t clockNs(clockid_t clock) {
  timespec time;
  if (clock_gettime(clock, &time) != 0) return -1;
  return time.tv_sec * 1'000'000'000LL + time.tv_nsec;
}

int64_t nowNs() { return clockNs(CLOCK_MONOTONIC); }

/// `timeout` null: for ever.
void futexWait(std::atomic<uint32_t>& word, uint32_t expected, const timespec* timeout) {
  syscall(SYS_futex, reinterpret_cast<uint32_t*>(&word), FUTEX_WAIT_PRIVATE, expected, timeout,
          nullptr, 0);
}

void futexWakeAll(std::atomic<uint32_t>& word) {
  syscall(SYS_futex, reinterpret_cast<uint32_t*>(&word), FUTEX_WAKE_PRIVATE, INT_MAX, nullptr,
          nullptr, 0);
}

pid_t threadId() { return static_cast<pid_t>(syscall(SYS_gettid)); }

/// Processor time of a thread of this process, or -1 (clock_gettime(2): a thread's clock
/// is made of its id).
int64_t processorNs(pid_t thread) {
  return clockNs((~static_cast<clockid_t>(thread) << 3) | 6);
}

/// Moves a thread (0: this one) to a core; it may go anywhere afterwards that it might.
bool moveTo(pid_t thread, int core) {
  cpu_set_t allowed, there;
  if (sched_getaffinity(thread, sizeof allowed, &allowed) != 0) return false;
  if (!CPU_ISSET(core, &allowed)) return false;
  CPU_ZERO(&there);
  CPU_SET(core, &there);
  if (sched_setaffinity(thread, sizeof there, &there) != 0) return false;
  sched_setaffinity(thread, sizeof allowed, &allowed);
  return true;
}

/// Linux's `struct sched_attr`, first version; the C library does not declare it.
struct SchedAttr {
  uint32_t size, policy;
  uint64_t flags;
  int32_t nice;
  uint32_t priority;
  uint64_t runtimeNs, deadlineNs, periodNs;
};

constexpr uint64_t sliceNs = 20'000'000;

/// Asks the scheduler for long slices. The share of the core stays the same, but a
/// thread that wakes up with the usual slice (about 3 ms) goes first: the event
/// loops of this and other services answer at once on cores that compute steps.
/// Kernels before 6.12 ignore the wish, and nothing depends on it.
void askForLongSlices() {
  SchedAttr attr{};
  attr.size = sizeof attr;
  if (syscall(SYS_sched_getattr, 0, &attr, sizeof attr, 0) != 0) return;
  if (attr.policy != SCHED_OTHER) return;
  attr.runtimeNs = sliceNs;
  syscall(SYS_sched_setattr, 0, &attr, 0);
}

}  // namespace

void prepareThread(const char* name) {
  askForLongSlices();
  sigset_t all;
  sigfillset(&all);
  pthread_sigmask(SIG_BLOCK, &all, nullptr);
  pthread_setname_np(pthread_self(), name);
}

Pool::Pool(int threads) : workers_(std::make_unique<Worker[]>(threads)) {
  for (int i = 0; i < threads; ++i) workers_[i].seenNs.resize(threads);
  try {
    helpers_.reserve(threads - 1);
    for (int worker = 1; worker < threads; ++worker) {
      helpers_.emplace_back([this, worker] { help(worker); });
    }
  } catch (...) {
    stop();
    throw;
  }
}

Pool::~Pool() { stop(); }

void Pool::stop() {
  stopping_.store(true);
  wakeAll();
  for (std::thread& helper : helpers_) helper.join();
  helpers_.clear();
}

void Pool::run(PhasedJob& job) {
  workers_[0].thread.store(threadId(), std::memory_order_relaxed);
  job_.store(&job, std::memory_order_relaxed);
  done_.store(false, std::memory_order_relaxed);
  openPhase(0);
  while (true) {
    // Read before `done_`, so that its change cannot slip in between.
    const uint32_t epoch = epoch_.load(std::memory_order_seq_cst);
    if (done_.load(std::memory_order_seq_cst)) return;
    if (!takeChunk(0)) waitForChange(epoch, 0);
  }
}

void Pool::help(int worker) {
  prepareThread("quetzal-help");
  workers_[worker].thread.store(threadId(), std::memory_order_relaxed);
  while (!stopping_.load(std::memory_order_acquire)) {
    const uint32_t epoch = epoch_.load(std::memory_order_seq_cst);
    if (!takeChunk(worker)) waitForChange(epoch, worker);
  }
}

bool Pool::takeChunk(int worker) {
  uint64_t state = state_.load(std::memory_order_acquire);
  while (nextOf(state) < countOf(state)) {
    if (!state_.compare_exchange_weak(state, state + 1, std::memory_order_acq_rel,
                                      std::memory_order_acquire)) {
      continue;
    }
    const int phase = phaseOf(state);
    std::atomic<int>& core = workers_[worker].core;
    core.store(sched_getcpu(), std::memory_order_relaxed);
    job_.load(std::memory_order_relaxed)->run(phase, nextOf(state), worker);
    core.store(-1, std::memory_order_relaxed);
    if (unfinished_.fetch_sub(1, std::memory_order_acq_rel) == 1) openPhase(phase + 1);
    return true;
  }
  return false;
}

void Pool::openPhase(int phase) {
  PhasedJob& job = *job_.load(std::memory_order_relaxed);
  const int phases = job.phases();
  int count = 0;
  while (phase < phases && (count = job.chunks(phase)) == 0) ++phase;
  const bool isLast = phase >= phases;
  if (isLast) {
    state_.store(stateOf(0, 0), std::memory_order_seq_cst);
    done_.store(true, std::memory_order_seq_cst);
  } else {
    unfinished_.store(count, std::memory_order_relaxed);
    state_.store(stateOf(phase, count), std::memory_order_seq_cst);
  }
  // A single chunk is taken by the opener itself.
  if (isLast || count > 1) {
    epoch_.fetch_add(1, std::memory_order_seq_cst);
    if (sleepers_.load(std::memory_order_seq_cst) > 0) futexWakeAll(epoch_);
  }
}

void Pool::wakeAll() {
  epoch_.fetch_add(1);
  futexWakeAll(epoch_);
}

void Pool::waitForChange(uint32_t epoch, int worker) {
  const auto isWaiting = [&] {
    const uint64_t state = state_.load(std::memory_order_seq_cst);
    return nextOf(state) >= countOf(state) && epoch_.load(std::memory_order_relaxed) == epoch &&
        !stopping_.load(std::memory_order_relaxed);
  };
  const int64_t until = nowNs() + spinNs;
  do {
    for (int i = 0; i < 32; ++i) {
      if (!isWaiting()) return;
      _mm_pause();
    }
  } while (nowNs() < until);
  std::vector<int64_t>& seenNs = workers_[worker].seenNs;
  std::fill(seenNs.begin(), seenNs.end(), -1);
  sleepers_.fetch_add(1, std::memory_order_seq_cst);
  while (isWaiting()) {
    const bool isDone = done_.load(std::memory_order_relaxed);
    if (!isDone) helpStalled(worker);
    futexWait(epoch_, epoch, isDone ? nullptr : &lookEvery);
  }
  sleepers_.fetch_sub(1, std::memory_order_seq_cst);
}

/// Gives this core to a worker that has a chunk and did not run since the last look, and
/// takes its place: whoever runs there will not for long, or the scheduler moves on.
void Pool::helpStalled(int worker) {
  std::vector<int64_t>& seenNs = workers_[worker].seenNs;
  const int here = sched_getcpu();
  if (here < 0) return;
  for (int other = 0; other < threads(); ++other) {
    const int there = workers_[other].core.load(std::memory_order_relaxed);
    if (other == worker || there < 0) continue;
    const pid_t thread = workers_[other].thread.load(std::memory_order_relaxed);
    const int64_t ns = processorNs(thread);
    const bool isStalled = ns >= 0 && ns == seenNs[other];
    seenNs[other] = ns;
    if (!isStalled || isMoving_.test_and_set(std::memory_order_acquire)) continue;
    if (moveTo(thread, here) && there != here) moveTo(0, there);
    isMoving_.clear(std::memory_order_release);
    return;
  }
}

}  // namespace quetzal
