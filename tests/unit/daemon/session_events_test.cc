#include "daemon/session_events.h"

#include <gtest/gtest.h>

#include "absl/strings/str_cat.h"
#include "daemon/session_source.h"

namespace lbrd::daemon {
namespace {

v1::SessionSpec TwoEvents() {
  v1::SessionSpec spec;
  spec.mutable_target()->mutable_all_cpus();
  spec.set_event("cpu-clock");
  spec.set_frequency_hz(99);
  v1::EventSpec* second = spec.add_more_events();
  second->set_event("page-faults");
  second->set_period(5);
  return spec;
}

TEST(SessionEvents, EachHasItsOwnRateAndTheRestOfTheSpec) {
  const std::vector<v1::SessionSpec> each = SpecPerEvent(TwoEvents());
  ASSERT_EQ(each.size(), 2u);
  EXPECT_EQ(each[0].event(), "cpu-clock");
  EXPECT_EQ(each[0].frequency_hz(), 99u);
  EXPECT_EQ(each[1].event(), "page-faults");
  EXPECT_EQ(each[1].period(), 5u);
  EXPECT_EQ(each[1].frequency_hz(), 0u);
  EXPECT_TRUE(each[1].target().has_all_cpus());
  EXPECT_TRUE(each[0].more_events().empty());
  v1::SessionSpec again;
  SetEvents(each, &again);
  EXPECT_EQ(again.SerializeAsString(), TwoEvents().SerializeAsString());
}

TEST(SessionEvents, DefaultsAreEachEventsOwn) {
  v1::SessionSpec spec = TwoEvents();
  spec.set_frequency_hz(0);
  spec.mutable_more_events(0)->clear_period();
  spec.add_more_events()->set_event("mem:0x1000/8:rw");
  const auto checked = CheckSpec(spec, false);
  ASSERT_TRUE(checked.ok()) << checked.status();
  EXPECT_EQ(checked->frequency_hz(), 999u);
  EXPECT_EQ(checked->more_events(0).frequency_hz(), 999u);
  EXPECT_EQ(checked->more_events(1).period(), 1u);
}

TEST(SessionEvents, WhatIsWrongNamesTheEvent) {
  v1::SessionSpec spec = TwoEvents();
  spec.mutable_more_events(0)->set_frequency_hz(50);
  EXPECT_EQ(CheckSpec(spec, false).status().message(),
            "page-faults: frequency_hz and period exclude each other");
  spec = TwoEvents();
  spec.mutable_more_events(0)->set_event("cpu-clock");
  EXPECT_EQ(CheckSpec(spec, false).status().message(),
            "more_events: 'cpu-clock' is asked for twice");
  spec.mutable_more_events(0)->clear_event();
  EXPECT_EQ(CheckSpec(spec, false).status().message(),
            "event: where there are several, each needs its name");
}

TEST(SessionEvents, ThereAreEightAtMost) {
  v1::SessionSpec spec = TwoEvents();
  for (size_t i = 2; i < kMaxSessionEvents; ++i) {
    spec.add_more_events()->set_event(absl::StrCat("event-", i));
  }
  EXPECT_TRUE(CheckSpec(spec, false).ok());
  spec.add_more_events()->set_event("one more");
  EXPECT_EQ(CheckSpec(spec, false).status().code(), absl::StatusCode::kInvalidArgument);
}

}  // namespace
}  // namespace lbrd::daemon
