// What becomes of a profile: a table and a summary on the terminal, or files by their endings.
#pragma once

#include <cstdio>
#include <string>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "lbrd/v1/profiler.pb.h"

namespace lbrd::client {

enum class OutputFormat { kTable, kFlameGraph, kPprof, kFolded, kJsonl, kSession };

// "table", "svg", "pprof", "folded", "jsonl", "session". kInvalidArgument lists them.
absl::StatusOr<OutputFormat> ParseFormat(const std::string& name);
// By ending: .svg, .pb.gz, .pprof, .folded, .jsonl, .json (the session's account), .txt (a table).
absl::StatusOr<OutputFormat> FormatOfFile(const std::string& path);

// Where output goes: files, "-" for standard output.
struct Output {
  std::string path;
  OutputFormat format;
  // By name; empty: tables show all, flame graphs and folded stacks the one with the most samples.
  std::string event = {};
};

// --format, -o and --show-event taken together. Nothing given: a table on standard output.
absl::StatusOr<std::vector<Output>> PlanOutputs(const std::vector<std::string>& paths,
                                                const std::string& format,
                                                const std::string& event = {});

// Writes a profile in a format other than kJsonl.
absl::Status WriteProfile(const v1::GetProfileResponse& profile, const Output& output);

// All that there is to show of a profile: every output but kJsonl (which is streamed), and the
// summary unless a table on standard output holds it already. kDataLoss: the session failed
// half-way; what it found until then has been shown.
absl::Status ShowResults(const v1::GetProfileResponse& profile, const std::vector<Output>& outputs,
                         bool quiet);

// Opens a file for writing, or standard output; the caller closes it with CloseOutput(), which says
// whether everything was written (a full disk shows only there).
absl::StatusOr<FILE*> OpenOutput(const std::string& path);
absl::Status CloseOutput(FILE* file, const std::string& path);

// Columns of the terminal on standard output; 80 where it is none.
size_t TerminalWidth();

}  // namespace lbrd::client
