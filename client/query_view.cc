#include "client/query_view.h"

#include <algorithm>
#include <utility>

#include "absl/container/flat_hash_map.h"
#include "absl/strings/ascii.h"
#include "absl/strings/numbers.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_join.h"
#include "absl/strings/str_split.h"
#include "client/enum_names.h"
#include "client/figures.h"
#include "client/jsonl.h"
#include "client/utf8.h"

namespace lbrd::client {
namespace {

struct KeyName {
  v1::HistoryKey key;
  absl::string_view name;
  bool number;
};
constexpr KeyName kKeys[] = {
    {v1::HISTORY_KEY_SESSION, "session", false},
    {v1::HISTORY_KEY_EVENT, "event", false},
    {v1::HISTORY_KEY_TIME, "time", true},
    {v1::HISTORY_KEY_PID, "pid", true},
    {v1::HISTORY_KEY_TID, "tid", true},
    {v1::HISTORY_KEY_COMM, "comm", false},
    {v1::HISTORY_KEY_PROCESS, "process", false},
    {v1::HISTORY_KEY_CGROUP, "cgroup", false},
    {v1::HISTORY_KEY_UID, "uid", true},
    {v1::HISTORY_KEY_EXE, "exe", false},
    {v1::HISTORY_KEY_BINARY, "binary", false},
    {v1::HISTORY_KEY_BUILD_ID, "build-id", false},
    {v1::HISTORY_KEY_FUNCTION, "function", false},
    {v1::HISTORY_KEY_STACK, "stack", false},
};

constexpr size_t kGap = 2;
constexpr size_t kPercentCells = 6;
constexpr size_t kLeastWidth = 40;
constexpr size_t kLeastKeyCells = 5;

bool IsNumber(v1::HistoryKey key) {
  for (const KeyName& known : kKeys) {
    if (known.key == key) return known.number;
  }
  return false;
}

absl::Time ToTime(const google::protobuf::Timestamp& time) {
  return absl::FromUnixSeconds(time.seconds()) + absl::Nanoseconds(time.nanos());
}

google::protobuf::Duration ToProto(absl::Duration duration) {
  google::protobuf::Duration out;
  out.set_seconds(absl::IDivDuration(duration, absl::Seconds(1), &duration));
  out.set_nanos(static_cast<int32_t>(absl::ToInt64Nanoseconds(duration)));
  return out;
}

std::string TimeText(absl::Time time, absl::TimeZone zone) {
  return absl::FormatTime("%Y-%m-%d %H:%M:%S", time, zone);
}

std::string KeyText(v1::HistoryKey key, const std::string& text, absl::TimeZone zone) {
  int64_t seconds = 0;
  if (key == v1::HISTORY_KEY_TIME && absl::SimpleAtoi(text, &seconds)) {
    return TimeText(absl::FromUnixSeconds(seconds), zone);
  }
  return text.empty() ? "-" : PrintableText(text);
}

std::string Pad(absl::string_view text, size_t cells, bool left) {
  const size_t used = TextCells(text);
  const std::string blanks(used < cells ? cells - used : 0, ' ');
  return left ? absl::StrCat(blanks, text) : absl::StrCat(text, blanks);
}

// The widest give way until all fit.
void FitColumns(size_t room, std::vector<size_t>* cells) {
  size_t taken = kGap * cells->size();
  for (const size_t width : *cells) taken += width;
  while (taken > room) {
    size_t& widest = *std::max_element(cells->begin(), cells->end());
    if (widest <= kLeastKeyCells) return;
    --widest;
    --taken;
  }
}

std::string EventName(const v1::QueryProfileResponse& answer, uint32_t event) {
  return event < static_cast<uint32_t>(answer.events_size())
             ? PrintableText(answer.events(static_cast<int>(event)).name())
             : absl::StrCat("event ", event);
}

std::string RenderEventRows(const v1::QueryProfileResponse& answer, uint32_t event,
                            const std::vector<v1::HistoryKey>& keys, absl::TimeZone zone,
                            size_t width) {
  uint64_t whole = 0;
  size_t samples_cells = 7;
  std::vector<size_t> cells;
  for (const v1::HistoryKey key : keys) cells.push_back(HistoryKeyName(key).size());
  std::vector<const v1::HistoryRow*> rows;
  for (const v1::HistoryRow& row : answer.rows()) {
    if (row.event() != event || row.keys_size() != static_cast<int>(keys.size())) continue;
    rows.push_back(&row);
    whole += row.weight();
    samples_cells = std::max(samples_cells, FormatCount(row.samples()).size());
    for (size_t i = 0; i < keys.size(); ++i) {
      cells[i] =
          std::max(cells[i], TextCells(KeyText(keys[i], row.keys(static_cast<int>(i)), zone)));
    }
  }
  if (rows.empty()) return "";
  FitColumns(std::max(width, kLeastWidth) - kPercentCells - kGap - samples_cells, &cells);
  const std::string gap(kGap, ' ');
  std::string out;
  const auto line = [&](absl::string_view percent, absl::string_view samples, const auto& text) {
    std::string made =
        absl::StrCat(Pad(percent, kPercentCells, true), gap, Pad(samples, samples_cells, true));
    for (size_t i = 0; i < keys.size(); ++i) {
      absl::StrAppend(&made, gap,
                      Pad(ShortenMiddle(text(i), cells[i]), cells[i],
                          IsNumber(keys[i]) && keys[i] != v1::HISTORY_KEY_TIME));
    }
    made.erase(made.find_last_not_of(' ') + 1);
    absl::StrAppend(&out, made, "\n");
  };
  line("WEIGHT", "SAMPLES",
       [&](size_t i) { return absl::AsciiStrToUpper(HistoryKeyName(keys[i])); });
  for (const v1::HistoryRow* row : rows) {
    line(FormatPercent(row->weight(), whole), FormatCount(row->samples()),
         [&](size_t i) { return KeyText(keys[i], row->keys(static_cast<int>(i)), zone); });
  }
  return out;
}

void AppendJsonKey(v1::HistoryKey key, const std::string& value, std::string* out) {
  absl::StrAppend(out, "\"", HistoryKeyName(key), "\":");
  if (value.empty()) {
    out->append("null");
  } else if (IsNumber(key)) {
    out->append(value);
  } else {
    AppendJsonString(value, *out);
  }
}

void AppendJsonTextOrNull(absl::string_view name, absl::string_view value, std::string* out) {
  absl::StrAppend(out, ",\"", name, "\":");
  value.empty() ? (void)out->append("null") : AppendJsonString(value, *out);
}

// The entries of a profile: as samples that are streamed, but for time, CPU and address.
std::string EntryLines(const v1::QueryProfileResponse& answer) {
  const v1::Definitions& definitions = answer.profile().definitions();
  absl::flat_hash_map<uint32_t, const v1::Binary*> binaries;
  for (const v1::Binary& binary : definitions.binaries()) binaries[binary.id()] = &binary;
  absl::flat_hash_map<uint32_t, std::string> frames;
  for (const v1::Frame& frame : definitions.frames()) {
    const auto binary = binaries.find(frame.binary_id());
    std::string text = absl::StrCat("{\"offset\":", frame.offset());
    AppendJsonTextOrNull("symbol", frame.symbol(), &text);
    AppendJsonTextOrNull("dso", binary == binaries.end() ? "" : binary->second->path(), &text);
    AppendJsonTextOrNull("build_id", binary == binaries.end() ? "" : binary->second->build_id(),
                         &text);
    AppendJsonTextOrNull("source", FrameSourceName(frame.source()), &text);
    frames[frame.id()] = text + "}";
  }
  absl::flat_hash_map<uint64_t, std::string> stacks;
  for (const v1::Stack& stack : definitions.stacks()) {
    std::vector<absl::string_view> texts;
    for (const uint32_t id : stack.frame_ids()) texts.push_back(frames[id]);
    std::string text =
        absl::StrCat(",\"stack\":[", absl::StrJoin(texts, ","), "],\"verdict\":{\"state\":\"",
                     StackStateName(stack.verdict().state()), "\",\"reason\":");
    AppendJsonString(stack.verdict().reason(), text);
    stacks[stack.id()] = text + "}}\n";
  }
  absl::flat_hash_map<uint32_t, std::string> threads;
  for (const v1::Thread& thread : definitions.threads()) {
    std::string text =
        absl::StrCat("{\"pid\":", thread.pid(), ",\"tid\":", thread.tid(), ",\"comm\":");
    AppendJsonString(thread.comm(), text);
    AppendJsonTextOrNull("process", thread.process_comm(), &text);
    threads[thread.id()] = std::move(text);
  }
  std::string out;
  for (const v1::ProfileEntry& entry : answer.profile().entries()) {
    std::string event = EventName(answer, entry.event());
    absl::StrAppend(&out, threads[entry.thread_id()], ",\"event\":");
    AppendJsonString(event, out);
    absl::StrAppend(&out, ",\"samples\":", entry.samples(), ",\"weight\":", entry.weight(),
                    stacks[entry.stack_id()]);
  }
  return out;
}

}  // namespace

absl::StatusOr<std::vector<v1::HistoryKey>> ParseHistoryKeys(absl::string_view names) {
  std::vector<v1::HistoryKey> keys;
  for (const absl::string_view name : absl::StrSplit(names, ',', absl::SkipWhitespace())) {
    const auto* known = std::find_if(
        std::begin(kKeys), std::end(kKeys),
        [name](const KeyName& key) { return key.name == absl::StripAsciiWhitespace(name); });
    if (known == std::end(kKeys)) {
      return absl::InvalidArgumentError(
          absl::StrCat("--by: '", name, "' is not one of ",
                       absl::StrJoin(kKeys, ", ", [](std::string* out, const KeyName& key) {
                         absl::StrAppend(out, key.name);
                       })));
    }
    if (std::find(keys.begin(), keys.end(), known->key) != keys.end()) {
      return absl::InvalidArgumentError(absl::StrCat("--by: '", name, "' comes twice"));
    }
    keys.push_back(known->key);
  }
  return keys;
}

absl::string_view HistoryKeyName(v1::HistoryKey key) {
  for (const KeyName& known : kKeys) {
    if (known.key == key) return known.name;
  }
  return "unknown";
}

std::string RenderHistoryRows(const v1::QueryProfileResponse& answer,
                              const std::vector<v1::HistoryKey>& keys, absl::TimeZone zone,
                              size_t width) {
  std::string out;
  for (int event = 0; event < answer.events_size(); ++event) {
    const std::string table =
        RenderEventRows(answer, static_cast<uint32_t>(event), keys, zone, width);
    if (table.empty()) continue;
    if (answer.events_size() > 1) {
      absl::StrAppend(&out, EventName(answer, static_cast<uint32_t>(event)), "\n");
    }
    absl::StrAppend(&out, table, "\n");
  }
  return out;
}

std::string RenderHistoryJsonl(const v1::QueryProfileResponse& answer,
                               const std::vector<v1::HistoryKey>& keys) {
  if (keys.empty()) return EntryLines(answer);
  std::string out;
  for (const v1::HistoryRow& row : answer.rows()) {
    out.append("{");
    for (size_t i = 0; i < keys.size() && i < static_cast<size_t>(row.keys_size()); ++i) {
      if (keys[i] == v1::HISTORY_KEY_EVENT) continue;  // it is there anyhow
      AppendJsonKey(keys[i], row.keys(static_cast<int>(i)), &out);
      out.append(",");
    }
    out.append("\"event\":");
    AppendJsonString(EventName(answer, row.event()), out);
    absl::StrAppend(&out, ",\"samples\":", row.samples(), ",\"weight\":", row.weight(), "}\n");
  }
  return out;
}

std::string RenderHistorySummary(const v1::QueryProfileResponse& answer, absl::TimeZone zone,
                                 size_t width) {
  std::vector<std::string> sentences;
  std::vector<std::string> events;
  for (int i = 0; i < answer.events_size(); ++i) {
    events.push_back(EventName(answer, static_cast<uint32_t>(i)));
  }
  std::string text = FormatCountOf(answer.samples(), "sample");
  if (!events.empty()) absl::StrAppend(&text, " of ", absl::StrJoin(events, " and "));
  if (answer.has_end()) {
    const absl::Time begin = ToTime(answer.begin());
    const absl::Time end = ToTime(answer.end());
    absl::StrAppend(&text, " from ", TimeText(begin, zone), " to ", TimeText(end, zone), " (",
                    FormatDuration(ToProto(end - begin)), ", in steps of ",
                    FormatDuration(answer.resolution()), ")");
  }
  sentences.push_back(text + ".");
  if (answer.rows_not_shown() != 0) {
    sentences.push_back(absl::StrCat(FormatCountOf(answer.rows_not_shown(), "row"), " with ",
                                     FormatCountOf(answer.samples_not_shown(), "sample"),
                                     " not shown (--limit)."));
  }
  if (answer.samples_dropped() != 0) {
    sentences.push_back(absl::StrCat(FormatCountOf(answer.samples_dropped(), "sample"),
                                     " of this time lost before they were stored."));
  }
  if (answer.gap_count() == 0 && answer.has_end()) sentences.push_back("No gaps.");
  for (const v1::HistoryGap& gap : answer.gaps()) {
    text = absl::StrCat("Gap from ", TimeText(ToTime(gap.begin()), zone), " to ",
                        TimeText(ToTime(gap.end()), zone), ": ", gap.why());
    if (gap.samples() != 0) {
      absl::StrAppend(&text, " (", FormatCountOf(gap.samples(), "sample"), ")");
    }
    sentences.push_back(text + ".");
  }
  const auto shown = static_cast<uint64_t>(answer.gaps_size());
  if (answer.gap_count() > shown) {
    sentences.push_back(
        absl::StrCat("And ", FormatCountOf(answer.gap_count() - shown, "gap"), " more."));
  }
  for (const std::string& note : answer.notes())
    sentences.push_back(absl::StrCat("Note: ", note, "."));
  return WrapText(PrintableText(absl::StrJoin(sentences, " ")), width);
}

v1::GetProfileResponse AsSessionProfile(v1::QueryProfileResponse answer) {
  v1::GetProfileResponse out;
  v1::Session& session = *out.mutable_session();
  session.set_name("history");
  for (const v1::HistoryEvent& event : answer.events()) {
    v1::SessionEvent* described = session.add_events();
    described->set_name(event.name());
    described->set_unit(event.unit());
  }
  if (answer.has_end()) {
    *session.mutable_create_time() = answer.begin();
    *session.mutable_running_time() = ToProto(ToTime(answer.end()) - ToTime(answer.begin()));
  }
  v1::SessionStats& stats = *session.mutable_stats();
  uint64_t samples = 0;
  for (const v1::ProfileEntry& entry : answer.profile().entries()) samples += entry.samples();
  stats.set_samples_delivered(samples);
  stats.set_samples_seen(samples);
  stats.set_samples_generated(samples);
  session.add_notes(RenderHistorySummary(answer, absl::LocalTimeZone(), 0));
  *out.mutable_profile() = std::move(*answer.mutable_profile());
  return out;
}

}  // namespace lbrd::client
