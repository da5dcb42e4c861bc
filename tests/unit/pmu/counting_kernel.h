// Events that count, and nothing else, for many threads at once: a table of descriptors, each with
// a lock, whose numbers are given out again at once, so that a use after Close() hits another event
// and its counts no longer add up.
//
// attr.config names the tree an event belongs to; Tick() counts for an event and, if it is enabled,
// for its tree: what a tree's events must add up to.
//
// Thread rules: thread-safe.
#pragma once

#include <array>
#include <atomic>
#include <cerrno>
#include <memory>
#include <mutex>
#include <span>
#include <string>
#include <vector>

#include "absl/status/statusor.h"
#include "pmu/kernel.h"

namespace lbrd::pmu {

class CountingKernel : public Kernel {
 public:
  static constexpr int kSlots = 4096;
  static constexpr uint64_t kTrees = uint64_t{1} << 20;

  CountingKernel() : truth_(std::make_unique<std::atomic<uint64_t>[]>(kTrees)) {
    for (int fd = kSlots - 1; fd >= 0; --fd) free_.push_back(fd);
  }

  // One more event on descriptor `fd`, if it is open: seen by it and by its tree if it counts.
  void Tick(int fd) {
    Slot& slot = slots_[fd];
    const std::lock_guard lock(slot.mutex);
    if (!slot.open) return;
    ++slot.elapsed;
    if (!slot.enabled) return;
    ++slot.value;
    truth_[slot.tree].fetch_add(1, std::memory_order_relaxed);
  }
  uint64_t truth(uint64_t tree) const { return truth_[tree].load(std::memory_order_relaxed); }
  int open_descriptors() const { return open_.load(); }
  int misuses() const { return misuses_.load(); }

  int OpenEvent(const perf_event_attr& attr, int32_t, int32_t, unsigned long) override {
    int fd;
    {
      const std::lock_guard lock(free_mutex_);
      if (free_.empty()) return -EMFILE;
      fd = free_.back();
      free_.pop_back();
    }
    Slot& slot = slots_[fd];
    const std::lock_guard lock(slot.mutex);
    slot = Slot::Contents{.open = true, .enabled = attr.disabled == 0, .tree = attr.config};
    ++open_;
    return fd;
  }
  void Close(int fd) override {
    {
      Slot& slot = slots_[fd];
      const std::lock_guard lock(slot.mutex);
      if (!slot.open || slot.enabled) ++misuses_;
      slot.open = false;
    }
    --open_;
    const std::lock_guard lock(free_mutex_);
    free_.push_back(fd);
  }
  int Control(int fd, unsigned long request, uint64_t) override {
    Slot& slot = slots_[fd];
    const std::lock_guard lock(slot.mutex);
    if (!slot.open) ++misuses_;
    if (request == PERF_EVENT_IOC_ENABLE) slot.enabled = true;
    if (request == PERF_EVENT_IOC_DISABLE) slot.enabled = false;
    return 0;
  }
  int64_t ReadCounts(int fd, std::span<uint64_t> out) override {
    Slot& slot = slots_[fd];
    const std::lock_guard lock(slot.mutex);
    if (!slot.open) ++misuses_;
    out[0] = slot.value;
    out[1] = slot.elapsed;
    out[2] = slot.value;
    return 24;
  }
  void Signal(int fd) override {
    if (fd >= 0 && fd < static_cast<int>(signals_.size())) ++signals_[fd];
  }
  // How often Signal(fd) was called, for `fd` below 8.
  uint64_t signals(int fd) const { return signals_[fd]; }

  int OpenPid(int32_t) override { return -ENOSYS; }
  int OpenSignal() override { return -ENOSYS; }
  int OpenFolder(const std::string&) override { return -ENOSYS; }
  uint64_t DescriptorLimit() override { return kSlots; }
  void* MapRing(int, uint64_t, int* error) override {
    *error = ENOSYS;
    return nullptr;
  }
  void UnmapRing(void*, uint64_t) override {}
  int Poll(std::span<pollfd>, int) override { return 0; }
  uint64_t Now() override { return 0; }
  uint64_t PageBytes() override { return 4096; }
  absl::StatusOr<std::string> ReadFile(const std::string& path, uint64_t) override {
    return absl::NotFoundError(path);
  }
  absl::StatusOr<std::string> ReadLink(const std::string& path) override {
    return absl::NotFoundError(path);
  }
  absl::StatusOr<std::vector<int32_t>> ListNumbers(const std::string& folder) override {
    return absl::NotFoundError(folder);
  }

 private:
  struct Slot {
    struct Contents {
      bool open = false;
      bool enabled = false;
      uint64_t tree = 0;
    };
    Slot& operator=(const Contents& contents) {
      open = contents.open;
      enabled = contents.enabled;
      tree = contents.tree;
      value = elapsed = 0;
      return *this;
    }
    std::mutex mutex;
    bool open = false;
    bool enabled = false;
    uint64_t tree = 0;
    uint64_t value = 0;
    uint64_t elapsed = 0;
  };

  std::array<Slot, kSlots> slots_;
  std::mutex free_mutex_;
  std::vector<int> free_;
  std::unique_ptr<std::atomic<uint64_t>[]> truth_;
  std::atomic<int> open_ = 0;
  std::atomic<int> misuses_ = 0;
  std::array<std::atomic<uint64_t>, 8> signals_{};
};

}  // namespace lbrd::pmu
