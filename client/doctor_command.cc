// lbrctl doctor: what this machine can do for sessions, and what to do where it cannot.

#include <google/protobuf/util/json_util.h>

#include <CLI/CLI.hpp>
#include <cstdio>
#include <memory>
#include <utility>

#include "client/client.h"
#include "client/commands.h"
#include "client/doctor_view.h"
#include "client/output.h"

namespace lbrd::client {
namespace {

struct DoctorFlags {
  bool json = false;
  bool no_experiments = false;
};

// A daemon that cannot be asked is what is missing first.
v1::Capabilities WithoutDaemon(const absl::Status& status) {
  v1::Capabilities capabilities;
  v1::Probe* probe = capabilities.add_probes();
  probe->set_name("daemon");
  probe->set_verdict(v1::PROBE_VERDICT_MISSING);
  probe->set_essential(true);
  probe->set_value("does not answer");
  // Errors read "what failed; what to do".
  const absl::string_view message = status.message();
  const size_t at = message.find("; ");
  probe->set_why(std::string(message.substr(0, at)));
  if (at != absl::string_view::npos) probe->set_action(std::string(message.substr(at + 2)));
  capabilities.set_stacks("No session can be started. What the machine can do is found by lbrd.");
  return capabilities;
}

absl::StatusOr<v1::Capabilities> Ask(const Endpoint& endpoint, bool run_experiments) {
  const absl::StatusOr<Client> client = Client::Connect(endpoint);
  if (!client.ok()) return client.status();
  return client->GetCapabilities(run_experiments);
}

absl::Status Doctor(const Common& common, const DoctorFlags& flags, int* exit_code) {
  absl::StatusOr<v1::Capabilities> answer = Ask(common.endpoint, !flags.no_experiments);
  const v1::Capabilities capabilities =
      answer.ok() ? *std::move(answer) : WithoutDaemon(answer.status());
  *exit_code = DoctorExitCode(capabilities);
  std::string text;
  if (flags.json) {
    google::protobuf::util::JsonPrintOptions options;
    options.add_whitespace = true;
    options.always_print_primitive_fields = true;
    options.preserve_proto_field_names = true;
    if (!google::protobuf::util::MessageToJsonString(capabilities, &text, options).ok()) {
      return absl::InternalError("the probes cannot be written as JSON");
    }
  } else {
    text = RenderDoctor(capabilities, TerminalWidth());
  }
  std::fwrite(text.data(), 1, text.size(), stdout);
  return CloseOutput(stdout, "standard output");
}

}  // namespace

void AddDoctorCommand(CLI::App& app, const Common& common, Action* action, int* exit_code) {
  auto flags = std::make_shared<DoctorFlags>();
  CLI::App* command =
      app.add_subcommand("doctor", "what this machine can do, and what to do where it cannot");
  command->add_flag("--json", flags->json, "all of it as JSON, with the evidence of each line");
  command->add_flag("--no-experiments", flags->no_experiments,
                    "only what can be found at once: do not try for some 2 s, with a child\n"
                    "process, whether LBR survives context switches, nor look who else samples");
  command->footer(
      "The daemon tries each thing and tells what came of it:\n"
      "  ✓ ok         works\n"
      "  ! degraded   works, but less well than elsewhere; why, and what to do,\n"
      "               stand below\n"
      "  ✗ missing    is not here\n"
      "  - not tried  there is nothing to try it on\n"
      "and, last, which user stacks sessions get on this machine, and why.\n"
      "Exit codes: 0 everything is fine, 1 sessions work but something is degraded or\n"
      "missing, 2 no session can be started (no daemon, no permission, no perf events).\n"
      "Examples:\n"
      "  lbrctl doctor\n"
      "  lbrctl doctor --json | jq '.probes[] | select(.name == \"lbr\")'");
  command->callback([flags, &common, action, exit_code] {
    *action = [flags, &common, exit_code] { return Doctor(common, *flags, exit_code); };
  });
}

}  // namespace lbrd::client
