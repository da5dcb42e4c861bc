// lbrctl record: start a session, watch it, stop it, show what it found.

#include <poll.h>
#include <signal.h>
#include <sys/eventfd.h>
#include <unistd.h>

#include <CLI/CLI.hpp>
#include <algorithm>
#include <atomic>
#include <cerrno>
#include <cstdio>
#include <iterator>
#include <memory>
#include <optional>
#include <thread>
#include <utility>

#include "absl/strings/str_cat.h"
#include "absl/time/clock.h"
#include "absl/time/time.h"
#include "client/client.h"
#include "client/commands.h"
#include "client/engine_gap.h"
#include "client/figures.h"
#include "client/output.h"
#include "client/progress.h"
#include "client/sample_lines.h"
#include "client/session_watch.h"
#include "client/target_command.h"
#include "client/unnamed_frames.h"

namespace lbrd::client {
namespace {

// How late the end of a command is seen, where the kernel does not tell.
constexpr absl::Duration kTick = absl::Milliseconds(100);
// How often figures are drawn anew. The daemon reads its rings no more often.
constexpr absl::Duration kDrawn = absl::Milliseconds(500);
// Where nobody looks: what the daemon would have told is missed by no more.
constexpr absl::Duration kWatched = absl::Seconds(30);
constexpr absl::Duration kNotWatched = absl::Seconds(2);

// Set by Ctrl-C: the session is stopped and what it found is shown.
std::atomic<bool> interrupted = false;
int interrupt_event = -1;  // readable once it is set

void CatchInterrupts() {
  interrupt_event = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
  struct sigaction action {};
  action.sa_handler = [](int) {
    if (interrupted.exchange(true)) _exit(130);  // a second one is meant
    const int error = errno;
    eventfd_write(interrupt_event, 1);
    errno = error;
  };
  sigaction(SIGINT, &action, nullptr);
  sigaction(SIGTERM, &action, nullptr);
}

// Less long when a signal comes, when the command ends, or when there is news of the session: then
// it says true.
bool Sleep(absl::Duration duration, const SessionWatch& watch, const TargetCommand* command) {
  pollfd events[] = {{interrupt_event, POLLIN, 0},
                     {watch.event(), POLLIN, 0},
                     {command != nullptr ? command->event() : -1, POLLIN, 0}};
  if (command != nullptr && command->event() < 0) duration = std::min(duration, kTick);
  const int64_t ms = absl::ToInt64Milliseconds(duration + absl::Microseconds(999));
  if (poll(events, std::size(events), static_cast<int>(ms)) <= 0) return false;
  eventfd_t count;
  if (events[0].revents != 0) eventfd_read(interrupt_event, &count);
  return events[1].revents != 0 && eventfd_read(watch.event(), &count) == 0;
}

struct RecordFlags {
  SamplingFlags sampling;
  OutputFlags output;
  bool table = false;
  SourceFlags source;
  std::vector<std::string> command;
};

absl::Duration DurationOf(const v1::SessionSpec& spec) {
  return spec.has_duration() ? absl::Nanoseconds(DurationNanos(spec.duration()))
                             : absl::InfiniteDuration();
}

void ShowProgress(const v1::Session& session, Progress* progress) {
  const absl::Duration running = absl::Nanoseconds(DurationNanos(session.running_time()));
  const absl::Duration whole = DurationOf(session.spec());
  const double done = whole == absl::InfiniteDuration() ? -1 : absl::FDivDuration(running, whole);
  std::string text = absl::StrCat(FormatDuration(session.running_time()), "  ",
                                  FormatCountOf(session.stats().samples_seen(), "sample"));
  if (whole == absl::InfiniteDuration()) absl::StrAppend(&text, "  (Ctrl-C ends it)");
  if (session.stats().samples_lost() != 0) {
    absl::StrAppend(&text, ", ", FormatCount(session.stats().samples_lost()), " lost");
  }
  progress->Show(done, text);
}

bool Over(const v1::Session& session) {
  return session.state() == v1::SESSION_STATE_STOPPED ||
         session.state() == v1::SESSION_STATE_FAILED;
}

// A line for the last time that the daemon's engine died, once it samples again. *told: deaths that
// the user knows of.
void TellEngineDeath(const v1::Session& session, uint32_t* told) {
  if (session.stats().engine_deaths() <= *told || session.stats().gaps_size() == 0) return;
  const v1::Gap* last = nullptr;
  for (const v1::Gap& gap : session.stats().gaps()) {
    if (!gap.why().empty()) last = &gap;
  }
  if (last == nullptr || (last->to_ns() == 0 && !Over(session))) return;
  *told = session.stats().engine_deaths();
  std::fprintf(stderr, "lbrctl: %s\n",
               EngineGapText(last->why(), last->from_ns(), last->to_ns()).c_str());
}

// How long nothing is to be seen of it that nobody tells. `told`: deaths of the engine that the
// user knows of; when the next one is over is not told.
absl::Duration UntilNextLook(const v1::Session& session, bool drawing, bool watching,
                             uint32_t told) {
  if (drawing) return kDrawn;
  if (watching && session.stats().engine_deaths() <= told) return kWatched;
  const absl::Duration left =
      DurationOf(session.spec()) - absl::Nanoseconds(DurationNanos(session.running_time()));
  return std::clamp(left, kTick, kNotWatched);
}

// Follows the session until it is over, its command has ended, or Ctrl-C.
absl::Status Follow(const Client& client, const std::string& name, bool quiet,
                    TargetCommand* command, const SessionWatch& watch) {
  Progress progress(quiet || command != nullptr);
  bool told = false;
  uint32_t deaths = 0;
  std::string how;  // the command ended; told once
  while (true) {
    const absl::StatusOr<v1::Session> session = client.GetSession(name);
    if (!session.ok()) return session.status();
    if (session->stats().engine_deaths() > deaths) progress.Erase();
    TellEngineDeath(*session, &deaths);
    if (Over(*session)) return absl::OkStatus();
    ShowProgress(*session, &progress);
    if (command != nullptr && command->Ended(&how)) {
      if (!how.empty()) std::fprintf(stderr, "lbrctl: the command ended with %s\n", how.c_str());
      return absl::OkStatus();
    }
    if (interrupted && command == nullptr) return absl::OkStatus();
    // The terminal has sent Ctrl-C to the command as well; a signal to us alone is passed on.
    if (interrupted && !told) {
      command->Signal(SIGTERM);
      told = true;
    }
    // Each look is a request, which costs both sides more than a tick does.
    const absl::Time look =
        absl::Now() + UntilNextLook(*session, progress.drawing(), watch.watching(), deaths);
    bool news = false;
    while (!news && absl::Now() < look && (told || !interrupted) &&
           (command == nullptr || !command->Ended(&how))) {
      news = Sleep(std::max(look - absl::Now(), absl::ZeroDuration()), watch, command);
    }
  }
}

absl::Status Record(const Common& common, const RecordFlags& flags) {
  absl::StatusOr<v1::SessionSpec> spec = flags.sampling.ToSpec();
  if (!spec.ok()) return spec.status();
  if (!flags.command.empty() && spec->has_target()) {
    return absl::InvalidArgumentError("a command excludes -a, -p, -t, -C, --cgroup and --uid");
  }
  if (!flags.command.empty() && common.endpoint.remote()) {
    return absl::InvalidArgumentError(
        "a command is started on this machine: it cannot be profiled on another one (--host)");
  }
  if (flags.command.empty() && !spec->has_target()) {
    return absl::InvalidArgumentError(
        "say what to record: -a (the whole machine), -p PID, -t TID, -C CPUS, --cgroup PATH, "
        "--uid USER, or -- COMMAND");
  }
  absl::StatusOr<std::vector<Output>> outputs =
      PlanOutputs(flags.output.files, flags.output.format, flags.output.event);
  if (!outputs.ok()) return outputs.status();
  if (flags.table && !flags.output.files.empty()) outputs->push_back({"-", OutputFormat::kTable});

  const absl::StatusOr<Client> client = Client::Connect(common.endpoint);
  if (!client.ok()) return client.status();
  std::optional<TargetCommand> command;
  if (!flags.command.empty()) {
    absl::StatusOr<TargetCommand> held = TargetCommand::Hold(flags.command);
    if (!held.ok()) return held.status();
    command.emplace(*std::move(held));
    spec->mutable_target()->mutable_process()->set_pid(command->pid());
    spec->mutable_target()->mutable_process()->set_enable_on_exec(true);
  }
  std::unique_ptr<SampleLines> lines;
  for (const Output& output : *outputs) {
    if (output.format != OutputFormat::kJsonl) continue;
    lines = std::make_unique<SampleLines>(output.path);
    if (absl::Status opened = lines->Open(); !opened.ok()) return opened;
    spec->set_wait_for_stream(true);
  }

  CatchInterrupts();
  const absl::StatusOr<v1::Session> created = client->CreateSession("", *spec);
  if (!created.ok()) return created.status();
  const std::string name = created->name();
  if (lines != nullptr) {
    lines->Start(*client, *created, flags.source.Detail());
    // The session begins with its first stream; the command must not run before it does.
    while (!lines->failed()) {
      const absl::StatusOr<v1::Session> session = client->GetSession(name);
      if (!session.ok() || session->state() != v1::SESSION_STATE_WAITING) break;
      absl::SleepFor(absl::Milliseconds(5));
    }
  }
  SessionWatch watch(*client, name);
  absl::Status status = absl::OkStatus();
  if (command.has_value()) status = command->Release();
  if (status.ok()) {
    status = Follow(*client, name, common.quiet, command.has_value() ? &*command : nullptr, watch);
  }

  const absl::StatusOr<v1::Session> stopped = client->StopSession(name);
  if (stopped.ok()) watch.Join();
  if (lines != nullptr) {
    const absl::Status written = lines->Finish();
    if (status.ok()) status = written;
  }
  const auto profile = client->GetProfile(name, flags.source.Detail());
  client->DeleteSession(name).IgnoreError();
  if (absl::IsNotFound(stopped.status()) || absl::IsNotFound(profile.status())) {
    return absl::NotFoundError(absl::StrCat(
        name,
        " is gone: another client has stopped it and has what it found, or lbrd has been "
        "started anew"));
  }
  if (!status.ok()) return status;
  if (!stopped.ok()) return stopped.status();
  if (!profile.ok()) return profile.status();
  NameUnnamedFrames(flags.source.Detail(), common.quiet,
                    (*profile)->mutable_profile()->mutable_definitions());
  return ShowResults(**profile, *outputs, common.quiet);
}

}  // namespace

void AddRecordCommand(CLI::App& app, const Common& common, Action* action) {
  auto flags = std::make_shared<RecordFlags>();
  CLI::App* command = app.add_subcommand("record", "profile now, and show what was found");
  flags->sampling.AddTo(*command);
  flags->output.AddTo(
      *command,
      ".svg (flame graph), .pb.gz (pprof),\n"
      ".folded, .jsonl (every sample), .json (the session's account), .txt (table);\n"
      "may be given again",
      "table, svg, pprof, folded, jsonl or session, whatever the file's ending;\n"
      "without -o on standard output (default: table)");
  flags->output.AddEventTo(*command);
  flags->source.AddTo(*command);
  command->add_flag("--table", flags->table, "with -o: print the table as well");
  command->add_option("command", flags->command, "after --: a command to run and record");
  command->footer(
      "Examples:\n"
      "  lbrctl record -a -d 10s                          the whole machine\n"
      "  lbrctl record -a -F 999 -d 10s -o flamegraph.svg a flame graph of it\n"
      "  lbrctl record -p 1234 -d 10s -o profile.pb.gz    a process, for pprof\n"
      "  lbrctl record -o prog.svg -- ./program --flag    a command, start to end");
  command->callback(
      [flags, &common, action] { *action = [flags, &common] { return Record(common, *flags); }; });
}

}  // namespace lbrd::client
