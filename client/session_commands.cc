// lbrctl start, list, watch, stop, stream: sessions that live in the daemon.

#include <pwd.h>

#include <CLI/CLI.hpp>
#include <cstdio>
#include <memory>
#include <utility>
#include <vector>

#include "absl/strings/str_cat.h"
#include "absl/strings/str_format.h"
#include "client/client.h"
#include "client/commands.h"
#include "client/engine_gap.h"
#include "client/enum_names.h"
#include "client/figures.h"
#include "client/output.h"
#include "client/sample_lines.h"
#include "client/unnamed_frames.h"

namespace lbrd::client {
namespace {

absl::string_view StateName(v1::SessionState state) {
  switch (state) {
    case v1::SESSION_STATE_WAITING:
      return "waiting";
    case v1::SESSION_STATE_RUNNING:
      return "running";
    case v1::SESSION_STATE_STOPPED:
      return "stopped";
    case v1::SESSION_STATE_FAILED:
      return "failed";
    default:
      return "unknown";
  }
}

std::string TargetText(const v1::Target& target) {
  if (target.has_all_cpus()) return "all CPUs";
  if (target.has_process()) return absl::StrCat("pid ", target.process().pid());
  if (target.has_thread()) return absl::StrCat("tid ", target.thread().tid());
  if (target.has_cpu_list()) return absl::StrCat("CPUs ", target.cpu_list().cpus());
  if (target.has_cgroup()) return absl::StrCat("cgroup ", target.cgroup().path());
  if (target.has_user()) return absl::StrCat("uid ", target.user().uid());
  return target.recording().path();
}

// As the user database says; a number where it does not.
std::string UserName(uint32_t uid) {
  std::vector<char> text(16384);
  passwd found{};
  passwd* result = nullptr;
  if (getpwuid_r(uid, &found, text.data(), text.size(), &result) == 0 && result != nullptr) {
    return result->pw_name;
  }
  return absl::StrCat(uid);
}

// "shares flow-1 (3 sessions; the kernel samples at 999 Hz)"; empty: events of its own.
std::string FlowText(const v1::Session& session) {
  if (!session.has_flow()) return "";
  const v1::FlowInfo& flow = session.flow();
  return absl::StrCat("shares ", flow.name(), " (", FormatCountOf(flow.sessions(), "session"),
                      "; the kernel samples ",
                      flow.period() != 0 ? absl::StrCat("every ", flow.period(), " events")
                                         : absl::StrCat("at ", flow.frequency_hz(), " Hz"),
                      ")");
}

// "cycles"; "cycles +1": and one more.
std::string EventsText(const v1::Session& session) {
  if (session.events_size() == 0) return "";
  const std::string& first = session.events(0).name();
  return session.events_size() == 1 ? first : absl::StrCat(first, " +", session.events_size() - 1);
}

struct StartFlags {
  std::string name;
  bool bound = false;
  SamplingFlags sampling;
};

absl::Status Start(const Common& common, const StartFlags& flags) {
  absl::StatusOr<v1::SessionSpec> spec = flags.sampling.ToSpec();
  if (!spec.ok()) return spec.status();
  spec->set_bound(flags.bound);
  if (!spec->has_target()) {
    return absl::InvalidArgumentError(
        "say what to profile: -a (the whole machine), -p PID, -t TID, -C CPUS, --cgroup PATH or "
        "--uid USER");
  }
  const absl::StatusOr<Client> client = Client::Connect(common.endpoint);
  if (!client.ok()) return client.status();
  const absl::StatusOr<v1::Session> session = client->CreateSession(flags.name, *spec);
  if (!session.ok()) return session.status();
  // The daemon's engine died after it had made the session, and the next could not go on with it.
  if (session->state() == v1::SESSION_STATE_FAILED) {
    return absl::UnavailableError(absl::StrCat(session->name(), " has failed: ", session->error()));
  }
  if (common.quiet || session->events_size() == 0) return absl::OkStatus();
  for (const v1::SessionEvent& event : session->events()) {
    std::printf("%s: sampling %s on %s; user stacks from %s\n", session->name().c_str(),
                event.name().c_str(), TargetText(session->spec().target()).c_str(),
                std::string(StackModeName(event.stack_mode())).c_str());
    for (const v1::Refusal& refusal : event.refusals()) {
      std::printf("  not from %s: %s\n", std::string(StackModeName(refusal.mode())).c_str(),
                  refusal.why().c_str());
    }
  }
  if (const std::string text = FlowText(*session); !text.empty()) {
    std::printf("  %s\n", text.c_str());
  }
  for (const std::string& note : session->notes()) std::printf("  note: %s\n", note.c_str());
  std::printf("Show it: lbrctl stop %s    Follow it: lbrctl stream %s\n", session->name().c_str(),
              session->name().c_str());
  return absl::OkStatus();
}

absl::Status List(const Common& common) {
  const absl::StatusOr<Client> client = Client::Connect(common.endpoint);
  if (!client.ok()) return client.status();
  const absl::StatusOr<std::vector<v1::Session>> sessions = client->ListSessions();
  if (!sessions.ok()) return sessions.status();
  if (sessions->empty()) {
    if (!common.quiet) std::printf("no sessions; start one: lbrctl start NAME -a\n");
    return absl::OkStatus();
  }
  std::printf("%-20s %-8s %-12s %-12s %-9s %12s %s\n", "NAME", "STATE", "TARGET", "EVENT", "TIME",
              "SAMPLES", "OWNER");
  for (const v1::Session& session : *sessions) {
    std::printf("%-20s %-8s %-12s %-12s %-9s %12s %s\n", session.name().c_str(),
                std::string(StateName(session.state())).c_str(),
                TargetText(session.spec().target()).c_str(), EventsText(session).c_str(),
                FormatDuration(session.running_time()).c_str(),
                FormatCount(session.stats().samples_seen()).c_str(),
                UserName(session.owner_uid()).c_str());
  }
  return absl::OkStatus();
}

struct StopFlags {
  std::string name;
  SourceFlags source;
  OutputFlags output;
};

absl::Status Stop(const Common& common, const StopFlags& flags) {
  const absl::StatusOr<std::vector<Output>> outputs =
      PlanOutputs(flags.output.files, flags.output.format, flags.output.event);
  if (!outputs.ok()) return outputs.status();
  for (const Output& output : *outputs) {
    if (output.format == OutputFormat::kJsonl) {
      return absl::InvalidArgumentError(
          "a stopped session has no single samples; lbrctl stream writes them while it runs");
    }
  }
  const absl::StatusOr<Client> client = Client::Connect(common.endpoint);
  if (!client.ok()) return client.status();
  const absl::StatusOr<v1::Session> session = client->StopSession(flags.name);
  if (!session.ok()) return session.status();
  const auto profile = client->GetProfile(flags.name, flags.source.Detail());
  if (absl::IsNotFound(profile.status())) {
    // A `record` that waits for its end is as quick as we are.
    std::fprintf(stderr, "lbrctl: %s has stopped; another client has taken what it found\n",
                 flags.name.c_str());
    return absl::OkStatus();
  }
  if (!profile.ok()) return profile.status();
  NameUnnamedFrames(flags.source.Detail(), common.quiet,
                    (*profile)->mutable_profile()->mutable_definitions());
  // Only what was shown is forgotten: a file that could not be written can be asked for again.
  const absl::Status shown = ShowResults(**profile, *outputs, common.quiet);
  if (!shown.ok() && !absl::IsDataLoss(shown)) return shown;
  const absl::Status deleted = client->DeleteSession(flags.name);
  return shown.ok() && !absl::IsNotFound(deleted) ? deleted : shown;
}

struct WatchFlags {
  std::string name;
  bool hold = false;
};

void ShowChange(const v1::Session& session) {
  std::string text = absl::StrCat(session.name(), ": ", StateName(session.state()));
  if (!session.error().empty()) absl::StrAppend(&text, " (", session.error(), ")");
  absl::StrAppend(&text, ", ", TargetText(session.spec().target()), ", ",
                  FormatCountOf(session.stats().samples_seen(), "sample"));
  if (const std::string flow = FlowText(session); !flow.empty()) {
    absl::StrAppend(&text, ", ", flow);
  }
  for (auto gap = session.stats().gaps().rbegin(); gap != session.stats().gaps().rend(); ++gap) {
    if (gap->why().empty()) continue;
    absl::StrAppend(&text, "; ", EngineGapText(gap->why(), gap->from_ns(), gap->to_ns()));
    break;
  }
  std::printf("%s\n", text.c_str());
}

absl::Status Watch(const Common& common, const WatchFlags& flags) {
  if (flags.hold && flags.name.empty()) {
    return absl::InvalidArgumentError("--hold: name the session to hold");
  }
  const absl::StatusOr<Client> client = Client::Connect(common.endpoint);
  if (!client.ok()) return client.status();
  return client->WatchSessions(
      flags.name, flags.hold,
      [](const v1::WatchSessionsResponse& message) {
        for (const v1::Session& session : message.sessions()) ShowChange(session);
        for (const std::string& name : message.deleted()) {
          std::printf("%s: deleted\n", name.c_str());
        }
        return std::fflush(stdout) == 0;
      },
      [] {
        std::fprintf(stderr,
                     "lbrctl: the connection broke and is there again: "
                     "these are the sessions now\n");
      });
}

struct StreamFlags {
  std::string name;
  SourceFlags source;
};

absl::Status Stream(const Common& common, const StreamFlags& flags) {
  const absl::StatusOr<Client> client = Client::Connect(common.endpoint);
  if (!client.ok()) return client.status();
  const absl::StatusOr<v1::Session> session = client->GetSession(flags.name);
  if (!session.ok()) return session.status();
  SampleLines lines("-", /*tell_gaps=*/true);
  if (absl::Status opened = lines.Open(); !opened.ok()) return opened;
  lines.Start(*client, *session, flags.source.Detail());
  return lines.Finish();
}

}  // namespace

void AddSessionCommands(CLI::App& app, const Common& common, Action* action) {
  auto start = std::make_shared<StartFlags>();
  CLI::App* start_command = app.add_subcommand("start", "start a session that goes on by itself");
  start_command->add_option("NAME", start->name, "what to call it: a-z, 0-9, '-', '_', '.'")
      ->required();
  start->sampling.AddTo(*start_command);
  start_command->add_flag(
      "--bound", start->bound,
      "end it when nobody streams it or holds it (lbrctl watch --hold) for 10 s");
  start_command->footer("Example:\n  lbrctl start web -p 1234 -F 99");
  start_command->callback(
      [start, &common, action] { *action = [start, &common] { return Start(common, *start); }; });

  app.add_subcommand("list", "the sessions there are")->callback([&common, action] {
    *action = [&common] { return List(common); };
  });

  auto stop = std::make_shared<StopFlags>();
  CLI::App* stop_command = app.add_subcommand("stop", "stop a session and show what it found");
  stop_command->add_option("NAME", stop->name, "its name: see lbrctl list")->required();
  stop->output.AddTo(*stop_command,
                     ".svg, .pb.gz, .folded, .json, .txt;\n"
                     "may be given again",
                     "table, svg, pprof, folded or session");
  stop->output.AddEventTo(*stop_command);
  stop->source.AddTo(*stop_command);
  stop_command->callback(
      [stop, &common, action] { *action = [stop, &common] { return Stop(common, *stop); }; });

  auto watch = std::make_shared<WatchFlags>();
  CLI::App* watch_command = app.add_subcommand(
      "watch", "the sessions there are, and then each that begins, ends or is deleted");
  watch_command->add_option("NAME", watch->name, "only this one, until it ends (default: all)");
  watch_command->add_flag("--hold", watch->hold,
                          "hold it: a session started with --bound goes on while this runs");
  watch_command->footer(
      "Examples:\n"
      "  lbrctl watch                      all of them, until Ctrl-C\n"
      "  lbrctl start night -a --bound && lbrctl watch night --hold");
  watch_command->callback(
      [watch, &common, action] { *action = [watch, &common] { return Watch(common, *watch); }; });

  auto stream = std::make_shared<StreamFlags>();
  CLI::App* stream_command =
      app.add_subcommand("stream", "a session's samples as they come, a JSON object a line");
  stream_command->add_option("NAME", stream->name, "its name: see lbrctl list")->required();
  stream->source.AddTo(*stream_command);
  stream_command->callback([stream, &common, action] {
    *action = [stream, &common] { return Stream(common, *stream); };
  });
}

}  // namespace lbrd::client
