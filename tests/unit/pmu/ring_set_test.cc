#include "pmu/ring_set.h"

#include <gtest/gtest.h>

#include <memory>
#include <optional>
#include <vector>

#include "fake_kernel.h"
#include "wire_records.h"

namespace lbrd::pmu {
namespace {

class RingSetTest : public ::testing::Test {
 protected:
  RingSetTest()
      : rings_(kernel_, [](const perf_event_header* header, SampleId* who, uint32_t* event) {
          *event = 0;
          const auto peeked = PeekRecord(header, WireSampleFormat());
          if (peeked.ok()) *who = *peeked;
          return peeked.ok();
        }) {}

  // A ring of `cpu` with one sample.
  Ring* RingWithSample(int32_t cpu, uint64_t time) {
    const perf_event_attr attr{};
    int error = 0;
    events_.push_back(Event::Open(kernel_, attr, {.cpu = cpu}, &error));
    EXPECT_EQ(error, 0);
    const absl::StatusOr<Ring*> ring = rings_.Map(*events_.back(), 4 * FakeKernel::kPage, "a test");
    EXPECT_TRUE(ring.ok()) << ring.status();
    EXPECT_TRUE(kernel_.Write(cpu, Wire({.time = time, .cpu = static_cast<uint32_t>(cpu)})));
    return *ring;
  }
  // The time of the next record, which stays in use; 0: there is none.
  uint64_t Next(const Ring** ring) {
    const RingOrder::Next* next = rings_.order().Pop();
    if (next == nullptr) return 0;
    *ring = next->ring;
    return next->who.time;
  }

  FakeKernel kernel_;
  std::vector<std::shared_ptr<Event>> events_;
  RingSet rings_;
};

TEST_F(RingSetTest, ARingIsMappedAsLongAsARecordOfItIsHeld) {
  Ring* const first = RingWithSample(0, 10);
  Ring* const second = RingWithSample(1, 20);
  rings_.order().Drain();
  const Ring* from = nullptr;
  ASSERT_EQ(Next(&from), 10u);
  EXPECT_EQ(from, first);
  const std::optional<KeptRecord> of_first = rings_.Hold(*from);
  ASSERT_TRUE(of_first.has_value());
  ASSERT_EQ(Next(&from), 20u);
  EXPECT_EQ(from, second);
  const std::optional<KeptRecord> of_second = rings_.Hold(*from);
  ASSERT_TRUE(of_second.has_value());
  EXPECT_EQ(Next(&from), 0u);

  rings_.Retire(first);
  rings_.UnmapDrained();
  EXPECT_EQ(kernel_.mapped_rings(), 2u);
  rings_.LetGo(*of_second);
  rings_.UnmapDrained();
  EXPECT_EQ(kernel_.mapped_rings(), 2u) << "the other one's";
  rings_.LetGo(*of_first);
  rings_.UnmapDrained();
  EXPECT_EQ(kernel_.mapped_rings(), 1u);
  rings_.Retire(second);
  rings_.UnmapDrained();
  EXPECT_EQ(kernel_.mapped_rings(), 0u);
}

}  // namespace
}  // namespace lbrd::pmu
