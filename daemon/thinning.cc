#include "daemon/thinning.h"

namespace lbrd::daemon {

// SplitMix64 (Steele, Lea, Flood 2014).
uint64_t Thinning::Random() {
  uint64_t z = state_ += 0x9e3779b97f4a7c15;
  z = (z ^ (z >> 30)) * 0xbf58476d1ce4e5b9;
  z = (z ^ (z >> 27)) * 0x94d049bb133111eb;
  return z ^ (z >> 31);
}

bool Thinning::Keep(uint32_t cpu, double probability) {
  if (probability >= 1) return true;
  if (cpu >= kMaxCpus) cpu = kMaxCpus - 1;
  while (credit_.size() <= cpu) credit_.push_back(Random());
  const auto step = static_cast<uint64_t>(probability * 0x1p64);
  credit_[cpu] += step;
  return credit_[cpu] < step;  // it went over 1
}

}  // namespace lbrd::daemon
