// Injected failures: any call of the kernel interface fails on order, at its n-th use or by chance.
//
// By chance means by the seed: the same run fails in the same places.
//
// Thread rules: one owner (SimKernel, under its lock).
#pragma once

#include <array>
#include <cstddef>
#include <cstdint>
#include <vector>

#include "tests/sim/random.h"

namespace lbrd::sim {

enum class Call : uint8_t {
  kOpenEvent,
  kOpenPid,
  kOpenSignal,
  kControl,
  kReadCounts,
  kMapRing,
  kPoll,
  kReadFile,
  kListNumbers,
};
inline constexpr size_t kCalls = 9;

class Faults {
 public:
  explicit Faults(uint64_t seed) : random_(seed) {}

  // The n-th call from now on (1: the next) fails with `error`, once.
  void FailNth(Call call, uint64_t n, int error);
  // Every call fails with `error` so many times in a million; 0 ends it. Several errors may be set.
  void FailByChance(Call call, uint32_t per_million, int error);
  void Clear();

  // Counts a call. 0, or the errno with which it fails.
  int Next(Call call);
  uint64_t calls(Call call) const { return uses_[static_cast<size_t>(call)]; }
  uint64_t injected() const { return injected_; }

 private:
  struct Nth {
    uint64_t at;
    int error;
  };
  struct Chance {
    uint32_t per_million;
    int error;
  };
  struct Plan {
    std::vector<Nth> nth;
    std::vector<Chance> chances;
  };

  Random random_;
  std::array<Plan, kCalls> plans_;
  std::array<uint64_t, kCalls> uses_{};
  uint64_t injected_ = 0;
};

}  // namespace lbrd::sim
