// What samples that are finished take in this process, and everything they refer to: stacks and
// their frames, the entries of profiles, and what waits in streams.
//
// It is counted where a thing is made and freed, so what many sessions share counts once, whoever
// of them holds it last. Nothing here gives or takes memory: those who want more of it ask first
// what is left, and lose samples (counted) when nothing is. Between asking and taking others may
// take, so the limit is overstepped by what a few threads add at a time: some batches of samples.
//
// Thread rules: thread-safe; a charge has one owner.
#pragma once

#include <atomic>
#include <cstddef>
#include <cstdint>
#include <utility>

namespace lbrd::daemon {

// Of the limit: what a user other than an admin may fill, so that one who fills it keeps no admin
// from a profile.
enum class MemoryShare : uint8_t { kWhole, kThreeQuarters };

class SampleMemory {
 public:
  static constexpr size_t kDefaultLimit = size_t{512} << 20;

  // Without a limit until one is set: a process that reads a recording ends with it.
  static SampleMemory& OfProcess();

  void set_limit(size_t bytes) { limit_.store(bytes, std::memory_order_relaxed); }
  size_t limit() const { return limit_.load(std::memory_order_relaxed); }
  size_t bytes() const { return bytes_.load(std::memory_order_relaxed); }
  size_t left(MemoryShare share) const {
    const size_t whole = limit();
    const size_t most = share == MemoryShare::kWhole ? whole : whole / 4 * 3;
    const size_t used = bytes();
    return used < most ? most - used : 0;
  }

 private:
  friend class MemoryCharge;

  std::atomic<size_t> bytes_ = 0;
  std::atomic<size_t> limit_ = SIZE_MAX;
};

// So many bytes of it, for as long as this lives.
class MemoryCharge {
 public:
  explicit MemoryCharge(size_t bytes = 0) { Resize(bytes); }
  ~MemoryCharge() { Resize(0); }
  MemoryCharge(MemoryCharge&& other) noexcept : bytes_(std::exchange(other.bytes_, 0)) {}
  MemoryCharge& operator=(MemoryCharge&& other) noexcept {
    std::swap(bytes_, other.bytes_);
    return *this;
  }

  void Resize(size_t bytes) {
    if (bytes == bytes_) return;
    // What goes below zero comes round again.
    SampleMemory::OfProcess().bytes_.fetch_add(bytes - bytes_, std::memory_order_relaxed);
    bytes_ = bytes;
  }
  size_t bytes() const { return bytes_; }

 private:
  size_t bytes_ = 0;
};

}  // namespace lbrd::daemon
