// lbrctl status: how the daemon itself is.

#include <google/protobuf/util/json_util.h>

#include <CLI/CLI.hpp>
#include <cstdio>
#include <memory>

#include "client/client.h"
#include "client/commands.h"
#include "client/output.h"
#include "client/status_view.h"

namespace lbrd::client {
namespace {

absl::Status Status(const Common& common, bool json) {
  const absl::StatusOr<Client> client = Client::Connect(common.endpoint);
  if (!client.ok()) return client.status();
  const absl::StatusOr<v1::DaemonStats> stats = client->GetStats();
  if (!stats.ok()) return stats.status();
  std::string text;
  if (json) {
    google::protobuf::util::JsonPrintOptions options;
    options.add_whitespace = true;
    options.always_print_primitive_fields = true;
    options.preserve_proto_field_names = true;
    if (!google::protobuf::util::MessageToJsonString(*stats, &text, options).ok()) {
      return absl::InternalError("the figures cannot be written as JSON");
    }
  } else {
    text = RenderStatus(*stats);
  }
  std::fwrite(text.data(), 1, text.size(), stdout);
  return CloseOutput(stdout, "standard output");
}

}  // namespace

void AddStatusCommand(CLI::App& app, const Common& common, Action* action) {
  auto json = std::make_shared<bool>(false);
  CLI::App* command =
      app.add_subcommand("status", "how the daemon itself is: sessions, contexts, memory");
  command->add_flag("--json", *json, "all figures as JSON, exactly");
  command->footer(
      "A context is what the daemon remembers of a thread between two of its samples.\n"
      "While a session samples the machine (-a, -C, --cgroup, --uid) every thread has\n"
      "one; sessions of a process or a thread (-p, -t) have those of their threads.\n"
      "Without sessions there are none.\n"
      "  contexts refused   for want of memory; those threads' samples are shown\n"
      "                     all the same\n"
      "  unknown histories  samples of threads without a context: they are seen as\n"
      "                     they are, never with another thread's history\n"
      "  sample memory      stacks, profiles and streams of all sessions together;\n"
      "                     what needs more is dropped and counted\n"
      "The history's lines are there where one is kept (lbrctl query --help):\n"
      "  history error      why it cannot be written now; what waits is kept in memory\n"
      "  not continuous     why the daemon's own session does not run\n"
      "Examples:\n"
      "  lbrctl status\n"
      "  lbrctl status --json | jq .contexts");
  command->callback(
      [json, &common, action] { *action = [json, &common] { return Status(common, *json); }; });
}

}  // namespace lbrd::client
