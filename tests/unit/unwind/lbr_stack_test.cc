// Stacks of LBR windows against a known truth, over programs and hardware of every kind: nothing
// that is said to be sure is false.
#include "unwind/lbr_stack.h"

#include <tuple>

#include "gtest/gtest.h"
#include "tests/unit/unwind/lbr_walk.h"

namespace lbrd::unwind {
namespace {

constexpr uint64_t kSamples = 4000;

struct Hardware {
  uint32_t depth;
  sim::LbrKind kind;
};

class LbrStackOnWalk : public testing::TestWithParam<Hardware> {
 protected:
  WalkOptions Options(size_t max_depth) const {
    return {.lbr_depth = GetParam().depth, .kind = GetParam().kind, .max_depth = max_depth};
  }
};

TEST_P(LbrStackOnWalk, AChainOfDistinctFunctionsIsWhole) {
  const WalkScore score = ScoreWalk(ChainProgram(60), Options(61), 3 * kSamples);
  EXPECT_EQ(score.falsely_sure, 0u);
  EXPECT_EQ(score.likely_false, 0u);
  EXPECT_GE(score.whole * 100, score.samples * 95)
      << score.likely << " likely, " << score.cut << " cut";
}

TEST_P(LbrStackOnWalk, AChainDeeperThanTheContextHoldsInlineIsWhole) {
  const WalkScore score = ScoreWalk(ChainProgram(200), Options(201), 4 * kSamples);
  EXPECT_EQ(score.falsely_sure, 0u);
  EXPECT_GE(score.whole * 100, score.samples * 70)
      << score.likely << " likely, " << score.cut << " cut";
}

TEST_P(LbrStackOnWalk, TwoCallersAreNotTakenForOne) {
  const WalkScore score = ScoreWalk(TwoCallersProgram(60), Options(61), kSamples);
  EXPECT_EQ(score.falsely_sure, 0u);
  EXPECT_GT(score.likely, 0u);
}

TEST_P(LbrStackOnWalk, RecursionIsNeverSureBeyondTheWindow) {
  const WalkScore score = ScoreWalk(RecursionProgram(), Options(200), kSamples);
  EXPECT_EQ(score.falsely_sure, 0u);
  EXPECT_GT(score.whole, 0u);  // that which the window holds
}

TEST_P(LbrStackOnWalk, NeitherIsMutualRecursion) {
  const WalkScore score = ScoreWalk(MutualRecursionProgram(), Options(200), kSamples);
  EXPECT_EQ(score.falsely_sure, 0u);
}

TEST_P(LbrStackOnWalk, OrdinaryProgramsAreMostlyStitched) {
  for (const bool tails : {false, true}) {
    const WalkScore score = ScoreWalk(LayeredProgram(12, 20, tails), Options(34), kSamples);
    EXPECT_EQ(score.falsely_sure, 0u) << tails;
    EXPECT_GT(score.whole, kSamples / 4);
  }
}

TEST_P(LbrStackOnWalk, NothingSureIsFalseInRandomPrograms) {
  for (uint64_t seed = 1; seed <= 8; ++seed) {
    WalkOptions options = Options(80);
    options.seed = seed;
    const WalkScore score = ScoreWalk(RandomProgram(seed), options, kSamples);
    EXPECT_EQ(score.falsely_sure, 0u) << seed;
  }
}

TEST_P(LbrStackOnWalk, LongJumpsAreNotTakenForCalls) {
  WalkOptions options = Options(61);
  options.long_jump = 5'000;
  WalkScore score = ScoreWalk(ChainProgram(60), options, kSamples);
  EXPECT_EQ(score.falsely_sure, 0u);
  EXPECT_GT(score.whole, 0u);
  score = ScoreWalk(LayeredProgram(12, 20, true), options, kSamples);
  EXPECT_EQ(score.falsely_sure, 0u);
}

TEST_P(LbrStackOnWalk, NorAreFibers) {
  WalkOptions options = Options(61);
  options.fiber = 2'000;
  const WalkScore score = ScoreWalk(LayeredProgram(12, 40, false), options, kSamples);
  EXPECT_EQ(score.falsely_sure, 0u);
}

INSTANTIATE_TEST_SUITE_P(Hardware, LbrStackOnWalk,
                         testing::Values(Hardware{16, sim::LbrKind::kLegacy},
                                         Hardware{32, sim::LbrKind::kLegacy},
                                         Hardware{16, sim::LbrKind::kArchitectural},
                                         Hardware{32, sim::LbrKind::kArchitectural},
                                         Hardware{32, sim::LbrKind::kArchitecturalMinusOne}),
                         [](const auto& param) {
                           const char* kind = param.param.kind == sim::LbrKind::kLegacy ? "Legacy"
                                              : param.param.kind == sim::LbrKind::kArchitectural
                                                  ? "Architectural"
                                                  : "MinusOne";
                           return kind + std::to_string(param.param.depth);
                         });

}  // namespace
}  // namespace lbrd::unwind
