// The only source of chance in the simulation: SplitMix64 (Steele, Lea, Flood, 2014). One seed, one
// sequence, on every machine and with every library.
//
// Thread rules: one owner.
#pragma once

#include <cstdint>

namespace lbrd::sim {

class Random {
 public:
  explicit Random(uint64_t seed) : state_(seed) {}

  uint64_t Next() {
    uint64_t z = (state_ += 0x9e3779b97f4a7c15);
    z = (z ^ (z >> 30)) * 0xbf58476d1ce4e5b9;
    z = (z ^ (z >> 27)) * 0x94d049bb133111eb;
    return z ^ (z >> 31);
  }
  // 0 to bound - 1; bound 0: 0. Biased by less than bound / 2^64.
  uint64_t Below(uint64_t bound) {
    return static_cast<uint64_t>((static_cast<unsigned __int128>(Next()) * bound) >> 64);
  }
  uint64_t Between(uint64_t least, uint64_t most) { return least + Below(most - least + 1); }
  bool Chance(uint32_t per_million) { return Below(1'000'000) < per_million; }
  // Around `mean`, from a half to one and a half of it; at least 1.
  uint64_t Around(uint64_t mean) {
    return mean < 2 ? 1 : Between(mean - mean / 2, mean + mean / 2);
  }

 private:
  uint64_t state_;
};

}  // namespace lbrd::sim
