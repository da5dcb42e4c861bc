#include "daemon/thinning.h"

#include <gtest/gtest.h>

#include <cmath>

namespace lbrd::daemon {
namespace {

TEST(ThinningTest, KeepsAllAtProbabilityOne) {
  Thinning thinning(1);
  for (int i = 0; i < 100; ++i) EXPECT_TRUE(thinning.Keep(0, 1));
}

TEST(ThinningTest, TheNumberKeptIsWithinOneOfItsExpectation) {
  for (uint64_t seed = 0; seed < 20; ++seed) {
    Thinning thinning(seed);
    for (const uint32_t cpu : {0u, 3u, UINT32_MAX}) {
      int kept = 0;
      for (int i = 0; i < 1000; ++i) kept += thinning.Keep(cpu, 99.0 / 999) ? 1 : 0;
      EXPECT_LE(std::abs(kept - 1000 * 99.0 / 999), 1) << seed << " " << cpu;
    }
  }
}

// Over all starts each single sample is kept as often as its probability says, also where that
// changes from sample to sample: sums of weight / probability are true.
TEST(ThinningTest, EverySampleHasItsProbability) {
  constexpr int kSeeds = 20'000;
  const double probabilities[] = {0.5, 0.1, 0.9, 0.3, 0.3, 0.05};
  int kept[6] = {};
  for (uint64_t seed = 0; seed < kSeeds; ++seed) {
    Thinning thinning(seed * 7919);
    for (int i = 0; i < 6; ++i) kept[i] += thinning.Keep(0, probabilities[i]) ? 1 : 0;
  }
  for (int i = 0; i < 6; ++i) {
    const double p = probabilities[i];
    // Five standard errors.
    EXPECT_NEAR(kept[i], kSeeds * p, 5 * std::sqrt(kSeeds * p * (1 - p))) << i;
  }
}

TEST(ThinningTest, CpusBeginAtDifferentPlaces) {
  Thinning thinning(1);
  int first = 0;
  for (uint32_t cpu = 0; cpu < 1000; ++cpu) first += thinning.Keep(cpu, 0.5) ? 1 : 0;
  EXPECT_GT(first, 400);
  EXPECT_LT(first, 600);
}

}  // namespace
}  // namespace lbrd::daemon
