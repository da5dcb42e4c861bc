// Which samples of a flow a session that asked for fewer keeps, so that its estimates stay true.
//
// A sample of a flow is kept with probability p and its weight then multiplied by 1/p: whatever is
// summed over kept samples has the same expectation as over all of them (Horvitz and Thompson,
// 1952). Kept are not coins that come up heads but every 1/p-th on each CPU, from a random start
// (systematic sampling, Madow 1944): each sample has probability exactly p as before, and how many
// are kept never differs by more than one a CPU from p times those there were.
//
// p may change from one sample to the next (the flow's rate was raised or lowered): each sample has
// the p of its own moment, in the choice and in the weight.
//
// Memory: 8 bytes a CPU. Thread rules: one thread.
#pragma once

#include <cstdint>
#include <vector>

namespace lbrd::daemon {

class Thinning {
 public:
  // `seed`: of the random starts.
  explicit Thinning(uint64_t seed) : state_(seed) {}

  // Whether to keep the next sample of that CPU. 0 <= probability; from 1 on all are kept.
  bool Keep(uint32_t cpu, double probability);

 private:
  static constexpr uint32_t kMaxCpus = 1 << 16;  // beyond: they share one place
  uint64_t Random();

  uint64_t state_;
  std::vector<uint64_t> credit_;  // by CPU: in units of 2^-64 samples
};

}  // namespace lbrd::daemon
