#include "client/status_view.h"

#include <initializer_list>
#include <iterator>
#include <utility>
#include <vector>

#include "absl/strings/str_cat.h"
#include "absl/strings/str_format.h"
#include "absl/strings/str_join.h"
#include "absl/strings/str_split.h"
#include "client/figures.h"
#include "client/utf8.h"

namespace lbrd::client {
namespace {

constexpr size_t kTroubleCells = 60;

std::string SessionsText(const v1::DaemonStats& stats) {
  std::vector<std::string> parts;
  for (const auto& [count, state] : std::initializer_list<std::pair<uint32_t, const char*>>{
           {stats.sessions_running(), "running"},
           {stats.sessions_waiting(), "waiting"},
           {stats.sessions_stopped(), "stopped"},
           {stats.sessions_failed(), "failed"}}) {
    if (count != 0) parts.push_back(absl::StrCat(FormatCount(count), " ", state));
  }
  return parts.empty() ? "none" : absl::StrJoin(parts, ", ");
}

// "872 B", "1.5 KiB", "12.0 MiB".
std::string BytesText(uint64_t bytes) {
  if (bytes < 1024) return absl::StrCat(bytes, " B");
  constexpr const char* kUnits[] = {"KiB", "MiB", "GiB", "TiB"};
  double value = static_cast<double>(bytes) / 1024;
  size_t unit = 0;
  // What would be shown as 1024.0 is one of the next unit.
  while (value >= 1023.95 && unit + 1 < std::size(kUnits)) {
    value /= 1024;
    ++unit;
  }
  return absl::StrFormat("%.1f %s", value, kUnits[unit]);
}

std::string ContextsText(const v1::DaemonStats& stats) {
  std::string text =
      absl::StrCat(FormatCount(stats.contexts()), " of ", FormatCountOf(stats.tasks(), "thread"));
  if (stats.global_users() != 0) {
    absl::StrAppend(&text, "; ", FormatCountOf(stats.global_users(), "session"), " of all threads");
  }
  return text;
}

// Of the engine, and of the broker, which outlives engines.
std::string CpuTimeText(const v1::DaemonStats& stats) {
  std::string text = FormatDuration(stats.cpu_time());
  if (stats.has_broker_cpu_time()) {
    absl::StrAppend(&text, "; broker ", FormatDuration(stats.broker_cpu_time()));
  }
  return text;
}

// The same; 0 of the broker: there is none, or it is not known.
std::string ResidentText(const v1::DaemonStats& stats) {
  std::string text = BytesText(stats.resident_bytes());
  if (stats.broker_resident_bytes() != 0) {
    absl::StrAppend(&text, "; broker ", BytesText(stats.broker_resident_bytes()));
  }
  return text;
}

// What is wrong comes in whole sentences, wrapped below each other.
void AppendTrouble(const char* name, const std::string& trouble, std::string* text) {
  if (trouble.empty()) return;
  for (const absl::string_view part :
       absl::StrSplit(WrapText(PrintableText(trouble), kTroubleCells), '\n')) {
    absl::StrAppendFormat(text, "%-18s  %s\n", name, std::string(part));
    name = "";
  }
}

void AppendUnwinding(const v1::UnwindStats& stats, std::string* text) {
  uint64_t samples = 0;
  uint64_t complete = 0;
  for (const v1::Count& count : stats.stacks_by_verdict()) {
    samples += count.value();
    if (count.name() == "complete") complete += count.value();
  }
  const auto line = [text](const char* name, const std::string& value) {
    absl::StrAppendFormat(text, "%-18s  %s\n", name, value);
  };
  line("stacks", absl::StrCat(FormatCountOf(samples, "sample"), ", ",
                              FormatPercent(complete, samples), " complete"));
  const uint64_t copies = stats.copies() + stats.identical_copies();
  if (copies == 0) return;
  line("unwound", absl::StrCat(FormatCountOf(copies, "stack"), ", ",
                               FormatPercent(stats.identical_copies(), copies),
                               " the same again; rules cached: ",
                               FormatPercent(stats.rule_cache_hits() + stats.rule_shared_hits(),
                                             stats.rule_lookups())));
  if (stats.tables_evicted() != 0) {
    line("tables evicted", FormatCount(stats.tables_evicted()));
  }
}

void AppendHistory(const v1::HistoryStatus& history, std::string* text) {
  absl::StrAppendFormat(
      text, "%-18s  %s\n", "history",
      absl::StrCat(BytesText(history.bytes()), " of ", BytesText(history.max_bytes()), "; ",
                   FormatCountOf(history.buckets_stored(), "bucket"), " stored"));
  if (history.queue_bytes() != 0) {
    absl::StrAppendFormat(text, "%-18s  %s\n", "history waiting", BytesText(history.queue_bytes()));
  }
  if (history.buckets_dropped() != 0) {
    absl::StrAppendFormat(text, "%-18s  %s\n", "history lost",
                          absl::StrCat(FormatCountOf(history.buckets_dropped(), "bucket"), " with ",
                                       FormatCountOf(history.samples_dropped(), "sample")));
  }
  AppendTrouble("history error", history.error(), text);
  AppendTrouble("history notice", history.notice(), text);
  AppendTrouble("not continuous", history.continuous(), text);
}

}  // namespace

std::string RenderStatus(const v1::DaemonStats& stats) {
  std::string text;
  const auto line = [&text](const char* name, const std::string& value) {
    absl::StrAppendFormat(&text, "%-18s  %s\n", name, value);
  };
  line("lbrd",
       absl::StrCat(PrintableText(stats.version()), ", up ", FormatDuration(stats.uptime())));
  line("sessions", SessionsText(stats));
  if (stats.notes_size() != 0) {
    for (const std::string& note : stats.notes()) absl::StrAppend(&text, PrintableText(note), "\n");
    return text;
  }
  line("contexts", ContextsText(stats));
  line("context memory",
       absl::StrCat(BytesText(stats.context_bytes()), ", at most ", BytesText(stats.pool_bytes())));
  line("contexts refused", FormatCount(stats.contexts_refused()));
  line("unknown histories", FormatCountOf(stats.lookups_without_context(), "sample"));
  line("unwinding tables", BytesText(stats.rule_table_bytes()));
  if (stats.unwinding().stacks() != 0) AppendUnwinding(stats.unwinding(), &text);
  std::string samples = BytesText(stats.sample_memory_bytes());
  if (const uint64_t most = stats.sample_memory_limit_bytes(); most != 0) {
    absl::StrAppend(&samples, ", at most ", BytesText(most));
  }
  line("sample memory", samples);
  line("resident memory", ResidentText(stats));
  if (stats.engine_restarts() != 0) {
    line("engine restarts", absl::StrCat(FormatCount(stats.engine_restarts()),
                                         ": it died; the log says how. Sessions went on"));
  }
  line("CPU time", CpuTimeText(stats));
  if (stats.slow_down() > 1) {
    line("slowed down", absl::StrCat("to 1/", stats.slow_down(),
                                     " of the rates asked for, to keep within max-cpu"));
  }
  if (stats.has_history()) AppendHistory(stats.history(), &text);
  return text;
}

}  // namespace lbrd::client
