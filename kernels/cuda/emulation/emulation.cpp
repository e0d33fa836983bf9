#include "emulation.h"

#include <setjmp.h>
#include <signal.h>
#include <sys/mman.h>

#include <algorithm>
#include <cstdio>
#include <map>
#include <mutex>
#include <vector>

#if defined(__x86_64__)
// Saves what the callee must keep, swaps stacks. swapcontext would make a system call
// each time, a hundred times slower.
extern "C" void quetzalSwitch(void** saved, void* next);
asm(R"(
.text
.globl quetzalSwitch
.hidden quetzalSwitch
.type quetzalSwitch,@function
quetzalSwitch:
  pushq %rbp
  pushq %rbx
  pushq %r12
  pushq %r13
  pushq %r14
  pushq %r15
  movq %rsp, (%rdi)
  movq %rsi, %rsp
  popq %r15
  popq %r14
  popq %r13
  popq %r12
  popq %rbx
  popq %rbp
  ret
.size quetzalSwitch,.-quetzalSwitch
)");
#else
#error "The emulation switches stacks by x86-64 code; other machines need their own"
#endif

namespace quetzal::emulation {

Place place;

namespace {

constexpr uint64_t pageBytes = 4096;
constexpr uint64_t stackBytes = 128 << 10;
constexpr int threadsMax = 1024;

// --- guarded memory ---

struct Region {
  uint8_t* base;   // of the mapping
  uint64_t mapped;
  uint8_t* data;
  uint64_t bytes;
};

Region mapGuarded(uint64_t bytes) {
  const uint64_t held = (bytes + 15) / 16 * 16;
  const uint64_t pages = std::max<uint64_t>((held + pageBytes - 1) / pageBytes, 1) * pageBytes;
  void* base = mmap(nullptr, pages + 2 * pageBytes, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
  if (base == MAP_FAILED) return {};
  auto* begin = static_cast<uint8_t*>(base);
  if (mprotect(begin + pageBytes, pages, PROT_READ | PROT_WRITE) != 0) {
    munmap(base, pages + 2 * pageBytes);
    return {};
  }
  return {begin, pages + 2 * pageBytes, begin + pageBytes + pages - held, bytes};
}

std::mutex allocationsMutex;
std::map<const uint8_t*, Region>& allocations() {
  static std::map<const uint8_t*, Region> all;
  return all;
}

// --- fibers ---

enum class Wait : uint8_t { ready, barrier, warp, done };

struct AsyncCopy {
  void* dst;
  const void* src;
  unsigned bytes;
  int group;
};

struct Fiber {
  void* stack = nullptr;  // saved pointer
  Place place;
  Wait wait = Wait::ready;
  int line = 0;
  std::vector<AsyncCopy> copies;
  int groups = 0;  // committed so far
};

struct Warp {
  alignas(16) uint8_t slots[2][32][64];
  unsigned arrived = 0, mask = 0;
  unsigned generation = 0;
  int line = 0;
};

uint8_t* stacks = nullptr;
std::vector<Fiber> fibers(threadsMax);
Warp warps[threadsMax / 32];
int threads = 0;
Fiber* current = nullptr;
void* scheduler = nullptr;
const Launch* launch = nullptr;
char fault[320];

constexpr int sharedArraysMax = 16;
Region shared[sharedArraysMax];
uint64_t sharedTaken[sharedArraysMax];  // by this block; 0: not yet

sigjmp_buf escape;
volatile bool canEscape = false;
struct sigaction previousSegv, previousBus;

void yield() { quetzalSwitch(&current->stack, scheduler); }

void stopBlock(const char* text) {
  if (fault[0] == 0) std::snprintf(fault, sizeof fault, "%s", text);
  current->wait = Wait::done;
  for (;;) yield();
}

void fiberMain() {
  launch->kernel(launch->args);
  current->wait = Wait::done;
  for (;;) yield();
}

void* freshStack(int index) {
  auto* top = reinterpret_cast<uint64_t*>(stacks + (index + 1) * stackBytes);
  // Six saved registers and the address that `ret` takes; the ABI wants rsp % 16 == 8
  // at a function's first instruction.
  top -= 1;
  *--top = reinterpret_cast<uint64_t>(&fiberMain);
  for (int i = 0; i < 6; ++i) *--top = 0;
  return top;
}

void resume(Fiber& fiber) {
  current = &fiber;
  place = fiber.place;
  quetzalSwitch(&scheduler, fiber.stack);
}

void onBadAccess(int signal, siginfo_t* info, void*) {
  if (!canEscape) {
    sigaction(signal, signal == SIGSEGV ? &previousSegv : &previousBus, nullptr);
    return;  // the instruction faults again, for whoever was there before
  }
  canEscape = false;
  const auto* at = static_cast<const uint8_t*>(info->si_addr);
  char where[120] = "far from any allocation";
  for (int i = 0; i < sharedArraysMax; ++i) {
    const Region& region = shared[i];
    if (!region.base || at < region.base || at >= region.base + region.mapped) continue;
    std::snprintf(where, sizeof where, "%ld bytes from the begin of shared array %d (%llu bytes)",
                  static_cast<long>(at - region.data), i,
                  static_cast<unsigned long long>(sharedTaken[i]));
  }
  for (const auto& [begin, region] : allocations()) {
    if (at < region.base || at >= region.base + region.mapped) continue;
    std::snprintf(where, sizeof where, "%ld bytes from the begin of an allocation of %llu bytes",
                  static_cast<long>(at - region.data),
                  static_cast<unsigned long long>(region.bytes));
  }
  const Place& p = current->place;
  std::snprintf(fault, sizeof fault,
                "illegal address in block (%u, %u, %u) thread %u: %s", p.block.x, p.block.y,
                p.block.z, p.thread.x, where);
  siglongjmp(escape, 1);
}

struct Rng {
  uint64_t state;
  uint64_t next() {
    state ^= state << 13;
    state ^= state >> 7;
    state ^= state << 17;
    return state;
  }
};

void orderOf(int count, Rng& rng, int* out) {
  for (int i = 0; i < count; ++i) out[i] = launch->order == Order::reverse ? count - 1 - i : i;
  if (launch->order != Order::shuffled) return;
  for (int i = count - 1; i > 0; --i) {
    std::swap(out[i], out[rng.next() % static_cast<uint64_t>(i + 1)]);
  }
}

/// Runs the lanes of one warp until each is at the block's barrier or done.
void runWarp(int warp, Rng& rng) {
  int lanes[32];
  const int first = warp * 32, count = std::min(32, threads - first);
  for (;;) {
    bool ran = false;
    orderOf(count, rng, lanes);
    for (int i = 0; i < count; ++i) {
      Fiber& fiber = fibers[first + lanes[i]];
      if (fiber.wait != Wait::ready) continue;
      ran = true;
      resume(fiber);
      if (fault[0]) return;
    }
    if (!ran) break;
  }
  for (int i = 0; i < count; ++i) {
    if (fibers[first + i].wait != Wait::warp) continue;
    std::snprintf(fault, sizeof fault,
                  "warp operation at line %d waits for lanes %08x, lanes %08x came",
                  warps[warp].line, warps[warp].mask, warps[warp].arrived);
    return;
  }
}

void startBlock(Dim3 block) {
  for (int i = 0; i < threads; ++i) {
    Fiber& fiber = fibers[i];
    fiber.stack = freshStack(i);
    fiber.wait = Wait::ready;
    fiber.copies.clear();
    fiber.groups = 0;
    const auto t = static_cast<unsigned>(i);
    const Dim3& dim = launch->block;
    fiber.place = {{t % dim.x, t / dim.x % dim.y, t / dim.x / dim.y}, block, dim, launch->grid};
  }
  for (int i = 0; i < (threads + 31) / 32; ++i) warps[i].arrived = 0;
  std::fill(std::begin(sharedTaken), std::end(sharedTaken), 0);
}

/// One round: every thread gets to a barrier or ends. True while the block goes on.
bool runRound(Rng& rng) {
  const int count = (threads + 31) / 32;
  int order[threadsMax / 32];
  orderOf(count, rng, order);
  for (int i = 0; i < count; ++i) {
    runWarp(order[i], rng);
    if (fault[0]) return false;
  }
  int waiting = 0, line = 0;
  for (int i = 0; i < threads; ++i) {
    if (fibers[i].wait != Wait::barrier) continue;
    if (waiting++ > 0 && fibers[i].line != line) {
      std::snprintf(fault, sizeof fault, "threads wait at different barriers, lines %d and %d",
                    line, fibers[i].line);
      return false;
    }
    line = fibers[i].line;
  }
  if (waiting == 0) return false;
  if (waiting < threads) {
    std::snprintf(fault, sizeof fault,
                  "%d of %d threads wait at the barrier of line %d, the others have ended", waiting,
                  threads, line);
    return false;
  }
  for (int i = 0; i < threads; ++i) fibers[i].wait = Wait::ready;
  return true;
}

void runGrid(Rng& rng) {
  const Dim3& grid = launch->grid;
  const uint64_t blocks = uint64_t{grid.x} * grid.y * grid.z;
  for (uint64_t i = 0; i < blocks && !fault[0]; ++i) {
    const uint64_t at = launch->order == Order::reverse ? blocks - 1 - i : i;
    startBlock({static_cast<unsigned>(at % grid.x), static_cast<unsigned>(at / grid.x % grid.y),
                static_cast<unsigned>(at / grid.x / grid.y)});
    while (runRound(rng)) {}
  }
}

bool refuse() {
  const Dim3 &block = launch->block, &grid = launch->grid;
  const uint64_t count = uint64_t{block.x} * block.y * block.z;
  if (count < 1 || count > threadsMax || count % 32 != 0) {
    std::snprintf(fault, sizeof fault, "a block needs 32..1024 threads in whole warps, has %llu",
                  static_cast<unsigned long long>(count));
  } else if (grid.x < 1 || grid.y < 1 || grid.z < 1 || grid.y > 65535 || grid.z > 65535) {
    std::snprintf(fault, sizeof fault, "a grid of (%u, %u, %u) cannot be launched", grid.x, grid.y,
                  grid.z);
  } else if (launch->sharedBytes > 227 * 1024) {
    std::snprintf(fault, sizeof fault, "%u bytes of shared memory are more than a block can have",
                  launch->sharedBytes);
  }
  threads = static_cast<int>(count);
  return fault[0] != 0;
}

}  // namespace

const char* run(const Launch& what) {
  static std::mutex one;
  const std::lock_guard lock(one);
  fault[0] = 0;
  launch = &what;
  if (refuse()) return fault;
  if (!stacks) {
    void* memory = mmap(nullptr, stackBytes * threadsMax, PROT_READ | PROT_WRITE,
                        MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
    if (memory == MAP_FAILED) return "no memory for stacks";
    stacks = static_cast<uint8_t*>(memory);
  }
  struct sigaction action = {};
  action.sa_sigaction = onBadAccess;
  action.sa_flags = SA_SIGINFO | SA_NODEFER;
  sigaction(SIGSEGV, &action, &previousSegv);
  sigaction(SIGBUS, &action, &previousBus);
  Rng rng = {what.seed * 0x9E3779B97F4A7C15u + 0x1234567u};
  if (sigsetjmp(escape, 1) == 0) {
    canEscape = true;
    runGrid(rng);
  }
  canEscape = false;
  sigaction(SIGSEGV, &previousSegv, nullptr);
  sigaction(SIGBUS, &previousBus, nullptr);
  return fault;
}

void* guardedAlloc(uint64_t bytes) {
  const Region region = mapGuarded(bytes);
  if (!region.base) return nullptr;
  // Fresh pages are zero only by luck on a device; big ones stay untouched to save time.
  if (bytes <= 64 << 20) std::memset(region.data, 0xff, (bytes + 15) / 16 * 16);
  const std::lock_guard lock(allocationsMutex);
  allocations()[region.data] = region;
  return region.data;
}

bool guardedFree(void* pointer) {
  const std::lock_guard lock(allocationsMutex);
  const auto found = allocations().find(static_cast<uint8_t*>(pointer));
  if (found == allocations().end()) return false;
  munmap(found->second.base, found->second.mapped);
  allocations().erase(found);
  return true;
}

bool isAllocated(const void* pointer, uint64_t bytes) {
  const std::lock_guard lock(allocationsMutex);
  const auto* at = static_cast<const uint8_t*>(pointer);
  auto found = allocations().upper_bound(at);
  if (found == allocations().begin()) return false;
  const Region& region = (--found)->second;
  return at >= region.data && bytes <= region.bytes &&
      at + bytes <= region.data + region.bytes;
}

void syncThreads(int line) {
  current->wait = Wait::barrier;
  current->line = line;
  yield();
}

void* sharedArray(int index, uint64_t bytes) {
  if (index >= sharedArraysMax) stopBlock("more shared arrays than the emulation knows");
  if (sharedTaken[index] == 0) {
    Region& region = shared[index];
    const uint64_t held = (bytes + 15) / 16 * 16;
    if (!region.base || (region.bytes + 15) / 16 * 16 != held) {
      if (region.base) munmap(region.base, region.mapped);
      region = mapGuarded(bytes);
      if (!region.base) stopBlock("no memory for a shared array");
    }
    std::memset(region.data, 0xff, held);
    sharedTaken[index] = bytes;
    uint64_t total = 0;
    for (const uint64_t taken : sharedTaken) total += (taken + 15) / 16 * 16;
    if (total > launch->sharedBytes) {
      char text[160];
      std::snprintf(text, sizeof text, "shared arrays need %llu bytes, the launch gives %u",
                    static_cast<unsigned long long>(total), launch->sharedBytes);
      stopBlock(text);
    }
  } else if (sharedTaken[index] != bytes) {
    stopBlock("threads disagree about the size of a shared array");
  }
  return shared[index].data;
}

const uint8_t* exchange(unsigned mask, const void* own, unsigned bytes, int line) {
  const Place& p = current->place;
  const unsigned thread =
      p.thread.x + p.threads.x * (p.thread.y + p.threads.y * p.thread.z);
  Warp& warp = warps[thread / 32];
  const unsigned lane = thread % 32, generation = warp.generation;
  if (!((mask >> lane) & 1u)) stopBlock("a lane calls a warp operation whose mask lacks it");
  if (warp.arrived != 0 && (warp.mask != mask || warp.line != line)) {
    char text[160];
    std::snprintf(text, sizeof text,
                  "lanes of one warp are in different warp operations, lines %d and %d, masks "
                  "%08x and %08x", warp.line, line, warp.mask, mask);
    stopBlock(text);
  }
  warp.mask = mask;
  warp.line = line;
  std::memcpy(warp.slots[generation & 1][lane], own, bytes);
  warp.arrived |= 1u << lane;
  if (warp.arrived == mask) {
    warp.arrived = 0;
    ++warp.generation;
    for (unsigned i = 0; i < 32; ++i) {
      if (!((mask >> i) & 1u)) continue;
      Fiber& fiber = fibers[thread / 32 * 32 + i];
      if (fiber.wait == Wait::warp) fiber.wait = Wait::ready;
    }
  } else {
    current->wait = Wait::warp;
    yield();
  }
  return warp.slots[generation & 1][0];
}

void trap(const char* why) {
  stopBlock(why);
  __builtin_unreachable();
}

void asyncCopy(void* dst, const void* src, unsigned bytes) {
  current->copies.push_back({dst, src, bytes, current->groups});
}

void asyncCommit() { ++current->groups; }

void asyncWait(int groupsLeft) {
  std::vector<AsyncCopy> later;
  for (const AsyncCopy& copy : current->copies) {
    if (copy.group < current->groups - groupsLeft) {
      std::memcpy(copy.dst, copy.src, copy.bytes);
    } else {
      later.push_back(copy);
    }
  }
  current->copies.swap(later);
}

}  // namespace quetzal::emulation
