// The history's answers, for people and for programs.
#pragma once

#include <cstddef>
#include <string>
#include <vector>

#include "absl/status/statusor.h"
#include "absl/strings/string_view.h"
#include "absl/time/time.h"
#include "lbrd/v1/history.pb.h"
#include "lbrd/v1/profiler.pb.h"

namespace lbrd::client {

// "comm,function" -> keys, each at most once. kInvalidArgument lists the names.
absl::StatusOr<std::vector<v1::HistoryKey>> ParseHistoryKeys(absl::string_view names);
absl::string_view HistoryKeyName(v1::HistoryKey key);

// Rows as a table for each event, of at most `width` cells a line. Times in `zone`.
std::string RenderHistoryRows(const v1::QueryProfileResponse& answer,
                              const std::vector<v1::HistoryKey>& keys, absl::TimeZone zone,
                              size_t width);
// Rows, or the entries of the profile where there are none, a JSON object a line.
std::string RenderHistoryJsonl(const v1::QueryProfileResponse& answer,
                               const std::vector<v1::HistoryKey>& keys);
// How many samples of what time, what is missing, and what else is to be known: a paragraph of
// lines of at most `width` cells, without a newline at its end.
std::string RenderHistorySummary(const v1::QueryProfileResponse& answer, absl::TimeZone zone,
                                 size_t width);
// The answer's profile as that of a session, for the views of sessions.
v1::GetProfileResponse AsSessionProfile(v1::QueryProfileResponse answer);

}  // namespace lbrd::client
