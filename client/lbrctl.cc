// lbrctl: the command line.

#include <grpc/support/log.h>
#include <signal.h>

#include <CLI/CLI.hpp>
#include <cstdio>
#include <cstdlib>
#include <memory>
#include <string>

#include "client/client.h"
#include "client/commands.h"
#include "client/help_format.h"

namespace {

// 0: done (or what the command itself says); 1: it could not be done; 2: the command line is wrong.
int ExitCode(const absl::Status& status, int done) {
  if (status.ok()) return done;
  std::fprintf(stderr, "lbrctl: %s\n", std::string(status.message()).c_str());
  return absl::IsInvalidArgument(status) ? 2 : 1;
}

void AddEndpoint(CLI::App& app, lbrd::client::Endpoint* endpoint) {
  app.add_option("--socket", endpoint->socket, "the daemon's UNIX socket")
      ->capture_default_str()
      ->envname("LBRD_SOCKET");
  const std::string other = "Another machine's daemon, by mutual TLS";
  app.add_option("--host", endpoint->host, "where it is, instead of --socket")
      ->type_name("HOST:PORT")
      ->envname("LBRD_HOST")
      ->group(other);
  const auto add_file = [&](const char* flag, std::string* path, const char* name,
                            const char* help) {
    app.add_option(flag, *path, help)->type_name("FILE")->envname(name)->group(other);
  };
  add_file("--tls-ca", &endpoint->authorities, "LBRD_TLS_CA",
           "certificates (PEM) of those who issue daemons theirs");
  add_file("--tls-cert", &endpoint->certificate, "LBRD_TLS_CERT",
           "your own certificate (PEM): its name says what you may do");
  add_file("--tls-key", &endpoint->key, "LBRD_TLS_KEY", "its private key (PEM)");
}

}  // namespace

int main(int argc, char** argv) {
  // A reader that goes away (lbrctl … | head) is not worth a message.
  signal(SIGPIPE, SIG_DFL);
  // What matters of gRPC's own messages comes with the status of a call.
  if (std::getenv("GRPC_VERBOSITY") == nullptr) gpr_set_log_function([](gpr_log_func_args*) {});
  lbrd::client::Common common;
  lbrd::client::Action action;
  int done = 0;
  CLI::App app{
      "lbrctl starts, watches and stops profiling sessions of lbrd, and shows what they\n"
      "found."};
  app.name("lbrctl");
  app.formatter(std::make_shared<lbrd::client::HelpFormat>());
  app.set_version_flag("--version", "lbrctl " LBRD_VERSION);
  AddEndpoint(app, &common.endpoint);
  app.add_flag("-q,--quiet", common.quiet, "say only what was asked for: no progress, no summary");
  app.require_subcommand(1);
  app.fallthrough();
  lbrd::client::AddRecordCommand(app, common, &action);
  lbrd::client::AddSessionCommands(app, common, &action);
  lbrd::client::AddQueryCommand(app, common, &action);
  lbrd::client::AddReportCommand(app, common, &action);
  lbrd::client::AddStatusCommand(app, common, &action);
  lbrd::client::AddDoctorCommand(app, common, &action, &done);
  app.footer("lbrctl COMMAND --help says more, with examples.");
  try {
    app.parse(argc, argv);
  } catch (const CLI::ParseError& error) {
    return app.exit(error) == 0 ? 0 : 2;
  }
  const absl::Status status = action();
  return ExitCode(status, done);
}
