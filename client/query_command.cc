// lbrctl query: where the time went, from the daemon's history.

#include <CLI/CLI.hpp>
#include <cstdio>
#include <memory>
#include <optional>
#include <utility>

#include "absl/strings/ascii.h"
#include "absl/strings/str_cat.h"
#include "absl/time/clock.h"
#include "client/client.h"
#include "client/commands.h"
#include "client/hot_functions.h"
#include "client/output.h"
#include "client/profile_index.h"
#include "client/query_view.h"
#include "client/time_point.h"
#include "client/unnamed_frames.h"

namespace lbrd::client {
namespace {

constexpr uint32_t kDefaultRows = 40;

struct QueryFlags {
  std::string since = "1h";
  std::string until = "now";
  std::string session;
  std::string event;
  std::optional<int32_t> pid;
  std::optional<int32_t> tid;
  std::string comm;
  std::string cgroup;
  std::string user;
  std::string exe;
  std::string build_id;
  std::string by;
  std::optional<uint32_t> limit;
  OutputFlags output;
};

absl::Status SetTime(const char* option, const std::string& text, absl::Time now,
                     google::protobuf::Timestamp* out) {
  const absl::StatusOr<absl::Time> time = ParseTimePoint(text, now, absl::LocalTimeZone());
  if (!time.ok()) {
    return absl::InvalidArgumentError(
        absl::StrCat(option, ": ", std::string(time.status().message())));
  }
  const int64_t ns = absl::ToUnixNanos(std::max(*time, absl::UnixEpoch()));
  out->set_seconds(ns / 1'000'000'000);
  out->set_nanos(static_cast<int32_t>(ns % 1'000'000'000));
  return absl::OkStatus();
}

absl::StatusOr<v1::QueryProfileRequest> ToRequest(const QueryFlags& flags,
                                                  const std::vector<v1::HistoryKey>& keys) {
  v1::QueryProfileRequest request;
  const absl::Time now = absl::Now();
  if (absl::Status set = SetTime("--since", flags.since, now, request.mutable_since()); !set.ok()) {
    return set;
  }
  // What "now" is the daemon knows best: it stores what there is first.
  if (flags.until != "now") {
    absl::Status set = SetTime("--until", flags.until, now, request.mutable_until());
    if (!set.ok()) return set;
  }
  request.set_session(flags.session);
  request.set_event(flags.event);
  if (flags.pid.has_value()) request.set_pid(*flags.pid);
  if (flags.tid.has_value()) request.set_tid(*flags.tid);
  request.set_comm(flags.comm);
  request.set_cgroup(flags.cgroup);
  if (!flags.user.empty()) {
    const absl::StatusOr<uint32_t> uid = ParseUser(flags.user);
    if (!uid.ok()) return uid.status();
    request.set_uid(*uid);
  }
  request.set_exe(flags.exe);
  request.set_build_id(absl::AsciiStrToLower(flags.build_id));
  for (const v1::HistoryKey key : keys) request.add_group_by(key);
  if (!keys.empty()) request.set_limit(flags.limit.value_or(kDefaultRows));
  return request;
}

// The hottest functions of each event.
absl::StatusOr<std::string> RenderFunctions(const v1::GetProfileResponse& profile, size_t limit) {
  const absl::StatusOr<ProfileIndex> index =
      ProfileIndex::Build(profile.profile(), profile.session());
  if (!index.ok()) return index.status();
  std::string text;
  for (uint32_t event = 0; event < index->event_count(); ++event) {
    if (index->samples(event) == 0) continue;
    const absl::StatusOr<HotFunctionList> list =
        HotFunctions(*index, {.event = event, .limit = limit});
    if (!list.ok()) return list.status();
    absl::StrAppend(&text, RenderHotFunctions(*list, TerminalWidth()), "\n");
  }
  return text;
}

absl::Status WriteText(const std::string& text, const std::string& path) {
  const absl::StatusOr<FILE*> file = OpenOutput(path);
  if (!file.ok()) return file.status();
  std::fwrite(text.data(), 1, text.size(), *file);
  return CloseOutput(*file, path);
}

// The table holds the summary as well.
absl::Status WriteAnswer(const v1::QueryProfileResponse& answer, const QueryFlags& flags,
                         const std::vector<v1::HistoryKey>& keys, const std::string& summary,
                         const Output& output) {
  if (output.format == OutputFormat::kJsonl) {
    return WriteText(RenderHistoryJsonl(answer, keys), output.path);
  }
  if (output.format == OutputFormat::kTable && !keys.empty()) {
    return WriteText(
        absl::StrCat(RenderHistoryRows(answer, keys, absl::LocalTimeZone(), TerminalWidth()),
                     summary, "\n"),
        output.path);
  }
  const v1::GetProfileResponse profile = AsSessionProfile(answer);
  if (output.format != OutputFormat::kTable) return WriteProfile(profile, output);
  const absl::StatusOr<std::string> table =
      RenderFunctions(profile, flags.limit.value_or(kDefaultRows));
  if (!table.ok()) return table.status();
  return WriteText(absl::StrCat(*table, summary, "\n"), output.path);
}

absl::Status Query(const Common& common, const QueryFlags& flags) {
  const absl::StatusOr<std::vector<v1::HistoryKey>> keys = ParseHistoryKeys(flags.by);
  if (!keys.ok()) return keys.status();
  const absl::StatusOr<v1::QueryProfileRequest> request = ToRequest(flags, *keys);
  if (!request.ok()) return request.status();
  const absl::StatusOr<std::vector<Output>> outputs =
      PlanOutputs(flags.output.files, flags.output.format);
  if (!outputs.ok()) return outputs.status();
  for (const Output& output : *outputs) {
    const bool of_rows =
        output.format == OutputFormat::kTable || output.format == OutputFormat::kJsonl;
    if (!keys->empty() && !of_rows) {
      return absl::InvalidArgumentError(
          "--by makes rows, which are written as a table or jsonl; leave --by out for stacks");
    }
    if (output.format == OutputFormat::kSession) {
      return absl::InvalidArgumentError("a query has no session's account; use jsonl");
    }
  }
  const absl::StatusOr<Client> client = Client::Connect(common.endpoint);
  if (!client.ok()) return client.status();
  absl::StatusOr<v1::QueryProfileResponse> answer = client->QueryProfile(*request);
  if (!answer.ok()) return answer.status();
  NameUnnamedFrames(/*detail=*/{}, common.quiet, answer->mutable_profile()->mutable_definitions());
  const std::string summary = RenderHistorySummary(*answer, absl::LocalTimeZone(), TerminalWidth());
  if (answer->samples() == 0) {
    return absl::NotFoundError(absl::StrCat("the history holds nothing of this.\n", summary));
  }
  bool shown = false;
  for (const Output& output : *outputs) {
    absl::Status written = WriteAnswer(*answer, flags, *keys, summary, output);
    if (!written.ok()) return written;
    shown = shown || (output.path == "-" && output.format == OutputFormat::kTable);
    if (output.path != "-" && !common.quiet)
      std::fprintf(stderr, "wrote %s\n", output.path.c_str());
  }
  if (!shown && !common.quiet) std::fprintf(stderr, "%s\n", summary.c_str());
  return absl::OkStatus();
}

}  // namespace

void AddQueryCommand(CLI::App& app, const Common& common, Action* action) {
  auto flags = std::make_shared<QueryFlags>();
  CLI::App* command = app.add_subcommand("query", "where the time went, from the history");
  command->add_option("--since", flags->since,
                      "from when: 10m, 2h or 3d ago, 14:30, 2026-11-21, \"2026-11-21 14:30\",\n"
                      "@UNIX-SECONDS (default: 1h)");
  command->add_option("--until", flags->until, "to when, in the same way (default: now)");
  command->add_option("--session", flags->session, "only what this session found");
  command->add_option("-e,--event", flags->event, "only samples of this event");
  command->add_option("-p,--pid", flags->pid, "only of this process");
  command->add_option("-t,--tid", flags->tid, "only of this thread");
  command->add_option("--comm", flags->comm, "only of threads and processes of this name");
  command->add_option("--cgroup", flags->cgroup,
                      "only of this cgroup, e.g. /system.slice, and below");
  command->add_option("--uid", flags->user, "only of this user's processes, by name or number");
  command->add_option("--exe", flags->exe, "only of this executable: its path, or its name");
  command->add_option("--build-id", flags->build_id,
                      "only stacks through a binary of this build ID, or how it begins");
  command->add_option("--by", flags->by,
                      "what to sum up by, with commas between: session, event, time, pid,\n"
                      "tid, comm, process, cgroup, uid, exe, binary, build-id, function,\n"
                      "stack (default: the hottest functions)");
  command->add_option("--limit", flags->limit, "rows to show (default: 40; 0: all)");
  flags->output.AddTo(*command,
                      ".svg (flame graph), .pb.gz (pprof),\n"
                      ".folded, .jsonl (an object a row), .txt (table); may be given again",
                      "table, svg, pprof, folded or jsonl, whatever the file's ending;\n"
                      "without -o on standard output (default: table)");
  command->footer(
      "The daemon samples the whole machine 19 times a second and CPU, and keeps what\n"
      "it finds for a week (lbrd --help: --history). Sessions started with --retain are\n"
      "kept as well, at their own rates. Times are as exact as the history's steps\n"
      "(10 s).\n"
      "Exit code 1 where nothing was found.\n"
      "Examples:\n"
      "  lbrctl query --since 10m                          the hottest functions\n"
      "  lbrctl query --since 14:00 --until 14:05 --by process,function\n"
      "  lbrctl query --since 1h --by cgroup               which services took the time\n"
      "  lbrctl query --since 1h --by time --comm nginx    when\n"
      "  lbrctl query --since 1h --pid 1234 -o flamegraph.svg");
  command->callback(
      [flags, &common, action] { *action = [flags, &common] { return Query(common, *flags); }; });
}

}  // namespace lbrd::client
