#include "daemon/metrics_text.h"

#include <google/protobuf/descriptor.h>

#include <optional>

#include "absl/strings/str_cat.h"
#include "absl/strings/str_format.h"
#include "absl/strings/str_replace.h"
#include "absl/strings/strip.h"

namespace lbrd::daemon {
namespace {

struct Metric {
  absl::string_view field;  // of DaemonStats; in HistoryStatus: behind "history."
  absl::string_view name;
  absl::string_view type;
  absl::string_view help;
};

constexpr Metric kMetrics[] = {
    {"uptime", "lbrd_uptime_seconds", "gauge", "Time since the daemon started."},
    {"tasks", "lbrd_tasks", "gauge", "Threads that the daemon knows of."},
    {"contexts", "lbrd_contexts", "gauge", "Threads whose history is kept."},
    {"global_users", "lbrd_global_users", "gauge", "Sessions that need a context of every thread."},
    {"context_bytes", "lbrd_context_bytes", "gauge", "Memory of contexts."},
    {"pool_bytes", "lbrd_context_limit_bytes", "gauge", "The bound of lbrd_context_bytes."},
    {"contexts_refused", "lbrd_contexts_refused_total", "counter",
     "Contexts refused for want of room."},
    {"lookups_without_context", "lbrd_lookups_without_context_total", "counter",
     "Samples whose thread had no context: their history is unknown."},
    {"rule_table_bytes", "lbrd_rule_table_bytes", "gauge", "Memory of tables of unwinding rules."},
    {"sample_memory_bytes", "lbrd_sample_memory_bytes", "gauge",
     "What finished samples take, with all that they refer to."},
    {"sample_memory_limit_bytes", "lbrd_sample_memory_limit_bytes", "gauge",
     "The bound of lbrd_sample_memory_bytes."},
    {"resident_bytes", "lbrd_resident_bytes", "gauge", "Resident memory of the engine."},
    {"broker_resident_bytes", "lbrd_broker_resident_bytes", "gauge",
     "Resident memory of the broker."},
    {"flows", "lbrd_flows", "gauge", "Sets of kernel events that sessions share."},
    {"slow_down", "lbrd_slow_down", "gauge",
     "By how much shared events are slowed down to keep within max-cpu; 1: not at all."},
    {"engine_restarts", "lbrd_engine_restarts_total", "counter",
     "Engines that died and had another one take their place."},
    {"cpu_time", "lbrd_cpu_seconds_total", "counter", "CPU time that the engine has used."},
    {"broker_cpu_time", "lbrd_broker_cpu_seconds_total", "counter",
     "CPU time that the broker has used."},
    {"unwinding.copies", "lbrd_unwind_copies_total", "counter",
     "Copies of stacks that were unwound."},
    {"unwinding.identical_copies", "lbrd_unwind_identical_copies_total", "counter",
     "Copies that were their thread's last one again, and were not."},
    {"unwinding.handed_over", "lbrd_unwind_handed_over_total", "counter",
     "Copies that libunwind unwound."},
    {"unwinding.rule_lookups", "lbrd_unwind_rule_lookups_total", "counter",
     "Rules of unwinding asked for."},
    {"unwinding.rule_cache_hits", "lbrd_unwind_rule_cache_hits_total", "counter",
     "Those that their address space's cache had."},
    {"unwinding.rule_shared_hits", "lbrd_unwind_rule_shared_hits_total", "counter",
     "Those that the cache of all processes had."},
    {"unwinding.odd_rules", "lbrd_unwind_odd_rules_total", "counter",
     "Frames left by expressions or signals' frames."},
    {"unwinding.guesses", "lbrd_unwind_guesses_total", "counter",
     "Frames left without call frame information."},
    {"unwinding.stacks", "lbrd_unwind_stacks_total", "counter",
     "Stacks of samples that were given an id."},
    {"unwinding.recent_stacks", "lbrd_unwind_recent_stacks_total", "counter",
     "Those that were found among the recent ones."},
    {"unwinding.tables", "lbrd_unwind_tables", "gauge", "Tables of unwinding rules."},
    {"unwinding.tables_built", "lbrd_unwind_tables_built_total", "counter",
     "Tables that were built."},
    {"unwinding.tables_evicted", "lbrd_unwind_tables_evicted_total", "counter",
     "Tables that went to stay within their bound."},
    {"unwinding.table_limit_bytes", "lbrd_unwind_table_limit_bytes", "gauge",
     "The bound of lbrd_rule_table_bytes."},
    {"history.bytes", "lbrd_history_bytes", "gauge", "The history on the disk."},
    {"history.max_bytes", "lbrd_history_limit_bytes", "gauge", "The bound of lbrd_history_bytes."},
    {"history.max_age", "lbrd_history_limit_seconds", "gauge",
     "How long the history goes back at most."},
    {"history.buckets_stored", "lbrd_history_buckets_stored_total", "counter",
     "Buckets of the history that are on the disk, for good."},
    {"history.last_bucket", "lbrd_history_last_bucket", "gauge", "The id of the last of them."},
    {"history.buckets_evicted", "lbrd_history_buckets_evicted_total", "counter",
     "Buckets that went to stay within the bounds."},
    {"history.buckets_dropped", "lbrd_history_buckets_dropped_total", "counter",
     "Buckets that could not be stored."},
    {"history.samples_dropped", "lbrd_history_samples_dropped_total", "counter",
     "Samples in those."},
    {"history.queue_bytes", "lbrd_history_queue_bytes", "gauge", "What waits to be stored."},
    {"history.failures", "lbrd_history_failures_total", "counter",
     "Attempts to store that failed."},
    {"history.cpu_time", "lbrd_history_cpu_seconds_total", "counter", "CPU time of storing."}};

constexpr absl::string_view kSessionsPrefix = "sessions_";

Metric MetricOf(absl::string_view field, std::string* made_name) {
  for (const Metric& metric : kMetrics) {
    if (metric.field == field) return metric;
  }
  *made_name = absl::StrCat("lbrd_", absl::StrReplaceAll(field, {{".", "_"}}));
  return {field, *made_name, "untyped", "As in lbrd.v1.DaemonStats."};
}

// nullopt: not a number.
std::optional<std::string> Value(const google::protobuf::Message& stats,
                                 const google::protobuf::FieldDescriptor& field) {
  using google::protobuf::FieldDescriptor;
  const google::protobuf::Reflection& reflection = *stats.GetReflection();
  if (field.is_repeated()) return std::nullopt;
  switch (field.cpp_type()) {
    case FieldDescriptor::CPPTYPE_UINT32:
      return absl::StrCat(reflection.GetUInt32(stats, &field));
    case FieldDescriptor::CPPTYPE_UINT64:
      return absl::StrCat(reflection.GetUInt64(stats, &field));
    case FieldDescriptor::CPPTYPE_INT32:
      return absl::StrCat(reflection.GetInt32(stats, &field));
    case FieldDescriptor::CPPTYPE_INT64:
      return absl::StrCat(reflection.GetInt64(stats, &field));
    case FieldDescriptor::CPPTYPE_DOUBLE:
      return absl::StrFormat("%.9g", reflection.GetDouble(stats, &field));
    case FieldDescriptor::CPPTYPE_MESSAGE: {
      if (field.message_type() != google::protobuf::Duration::descriptor()) return std::nullopt;
      const auto& duration =
          static_cast<const google::protobuf::Duration&>(reflection.GetMessage(stats, &field));
      return absl::StrFormat("%d.%09d", duration.seconds(), duration.nanos());
    }
    default:
      return std::nullopt;
  }
}

void AppendHead(absl::string_view name, absl::string_view type, absl::string_view help,
                std::string* text) {
  absl::StrAppend(text, "# HELP ", name, " ", help, "\n# TYPE ", name, " ", type, "\n");
}

// `prefix`: of the fields' names in kMetrics. What belongs to lbrd_sessions goes to *sessions.
void AppendFigures(const google::protobuf::Message& stats, absl::string_view prefix,
                   std::string* text, std::string* sessions) {
  const google::protobuf::Descriptor& descriptor = *stats.GetDescriptor();
  for (int i = 0; i < descriptor.field_count(); ++i) {
    const google::protobuf::FieldDescriptor& field = *descriptor.field(i);
    const std::optional<std::string> value = Value(stats, field);
    if (!value) continue;
    absl::string_view state = field.name();
    if (absl::ConsumePrefix(&state, kSessionsPrefix)) {
      absl::StrAppend(sessions, "lbrd_sessions{state=\"", state, "\"} ", *value, "\n");
      continue;
    }
    std::string made_name;
    const std::string name = absl::StrCat(prefix, field.name());
    const Metric metric = MetricOf(name, &made_name);
    AppendHead(metric.name, metric.type, metric.help, text);
    absl::StrAppend(text, metric.name, " ", *value, "\n");
  }
}

}  // namespace

std::string MetricsText(const v1::DaemonStats& stats) {
  std::string text;
  std::string sessions;
  AppendHead("lbrd_build_info", "gauge", "The version that runs.", &text);
  absl::StrAppend(&text, "lbrd_build_info{version=\"", stats.version(), "\"} 1\n");
  AppendFigures(stats, "", &text, &sessions);
  if (stats.has_unwinding()) AppendFigures(stats.unwinding(), "unwinding.", &text, &sessions);
  if (stats.has_history()) AppendFigures(stats.history(), "history.", &text, &sessions);
  AppendHead("lbrd_sessions", "gauge", "Sessions by state.", &text);
  return text + sessions;
}

}  // namespace lbrd::daemon
