// lbrctl report: show a perf.data recording, without root and without a service.

#include <CLI/CLI.hpp>
#include <memory>
#include <utility>

#include "absl/strings/str_cat.h"
#include "absl/time/clock.h"
#include "absl/time/time.h"
#include "client/client.h"
#include "client/commands.h"
#include "client/figures.h"
#include "client/output.h"
#include "client/private_daemon.h"
#include "client/progress.h"
#include "client/sample_lines.h"

namespace lbrd::client {
namespace {

struct ReportFlags {
  std::string input;
  OutputFlags output;
  std::string daemon;
  SourceFlags source;
};

absl::Status Follow(const Client& client, const std::string& name, bool quiet) {
  Progress progress(quiet);
  if (!progress.drawing()) {
    // The daemon says when it is over; there is nothing to ask in between.
    return client.WatchSessions(name, /*hold=*/false, [](const auto&) { return true; });
  }
  while (true) {
    const absl::StatusOr<v1::Session> session = client.GetSession(name);
    if (!session.ok()) return session.status();
    if (session->state() == v1::SESSION_STATE_STOPPED ||
        session->state() == v1::SESSION_STATE_FAILED) {
      return absl::OkStatus();
    }
    const v1::SessionStats& stats = session->stats();
    progress.Show(stats.bytes_total() == 0 ? -1
                                           : static_cast<double>(stats.bytes_read()) /
                                                 static_cast<double>(stats.bytes_total()),
                  absl::StrCat("reading  ", FormatCountOf(stats.samples_seen(), "sample")));
    absl::SleepFor(absl::Milliseconds(20));
  }
}

absl::Status Report(const Common& common, const ReportFlags& flags) {
  const absl::StatusOr<std::vector<Output>> outputs =
      PlanOutputs(flags.output.files, flags.output.format, flags.output.event);
  if (!outputs.ok()) return outputs.status();
  const absl::StatusOr<PrivateDaemon> daemon = PrivateDaemon::Start(flags.daemon, common.quiet);
  if (!daemon.ok()) return daemon.status();
  const Client& client = daemon->client();

  v1::SessionSpec spec;
  spec.mutable_target()->mutable_recording()->set_path(flags.input);
  std::unique_ptr<SampleLines> lines;
  for (const Output& output : *outputs) {
    if (output.format != OutputFormat::kJsonl) continue;
    lines = std::make_unique<SampleLines>(output.path);
    spec.set_wait_for_stream(true);
  }
  const absl::StatusOr<v1::Session> session = client.CreateSession("recording", spec);
  if (!session.ok()) return session.status();
  if (lines != nullptr) {
    if (absl::Status opened = lines->Open(); !opened.ok()) return opened;
    lines->Start(client, *session, flags.source.Detail());
  }
  absl::Status status = Follow(client, session->name(), common.quiet);
  if (lines != nullptr) {
    const absl::Status written = lines->Finish();
    if (status.ok()) status = written;
  }
  if (!status.ok()) return status;
  const auto profile = client.GetProfile(session->name(), flags.source.Detail());
  if (!profile.ok()) return profile.status();
  return ShowResults(**profile, *outputs, common.quiet);
}

}  // namespace

void AddReportCommand(CLI::App& app, const Common& common, Action* action) {
  auto flags = std::make_shared<ReportFlags>();
  CLI::App* command =
      app.add_subcommand("report", "show a perf.data recording; needs no root and no daemon");
  command->add_option("-i,--input", flags->input, "the recording")->required();
  flags->output.AddTo(*command,
                      ".svg, .pb.gz, .folded, .jsonl, .json, .txt;\n"
                      "may be given again",
                      "table, svg, pprof, folded, jsonl or session; without -o on standard output");
  flags->output.AddEventTo(*command);
  flags->source.AddTo(*command);
  command->add_option("--daemon", flags->daemon, "the lbrd to read it with (default: found)");
  command->footer(
      "Examples:\n"
      "  lbrctl report -i perf.data                       hottest functions\n"
      "  lbrctl report -i perf.data --format jsonl        every sample, as JSON lines\n"
      "  lbrctl report -i perf.data -o flamegraph.svg\n"
      "Debug files and programs that are not here come from the debuginfod servers in\n"
      "$DEBUGINFOD_URLS, if it is set.");
  command->callback(
      [flags, &common, action] { *action = [flags, &common] { return Report(common, *flags); }; });
}

}  // namespace lbrd::client
