#include "client/summary.h"

#include "absl/strings/str_split.h"
#include "client/utf8.h"
#include "gmock/gmock.h"
#include "gtest/gtest.h"

namespace lbrd::client {
namespace {

using ::testing::HasSubstr;
using ::testing::Not;

void AddCount(google::protobuf::RepeatedPtrField<v1::Count>* counts, const char* name,
              uint64_t value) {
  v1::Count* count = counts->Add();
  count->set_name(name);
  count->set_value(value);
}

v1::Session CleanSession() {
  v1::Session session;
  session.set_name("web-1");
  session.set_state(v1::SESSION_STATE_STOPPED);
  session.set_cpus(4);
  session.mutable_running_time()->set_seconds(10);
  v1::SessionEvent* event = session.add_events();
  event->set_name("cycles");
  event->set_stack_mode(v1::STACK_MODE_LBR);
  v1::SessionStats* stats = session.mutable_stats();
  stats->set_samples_generated(12345);
  stats->set_samples_seen(12345);
  stats->set_samples_delivered(12345);
  stats->set_user_samples(12000);
  stats->set_user_samples_complete(12000);
  AddCount(stats->mutable_stacks_by_verdict(), "complete", 12345);
  return session;
}

TEST(Summary, IsBriefWhereAllIsWell) {
  EXPECT_EQ(RenderSummary(CleanSession(), 0),
            "web-1: 12,345 samples of cycles in 10.0 s on 4 CPUs. None lost, none dropped. User "
            "stacks from lbr. All 12,000 user stacks (100.0%) reach their thread's start. Nothing "
            "came late, never throttled, no mapping or name records lost.");
}

TEST(Summary, SaysOnceWhatIsTheSameOfSeveralEvents) {
  v1::Session session = CleanSession();
  const auto refuse = [](v1::SessionEvent* event) {
    event->set_stack_mode(v1::STACK_MODE_DWARF);
    v1::Refusal* refusal = event->add_refusals();
    refusal->set_mode(v1::STACK_MODE_LBR);
    refusal->set_why(event->name() + " has none");
  };
  for (const char* name : {"cpu-clock", "page-faults"}) {
    v1::SessionEvent* event = session.add_events();
    event->set_name(name);
    refuse(event);
  }
  EXPECT_THAT(RenderSummary(session, 0),
              HasSubstr("12,345 samples of cycles, cpu-clock and page-faults in"));
  EXPECT_THAT(RenderSummary(session, 0),
              HasSubstr("User stacks of cycles from lbr. User stacks of cpu-clock and page-faults "
                        "from dwarf (lbr: refused: cpu-clock has none)."));
  refuse(session.mutable_events(0));
  EXPECT_THAT(RenderSummary(session, 0),
              HasSubstr("User stacks of cycles, cpu-clock and page-faults from dwarf (lbr"));
  session.mutable_events(2)->mutable_refusals(0)->set_why("another session has it");
  EXPECT_THAT(RenderSummary(session, 0),
              HasSubstr("page-faults from dwarf (lbr: refused: another"));
}

TEST(Summary, AccountsForWhatWentWrong) {
  v1::Session session = CleanSession();
  session.mutable_events(0)->set_stack_mode(v1::STACK_MODE_DWARF);
  v1::Refusal* refusal = session.mutable_events(0)->add_refusals();
  refusal->set_mode(v1::STACK_MODE_LBR);
  refusal->set_why("no PMU here");
  refusal = session.mutable_events(0)->add_refusals();
  refusal->set_mode(v1::STACK_MODE_KERNEL_DEFERRED);
  refusal->set_why("kernel too old");
  v1::SessionStats* stats = session.mutable_stats();
  stats->set_samples_generated(13000);
  stats->set_samples_seen(12400);
  stats->set_samples_lost(600);
  AddCount(stats->mutable_samples_dropped(), "queue_full", 15);
  AddCount(stats->mutable_samples_dropped(), "malformed", 40);
  stats->set_user_samples_complete(11999);
  stats->clear_stacks_by_verdict();
  AddCount(stats->mutable_stacks_by_verdict(), "complete", 12034);
  AddCount(stats->mutable_stacks_by_verdict(), "truncated: stack_copy_ended", 300);
  AddCount(stats->mutable_stacks_by_verdict(), "unknown: frame_pointers_only", 11);
  stats->set_late_records(1);
  stats->set_throttled(2);
  stats->set_side_band_lost(3);
  session.add_notes("kernel symbols are hidden");
  const std::string text = RenderSummary(session, 0);
  for (const char* part : {
           "600 (4.6%) lost: the ring had no room for them; 55 (0.4%) dropped: 40 malformed, 15 "
           "queue_full.",
           "User stacks from dwarf (lbr: refused: no PMU here; kernel-deferred: refused: kernel "
           "too old).",
           // Not 100.0%: one is missing.
           "11,999 of 12,000 user stacks (99.9%) reach their thread's start.",
           "The rest: truncated: stack_copy_ended 300 (2.4%), unknown: frame_pointers_only 11 "
           "(0.1%).",
           "1 record came late, throttled 2 times by the kernel, 3 mapping or name records lost, "
           "so names may be missing.",
           "Note: kernel symbols are hidden.",
       }) {
    EXPECT_THAT(text, HasSubstr(part));
  }
  EXPECT_THAT(text, Not(HasSubstr("does not add up")));
}

TEST(Summary, SaysWhenTheFiguresDoNotAddUp) {
  v1::Session session = CleanSession();
  session.mutable_stats()->set_samples_seen(12000);
  EXPECT_THAT(RenderSummary(session, 0),
              HasSubstr("The account does not add up: 12,345 generated, but 12,000 seen and 0 "
                        "lost. The account does not add up: 12,000 seen, but 12,345 delivered and "
                        "0 dropped."));
  // While it runs, samples are on their way.
  session.set_state(v1::SESSION_STATE_RUNNING);
  EXPECT_THAT(RenderSummary(session, 0), Not(HasSubstr("does not add up")));
  EXPECT_THAT(RenderSummary(session, 0), HasSubstr("web-1: running, so far 12,345 samples"));
}

TEST(Summary, TellsOfSessionsWithNothing) {
  v1::Session session;
  EXPECT_EQ(RenderSummary(session, 0), "0 samples of no event.");
  session.set_state(v1::SESSION_STATE_FAILED);
  session.set_error("no such process");
  EXPECT_THAT(RenderSummary(session, 0), HasSubstr("failed (no such process); 0 samples"));
  session = CleanSession();
  session.mutable_stats()->set_user_samples(0);
  session.mutable_stats()->set_user_samples_complete(0);
  EXPECT_THAT(RenderSummary(session, 0), HasSubstr("No sample holds a user stack."));
}

TEST(Summary, SaysWhenTheHardwareWasShared) {
  v1::Session session = CleanSession();
  session.mutable_stats()->set_time_enabled_ns(4000);
  session.mutable_stats()->set_time_running_ns(4000);
  EXPECT_THAT(RenderSummary(session, 0), Not(HasSubstr("time-shared")));
  session.mutable_stats()->set_time_running_ns(1500);
  EXPECT_THAT(RenderSummary(session, 0),
              HasSubstr("The kernel time-shared the counters: running 37.5% of the time."));
}

TEST(Summary, TellsOfCpusThatWereAway) {
  v1::Session session = CleanSession();
  v1::SessionStats* stats = session.mutable_stats();
  stats->set_gap_count(3);
  stats->set_gap_ns(90'000'000'000);  // of which not all are told one by one
  v1::Gap* gap = stats->add_gaps();
  gap->set_cpu(2);
  gap->set_from_ns(1'000'000'000);
  gap->set_to_ns(2'500'000'000);
  EXPECT_THAT(RenderSummary(session, 0), HasSubstr("CPUs were offline: 3 gaps, 90.0 s in all."));
  gap = stats->add_gaps();
  gap->set_cpu(5);
  gap->set_from_ns(1'000'000'000);
  EXPECT_THAT(RenderSummary(session, 0), HasSubstr("; CPU 5 to the end."));
}

TEST(Summary, FitsTheWidth) {
  v1::Session session = CleanSession();
  session.add_notes(
      "\x1b[31mr\xC3\xA9sum\xC3\xA9 of what is missing, in many words and more of them");
  for (const size_t width : {30, 60, 80}) {
    const std::string text = RenderSummary(session, width);
    EXPECT_THAT(text, Not(HasSubstr("\x1b")));
    for (const absl::string_view line : absl::StrSplit(text, '\n')) {
      EXPECT_LE(TextCells(line), width) << line;
    }
  }
}

TEST(Summary, TellsOfADeadEngineAndItsGap) {
  v1::Session session = CleanSession();
  v1::SessionStats* stats = session.mutable_stats();
  stats->set_samples_delivered(12000);
  AddCount(stats->mutable_samples_dropped(), "engine_died", 345);
  stats->set_engine_deaths(1);
  stats->set_gap_count(1);
  stats->set_gap_ns(412'000'000);
  v1::Gap* gap = stats->add_gaps();
  gap->set_cpu(-1);
  gap->set_from_ns(1'000'000'000);
  gap->set_to_ns(1'412'000'000);
  gap->set_why("the daemon's engine died (signal SIGKILL)");
  const std::string text = RenderSummary(session, 0);
  EXPECT_THAT(text, HasSubstr("345 (2.8%) dropped: 345 engine_died."));
  EXPECT_THAT(text, HasSubstr("The daemon's engine died (signal SIGKILL), and another one went on: "
                              "nothing was sampled for 412 ms, and what it had not handed out is "
                              "lost, nobody knows how much."));
  EXPECT_THAT(text, Not(HasSubstr("offline")));
  EXPECT_THAT(text, Not(HasSubstr("does not add up")));
  // Beside a CPU that was away, and one of many.
  stats->set_engine_deaths(3);
  stats->set_gap_count(4);
  stats->set_gap_ns(1'000'000'000);
  gap = stats->add_gaps();
  gap->set_cpu(2);
  gap->set_from_ns(1);
  gap->set_to_ns(2);
  const std::string both = RenderSummary(session, 0);
  EXPECT_THAT(both, HasSubstr("the last of 3 times"));
  EXPECT_THAT(both, HasSubstr("412 ms in the last 1 of them"));
  EXPECT_THAT(both, HasSubstr("CPUs were offline: 1 gap, 588 ms in all."));
}

}  // namespace
}  // namespace lbrd::client
