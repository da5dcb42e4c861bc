#include "client/status_view.h"

#include <gtest/gtest.h>

#include "absl/strings/str_split.h"
#include "client/utf8.h"

namespace lbrd::client {
namespace {

TEST(RenderStatus, AlignsTheFigures) {
  v1::DaemonStats stats;
  stats.set_version("0.1.0");
  stats.mutable_uptime()->set_seconds(7200);
  stats.set_sessions_running(2);
  stats.set_sessions_stopped(1);
  stats.set_tasks(1234);
  stats.set_contexts(1230);
  stats.set_global_users(1);
  stats.set_context_bytes(872);
  stats.set_pool_bytes(872u << 20);
  stats.set_contexts_refused(0);
  stats.set_lookups_without_context(1);
  stats.set_rule_table_bytes(1536);
  stats.set_resident_bytes((uint64_t{1} << 30) - 1);
  stats.set_sample_memory_bytes(1 << 20);
  stats.set_sample_memory_limit_bytes(512 << 20);
  stats.mutable_cpu_time()->set_seconds(75);
  EXPECT_EQ(RenderStatus(stats),
            "lbrd                0.1.0, up 2 h 00 min\n"
            "sessions            2 running, 1 stopped\n"
            "contexts            1,230 of 1,234 threads; 1 session of all threads\n"
            "context memory      872 B, at most 872.0 MiB\n"
            "contexts refused    0\n"
            "unknown histories   1 sample\n"
            "unwinding tables    1.5 KiB\n"
            "sample memory       1.0 MiB, at most 512.0 MiB\n"
            "resident memory     1.0 GiB\n"
            "CPU time            75.0 s\n");
}

TEST(RenderStatus, SaysWhatBothProcessesHaveUsed) {
  v1::DaemonStats stats;
  stats.mutable_cpu_time()->set_seconds(75);
  stats.mutable_broker_cpu_time()->set_nanos(1'000'000);
  stats.set_resident_bytes(uint64_t{40} << 20);
  stats.set_broker_resident_bytes(uint64_t{3} << 20);
  const std::string text = RenderStatus(stats);
  EXPECT_NE(text.find("CPU time            75.0 s; broker 1 ms\n"), std::string::npos) << text;
  EXPECT_NE(text.find("resident memory     40.0 MiB; broker 3.0 MiB\n"), std::string::npos) << text;
}

TEST(RenderStatus, SaysWhatUnwindingHasDone) {
  v1::DaemonStats stats;
  v1::UnwindStats& unwinding = *stats.mutable_unwinding();
  unwinding.set_stacks(1000);
  v1::Count* count = unwinding.add_stacks_by_verdict();
  count->set_name("complete");
  count->set_value(900);
  count = unwinding.add_stacks_by_verdict();
  count->set_name("truncated: stack_copy_ended");
  count->set_value(100);
  std::string text = RenderStatus(stats);
  EXPECT_NE(text.find("stacks              1,000 samples, 90.0% complete\n"), std::string::npos)
      << text;
  EXPECT_EQ(text.find("unwound"), std::string::npos) << text;
  unwinding.set_copies(750);
  unwinding.set_identical_copies(250);
  unwinding.set_rule_lookups(8000);
  unwinding.set_rule_cache_hits(7000);
  unwinding.set_rule_shared_hits(600);
  text = RenderStatus(stats);
  EXPECT_NE(
      text.find("unwound             1,000 stacks, 25.0% the same again; rules cached: 95.0%\n"),
      std::string::npos)
      << text;
  EXPECT_EQ(text.find("evicted"), std::string::npos) << text;
  unwinding.set_tables_evicted(3);
  EXPECT_NE(RenderStatus(stats).find("tables evicted      3\n"), std::string::npos);
}

TEST(RenderStatus, OfADaemonThatDoesNothing) {
  const std::string text = RenderStatus(v1::DaemonStats());
  EXPECT_NE(text.find("sessions            none\n"), std::string::npos) << text;
  EXPECT_NE(text.find("contexts            0 of 0 threads\n"), std::string::npos) << text;
}

TEST(RenderStatus, FitsATerminalAtItsLargest) {
  v1::DaemonStats stats;
  stats.set_version("10.20.30-rc1");
  stats.mutable_uptime()->set_seconds(uint64_t{1} << 32);
  stats.set_sessions_running(64);
  stats.set_sessions_waiting(64);
  stats.set_sessions_stopped(64);
  stats.set_sessions_failed(64);
  stats.set_tasks(4u << 20);
  stats.set_contexts(4u << 20);
  stats.set_global_users(64);
  for (const auto set :
       {&v1::DaemonStats::set_context_bytes, &v1::DaemonStats::set_pool_bytes,
        &v1::DaemonStats::set_contexts_refused, &v1::DaemonStats::set_lookups_without_context,
        &v1::DaemonStats::set_rule_table_bytes, &v1::DaemonStats::set_resident_bytes,
        &v1::DaemonStats::set_sample_memory_bytes,
        &v1::DaemonStats::set_sample_memory_limit_bytes}) {
    (stats.*set)(UINT64_MAX);
  }
  for (const absl::string_view line : absl::StrSplit(RenderStatus(stats), '\n')) {
    EXPECT_LE(TextCells(line), 80u) << line;
  }
}

}  // namespace
}  // namespace lbrd::client
