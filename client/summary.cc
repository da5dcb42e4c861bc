#include "client/summary.h"

#include <algorithm>
#include <cstdint>
#include <string>
#include <utility>
#include <vector>

#include "absl/strings/str_cat.h"
#include "absl/strings/str_join.h"
#include "absl/strings/str_replace.h"
#include "client/enum_names.h"
#include "client/figures.h"
#include "client/utf8.h"

namespace lbrd::client {
namespace {

using Counts = google::protobuf::RepeatedPtrField<v1::Count>;

// Largest first; equal ones by name.
std::vector<const v1::Count*> Sorted(const Counts& counts) {
  std::vector<const v1::Count*> sorted;
  for (const v1::Count& count : counts) {
    if (count.value() != 0) sorted.push_back(&count);
  }
  std::sort(sorted.begin(), sorted.end(), [](const v1::Count* a, const v1::Count* b) {
    return a->value() != b->value() ? a->value() > b->value() : a->name() < b->name();
  });
  return sorted;
}

uint64_t Sum(const Counts& counts) {
  uint64_t sum = 0;
  for (const v1::Count& count : counts) sum += count.value();
  return sum;
}

std::string WithStop(absl::string_view text) {
  return absl::StrCat(text, text.empty() || text.back() == '.' ? "" : ".");
}

// "a", "a and b", "a, b and c".
std::string ListOf(std::vector<std::string> names) {
  const std::string last = names.back();
  names.pop_back();
  return names.empty() ? last : absl::StrCat(absl::StrJoin(names, ", "), " and ", last);
}

std::string EventNames(const v1::Session& session) {
  std::vector<std::string> names;
  for (const v1::SessionEvent& event : session.events()) {
    if (!event.side_band()) names.push_back(event.name());
  }
  return names.empty() ? "no event" : ListOf(std::move(names));
}

std::string Opening(const v1::Session& session) {
  const v1::SessionStats& stats = session.stats();
  std::string text;
  if (!session.name().empty()) absl::StrAppend(&text, session.name(), ": ");
  if (session.state() == v1::SESSION_STATE_WAITING) {
    absl::StrAppend(&text, "waiting for its first stream; ");
  } else if (session.state() == v1::SESSION_STATE_RUNNING) {
    absl::StrAppend(&text, "running, so far ");
  } else if (session.state() == v1::SESSION_STATE_FAILED) {
    absl::StrAppend(&text, "failed (",
                    session.error().empty() ? "no reason given" : session.error(), "); ");
  }
  absl::StrAppend(&text, FormatCountOf(stats.samples_generated(), "sample"), " of ",
                  EventNames(session));
  if (session.has_running_time()) {
    absl::StrAppend(&text, " in ", FormatDuration(session.running_time()));
  }
  if (session.cpus() != 0) absl::StrAppend(&text, " on ", FormatCountOf(session.cpus(), "CPU"));
  return WithStop(text);
}

std::string LostAndDropped(const v1::SessionStats& stats) {
  const uint64_t dropped = Sum(stats.samples_dropped());
  std::string text;
  if (stats.samples_lost() == 0) {
    text = "None lost";
  } else {
    text = absl::StrCat(FormatCount(stats.samples_lost()), " (",
                        FormatPercent(stats.samples_lost(), stats.samples_generated()),
                        ") lost: the ring had no room for them");
  }
  if (dropped == 0) return absl::StrCat(text, ", none dropped.");
  std::vector<std::string> reasons;
  for (const v1::Count* count : Sorted(stats.samples_dropped())) {
    reasons.push_back(absl::StrCat(FormatCount(count->value()), " ", count->name()));
  }
  return absl::StrCat(text, "; ", FormatCount(dropped), " (",
                      FormatPercent(dropped, stats.samples_generated()),
                      ") dropped: ", absl::StrJoin(reasons, ", "), ".");
}

// Empty where nothing was left out.
std::string Shared(const v1::Session& session) {
  const v1::SessionStats& stats = session.stats();
  std::vector<std::string> reasons;
  for (const v1::Count* count : Sorted(stats.samples_left_out())) {
    reasons.push_back(absl::StrCat(FormatCount(count->value()), " ", count->name()));
  }
  if (reasons.empty()) return "";
  return absl::StrCat("They are its share of ", FormatCountOf(stats.flow_samples(), "sample"),
                      "; not meant for it were ", absl::StrJoin(reasons, ", "), ".");
}

// Empty when the figures add up as the contract says. Only a session that has ended must.
std::string Discrepancy(const v1::Session& session) {
  if (session.state() != v1::SESSION_STATE_STOPPED) return "";
  const v1::SessionStats& stats = session.stats();
  std::string text;
  if (stats.samples_generated() != stats.samples_seen() + stats.samples_lost()) {
    absl::StrAppend(&text, "The account does not add up: ", FormatCount(stats.samples_generated()),
                    " generated, but ", FormatCount(stats.samples_seen()), " seen and ",
                    FormatCount(stats.samples_lost()), " lost.");
  }
  const uint64_t dropped = Sum(stats.samples_dropped());
  if (stats.samples_seen() != stats.samples_delivered() + dropped) {
    absl::StrAppend(&text, text.empty() ? "" : " ",
                    "The account does not add up: ", FormatCount(stats.samples_seen()),
                    " seen, but ", FormatCount(stats.samples_delivered()), " delivered and ",
                    FormatCount(dropped), " dropped.");
  }
  const uint64_t left_out = Sum(stats.samples_left_out());
  if (stats.flow_samples() != 0 && stats.flow_samples() != stats.samples_seen() + left_out) {
    absl::StrAppend(&text, text.empty() ? "" : " ",
                    "The account does not add up: ", FormatCount(stats.flow_samples()),
                    " in the flow, but ", FormatCount(stats.samples_seen()), " seen and ",
                    FormatCount(left_out), " left out.");
  }
  return text;
}

// Whether there is the same to say of their stacks. Reasons may name the event.
bool SameStackSource(const v1::SessionEvent& a, const v1::SessionEvent& b) {
  const auto same = [&](const v1::Refusal& x, const v1::Refusal& y) {
    return x.mode() == y.mode() && absl::StrReplaceAll(x.why(), {{a.name(), ""}}) ==
                                       absl::StrReplaceAll(y.why(), {{b.name(), ""}});
  };
  return a.stack_mode() == b.stack_mode() && a.branch_filter() == b.branch_filter() &&
         std::equal(a.refusals().begin(), a.refusals().end(), b.refusals().begin(),
                    b.refusals().end(), same);
}

// `names`: of all events that this is said of; empty: there is one.
std::string StackSource(const v1::SessionEvent& event, const std::vector<std::string>& names) {
  std::string text = "User stacks";
  if (!names.empty()) absl::StrAppend(&text, " of ", ListOf(names));
  if (event.stack_mode() == v1::STACK_MODE_UNSPECIFIED) {
    absl::StrAppend(&text, ": as recorded");
  } else {
    absl::StrAppend(&text, " from ", StackModeName(event.stack_mode()));
  }
  std::vector<std::string> refusals;
  for (const v1::Refusal& refusal : event.refusals()) {
    refusals.push_back(absl::StrCat(StackModeName(refusal.mode()), ": refused: ",
                                    refusal.why().empty() ? "no reason given" : refusal.why()));
  }
  if (!refusals.empty()) absl::StrAppend(&text, " (", absl::StrJoin(refusals, "; "), ")");
  text.push_back('.');
  if (event.branch_filter() != v1::BRANCH_FILTER_UNSPECIFIED) {
    absl::StrAppend(&text, " Its samples carry the LBR's branches (",
                    BranchFilterName(event.branch_filter()),
                    "), which -o x.jsonl and lbrctl stream show.");
  }
  return text;
}

std::string Completeness(const v1::SessionStats& stats) {
  std::string text;
  if (stats.user_samples() == 0) {
    text = "No sample holds a user stack.";
  } else {
    const bool all = stats.user_samples_complete() == stats.user_samples();
    text = absl::StrCat(all ? "All " : FormatCount(stats.user_samples_complete()),
                        all ? "" : " of ", FormatCountOf(stats.user_samples(), "user stack"), " (",
                        FormatPercent(stats.user_samples_complete(), stats.user_samples()),
                        ") reach their thread's start.");
  }
  const uint64_t judged = Sum(stats.stacks_by_verdict());
  std::vector<std::string> rest;
  for (const v1::Count* count : Sorted(stats.stacks_by_verdict())) {
    if (count->name() == "complete") continue;
    rest.push_back(absl::StrCat(count->name(), " ", FormatCount(count->value()), " (",
                                FormatPercent(count->value(), judged), ")"));
  }
  if (!rest.empty()) absl::StrAppend(&text, " The rest: ", absl::StrJoin(rest, ", "), ".");
  return text;
}

std::string Troubles(const v1::SessionStats& stats) {
  std::vector<std::string> bad;
  std::vector<std::string> good;
  if (stats.late_records() == 0) {
    good.push_back("nothing came late");
  } else {
    bad.push_back(absl::StrCat(FormatCountOf(stats.late_records(), "record"), " came late"));
  }
  if (stats.throttled() == 0) {
    good.push_back("never throttled");
  } else {
    bad.push_back(
        absl::StrCat("throttled ", FormatCountOf(stats.throttled(), "time"), " by the kernel"));
  }
  if (stats.side_band_lost() == 0) {
    good.push_back("no mapping or name records lost");
  } else {
    bad.push_back(absl::StrCat(FormatCountOf(stats.side_band_lost(), "mapping or name record"),
                               " lost, so names may be missing"));
  }
  bad.insert(bad.end(), good.begin(), good.end());
  std::string text = absl::StrJoin(bad, ", ");
  if (text[0] >= 'a' && text[0] <= 'z') text[0] = static_cast<char>(text[0] - 'a' + 'A');
  return WithStop(text);
}

// Empty where the event had the hardware to itself.
std::string TimeShared(const v1::SessionStats& stats) {
  if (stats.time_running_ns() >= stats.time_enabled_ns()) return "";
  return absl::StrCat("The kernel time-shared the counters: running ",
                      FormatPercent(stats.time_running_ns(), stats.time_enabled_ns()),
                      " of the time.");
}

google::protobuf::Duration DurationOf(uint64_t ns) {
  google::protobuf::Duration duration;
  duration.set_seconds(static_cast<int64_t>(ns / 1'000'000'000));
  duration.set_nanos(static_cast<int32_t>(ns % 1'000'000'000));
  return duration;
}

// Those that the daemon's engine left when it died.
struct EngineGaps {
  uint64_t count = 0;  // that are listed
  uint64_t ns = 0;
  std::string why;  // the last one's
};

EngineGaps EngineGapsOf(const v1::SessionStats& stats) {
  EngineGaps gaps;
  for (const v1::Gap& gap : stats.gaps()) {
    if (gap.why().empty()) continue;
    ++gaps.count;
    gaps.ns += gap.to_ns() - std::min(gap.from_ns(), gap.to_ns());
    gaps.why = gap.why();
  }
  return gaps;
}

// Empty where the daemon's engine lived.
std::string EngineDeaths(const v1::SessionStats& stats) {
  const EngineGaps gaps = EngineGapsOf(stats);
  if (gaps.count == 0) return "";
  std::string text = gaps.why;
  if (!text.empty() && text[0] == 't') text[0] = 'T';
  const uint64_t deaths = std::max<uint64_t>(stats.engine_deaths(), gaps.count);
  if (deaths > 1) absl::StrAppend(&text, ", the last of ", FormatCountOf(deaths, "time"));
  absl::StrAppend(&text, ", and another one went on: nothing was sampled for ",
                  FormatDuration(DurationOf(gaps.ns)),
                  gaps.count < deaths ? absl::StrCat(" in the last ", gaps.count, " of them")
                  : deaths > 1        ? " in all"
                                      : "");
  return absl::StrCat(text, ", and what it had not handed out is lost, nobody knows how much.");
}

// Empty where every CPU was sampled all the time.
std::string Gaps(const v1::SessionStats& stats) {
  const EngineGaps engine = EngineGapsOf(stats);
  const uint64_t engine_count =
      engine.count == 0 ? 0 : std::max<uint64_t>(stats.engine_deaths(), engine.count);
  if (stats.gap_count() <= engine_count) return "";
  std::vector<int32_t> away;
  bool rate_changed = false;
  for (const v1::Gap& gap : stats.gaps()) {
    if (!gap.why().empty()) continue;
    if (gap.to_ns() == 0) away.push_back(gap.cpu());
    rate_changed = rate_changed || gap.cpu() < 0;
  }
  std::string text = absl::StrCat(
      rate_changed ? "CPUs were offline, or had their rate changed: " : "CPUs were offline: ",
      FormatCountOf(stats.gap_count() - engine_count, "gap"), ", ",
      FormatDuration(DurationOf(stats.gap_ns() - std::min(stats.gap_ns(), engine.ns))), " in all");
  if (!away.empty()) absl::StrAppend(&text, "; CPU ", absl::StrJoin(away, ", "), " to the end");
  return WithStop(text);
}

}  // namespace

std::string RenderSummary(const v1::Session& session, size_t width) {
  std::vector<std::string> sentences = {Opening(session)};
  const v1::SessionStats& stats = session.stats();
  if (stats.samples_generated() != 0) {
    sentences.push_back(LostAndDropped(stats));
  }
  if (std::string text = Shared(session); !text.empty()) sentences.push_back(text);
  if (std::string text = Discrepancy(session); !text.empty()) sentences.push_back(text);
  std::vector<std::pair<const v1::SessionEvent*, std::vector<std::string>>> sources;
  for (const v1::SessionEvent& event : session.events()) {
    if (event.side_band()) continue;
    const auto same = std::find_if(sources.begin(), sources.end(), [&event](const auto& source) {
      return SameStackSource(*source.first, event);
    });
    if (same == sources.end()) {
      sources.push_back({&event, {event.name()}});
    } else {
      same->second.push_back(event.name());
    }
  }
  for (const auto& [event, names] : sources) {
    const bool only = sources.size() == 1 && names.size() == 1;
    sentences.push_back(StackSource(*event, only ? std::vector<std::string>() : names));
  }
  if (stats.samples_generated() != 0) {
    sentences.push_back(Completeness(stats));
    // Of what a history kept nobody knows any more.
    if (session.state() != v1::SESSION_STATE_UNSPECIFIED) sentences.push_back(Troubles(stats));
  }
  if (std::string text = TimeShared(stats); !text.empty()) sentences.push_back(text);
  if (std::string text = EngineDeaths(stats); !text.empty()) sentences.push_back(text);
  if (std::string text = Gaps(stats); !text.empty()) sentences.push_back(text);
  for (const std::string& note : session.notes()) {
    if (!note.empty()) sentences.push_back(absl::StrCat("Note: ", WithStop(note)));
  }
  return WrapText(PrintableText(absl::StrJoin(sentences, " ")), width);
}

}  // namespace lbrd::client
